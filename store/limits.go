package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
	_ "time/tzdata" // tenants' windows open alike on every machine

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
)

// TenantLimits are what a tenant asks of rollouts.
type TenantLimits struct {
	Tenant   string
	Revision int64  // rises with each change; 0 was never set
	Document string // JSON; empty is none
	Limits   *rollout.Limits
}

// What the hot path reads of limits.
const (
	textLimits = `SELECT limits, limits_revision FROM tenant WHERE id = $1`
	textNewer  = `SELECT version FROM rollout WHERE product = $1 AND state = 'finished'`
)

// listDeferred counts what Presence counts, of endpoints of some tenants that are
// not exposed. Who is kept from a release is few, or for a while.
var listDeferred = &list{
	head: `SELECT COUNT(*), COALESCE(SUM(CASE WHEN i.last_seen >= $2 AND NOT i.goodbye THEN 1 ELSE 0 END), 0),` +
		` COALESCE(SUM(CASE WHEN i.last_seen < $2 AND i.last_seen >= $3 AND NOT i.goodbye THEN 1 ELSE 0 END), 0)` +
		` FROM endpoint e JOIN installation i ON i.product = $1 AND i.endpoint = e.id` +
		` WHERE NOT EXISTS (SELECT 1 FROM exposure x WHERE x.rollout = $4 AND x.endpoint = e.id) AND e.tenant IN (`,
	row: `?`, tail: `)`, fixed: 4, pad: true,
}

// listDeferredGroups is the same by labels.
var listDeferredGroups = &list{
	head: `SELECT e.labels, COUNT(*), COALESCE(SUM(CASE WHEN i.last_seen >= $2 AND NOT i.goodbye THEN 1 ELSE 0 END), 0)` +
		` FROM endpoint e JOIN installation i ON i.product = $1 AND i.endpoint = e.id` +
		` WHERE NOT EXISTS (SELECT 1 FROM exposure x WHERE x.rollout = $3 AND x.endpoint = e.id) AND e.tenant IN (`,
	row: `?`, tail: `) GROUP BY e.labels`, fixed: 3, pad: true,
}

// limitsKey names a tenant's limits for ever: a revision never changes.
type limitsKey struct{ tenant, revision int64 }

// maxLimitsKept bounds the parsed limits that are remembered.
const maxLimitsKept = 10000

// TenantLimits reads a tenant's limits. ErrNotFound.
func (s *Store) TenantLimits(ctx context.Context, name string) (out TenantLimits, err error) {
	err = s.inRead(ctx, fmt.Sprintf("read limits of tenant %q", name), func(c conn) error {
		out, _, err = c.tenantLimits(ctx, name)
		return err
	})
	return out, err
}

func (c conn) tenantLimits(ctx context.Context, name string) (out TenantLimits, id int64, err error) {
	out.Tenant = name
	err = c.row(ctx, `SELECT id, limits, limits_revision FROM tenant WHERE name = $1`, name).Scan(&id, &out.Document, &out.Revision)
	if err != nil {
		return out, 0, fmt.Errorf("tenant %q: %w", name, found(err))
	}
	out.Limits = parseLimits(out.Document)
	return out, id, nil
}

// SetTenantLimits replaces a tenant's limits by a document, which the caller has
// checked; an empty one clears them. base is the revision that was seen; ErrConflict
// if another is in force. What is in force already changes nothing.
func (s *Store) SetTenantLimits(ctx context.Context, name, document string, base int64, actor string, now time.Time) (out TenantLimits, err error) {
	err = s.inWrite(ctx, fmt.Sprintf("set limits of tenant %q", name), func(c conn) error {
		var id int64
		if out, id, err = c.tenantLimits(ctx, name); err != nil || out.Document == document {
			return err
		}
		if out.Revision != base {
			return fmt.Errorf("revision %d was seen, %d is in force: %w", base, out.Revision, ErrConflict)
		}
		n, err := c.exec(ctx, `UPDATE tenant SET limits = $2, limits_revision = limits_revision + 1 WHERE id = $1 AND limits_revision = $3`, id, document, base)
		if err != nil {
			return err
		}
		if n != 1 {
			return ErrConflict
		}
		before := out.Document
		out.Document, out.Revision, out.Limits = document, base+1, parseLimits(document)
		return c.note(ctx, now, "tenant.limits", name, actor, map[string]any{"tenant": name, "revision": out.Revision, "before": rawOrNull(before), "limits": rawOrNull(document)})
	})
	return out, err
}

func rawOrNull(document string) json.RawMessage {
	if document == "" {
		return json.RawMessage("null")
	}
	return json.RawMessage(document)
}

// parseLimits reads stored limits; what cannot be read bars everything.
func parseLimits(document string) *rollout.Limits {
	l, err := rollout.ParseLimits([]byte(document), time.LoadLocation)
	if err != nil {
		return rollout.BrokenLimits(err)
	}
	return l
}

