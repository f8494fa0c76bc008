package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// maxSegments is how many segments a rollout keeps counts of. What would be
// one more is counted in the total only: a label with a value per endpoint
// must not make a row per endpoint.
const maxSegments = 2000

// retry is after how long an endpoint that must wait asks again.
const retry = 10 * time.Second

// What the hot path reads.
const (
	textGate  = `SELECT state, rung, window_size, ceiling, turn, boost, cover, small, halted, segments, passed, switches, withheld FROM rollout WHERE id = $1`
	textTotal = `SELECT exposed, proven, harmed, silent, still_open FROM rollout_count WHERE rollout = $1 AND segment = ''`
)

var (
	// listExposures packs each row into one text. A sub-select by the whole key is
	// the one form that PostgreSQL's planner never takes for a scan of all of a
	// rollout's rows, whatever its statistics said when it made the plan.
	listExposures = &list{
		of:   "BIGINT",
		head: `WITH k (endpoint) AS (VALUES `, row: `(CAST(? AS BIGINT))`,
		tail: `) SELECT k.endpoint, COALESCE((SELECT x.state || ' ' || x.granted || ' ' || x.down || CASE WHEN x.reverted THEN ' reverted ' ELSE ' no ' END || x.rung || ' ' || x.measured` +
			` FROM exposure x WHERE x.rollout = $1 AND x.endpoint = k.endpoint), '') FROM k`,
		fixed: 1, pad: true,
	}
	listDomains = &list{of: "TEXT", head: `SELECT domain FROM exposure WHERE domain <> '' AND NOT reverted AND (state = 'open' OR (state = 'silent' AND rollout = $1) OR (state = 'proven' AND granted > $2)) AND domain IN (`, row: `?`, tail: `)`, fixed: 2, pad: true}
)

// static is what never changes of a rollout but by a switch of its policy.
type static struct {
	product, version, digest string
	policy                   rollout.Policy
	seed                     []byte
	started                  time.Time
	floor                    time.Duration
	switches                 int64 // of the policy: another number is another static
	first                    map[string]bool
	covering                 map[int64]bool // chosen for coverage
}

// moment is what tenants' limits are held against, but for what is newer.
func (st *static) moment(s rollout.State) rollout.Moment {
	return rollout.Moment{Product: st.product, Version: st.version, Started: st.started, Finished: s == rollout.Finished, Overrides: st.policy.Overrides()}
}

// exposure is an exposure in hand.
type exposure struct {
	state          health.State
	granted        time.Time
	settled        time.Time
	reverted       bool
	rung           int64
	measured       int64 // what became of each comparison: measure.go
	isMeasured     bool  // just now
	reason, detail string
	down           time.Duration
	isNew, changed bool
	again          bool // granted once more after it had gone back
}

// gate is a rollout in hand: locked until the commit.
type gate struct {
	static    *static
	gate      rollout.Gate
	segments  int64
	exposures map[int64]*exposure
	refused   map[int64]AttemptReport   // in preflight
	deltas    map[string]*health.Counts // by labels as stored
	noted     map[string]int64          // facts for the ledger
	reverted  int64                     // more of them
	watched   *watched                  // with a budget only
	passed    map[int64]float64         // by tenant: rollout.Moment
}

// rungOf is the cohort that a grant belongs to.
func (g *gate) rungOf(a rollout.Ask) int64 {
	if a.Coverage {
		return rungCoverage
	}
	return g.gate.Pace.Rung
}

// delta collects the changes of all endpoints with the same labels.
func (g *gate) delta(labels string) *health.Counts {
	d := g.deltas[labels]
	if d == nil {
		d = &health.Counts{}
		g.deltas[labels] = d
	}
	return d
}

