package store

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/advisory"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/release"
)

// StaleAfter is how long an endpoint may be silent before nobody knows any more
// what it runs: it counts as not fixed, whatever it said last.
const StaleAfter = 24 * time.Hour

// Affected is whom a case concerns, as one viewer may see it: a tenant its own
// resources only.
type Affected struct {
	Ranges    []release.Affected
	Snapshots []AffectedSnapshot // oldest first; none for a tenant
	Resources []fleet.Resource   // by endpoint
	Tally     fleet.Tally        // of Resources
	At        time.Time          // when Resources were measured
}

// AffectedSnapshot is one frozen answer.
type AffectedSnapshot struct {
	N         int64
	At        time.Time
	Hash      string // SHA-256 of fleet.Snapshot, lower-case hex
	Tenants   int64
	Resources int64 // endpoints
	Unknown   int64 // of these, those whose version has no place in the order
}

// rangesOf reads the ranges that a case names.
func rangesOf(kase psirt.Case) ([]release.Affected, error) {
	if len(kase.Outcome.Ranges) == 0 {
		return nil, fmt.Errorf("the case names no affected versions yet: headgate affected set: %w", ErrState)
	}
	var out []release.Affected
	for _, r := range kase.Outcome.Ranges {
		out = append(out, release.Affected(r))
	}
	return out, nil
}

// checkFact refuses what may stand in a record and nobody may write anew, and what psirt
// cannot judge: ranges that nothing could match.
func checkFact(b psirt.Body) error {
	if err := psirt.CheckNew(b); err != nil {
		return err
	}
	set, ok := b.(*psirt.AffectedSet)
	if !ok {
		return nil
	}
	var all []release.Affected
	for _, r := range set.Ranges {
		all = append(all, release.Affected(r))
	}
	_, err := fleet.Compile(all)
	return err
}

// work is what a viewer has in hand who looks after whom a case concerns.
type work struct {
	clearance
	id      int64
	kase    psirt.Case
	ranges  []release.Affected
	matcher *fleet.Matcher
}

// affected opens a case for it. Who is outside sees whom it concerns only as a
// tenant, its own part; others outside do not find it.
func (c conn) affected(ctx context.Context, v Viewer, id int64) (w work, err error) {
	w.id = id
	if w.clearance, err = c.mayCase(ctx, v, id); err != nil {
		return w, err
	}
	if !v.engine && v.Scope == ScopeVendor {
		return w, ErrNotFound
	}
	facts, err := c.facts(ctx, id, w.rank())
	if err != nil {
		return w, err
	}
	err = w.read(w.maySee(facts))
	return w, err
}

// read takes the case's ranges from those of its facts that may be seen.
func (w *work) read(facts []psirt.Fact) (err error) {
	if w.kase, err = psirt.View(facts); err != nil {
		return err
	}
	if w.ranges, err = rangesOf(w.kase); err != nil {
		return err
	}
	w.matcher, err = fleet.Compile(w.ranges)
	return err
}

// MatchAffected tells whom the case's ranges concern just now, and keeps nothing.
func (s *Store) MatchAffected(ctx context.Context, v Viewer, id int64, now time.Time) (out Affected, err error) {
	err = s.inWrite(ctx, "match a case", func(c conn) error {
		w, err := c.affected(ctx, v, id)
		if err != nil {
			return err
		}
		hits, err := c.match(ctx, w.matcher)
		if err != nil {
			return err
		}
		out = Affected{Ranges: w.ranges, At: now}
		if err := c.standing(ctx, &out, v, fleet.Reconcile(nil, hits, nil, false, now), now); err != nil {
			return err
		}
		return c.recordRead(ctx, w, v, now, "affected.matched")
	})
	return out, err
}

// recordRead records a read of a sealed case.
func (c conn) recordRead(ctx context.Context, w work, v Viewer, now time.Time, kind string) error {
	if !w.sealed() {
		return nil
	}
	return c.seal(ctx, now, w.id, reading{kind, v.Actor, []string{CaseID(w.id)}})
}

