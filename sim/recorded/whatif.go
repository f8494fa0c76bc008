package recorded

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// tick is how often the replay decides; longest is when it gives up waiting.
const (
	tick    = 10 * time.Second
	longest = 48 * time.Hour
)

// Answer is what a policy would have done with a recorded rollout.
type Answer struct {
	Policy    string `json:"policy"`
	Endpoints int64  `json:"endpoints"`
	// As recorded.
	RecordedExposed int64 `json:"recorded_exposed"`
	RecordedHarmed  int64 `json:"recorded_harmed"` // harmed and silent after exposure
	// Under the policy. Times are minutes since its start; nil is never.
	Exposed   int64    `json:"exposed"`
	Harmed    int64    `json:"harmed"`
	Halted    *float64 `json:"minutes_to_halt"`
	Reason    string   `json:"reason"` // of the halt, the finish, or the last hold
	Segments  []string `json:"segments_halted"`
	Finished  *float64 `json:"minutes_to_finish"`
	T99       *float64 `json:"minutes_to_99"`
	Gates     int64    `json:"gates"`
	Ungranted int64    `json:"never_exposed_in_the_record"` // exposed here, their fate unknown

	Assumptions []string `json:"assumptions"`
}

// Assumptions are what every answer rests on.
var Assumptions = []string{
	"an endpoint fails at the age at which the record says, whoever else is exposed and whatever the hour",
	"a failure becomes known when the record says, counted from the exposure",
	"every endpoint is there and asks at every poll; its turn is the keyed hash of its id under a fixed seed",
	"an endpoint that the record never exposed stays healthy when exposed here",
	"failures before exposure are the controls'; where the record has none, nothing would have failed without the update",
	"after a halt everyone is back within one poll; coverage and vitals are left out",
}

// seed orders the endpoints; it is fixed, so that an answer can be had again.
var seed = []byte("headgate recorded rollout, fixed order")

// endpoint is a record made ready to play: times in ticks, -1 is never.
type endpoint struct {
	rank    uint64
	control int64 // fails as a control, since the start of the record
	age     int64 // fails at this age
	silent  bool
	unknown bool // never exposed in the record
	cells   []int32
	granted int64
	failed  int64
	cohort  int
	out     bool // in a halted segment
}

// play is one replay.
type play struct {
	all       []endpoint // by rank
	cells     []cell
	s         rollout.Snapshot
	cohorts   []group
	next      int             // of all: the first that was not asked for
	due       map[int64][]int // endpoints that fail in a tick once exposed
	dueAsFree map[int64][]int // and as controls, if they are not exposed by then
	pending   int64           // the last tick in which one that is exposed fails
	grants    []int64         // exposed in all, by tick
	control   health.Arm
	free      int64 // not exposed, not failed
	haltedAll int64 // endpoints in halted segments
	harmed    int64
	ungranted int64
}

// group is a cohort's counts.
type group struct {
	granted, kept, last int64
	harmed, silent      int64 // in no halted segment
	byAge, matureAt     []int64
}

// cell is a segment: a label value or a pair of them.
type cell struct {
	labels                         fleet.Labels
	size, exposed, failed, control int64
	halted                         bool
}

// WhatIf plays a policy with a budget over records.
func WhatIf(records []Record, p rollout.Policy) (Answer, error) {
	if p.Budget == nil {
		return Answer{}, fmt.Errorf("policy %q has no budget: only policies with one decide by evidence: %w", p.Name, ErrInvalid)
	}
	b := *p.Budget
	b.Cover, b.SlowShare = 0, 0
	p.Budget = &b
	w := newPlay(records, p)
	a := Answer{Policy: p.Name, Endpoints: int64(len(records)), Segments: []string{}, Assumptions: Assumptions}
	for _, r := range records {
		if !r.Exposed.IsZero() {
			a.RecordedExposed++
			if r.Outcome != Healthy && !r.OutcomeAt.Before(r.Exposed) {
				a.RecordedHarmed++
			}
		}
	}
	settled := int64(0) // ticks since nothing can change any more
	for t := int64(0); t < int64(longest/tick) && settled == 0; t++ {
		if a.Halted == nil {
			d, err := rollout.Decide(w.observe(t), at(t))
			if err != nil {
				return a, fmt.Errorf("play %d records at %s: %w", len(records), time.Duration(t)*tick, err)
			}
			a.take(d, t)
			w.obey(d, t)
			w.grant(t)
		}
		w.strike(t, a.Halted)
		if a.T99 == nil && float64(w.exposed()) >= 0.99*math.Floor(float64(len(records))*(1-b.Holdback)) {
			a.T99 = minutes(t)
		}
		if w.settled(t, a) {
			settled = t
		}
	}
	a.Exposed, a.Harmed, a.Ungranted = w.exposed(), w.harmed, w.ungranted
	return a, nil
}