// load reads all that the batch is about. Rollouts come first, in the order of
// their ids: they are the locks that keep two servers from counting at once.
func (r *batchRun) load(ctx context.Context) error {
	about := map[int64][]any{} // endpoints by rollout
	all := make([]any, 0, len(r.batch.Asks)+len(r.batch.Beacons))
	for _, a := range r.batch.Asks {
		about[a.Rollout] = append(about[a.Rollout], a.Endpoint)
		all = append(all, a.Endpoint)
	}
	for _, b := range r.batch.Beacons {
		all = append(all, b.Endpoint)
		for _, a := range b.Attempts {
			if a.State != AttemptStaged && a.State != AttemptProbation { // these say nothing new
				about[a.Rollout] = append(about[a.Rollout], b.Endpoint)
			}
		}
	}
	if err := r.findFallen(ctx, about); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(about)) {
		g, err := r.c.lockGate(ctx, id, r.now)
		if err != nil {
			return fmt.Errorf("lock rollout R-%d: %w", id, err)
		}
		if g == nil {
			continue
		}
		r.gates[id] = g
		if err := r.c.loadExposures(ctx, g, distinct(about[id])); err != nil {
			return fmt.Errorf("load exposures of rollout R-%d: %w", id, err)
		}
	}
	if err := r.loadEndpoints(ctx, distinct(all)); err != nil {
		return err
	}
	return r.loadDomains(ctx)
}

// distinct sorts ids and drops repetitions. Sorted ids are near each other in
// the database.
func distinct(all []any) []any {
	slices.SortFunc(all, func(a, b any) int { return int(min(1, max(-1, a.(int64)-b.(int64)))) })
	return slices.Compact(all)
}

// lockGate locks a rollout and reads it; nil if there is none.
func (c conn) lockGate(ctx context.Context, id int64, now time.Time) (*gate, error) {
	return c.readGate(ctx, id, now, c.s.dialect.lock)
}

// readGate reads a rollout, behind a lock or, to look only, behind none.
func (c conn) readGate(ctx context.Context, id int64, now time.Time, lock string) (*gate, error) {
	g := &gate{exposures: map[int64]*exposure{}, refused: map[int64]AttemptReport{}, deltas: map[string]*health.Counts{}, noted: map[string]int64{}}
	p := &g.gate.Pace
	var halted, passed, withheld string
	var switches int64
	err := c.row(ctx, textGate+lock, id).Scan(&g.gate.State, &p.Rung, &p.Window, &p.Ceiling, &p.Turn, &p.Boost, &p.Cover, &p.Small, &halted, &g.segments, &passed, &switches, &withheld)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if g.passed, err = parsePassed(passed); err != nil {
		return nil, err
	}
	if g.gate.Withheld, err = parseWithheld(withheld); err != nil {
		return nil, err
	}
	// A statement of its own: it must see what was committed while we waited.
	if g.gate.Counts, err = c.total(ctx, id); err != nil {
		return nil, err
	}
	if g.static, err = c.loadStatic(ctx, id, switches); err != nil {
		return nil, err
	}
	g.gate.Rollout, g.gate.Digest, g.gate.Seed = id, g.static.digest, g.static.seed
	g.gate.First, g.gate.TTL, g.gate.Retry = g.static.first, g.static.policy.GrantTTL.Std(), retry
	g.gate.Now, g.gate.Floor, g.gate.Moment = now, g.static.floor, g.static.moment(g.gate.State)
	if g.static.policy.Budget == nil {
		return g, nil
	}
	if g.watched, err = c.loadWatched(ctx, id, g.static.policy, halted); err != nil {
		return nil, err
	}
	if n := g.watched.cohorts[rungCoverage]; n != nil {
		g.gate.Covered = n.granted
	}
	if g.watched.compares() {
		c.s.sampleFor(g.static.product)
	}
	for _, h := range g.watched.halted {
		g.gate.Halted = append(g.gate.Halted, h.Labels)
	}
	g.gate.Holdback = g.static.policy.Budget.Holdback
	return g, nil
}

// total reads a rollout's counts.
func (c conn) total(ctx context.Context, id int64) (n health.Counts, err error) {
	err = c.row(ctx, textTotal, id).Scan(&n.Exposed, &n.Proven, &n.Harmed, &n.Silent, &n.Open)
	return n, err
}

