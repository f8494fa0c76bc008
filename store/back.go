package store

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/rollout"
)

// textBack finds who was exposed, is not known to be back, and said since $4 that
// it runs something else. The version alone, with no digest, says nothing else.
const textBack = `SELECT x.endpoint, i.version FROM exposure x JOIN installation i ON i.product = $2 AND i.endpoint = x.endpoint
	WHERE x.rollout = $1 AND NOT x.reverted AND x.state <> 'harmed' AND ` + installedDigest + ` <> $3 AND (i.digest <> '' OR i.version <> $6)
		AND i.last_seen >= $4 ORDER BY x.endpoint LIMIT $5`

// SweepBack records at most limit endpoints as back under a rollout that is
// ordered back, and returns how many; under any other it records none. An endpoint
// reports how what it activated ended. One that never used its grant, for the
// answer was lost or came too late, has nothing to report: once no grant can live
// any more, what it says it runs is its word. It reads a row for each exposure, so
// that callers do not do it all the time.
func (s *Store) SweepBack(ctx context.Context, id int64, now time.Time, limit int) (back int, err error) {
	now = now.UTC().Truncate(time.Microsecond)
	var who map[int64]string
	err = s.inRead(ctx, fmt.Sprintf("look who is back under R-%d", id), func(c conn) error {
		who, err = c.back(ctx, id, limit)
		return err
	})
	if err != nil || len(who) == 0 {
		return 0, err
	}
	err = s.inWrite(ctx, fmt.Sprintf("record who is back under R-%d", id), func(c conn) error {
		r := &batchRun{c: c, now: now, gates: map[int64]*gate{}, endpoints: map[int64]*identity{}}
		back, err = r.takeBack(ctx, id, limit)
		return err
	})
	return back, err
}

// back lists who is back and not recorded so, with the version that each runs.
func (c conn) back(ctx context.Context, id int64, limit int) (map[int64]string, error) {
	r, err := c.rollout(ctx, id)
	if err != nil || r.State != rollout.Reverting {
		return nil, err
	}
	who := map[int64]string{}
	// Decided is no sooner than the order: the engine's own looks may come later.
	rows, err := c.rows(ctx, textBack, id, r.Product, r.Digest, micros(r.Policy.GrantsOver(r.Decided)), limit, r.Version)
	return who, each(rows, err, func() error {
		var endpoint int64
		var version string
		err := rows.Scan(&endpoint, &version)
		who[endpoint] = version
		return err
	})
}

// takeBack looks again behind the rollout's lock, and records.
func (r *batchRun) takeBack(ctx context.Context, id int64, limit int) (int, error) {
	g, err := r.c.lockGate(ctx, id, r.now)
	if err != nil || g == nil {
		return 0, err
	}
	r.gates[id] = g
	who, err := r.c.back(ctx, id, limit)
	if err != nil {
		return 0, err
	}
	all := make([]any, 0, len(who))
	for endpoint := range who {
		all = append(all, endpoint)
	}
	if err := r.loadEndpoints(ctx, distinct(all)); err != nil {
		return 0, err
	}
	if err := r.c.loadExposures(ctx, g, distinct(all)); err != nil {
		return 0, err
	}
	for endpoint, version := range who {
		if by, x := r.endpoints[endpoint], g.exposures[endpoint]; by != nil && x != nil {
			r.goneBack(g, by, x, AttemptReport{Reason: "runs-another", Detail: "it reports that it runs " + version})
		}
	}
	return len(r.members), r.save(ctx)
}