// take notes what a decision means for the answer.
func (a *Answer) take(d rollout.Decision, t int64) {
	a.Reason, a.Gates = d.Reasons[0].Code+": "+d.Reasons[0].Detail, d.Pace.Rung
	for _, h := range d.HaltSegments {
		name := ""
		for i, part := range h.Labels.Segments() {
			if i > 0 {
				name += " & "
			}
			name += part
		}
		a.Segments = append(a.Segments, name)
	}
	switch {
	case a.Halted == nil && (d.State == rollout.Halted || d.State == rollout.Reverting):
		a.Halted = minutes(t)
	case a.Finished == nil && d.State == rollout.Finished:
		a.Finished = minutes(t)
	}
}

func minutes(t int64) *float64 { m := (time.Duration(t) * tick).Minutes(); return &m }

// start is when every replay starts; the record's own dates play no part.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(t int64) time.Time { return start.Add(time.Duration(t) * tick) }

func newPlay(records []Record, p rollout.Policy) *play {
	w := &play{
		s: rollout.Snapshot{
			Rollout: 1, Product: "recorded", Version: "1", State: rollout.Running, Rules: rollout.Rules, Policy: p, Started: start, RungSince: start,
			Observed: &rollout.Observed{},
		},
		due: map[int64][]int{}, dueAsFree: map[int64][]int{}, free: int64(len(records)), pending: -1,
	}
	var first time.Time
	for _, r := range records {
		for _, t := range [2]time.Time{r.Exposed, r.OutcomeAt} {
			if !t.IsZero() && (first.IsZero() || t.Before(first)) {
				first = t
			}
		}
	}
	var of [][]int32
	w.cells, of = segments(records)
	w.s.Observed.CellsTested = max(1, int64(len(w.cells)))
	for i, r := range records {
		w.all = append(w.all, r.ready(first, of[i]))
	}
	slices.SortStableFunc(w.all, func(a, b endpoint) int { return cmp.Compare(a.rank, b.rank) })
	for i, e := range w.all {
		if e.control >= 0 {
			w.dueAsFree[e.control] = append(w.dueAsFree[e.control], i)
		}
	}
	return w
}

// ready is a record in ticks.
func (r Record) ready(first time.Time, cells []int32) endpoint {
	e := endpoint{rank: fleet.Rank(seed, r.Endpoint), control: -1, age: -1, granted: -1, failed: -1, silent: r.Outcome == Silent, unknown: r.Exposed.IsZero(), cells: cells}
	switch {
	case r.Outcome == Healthy:
	case r.Exposed.IsZero() || r.OutcomeAt.Before(r.Exposed):
		e.control = int64(r.OutcomeAt.Sub(first) / tick)
	default:
		e.age = int64(r.OutcomeAt.Sub(r.Exposed) / tick)
	}
	return e
}

func (w *play) exposed() (n int64) {
	for _, c := range w.cohorts {
		n += c.granted
	}
	return n
}

// settled tells whether nothing more can happen: halted and everyone back, or no
// exposed endpoint left that fails and time enough for every wait of the policy.
func (w *play) settled(t int64, a Answer) bool {
	if a.Halted != nil {
		return t > w.pending || at(t).Sub(start).Minutes() > *a.Halted+w.s.Policy.Poll.Std().Minutes()
	}
	horizons := w.s.Policy.Budget.Horizons
	idle := w.s.RungSince.Add(w.s.Policy.FillTimeout.Std() + 2*horizons[len(horizons)-1].Age.Std())
	return t > w.pending && at(t).After(idle)
}