// loadStatic reads what never changes of a rollout between switches of its policy,
// once per process.
func (c conn) loadStatic(ctx context.Context, id, switches int64) (*static, error) {
	c.s.mu.Lock()
	st := c.s.static[id]
	c.s.mu.Unlock()
	if st != nil && st.switches == switches {
		return st, nil
	}
	st = &static{first: map[string]bool{}}
	var policy []byte
	var started, floor int64
	err := c.row(ctx, `SELECT product, version, digest, policy, seed, started, floor, switches FROM rollout WHERE id = $1`, id).
		Scan(&st.product, &st.version, &st.digest, &policy, &st.seed, &started, &floor, &st.switches)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(policy, &st.policy); err != nil {
		return nil, fmt.Errorf("policy of rollout R-%d: %w", id, err)
	}
	st.started, st.floor = fromMicros(started), time.Duration(floor)*time.Microsecond
	for _, e := range st.policy.Canaries {
		st.first[e] = true
	}
	chosen, err := c.covering(ctx, id)
	if err != nil {
		return nil, err
	}
	st.covering = make(map[int64]bool, len(chosen))
	for _, e := range chosen {
		st.covering[e] = true
	}
	c.s.mu.Lock()
	c.s.static[id] = st
	c.s.mu.Unlock()
	return st, nil
}

func (c conn) loadExposures(ctx context.Context, g *gate, endpoints []any) error {
	return c.queryList(ctx, listExposures, []any{g.gate.Rollout}, endpoints, func(rows *sql.Rows) error {
		var endpoint int64
		var packed string
		if err := rows.Scan(&endpoint, &packed); err != nil || packed == "" {
			return err
		}
		x := &exposure{}
		f := strings.Split(packed, " ")
		granted, err1 := strconv.ParseInt(f[1], 10, 64)
		down, err2 := strconv.ParseInt(f[2], 10, 64)
		rung, err3 := strconv.ParseInt(f[4], 10, 64)
		measured, err4 := strconv.ParseInt(f[5], 10, 64)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return fmt.Errorf("exposure %q: %w", packed, err)
		}
		x.state = health.State(f[0])
		x.granted, x.down, x.reverted, x.rung = fromMicros(granted), time.Duration(down)*time.Microsecond, f[3] == "reverted", rung
		x.measured = measured
		g.exposures[endpoint] = x
		return nil
	})
}

// loadDomains finds which failure domains of those who ask are busy: with an
// endpoint that has not gone back and is in probation under any rollout, for the
// first time or once more, or silent under this one.
func (r *batchRun) loadDomains(ctx context.Context) error {
	asked := map[int64]map[string]*identity{}
	for _, a := range r.batch.Asks {
		id, g := r.endpoints[a.Endpoint], r.gates[a.Rollout]
		if id == nil || g == nil || id.domain == "" {
			continue
		}
		if asked[a.Rollout] == nil {
			asked[a.Rollout] = map[string]*identity{}
		}
		asked[a.Rollout][id.domainKey()] = id
	}
	for ro, domains := range asked {
		g, keys := r.gates[ro], []any{}
		for k := range domains {
			keys = append(keys, k)
		}
		g.gate.BusyDomains = map[string]bool{}
		err := r.c.queryList(ctx, listDomains, []any{ro, micros(r.now.Add(-g.static.policy.Probation.Std()))}, keys, func(rows *sql.Rows) error {
			var key string
			if err := rows.Scan(&key); err != nil {
				return err
			}
			g.gate.BusyDomains[rollout.DomainKey(r.tenants[domains[key].tenant].name, domains[key].domain)] = true
			return nil
		})
		if err != nil {
			return fmt.Errorf("load failure domains: %w", err)
		}
	}
	return nil
}

// segmentsOf lists the segments of labels as stored.
func (s *Store) segmentsOf(labels string) ([]string, error) {
	p, err := s.parsed(labels)
	return p.segments, err
}

// labelsOf reads labels as stored. Nobody changes them.
func (s *Store) labelsOf(labels string) (fleet.Labels, error) {
	p, err := s.parsed(labels)
	return p.labels, err
}

// parsedLabels are labels with their segments.
type parsedLabels struct {
	labels   fleet.Labels
	segments []string
}

func (s *Store) parsed(labels string) (parsedLabels, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if out, ok := s.segments[labels]; ok {
		return out, nil
	}
	var l fleet.Labels
	if err := json.Unmarshal([]byte(labels), &l); err != nil {
		return parsedLabels{}, fmt.Errorf("labels %q: %w", labels, err)
	}
	if len(s.segments) > 10000 { // as many as fit are enough: it is a cache
		clear(s.segments)
	}
	s.segments[labels] = parsedLabels{l, l.Segments()}
	return s.segments[labels], nil
}
