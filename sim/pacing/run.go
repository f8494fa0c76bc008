package pacing

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

const (
	second    = 10.0 // of a tick
	cohorts   = health.MaxCohorts + 1
	coverage  = cohorts - 1 // the coverage cohort's number
	horizon   = 30 * 360    // ticks
	revertLag = 2           // ticks from a halt to the first reverts; then one poll
	holdback  = 0.01
	crashRate = 1.16e-7 // baseline crashes per second: 1 % a day
	quietRate = 3.0e-6  // baseline unclean silence per second
)

// Channel is how endpoints poll and report, in ticks.
type Channel struct {
	Poll int // between polls of the fast 99 %; five times that for the rest
	Age  int // from the grant to an outcome that is known
	Lag  int // before which no silence can be seen
	// A crash is reported after Crash[0] to Crash[0]+Crash[1]-1.
	Crash [2]int
}

// Pull is a poll and a beacon of 60 s; Push is a push and a beacon of 15 s.
var (
	Pull = Channel{Poll: 6, Age: 10, Lag: 4, Crash: [2]int{2, 8}}
	Push = Channel{Poll: 1, Age: 4, Lag: 2, Crash: [2]int{1, 2}}
)

// batch is what was granted in one tick and is doomed: in the faulty segment
// and out of it.
type batch struct {
	t, cohort int
	in, out   float64
}

// tally is failures that become visible: by cohort, channel, and whether they
// lie in the faulty segment.
type tally [cohorts][2][2]float64

// event is one treated failure with its labels.
type event struct {
	t, cohort, channel int
	p                  profile
	out                bool // in a halted segment
	outAt              int  // since this tick
}

// Result is what one rollout came to. Times are minutes; 0 is never.
type Result struct {
	Harmed     float64 `json:"harmed"`
	T50        float64 `json:"minutes_to_50"`
	T95        float64 `json:"minutes_to_95"`
	T99        float64 `json:"minutes_to_99"`
	Detected   float64 `json:"minutes_to_detection"`
	Halted     bool    `json:"halted"`
	Held       bool    `json:"held"` // neither halted nor through
	Segment    bool    `json:"segment_halted"`
	Excluded   float64 `json:"excluded"`  // share of the fleet
	Protected  float64 `json:"protected"` // share of the reachable, without the harmed
	Gates      int64   `json:"gates"`
	GatesLimit int64   `json:"gates_limit,omitempty"`
	// Exposed over time, one number a tick, for drawing; only if asked for.
	Trace []float64 `json:"-"`
}

// run is one rollout.
type run struct {
	f     *Fleet
	fault Fault
	ch    Channel
	r     *rand.Rand
	t     int

	batches []*batch
	grants  [][cohorts]float64 // cumulative, by tick
	granted [cohorts]float64
	kept    [cohorts]float64 // granted and in no halted segment
	last    [cohorts]int     // tick of the youngest grant
	fast    float64          // reachable endpoints not granted yet
	slow    float64
	// Who is there, and the outages to come.
	presence presence
	dropping []outage
	covered  cover
	doomed   key
	share    float64 // of the doomed segment

	due     map[int]*tally
	early   map[int][2]float64 // failures within the first outcome's window
	failed  [cohorts][2]float64
	control [2]float64
	events  []event
	vitals  [cohorts][2]float64 // slow, measured
	// What the policy measures, and what was compared by it.
	measures []rollout.Measure
	compared [cohorts][]rollout.Compared
	cells    cells
	drift    float64 // of the baseline, as a logarithm

	halted  []key
	union   float64 // share of the fleet in halted segments
	spared  bool    // the doomed segment is among them
	haltAt  int
	spareAt int
	seen    seen // what rival policies look at
	res     Result
	done    int
}

// seen are the counters of policies that count reports.
type seen struct {
	crashes, crashes1, silent1 float64      // in all; within the first outcome's window
	window, crashWindow        [][2]float64 // by tick: treated failures, and expected
}

