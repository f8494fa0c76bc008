package pacing

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// epoch is when every rollout starts.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// budgeted is a policy of the product: it asks rollout.Decide at every tick, with
// what the server would know.
type budgeted struct {
	s       rollout.Snapshot
	matured [cohorts][]maturity // by cohort and horizon
	last    rollout.Decision
}

// maturity is when a cohort's youngest member reached a horizon, and what had
// failed by then.
type maturity struct {
	at     int // tick; 0 is not yet
	failed float64
	// withdrawn of those lie in one of so many segments that were halted since.
	withdrawn float64
	halted    int
}

func newBudgeted(f *Fleet, p rollout.Policy) *budgeted {
	b := &budgeted{s: rollout.Snapshot{
		Rollout: 1, Product: "acme/rules", Version: "2.0.0", State: rollout.Running, Policy: p, Rules: rollout.Rules, Started: epoch, RungSince: epoch,
		Observed: &rollout.Observed{CellsTested: f.tested(p.Budget.MaxSegment), Vitals: true},
	}}
	for k := range b.matured {
		b.matured[k] = make([]maturity, len(p.Budget.Horizons))
	}
	return b
}

func (b *budgeted) segments() bool { return b.s.Policy.Budget.Segments }

func (b *budgeted) decide(w *run) orders {
	now := epoch.Add(time.Duration(w.t) * time.Duration(second) * time.Second)
	b.observe(w, now)
	d, err := rollout.Decide(b.s, now)
	if err != nil {
		panic("pacing: " + err.Error())
	}
	b.s.State, b.s.Pace, b.s.HeldBy, b.s.Observed.Knowledge = d.State, d.Pace, d.HeldBy, *d.Knowledge
	if d.NewRung {
		b.s.RungSince = now
	}
	if d.Numbers.GatesLimit > 0 {
		w.res.GatesLimit = d.Numbers.GatesLimit
	}
	w.res.Gates = d.Pace.Rung
	b.last = d
	o := b.orders(w, d)
	for _, h := range d.HaltSegments {
		o.exclude = append(o.exclude, int32(h.ID))
		b.s.Observed.Halted = append(b.s.Observed.Halted, h)
	}
	return o
}

func (b *budgeted) orders(w *run, d rollout.Decision) orders {
	p := b.s.Pace
	cover := p.Cover
	if w.granted[coverage] > 0 {
		cover = int64(w.granted[coverage])
	}
	return orders{
		random: float64(p.Ceiling - cover), cover: float64(p.Cover), cohort: int(min(p.Rung, cohorts-2)),
		paused: !d.State.Grants(), halt: d.State == rollout.Reverting || d.State == rollout.Halted,
	}
}

// observe fills the snapshot with what the server knows at the tick's start.
func (b *budgeted) observe(w *run, now time.Time) {
	o := *b.s.Observed
	exposed := int64(w.exposed())
	failed := 0.0
	o.Cohorts = make([]rollout.Cohort, b.s.Pace.Rung+1)
	for k := range o.Cohorts {
		o.Cohorts[k] = b.cohort(w, k)
		failed += w.failed[k][0] + w.failed[k][1]
	}
	if b.s.Pace.Ceiling == 0 {
		o.Cohorts = nil
	}
	o.Coverage = b.cohort(w, coverage)
	failed += w.failed[coverage][0] + w.failed[coverage][1]
	controls := int64(w.controls())
	o.Control = health.Arm{Harmed: int64(w.control[0]), Silent: int64(w.control[1]), AtRisk: controls, AtLeast: controls}
	o.HaltedShare, o.Measures = w.union, w.controlsOf()
	if b.s.Policy.Budget.Segments {
		o.Cells = w.cells.looks(w, *b.s.Policy.Budget, o.Cells)
	}
	proven := min(max(0, exposed-int64(failed)), int64(w.atAll(w.ch.Age)))
	b.s.Observed = &o
	b.s.Counts = health.Counts{Exposed: exposed, Proven: proven, Open: exposed - proven}
	b.s.Control = health.Control{Fit: int64(w.f.Size), Online: int64(w.f.Size - w.presence.absent()), Unexposed: controls, Heard: controls}
}

func (b *budgeted) cohort(w *run, k int) rollout.Cohort {
	c := rollout.Cohort{
		Granted: int64(w.granted[k]), Size: int64(math.Ceil(w.kept[k])), Last: epoch.Add(time.Duration(w.last[k]) * time.Duration(second) * time.Second),
		Arm: health.Arm{
			Harmed: int64(w.failed[k][0]), Silent: int64(w.failed[k][1]),
			AtRisk: int64(math.Ceil(w.atRisk(k, w.ch.Lag-1))), AtLeast: int64(w.atRisk(k, w.ch.Age-1)),
		},
		Slow: int64(w.vitals[k][0]), Measured: int64(w.vitals[k][1]), Measures: slices.Clone(w.compared[k]),
	}
	for j, h := range b.s.Policy.Budget.Horizons {
		m := &b.matured[k][j]
		seen := w.failed[k][0] + w.failed[k][1]
		age := int(h.Age.Std().Seconds() / second)
		closed := k == coverage || int64(k) < b.s.Pace.Rung || int64(w.exposed()) >= b.s.Pace.Ceiling
		if m.at == 0 && closed && w.t-w.last[k] >= age {
			m.at, m.failed = w.t, seen
		}
		if m.at > 0 {
			if m.halted != len(w.halted) {
				m.withdrawn, m.halted = w.withdrawn(k, m.at), len(w.halted)
			}
			seen = max(0, m.failed-m.withdrawn)
		}
		c.ByAge = append(c.ByAge, min(int64(seen), c.Size))
	}
	return c
}

// withdrawn is how many of a cohort's failures before a tick lie in segments
// that were halted after it.
func (w *run) withdrawn(cohort, before int) (n float64) {
	for _, e := range w.events {
		if e.out && e.cohort == cohort && e.t < before && e.outAt >= before {
			n++
		}
	}
	return n
}

// String says what was decided last, and why.
func (b *budgeted) String() string { return fmt.Sprint(b.last.Action, " ", b.last.Reasons) }