// standing sums intervals up for a viewer.
func (c conn) standing(ctx context.Context, out *Affected, v Viewer, all []fleet.Interval, now time.Time) error {
	if !v.engine && v.Scope == ScopeTenant {
		all = slices.DeleteFunc(all, func(i fleet.Interval) bool { return i.Tenant != v.Of })
	}
	seen, err := c.lastSeen(ctx, all)
	if err != nil {
		return err
	}
	out.Resources = fleet.Resources(all, func(e int64) time.Time { return seen[e] }, StaleAfter, now)
	out.Tally = fleet.Count(out.Resources)
	return nil
}

// FreezeAffected matches the case's ranges against the live inventory, keeps who
// is concerned, and freezes the answer as a snapshot with a hash, which becomes a
// fact of the case. From then on UpdateAffected follows each resource. It takes a
// member of the case who may work on it; ErrState while the case names no ranges.
func (s *Store) FreezeAffected(ctx context.Context, v Viewer, id int64, now time.Time, inTx InTx) (out Affected, err error) {
	now = now.UTC().Truncate(time.Microsecond)
	err = s.inWrite(ctx, "freeze whom a case concerns", func(c conn) error {
		w, err := c.affected(ctx, v, id)
		if err != nil {
			return err
		}
		if !v.engine && (w.Role == psirt.Observer || v.Scope != ScopeOperator) {
			return fmt.Errorf("%s does not work on the case: %w", w.Principal, psirt.ErrForbidden)
		}
		all, changed, err := c.follow(ctx, w, now)
		if err == nil {
			err = c.keepIntervals(ctx, id, changed)
		}
		if err != nil {
			return err
		}
		out = Affected{Ranges: w.ranges, At: now}
		if err := c.standing(ctx, &out, v, all, now); err != nil {
			return err
		}
		shot, err := c.keepSnapshot(ctx, id, all, out.Tally, now)
		if err != nil {
			return err
		}
		out.Snapshots = []AffectedSnapshot{shot}
		if err := c.measured(ctx, v, w, now, &psirt.AffectedFrozen{Hash: shot.Hash, Tenants: shot.Tenants, Resources: shot.Resources}); err != nil {
			return err
		}
		return c.run(inTx)
	})
	return out, err
}

// measured adds a fact that only the server may write, on behalf of v.
func (c conn) measured(ctx context.Context, v Viewer, w work, now time.Time, b psirt.Body) error {
	draft, err := psirt.Draft(b, time.Time{}, "")
	if err != nil {
		return err
	}
	m := w.clearance
	m.engine = true
	kase, facts, err := c.extend(ctx, v, m, w.id, []psirt.Fact{draft}, now)
	if err != nil {
		return err
	}
	var p pending
	if err := c.keepCase(ctx, &p, w.id, kase, facts[w.revision:]); err != nil {
		return err
	}
	return p.write(ctx, c, now)
}

// follow finds how a case's intervals changed, and gives all of them as they then
// are. It writes nothing.
func (c conn) follow(ctx context.Context, w work, now time.Time) (all, changed []fleet.Interval, err error) {
	if all, err = c.intervals(ctx, w.id, 0); err != nil {
		return nil, nil, err
	}
	var frozen int64
	if err := c.row(ctx, `SELECT COUNT(*) FROM affected_snapshot WHERE case_id = $1`, w.id).Scan(&frozen); err != nil {
		return nil, nil, err
	}
	hits, err := c.match(ctx, w.matcher)
	if err != nil {
		return nil, nil, err
	}
	reports, err := c.reports(ctx, w.id)
	if err != nil {
		return nil, nil, err
	}
	changed = fleet.Reconcile(all, hits, reports, frozen > 0, now)
	return merge(all, changed), changed, nil
}

// state is what a case's intervals were decided on: two that are equal are of the
// same facts and the same intervals.
type state struct{ revision, intervals, ended, newest, last int64 }

func (c conn) stateOf(ctx context.Context, id int64) (st state, err error) {
	err = c.row(ctx, `SELECT revision FROM psirt_case WHERE id = $1`, id).Scan(&st.revision)
	if err != nil {
		return st, found(err)
	}
	err = c.row(ctx, `SELECT COUNT(*), COUNT(NULLIF(ended, 0)), COALESCE(MAX(started), 0), COALESCE(MAX(ended), 0) FROM affected_interval WHERE case_id = $1`, id).
		Scan(&st.intervals, &st.ended, &st.newest, &st.last)
	return st, err
}

