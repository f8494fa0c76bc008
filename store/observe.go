package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/rollout"
)

// Cohorts that are no rungs.
const (
	rungCoverage = -1
	rungControl  = -2
)

// far is the deadline of exposures that SweepQuiet looks after.
const far = int64(1) << 62

// What the hot path reads and writes for rollouts with a budget.
const (
	textCohorts = `SELECT rung, granted, size, unsettled, last, harmed, silent, recent, by_age, measured, slow, measures FROM rollout_cohort WHERE rollout = $1 ORDER BY rung`
	textCohort  = `INSERT INTO rollout_cohort (rollout, rung, granted, size, unsettled, last, harmed, silent, recent, by_age, measured, slow, measures) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (rollout, rung) DO UPDATE SET granted = excluded.granted, size = excluded.size, unsettled = excluded.unsettled, last = excluded.last,
		harmed = excluded.harmed, silent = excluded.silent, recent = excluded.recent, by_age = excluded.by_age,
		measured = excluded.measured, slow = excluded.slow, measures = excluded.measures`
	textWatching = `SELECT id, switches FROM rollout WHERE product = $1 AND state IN ('running', 'held', 'finished') ORDER BY id`
)

var (
	// listFirst returns the endpoints for which it is the first failure.
	listFirst = &list{
		of:   "BIGINT BOOLEAN BIGINT TEXT",
		head: `INSERT INTO first_failure (rollout, at, endpoint, exposed, rung, channel) VALUES `,
		row:  `($1, $2, ?, ?, ?, ?)`, tail: ` ON CONFLICT (rollout, endpoint, exposed) DO NOTHING RETURNING endpoint`, fixed: 2,
	}
	listWell = &list{of: "BIGINT", head: `SELECT endpoint FROM installation WHERE product = $1 AND healthy AND endpoint IN (`, row: `?`, tail: `)`, fixed: 1, pad: true}
)

// cohort is a row of rollout_cohort in hand.
type cohort struct {
	granted, size, unsettled int64
	last                     time.Time
	harmed, silent           int64
	recent                   []grants
	byAge                    []int64
	measured, slow           int64 // by vitals; of controls, how many the first comparison had
	measures                 []compared
	changed                  bool
}

// grants is how many were granted within one grain before an instant.
type grants struct {
	Until int64 `json:"until_us"`
	N     int64 `json:"n"`
}

// failure is a first failure in hand.
type failure struct {
	rung    int64
	channel health.State // Harmed or Silent
	// unproven: it was open until now. It counted as failed at every horizon, and
	// must not drop out of those that are past.
	unproven bool
}

// watched is what a gate knows of a rollout with a budget.
type watched struct {
	policy   rollout.Policy
	cohorts  map[int64]*cohort
	failures map[int64]failure // by endpoint
	halted   []rollout.HaltedSegment
}

// loadWatched reads what a rollout with a budget counts besides.
func (c conn) loadWatched(ctx context.Context, id int64, p rollout.Policy, halted string) (*watched, error) {
	w := &watched{policy: p, failures: map[int64]failure{}}
	if err := json.Unmarshal([]byte(halted), &w.halted); err != nil {
		return nil, fmt.Errorf("halted segments: %w", err)
	}
	var err error
	w.cohorts, err = c.cohorts(ctx, id)
	return w, err
}

