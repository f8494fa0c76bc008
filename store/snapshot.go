package store

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// Snapshot reads all that a decision depends on in one transaction, but for
// Control, which is Presence's; now says who is too young to be silent.
func (s *Store) Snapshot(ctx context.Context, id int64, now time.Time) (snap rollout.Snapshot, err error) {
	err = s.inRead(ctx, fmt.Sprintf("read snapshot of R-%d", id), func(c conn) error {
		r, err := c.rollout(ctx, id)
		if err != nil {
			return err
		}
		snap = rollout.Snapshot{
			Rollout: r.ID, Product: r.Product, Version: r.Version, Revision: r.Revision, State: r.State, Policy: r.Policy, Rules: rollout.Rules,
			Pace: r.Pace, Started: r.Started, RungSince: r.RungSince, Floor: r.Floor, HeldBy: r.HeldBy,
			Counts: r.Counts, PreflightFailed: r.PreflightFailed, Reverted: r.Reverted, Accepted: r.Accepted,
		}
		if snap.Waits, err = c.waits(ctx, id, now); err != nil {
			return err
		}
		if snap.Segments, err = c.segments(ctx, id); err != nil || r.Policy.Budget == nil {
			return err
		}
		snap.Observed, err = c.observed(ctx, r, now)
		return err
	})
	return snap, err
}

// segments reads the counts of a rollout's segments.
func (c conn) segments(ctx context.Context, id int64) (map[string]health.Counts, error) {
	out := map[string]health.Counts{}
	rows, err := c.rows(ctx, `SELECT segment, exposed, proven, harmed, silent, still_open FROM rollout_count WHERE rollout = $1 AND segment <> ''`, id)
	err = each(rows, err, func() error {
		var seg string
		var n health.Counts
		if err := rows.Scan(&seg, &n.Exposed, &n.Proven, &n.Harmed, &n.Silent, &n.Open); err != nil {
			return err
		}
		out[seg] = n
		return nil
	})
	return out, err
}

// Presence counts the controls of a rollout: online is who was heard from at or
// after since; whom tenants' limits keep from it now is counted apart. It reads a
// row for each endpoint of the product, so that callers cache it.
func (s *Store) Presence(ctx context.Context, id int64, since, now time.Time) (ctl health.Control, err error) {
	err = s.inRead(ctx, fmt.Sprintf("read presence of R-%d", id), func(c conn) error {
		r, err := c.rollout(ctx, id)
		if err != nil {
			return err
		}
		bounds := []any{r.Product, micros(since), micros(r.Started.Add(-startGrace(r)))}
		all, err := c.presence(ctx, textPresence, bounds...)
		if err != nil {
			return err
		}
		// The exposed are found one by one: nearly all of a large fleet are faster
		// read in the order in which it is stored.
		text := textPresenceExposed
		if r.Counts.Exposed*8 > all.fit {
			text = textPresenceMost
		}
		exposed, err := c.presence(ctx, text, append(bounds, id)...)
		if err != nil {
			return err
		}
		ctl = health.Control{
			Fit: all.fit, Online: all.online, Unexposed: all.fit - exposed.fit,
			Heard: all.online - exposed.online, Gone: all.gone - exposed.gone,
		}
		return c.withoutDeferred(ctx, r, since, now, &ctl)
	})
	return ctl, err
}

// Presence of a product's endpoints, and of those exposed by a rollout. Gone: was
// heard from since the rollout started (or just before), is not now, and did not
// say goodbye.
const (
	presenceColumns = `SELECT COUNT(*),
			COALESCE(SUM(CASE WHEN i.last_seen >= $2 AND NOT i.goodbye THEN 1 ELSE 0 END), 0),
			COALESCE(SUM(CASE WHEN i.last_seen < $2 AND i.last_seen >= $3 AND NOT i.goodbye THEN 1 ELSE 0 END), 0) FROM `
	textPresence        = presenceColumns + `installation i WHERE i.product = $1`
	textPresenceExposed = presenceColumns + `exposure x JOIN installation i ON i.product = $1 AND i.endpoint = x.endpoint WHERE x.rollout = $4`
	textPresenceMost    = presenceColumns + `installation i WHERE i.product = $1 AND EXISTS (SELECT 1 FROM exposure x WHERE x.rollout = $4 AND x.endpoint = i.endpoint)`
)

// presence is how many endpoints there are, and are online, or gone.
type presence struct{ fit, online, gone int64 }

func (c conn) presence(ctx context.Context, text string, args ...any) (p presence, err error) {
	err = c.row(ctx, text, args...).Scan(&p.fit, &p.online, &p.gone)
	return p, err
}

// startGrace is how long before the start an endpoint may have been heard from
// last and still counts as online then: two beacon intervals.
func startGrace(r Rollout) time.Duration { return 2 * r.Policy.Beacon.Std() }