// merge puts changed intervals in the place of what they were.
func merge(all, changed []fleet.Interval) []fleet.Interval {
	type key struct {
		fleet.Place
		from int64
	}
	at := make(map[key]int, len(all))
	for i, x := range all {
		at[key{x.Place, micros(x.From)}] = i
	}
	for _, x := range changed {
		if i, ok := at[key{x.Place, micros(x.From)}]; ok {
			all[i] = x
		} else {
			all = append(all, x)
		}
	}
	return all
}

// keepSnapshot writes a frozen answer.
func (c conn) keepSnapshot(ctx context.Context, id int64, all []fleet.Interval, t fleet.Tally, now time.Time) (AffectedSnapshot, error) {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if _, err := z.Write(fleet.Snapshot(all)); err != nil {
		return AffectedSnapshot{}, err
	}
	if err := z.Close(); err != nil {
		return AffectedSnapshot{}, err
	}
	shot := AffectedSnapshot{At: now, Hash: fleet.Digest(all), Tenants: t.Tenants, Resources: t.Resources, Unknown: t.Unknown}
	err := c.row(ctx, `SELECT COALESCE(MAX(n), 0) + 1 FROM affected_snapshot WHERE case_id = $1`, id).Scan(&shot.N)
	if err != nil {
		return shot, err
	}
	_, err = c.exec(ctx, `INSERT INTO affected_snapshot (case_id, n, at, hash, tenants, resources, unknown, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		id, shot.N, micros(now), shot.Hash, shot.Tenants, shot.Resources, shot.Unknown, body.Bytes())
	return shot, err
}

// change is the content of a commitment to how the affected of a case changed.
type change struct {
	Kind    string `json:"kind"`
	Case    string `json:"case"`
	Changed int    `json:"changed"`
	Hash    string `json:"hash"` // of the changed intervals (fleet.Digest)
}

// UpdateAffected follows the affected of a case that were frozen once: those that
// joined late or came back are added with their time, those whose fix is verified
// are closed. It records what changed, and returns how many places did.
//
// It looks in a transaction that writes nothing, since a large fleet takes a while,
// and commits what it found if the case is still as it was; else ErrConflict.
func (s *Store) UpdateAffected(ctx context.Context, id int64, now time.Time) (n int, err error) {
	now = now.UTC().Truncate(time.Microsecond)
	var seen state
	var changed []fleet.Interval
	err = s.inRead(ctx, "look whom a case concerns", func(c conn) error {
		if seen, err = c.stateOf(ctx, id); err != nil {
			return err
		}
		facts, err := c.facts(ctx, id, psirt.Red.Rank())
		if err != nil {
			return err
		}
		w := work{id: id}
		if err := w.read(facts); err != nil {
			return err
		}
		_, changed, err = c.follow(ctx, w, now)
		return err
	})
	if err != nil || len(changed) == 0 {
		return 0, err
	}
	err = s.inWrite(ctx, "follow whom a case concerns", func(c conn) error {
		if _, err := c.mayCase(ctx, Engine("engine"), id); err != nil { // and locks it
			return err
		}
		if is, err := c.stateOf(ctx, id); err != nil || is != seen {
			return cmp.Or(err, ErrConflict)
		}
		if err := c.keepIntervals(ctx, id, changed); err != nil {
			return err
		}
		return c.seal(ctx, now, id, change{"affected.changed", CaseID(id), len(changed), fleet.Digest(changed)})
	})
	if err != nil {
		return 0, err
	}
	return len(changed), nil
}

// Confidence is that of the lower bound that people are shown.
const Confidence = 0.95

// FollowedCases lists the open cases whose affected were frozen.
func (s *Store) FollowedCases(ctx context.Context) (out []int64, err error) {
	err = s.inRead(ctx, "list cases to follow", func(c conn) error {
		out = nil
		rows, err := c.rows(ctx, `SELECT k.id FROM psirt_case k WHERE NOT k.closed AND EXISTS (SELECT 1 FROM affected_snapshot a WHERE a.case_id = k.id) ORDER BY k.id`)
		return each(rows, err, func() error {
			var id int64
			err := rows.Scan(&id)
			out = append(out, id)
			return err
		})
	})
	return out, err
}

// ReadAffected tells how whom a case concerns stands. endpoint, if not 0, narrows
// it to one. A read of a sealed case is recorded.
func (s *Store) ReadAffected(ctx context.Context, v Viewer, id, endpoint int64, now time.Time) (out Affected, err error) {
	err = s.inWrite(ctx, "read whom a case concerns", func(c conn) error {
		w, err := c.affected(ctx, v, id)
		if err != nil {
			return err
		}
		all, err := c.intervals(ctx, id, endpoint)
		if err != nil {
			return err
		}
		out = Affected{Ranges: w.ranges, At: now}
		if v.engine || v.Scope == ScopeOperator {
			if out.Snapshots, err = c.snapshots(ctx, id); err != nil {
				return err
			}
		}
		if err := c.standing(ctx, &out, v, all, now); err != nil {
			return err
		}
		if endpoint != 0 && len(out.Resources) == 0 {
			return fmt.Errorf("endpoint %s: %w", ids.Format("E", endpoint), ErrNotFound)
		}
		return c.recordRead(ctx, w, v, now, "affected.read")
	})
	return out, err
}

// Protection is how far the affected of a case are fixed, for the ladder and for
// the reporter's progress: it names nobody.
func (s *Store) Protection(ctx context.Context, v Viewer, id int64, now time.Time) (advisory.Protection, error) {
	a, err := s.ReadAffected(ctx, v, id, 0, now)
	if err != nil {
		return advisory.Protection{}, err
	}
	return a.Protection(), nil
}

// Protection is how far its resources are fixed.
func (a Affected) Protection() advisory.Protection { return protection(a.Tally, a.At) }

func protection(t fleet.Tally, at time.Time) advisory.Protection {
	return advisory.Protection{Resources: t.Resources, Verified: t.Verified, Stale: t.Stale, At: micros(at)}
}

// Audience is who must hear of a case: exactly the tenants with a resource that
// is or was vulnerable, each with its own. What is unknown makes nobody a
// recipient.
func (s *Store) Audience(ctx context.Context, v Viewer, id int64, now time.Time) (notify.Audience, error) {
	a, err := s.ReadAffected(ctx, v, id, 0, now)
	if err != nil {
		return notify.Audience{}, err
	}
	var matches []notify.Match
	for _, r := range a.Resources {
		m := notify.Match{Tenant: r.Tenant}
		for _, i := range r.Intervals {
			if i.Unknown == "" {
				m.Resources = append(m.Resources, notify.Resource{ID: ids.Format("E", i.Endpoint), Product: productOf(i), Version: versionOf(i), Reason: Reason(i)})
			}
		}
		matches = append(matches, m)
	}
	return notify.NewAudience(matches)
}

func productOf(i fleet.Interval) string {
	if i.Product != "" {
		return i.Product
	}
	return i.Key
}

// versionOf is the version of what productOf names: of the product that runs, not
// of what its bill of materials lists.
func versionOf(i fleet.Interval) string {
	if i.Product != "" {
		return i.Runs
	}
	return i.Version
}

// Reason says in words why an interval's place is affected.
func Reason(i fleet.Interval) string {
	switch {
	case i.Unknown != "":
		return i.Unknown
	case i.Key == i.Product:
		return fmt.Sprintf("runs %s %s, in %s", i.Product, i.Runs, rangeList(i.Ranges))
	case i.Product != "":
		return fmt.Sprintf("runs %s %s, whose bill of materials lists %s %s, in %s", i.Product, i.Runs, i.Key, i.Version, rangeList(i.Ranges))
	}
	return fmt.Sprintf("its bill of materials lists %s %s, in %s", i.Key, i.Version, rangeList(i.Ranges))
}

func rangeList(ranges []string) string {
	b, err := json.Marshal(ranges)
	if err != nil || len(ranges) != 1 {
		return string(b)
	}
	return ranges[0]
}