func (c conn) cohorts(ctx context.Context, id int64) (map[int64]*cohort, error) {
	out := map[int64]*cohort{}
	rows, err := c.rows(ctx, textCohorts, id)
	err = each(rows, err, func() error {
		var rung, last int64
		var recent, byAge, measures []byte
		n := &cohort{}
		if err := rows.Scan(&rung, &n.granted, &n.size, &n.unsettled, &last, &n.harmed, &n.silent, &recent, &byAge, &n.measured, &n.slow, &measures); err != nil {
			return err
		}
		n.last = fromMicros(last)
		if err := json.Unmarshal(recent, &n.recent); err != nil {
			return fmt.Errorf("cohort %d: recent: %w", rung, err)
		}
		if err := json.Unmarshal(byAge, &n.byAge); err != nil {
			return fmt.Errorf("cohort %d: by_age: %w", rung, err)
		}
		if err := json.Unmarshal(measures, &n.measures); err != nil {
			return fmt.Errorf("cohort %d: measures: %w", rung, err)
		}
		out[rung] = n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read cohorts: %w", err)
	}
	return out, nil
}

// cohort is a cohort to be changed.
func (w *watched) cohort(rung int64) *cohort {
	n := w.cohorts[rung]
	if n == nil {
		n = &cohort{byAge: make([]int64, len(w.policy.Budget.Horizons))}
		w.cohorts[rung] = n
	}
	n.changed = true
	return n
}

// leftOut tells whether labels are in a halted segment.
func (w *watched) leftOut(l fleet.Labels) bool {
	return slices.ContainsFunc(w.halted, func(h rollout.HaltedSegment) bool { return l.Match(h.Labels) })
}

// grant counts one more exposure of a cohort. Gate.Admit refuses halted segments.
func (w *watched) grant(rung int64, now time.Time) {
	n := w.cohort(rung)
	n.granted++
	n.size++
	n.unsettled++
	n.last = later(n.last, now)
	quiet := w.policy.Quiet()
	grain := max(quiet.Microseconds()/8, 1)
	until := (micros(now)/grain + 1) * grain
	n.recent = slices.DeleteFunc(n.recent, func(g grants) bool { return g.Until < micros(now.Add(-quiet)) })
	if k := len(n.recent); k > 0 && n.recent[k-1].Until >= until {
		n.recent[k-1].N++
		return
	}
	n.recent = append(n.recent, grants{Until: until, N: 1})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// young is how many were granted so lately that their silence cannot be seen.
func (n *cohort) young(now time.Time, quiet time.Duration) (young int64) {
	for _, g := range n.recent {
		if g.Until > micros(now.Add(-quiet)) {
			young += g.N
		}
	}
	return min(young, n.size)
}

// count counts a first failure that is news. Failures count towards each horizon
// that the cohort's youngest member has not passed, and while more may join; those
// of endpoints that were never proven towards all: silence is known only after its
// deadline, and later yet if the server was away.
func (w *watched) count(f failure, open bool, now time.Time) {
	n := w.cohort(f.rung)
	if f.channel == health.Harmed {
		n.harmed++
	} else {
		n.silent++
	}
	for j, h := range w.policy.Budget.Horizons {
		if j < len(n.byAge) && (open || f.unproven || now.Sub(n.last) <= h.Age.Std()) {
			n.byAge[j]++
		}
	}
}

// joinable tells whether a cohort may still get members.
func (g *gate) joinable(rung int64) bool {
	p := g.gate.Pace
	return rung == p.Rung && g.gate.Counts.Exposed-g.gate.Covered < p.Ceiling-p.Cover
}

// fail notes a failure of an endpoint; saveWatched finds out whether it is its
// first.
func (g *gate) fail(endpoint int64, f failure) {
	if g.watched == nil {
		return
	}
	if _, known := g.watched.failures[endpoint]; !known {
		g.watched.failures[endpoint] = f
	}
}

// findFallen finds, of endpoints that report a product as unhealthy, those that
// were healthy before, and the rollouts with a budget that they concern: exposed
// or not, their failures are evidence.
func (r *batchRun) findFallen(ctx context.Context, about map[int64][]any) error {
	ill := map[string][]any{}
	for _, b := range r.batch.Beacons {
		for _, in := range b.Installations {
			if !in.Healthy {
				ill[in.Product] = append(ill[in.Product], b.Endpoint)
			}
		}
	}
	for _, product := range slices.Sorted(maps.Keys(ill)) {
		rollouts, err := r.c.watching(ctx, product)
		if err != nil {
			return err
		}
		if len(rollouts) == 0 {
			continue
		}
		var fallen []any
		err = r.c.queryList(ctx, listWell, []any{product}, distinct(ill[product]), func(rows *sql.Rows) error {
			var endpoint int64
			err := rows.Scan(&endpoint)
			fallen = append(fallen, endpoint)
			return err
		})
		if err != nil {
			return fmt.Errorf("find who was healthy: %w", err)
		}
		for _, id := range rollouts {
			if len(fallen) > 0 {
				r.fallen[id] = append(r.fallen[id], fallen...)
				about[id] = append(about[id], fallen...)
			}
		}
	}
	return nil
}

// watching lists the rollouts of a product with a budget whose evidence counts.
func (c conn) watching(ctx context.Context, product string) (out []int64, err error) {
	var all [][2]int64 // id, switches
	rows, err := c.rows(ctx, textWatching, product)
	err = each(rows, err, func() error {
		var r [2]int64
		err := rows.Scan(&r[0], &r[1])
		all = append(all, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list rollouts of %s: %w", product, err)
	}
	for _, r := range all {
		st, err := c.loadStatic(ctx, r[0], r[1])
		if err != nil {
			return nil, err
		}
		if st.policy.Budget != nil {
			out = append(out, r[0])
		}
	}
	return out, nil
}

// takeFallen counts who fell: controls, and exposed endpoints whose probation is
// over. In probation the attempt's own outcome speaks.
func (r *batchRun) takeFallen() {
	for id, fallen := range r.fallen {
		g := r.gates[id]
		if g == nil || g.watched == nil {
			continue
		}
		for _, e := range fallen {
			endpoint := e.(int64)
			if !r.spoke[endpoint] {
				continue
			}
			switch x := g.exposures[endpoint]; {
			case x == nil && !r.keptFrom(g, r.endpoints[endpoint]):
				g.fail(endpoint, failure{rung: rungControl, channel: health.Harmed})
			case x == nil:
			case x.state == health.Proven:
				g.fail(endpoint, failure{rung: x.rung, channel: health.Harmed})
			}
		}
	}
}

// saveWatched writes first failures and the cohorts that changed.
func (r *batchRun) saveWatched(ctx context.Context, g *gate) error {
	w := g.watched
	if w == nil {
		return nil
	}
	var rows []any
	for _, endpoint := range slices.Sorted(maps.Keys(w.failures)) {
		f := w.failures[endpoint]
		rows = append(rows, endpoint, f.rung != rungControl, f.rung, string(f.channel))
	}
	var news []int64
	err := r.c.queryList(ctx, listFirst, []any{g.gate.Rollout, micros(r.now)}, rows, func(rows *sql.Rows) error {
		var endpoint int64
		err := rows.Scan(&endpoint)
		news = append(news, endpoint)
		return err
	})
	if err != nil {
		return fmt.Errorf("record first failures: %w", err)
	}
	for _, endpoint := range news {
		if err := r.countFirst(g, endpoint); err != nil {
			return err
		}
	}
	if err := r.countFailed(ctx, g, news); err != nil {
		return err
	}
	return r.c.saveCohorts(ctx, g.gate.Rollout, w)
}

// countFirst counts a first failure, unless its endpoint is left out.
func (r *batchRun) countFirst(g *gate, endpoint int64) error {
	w, f, id := g.watched, g.watched.failures[endpoint], r.endpoints[endpoint]
	if id == nil {
		return fmt.Errorf("first failure of %s: %w", ids.Format("E", endpoint), ErrNotFound)
	}
	if f.rung == rungControl {
		r.member(g, id, "control-"+string(f.channel))
	}
	labels, err := r.c.s.labelsOf(id.labels.Value())
	if err != nil {
		return err
	}
	if w.leftOut(labels) {
		return nil
	}
	w.count(f, g.joinable(f.rung), r.now)
	return nil
}

func (c conn) saveCohorts(ctx context.Context, id int64, w *watched) error {
	for _, rung := range slices.Sorted(maps.Keys(w.cohorts)) {
		n := w.cohorts[rung]
		if !n.changed {
			continue
		}
		if n.recent == nil {
			n.recent = []grants{}
		}
		if n.measures == nil {
			n.measures = []compared{}
		}
		recent, err1 := json.Marshal(n.recent)
		byAge, err2 := json.Marshal(n.byAge)
		measures, err3 := json.Marshal(n.measures)
		if err := errors.Join(err1, err2, err3); err != nil {
			return fmt.Errorf("cohort %d: %w", rung, err)
		}
		_, err := c.exec(ctx, textCohort, id, rung, n.granted, n.size, n.unsettled, micros(n.last), n.harmed, n.silent, string(recent), string(byAge), n.measured, n.slow, string(measures))
		if err != nil {
			return fmt.Errorf("save cohort %d: %w", rung, err)
		}
	}
	return nil
}