// limitsOf finds a tenant's limits by their revision, read once per process.
func (c conn) limitsOf(ctx context.Context, tenant, revision int64) (*rollout.Limits, error) {
	if revision == 0 {
		return nil, nil
	}
	c.s.mu.Lock()
	l := c.s.limits[limitsKey{tenant, revision}]
	c.s.mu.Unlock()
	if l != nil {
		return l, nil
	}
	var document string
	// Both at once: somebody may have changed them since the revision was read.
	if err := c.row(ctx, textLimits, tenant).Scan(&document, &revision); err != nil {
		return nil, fmt.Errorf("read limits of tenant %d: %w", tenant, err)
	}
	l = parseLimits(document)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if len(c.s.limits) > maxLimitsKept { // as many as fit are enough: it is a cache
		clear(c.s.limits)
	}
	c.s.limits[limitsKey{tenant, revision}] = l
	return l, nil
}

// limited lists the tenants that have limits.
func (c conn) limited(ctx context.Context) (map[int64]*rollout.Limits, error) {
	revisions := map[int64]int64{}
	rows, err := c.rows(ctx, `SELECT id, limits_revision FROM tenant WHERE limits <> ''`)
	err = each(rows, err, func() error {
		var id, revision int64
		err := rows.Scan(&id, &revision)
		revisions[id] = revision
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list tenants with limits: %w", err)
	}
	out := map[int64]*rollout.Limits{}
	for id, revision := range revisions {
		if out[id], err = c.limitsOf(ctx, id, revision); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// newerFinished tells whether a newer version of a product has finished.
func (c conn) newerFinished(ctx context.Context, product, version string) (newer bool, err error) {
	rows, err := c.rows(ctx, textNewer, product)
	err = each(rows, err, func() error {
		var v string
		err := rows.Scan(&v)
		newer = newer || release.Newer(v, version)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("find newer rollouts of %s: %w", product, err)
	}
	return newer, nil
}

// moment is what tenants' limits are held against under a rollout.
func (c conn) moment(ctx context.Context, r Rollout) (rollout.Moment, error) {
	newer, err := c.newerFinished(ctx, r.Product, r.Version)
	return rollout.Moment{
		Product: r.Product, Version: r.Version, Started: r.Started, Finished: r.State == rollout.Finished,
		NewerFinished: newer, Overrides: r.Policy.Overrides(),
	}, err
}

// barred lists the tenants whose limits keep their endpoints from a rollout's
// release.
func (c conn) barred(ctx context.Context, r Rollout, now time.Time) (out []any, err error) {
	limited, err := c.limited(ctx)
	if err != nil || len(limited) == 0 {
		return nil, err
	}
	m, err := c.moment(ctx, r)
	if err != nil {
		return nil, err
	}
	passed, err := c.passed(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(limited)) {
		m.Passed = passed[id]
		if bars, _ := limited[id].Bars(m, now); len(bars) > 0 {
			out = append(out, id)
		}
	}
	return out, nil
}

// passed reads what tenants' waits have seen under a rollout.
func (c conn) passed(ctx context.Context, id int64) (map[int64]float64, error) {
	var text string
	if err := c.row(ctx, `SELECT passed FROM rollout WHERE id = $1`, id).Scan(&text); err != nil {
		return nil, fmt.Errorf("read what tenants wait for: %w", err)
	}
	return parsePassed(text)
}

func parsePassed(text string) (map[int64]float64, error) {
	if text == "{}" {
		return nil, nil
	}
	var out map[int64]float64
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf("what tenants wait for, %q: %w", text, err)
	}
	return out, nil
}

// PassTenants notes which tenants have waited long enough under a rollout, now
// that a share of the endpoints elsewhere is proven. What a wait has seen stays
// seen: with these tenants' own endpoints the fleet grows, and the share falls.
func (s *Store) PassTenants(ctx context.Context, id int64, share float64, now time.Time) error {
	pass := func(c conn, r Rollout) (map[int64]float64, []int64, error) {
		limited, err := c.limited(ctx)
		if err != nil || len(limited) == 0 {
			return nil, nil, err
		}
		passed, err := c.passed(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		var news []int64
		for tenant, l := range limited {
			if want := l.Waits(r.Product); want > 0 && want <= share && passed[tenant] < want {
				news = append(news, tenant)
			}
		}
		return passed, news, nil
	}
	due := false
	err := s.inRead(ctx, fmt.Sprintf("look for waiting tenants under R-%d", id), func(c conn) error {
		r, err := c.rollout(ctx, id)
		if err != nil {
			return err
		}
		_, news, err := pass(c, r)
		due = len(news) > 0
		return err
	})
	if err != nil || !due {
		return err
	}
	return s.inWrite(ctx, fmt.Sprintf("let waiting tenants pass under R-%d", id), func(c conn) error {
		r, err := c.lockRollout(ctx, id)
		if err != nil {
			return err
		}
		passed, news, err := pass(c, r)
		if err != nil || len(news) == 0 {
			return err
		}
		return c.savePassed(ctx, id, passed, news, share, now)
	})
}

func (c conn) savePassed(ctx context.Context, id int64, passed map[int64]float64, news []int64, share float64, now time.Time) error {
	all := maps.Clone(passed)
	if all == nil {
		all = map[int64]float64{}
	}
	for _, tenant := range news {
		all[tenant] = share
	}
	b, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("what tenants wait for: %w", err)
	}
	if _, err := c.exec(ctx, `UPDATE rollout SET passed = $2 WHERE id = $1`, id, string(b)); err != nil {
		return err
	}
	slices.Sort(news)
	var names []string
	for _, tenant := range news {
		var name string
		if err := c.row(ctx, `SELECT name FROM tenant WHERE id = $1`, tenant).Scan(&name); err != nil {
			return fmt.Errorf("name tenant %s: %w", strconv.FormatInt(tenant, 10), found(err))
		}
		names = append(names, name)
	}
	d, err := ledger.New("rollout.passed", subjectOf(id), "engine", map[string]any{"tenants": names, "proven": share})
	if err != nil {
		return err
	}
	_, err = c.appendLedger(ctx, now, d)
	return err
}

// kept lists the older finished rollouts of a product that tenants still need
// beside a newer one that has just finished; at most rollout.MaxBases in all.
func (c conn) kept(ctx context.Context, newer Rollout, now time.Time) (map[int64]bool, error) {
	limited, err := c.limited(ctx)
	if err != nil || len(limited) == 0 {
		return nil, err
	}
	older, err := c.rollouts(ctx, `SELECT `+rolloutColumns+fromRollout+`WHERE r.product = $1 AND r.state = 'finished' AND r.id < $2 ORDER BY r.id DESC`, newer.Product, newer.ID)
	if err != nil {
		return nil, fmt.Errorf("list older rollouts of %s: %w", newer.Product, err)
	}
	out := map[int64]bool{}
	m := rollout.Moment{Product: newer.Product, Version: newer.Version, Started: newer.Started, Finished: true, Overrides: newer.Policy.Overrides()}
	for _, o := range older {
		before := rollout.Moment{Product: o.Product, Version: o.Version, Started: o.Started, Finished: true, NewerFinished: true, Overrides: o.Policy.Overrides()}
		for _, l := range limited {
			if len(out) < rollout.MaxBases-1 && l.Keeps(before, m, now) {
				out[o.ID] = true
			}
		}
	}
	return out, nil
}

// loadLimits finds what the tenants of a batch ask, and what of the rollouts they
// are held against.
func (r *batchRun) loadLimits(ctx context.Context) (err error) {
	some := false
	for id, t := range r.tenants {
		if t.limits, err = r.c.limitsOf(ctx, id, t.revision); err != nil {
			return err
		}
		some = some || !t.limits.Empty()
		r.tenants[id] = t
	}
	if !some {
		return nil
	}
	for _, g := range r.gates {
		if g.gate.Moment.NewerFinished, err = r.c.newerFinished(ctx, g.static.product, g.static.version); err != nil {
			return err
		}
	}
	return nil
}

// keptFrom tells whether a tenant's limits keep an endpoint from a rollout's release:
// then it is none of its controls either.
func (r *batchRun) keptFrom(g *gate, id *identity) bool {
	t := r.tenants[id.tenant]
	if t.limits.Empty() {
		return false
	}
	m := g.gate.Moment
	m.Passed = g.passed[id.tenant]
	bars, _ := t.limits.Bars(m, r.now)
	return len(bars) > 0
}

// withoutDeferred takes endpoints that tenants' limits keep from a release out of
// the controls.
func (c conn) withoutDeferred(ctx context.Context, r Rollout, since, now time.Time, ctl *health.Control) error {
	tenants, err := c.barred(ctx, r, now)
	if err != nil || len(tenants) == 0 {
		return err
	}
	fixed := []any{r.Product, micros(since), micros(r.Started.Add(-startGrace(r))), r.ID}
	return c.queryList(ctx, listDeferred, fixed, tenants, func(rows *sql.Rows) error {
		var all, heard, gone int64
		err := rows.Scan(&all, &heard, &gone)
		ctl.Fit, ctl.Unexposed, ctl.Deferred = ctl.Fit-all, ctl.Unexposed-all, ctl.Deferred+all
		ctl.Online, ctl.Heard, ctl.Gone = ctl.Online-heard, ctl.Heard-heard, ctl.Gone-gone
		return err
	})
}

// groupsWithoutDeferred tells how many of each labels, and how many that are heard
// from, tenants' limits keep from a release.
func (c conn) groupsWithoutDeferred(ctx context.Context, r Rollout, since, now time.Time, take func(labels string, all, heard int64)) error {
	tenants, err := c.barred(ctx, r, now)
	if err != nil || len(tenants) == 0 {
		return err
	}
	return c.queryList(ctx, listDeferredGroups, []any{r.Product, micros(since), r.ID}, tenants, func(rows *sql.Rows) error {
		var labels string
		var all, heard int64
		err := rows.Scan(&labels, &all, &heard)
		take(labels, all, heard)
		return err
	})
}