// orders are what a policy wants done in this tick.
type orders struct {
	random, cover float64 // endpoints exposed in all, drawn and chosen
	cohort        int
	paused, halt  bool
	exclude       []int32
}

// pacer is a policy in action.
type pacer interface {
	decide(w *run) orders
	// segments tells whether it looks at them.
	segments() bool
}

func (w *run) reachable() float64 { return math.Floor(w.f.Size * (1 - holdback)) }

// play runs one rollout from a seed.
func play(f *Fleet, p pacer, fault Fault, ch Channel, seed uint64, trace bool) Result {
	w := &run{f: f, fault: fault, ch: ch, r: rand.New(rand.NewPCG(seed, 99)), due: map[int]*tally{}, early: map[int][2]float64{}, haltAt: -1, spareAt: -1, done: -1}
	w.cells = newCells(f, p.segments(), seed)
	if b, ok := p.(*budgeted); ok {
		w.measures = b.s.Policy.Budget.Measures
		for k := range w.compared {
			w.compared[k] = make([]rollout.Compared, len(w.measures))
		}
	}
	w.covered = f.coverage[w.r.IntN(len(f.coverage))]
	if fault.Share > 0 {
		c := f.near(fault.Share, w.r)
		w.doomed, w.share = f.key(c), f.Tested[c]
	}
	w.fast = math.Floor(w.reachable() * 0.99)
	w.slow = w.reachable() - w.fast
	w.dropping = fault.outages(w)
	if fault.Diurnal {
		w.presence.begin(w)
	}
	end := fault.Until
	if end == 0 {
		end = horizon
	}
	for ; w.t < end; w.t++ {
		if fault.Diurnal {
			w.presence.move(w)
		}
		dead := fault.Dead && w.t >= 12 && w.t < 72
		if w.haltAt < 0 && !dead {
			w.obey(p.decide(w))
		}
		w.grants = append(w.grants, w.granted)
		active := w.strike()
		w.observe()
		w.progress()
		if trace {
			w.res.Trace = append(w.res.Trace, w.exposed())
		}
		if w.haltAt >= 0 && w.t > w.haltAt+10 && !active || w.done >= 0 && fault.Until == 0 && !active && w.t > w.done+360 {
			break
		}
	}
	w.res.Excluded = w.union
	if !w.res.Halted {
		w.res.Protected = max(0, w.exposed()-w.res.Harmed) / (w.reachable() - w.presence.gone)
		w.res.Held = w.res.T99 == 0
	}
	if fault.Slow || fault.Counts > 0 {
		w.res.Harmed = w.exposed()
	}
	return w.res
}

func (w *run) exposed() (n float64) {
	for _, g := range w.granted {
		n += g
	}
	return n
}

// obey carries out a policy's orders: a halt is at once, an exclusion before any
// further grant.
func (w *run) obey(o orders) {
	if o.halt {
		w.haltAt, w.res.Halted = w.t, true
		w.detected()
		return
	}
	if len(o.exclude) > 0 {
		w.exclude(o.exclude)
	}
	if o.paused {
		return
	}
	if o.cover > 0 && w.granted[coverage] == 0 && len(w.covered.members) > 0 {
		w.grantCoverage(int(o.cover))
	}
	random := w.exposed() - w.granted[coverage]
	n := math.Floor(max(0, min(o.random, w.reachable()*(1-w.union)-w.granted[coverage])-random))
	fast := min(n, max(0, w.fast-w.presence.gone), math.Ceil(w.reachable()*0.99/float64(w.ch.Poll)))
	slow := min(n-fast, w.slow, math.Ceil(w.reachable()*0.01/float64(5*w.ch.Poll)))
	w.fast, w.slow = w.fast-fast, w.slow-slow
	if n = fast + slow; n > 0 {
		in := 0.0
		if !w.spared {
			in = w.binomial(n, w.share)
		}
		w.cells.enrol(w, o.cohort, in, n-in)
		w.grant(o.cohort, in, n-in)
	}
}

func (w *run) grantCoverage(n int) {
	in := 0.0
	members := w.covered.members[:min(n, len(w.covered.members))]
	kept := 0.0
	for _, p := range members {
		if slices.ContainsFunc(w.halted, func(k key) bool { return k.has(p) }) {
			continue
		}
		kept++
		if w.fault.Share > 0 && w.doomed.has(p) {
			in++
		}
	}
	w.fast -= kept
	w.cells.enrolChosen(w, members)
	w.grant(coverage, in, kept-in)
}

func (w *run) grant(cohort int, in, out float64) {
	w.granted[cohort] += in + out
	w.kept[cohort] += in + out
	w.last[cohort] = w.t
	doomedIn, doomedOut := in, out
	if w.fault.Diurnal {
		if returned := w.presence.grant(w, cohort, in+out); w.fault.Returning {
			doomedIn, doomedOut = 0, returned
		}
	}
	if w.fault.Share > 0 {
		doomedOut = 0
	}
	b := &batch{t: w.t, cohort: cohort, in: w.binomial(doomedIn, w.fault.Kills), out: w.binomial(doomedOut, w.fault.Kills)}
	if b.in+b.out > 0 {
		w.batches = append(w.batches, b)
	}
}

func (w *run) detected() {
	if w.res.Detected == 0 {
		w.res.Detected = float64(w.t) * second / 60
	}
}

// exclude halts segments: their endpoints revert, and their failures count no
// longer.
func (w *run) exclude(tested []int32) {
	w.res.Segment = true
	w.detected()
	for _, c := range tested {
		k := w.f.key(c)
		w.halted = append(w.halted, k)
		if w.fault.Share > 0 && !w.spared && w.doomed.within(k) {
			w.spared, w.spareAt = true, w.t
		}
	}
	before := 1 - w.union
	w.union = w.f.union(w.halted)
	for k := range w.kept {
		w.kept[k] *= (1 - w.union) / before
	}
	for i := range w.events {
		if e := &w.events[i]; !e.out && w.isHalted(e.p) {
			e.out, e.outAt = true, w.t
			w.failed[e.cohort][e.channel]--
			at, r := w.cells.of(w.f, e.p), &w.cells.rosters[e.cohort]
			w.cells.add(at, -1, r.large)
			if !r.large {
				r.count(at, len(w.f.Tested), -1)
			}
		}
	}
	w.cells.leave(w)
}

func (w *run) isHalted(p profile) bool {
	return slices.ContainsFunc(w.halted, func(k key) bool { return k.has(p) })
}

// progress notes when parts of the fleet are protected: a tick and a half after
// the grant.
func (w *run) progress() {
	if w.haltAt >= 0 {
		return
	}
	share := w.exposed() / (w.reachable()*(1-w.union) - w.presence.gone)
	now := (float64(w.t)*second + 15) / 60
	for _, m := range []struct {
		at   float64
		when *float64
	}{{0.5, &w.res.T50}, {0.95, &w.res.T95}, {0.99, &w.res.T99}} {
		if *m.when == 0 && share >= m.at {
			*m.when = now
			if m.at == 0.99 {
				w.done = w.t
			}
		}
	}
}

// at is how many of a cohort had been granted lag ticks ago.
func (w *run) at(cohort, lag int) float64 {
	if w.t < lag || w.t-lag >= len(w.grants) {
		return 0
	}
	return w.grants[w.t-lag][cohort]
}

// atRisk is the same of those that are there and in no halted segment.
func (w *run) atRisk(cohort, lag int) float64 {
	n := w.at(cohort, lag)
	if n == 0 {
		return 0
	}
	return n * w.kept[cohort] / w.granted[cohort] * w.presence.part(w, cohort)
}

func (w *run) atAll(lag int) (n float64) {
	for k := range cohorts {
		n += w.at(k, lag)
	}
	return n
}
