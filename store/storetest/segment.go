package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// segments: failures are counted by the labels of those who failed, whatever is
// halted; who is in a halted segment is counted out of the cohorts and refused,
// and in again when two people lift it.
func segments(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 8)
	ro := w.segmented(t)
	id := ro.ID
	observe := func() *rollout.Observed {
		t.Helper()
		Healthy(t, w.Store)
		snap, err := w.Store.Snapshot(t.Context(), id, at(22))
		if err != nil {
			t.Fatal(err)
		}
		return snap.Observed
	}
	linux := fleet.Labels{"os": "linux"}
	before := observe()
	if n := failures(before.Failures, linux); n != [2]int64{2, 0} || failures(before.Failures, fleet.Labels{"os": "windows"}) != [2]int64{0, 1} {
		t.Fatalf("failures by labels: %+v", before.Failures)
	}
	w.composed(t, id)
	d := rollout.Decision{Action: rollout.HaltSegment, State: rollout.Running, Reasons: []rollout.Reason{{Code: "segment-evidence"}}, Pace: ro.Pace,
		HaltSegments: []rollout.HaltedSegment{{ID: 1, Labels: linux, Share: 0.5}}, Knowledge: &rollout.Knowledge{}}
	if _, err := w.decide(t, id, d); err != nil {
		t.Fatal(err)
	}
	c := observe()
	if n := c.Cohorts[0]; n.Granted != 6 || n.Size != 3 || n.Arm.Harmed != 0 || n.ByAge[0] != 2 || c.Control.Harmed != 1 || len(c.Halted) != 1 || c.Halted[0].AtUS == 0 {
		t.Fatalf("without the segment: %+v, controls %+v", n, c.Control)
	}
	for i, want := range map[int]string{6: "segment-halted", 0: "already-harmed", 4: "segment-halted", 7: "granted"} {
		if a := w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(i, id)}}, at(22)).Asks[0]; a.Code != want {
			t.Errorf("endpoint %d: %+v; want %s", i, a, want)
		}
	}
	// One of the segment fails, and one goes back, while it is out.
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(4, id, store.AttemptReverted)}}, at(22))
	w.lift(t, id, linux)
	after := observe()
	if n := after.Cohorts[0]; n.Granted != 7 || n.Size != 7 || n.Arm.Harmed != 2 || n.ByAge[0] != before.Cohorts[0].ByAge[0]+1 || len(after.Halted) != 0 {
		t.Fatalf("with the segment again: %+v", n)
	}
	if a := w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(4, id)}}, at(23)).Asks[0]; a.Verdict != rollout.Granted || a.New {
		t.Errorf("who went back with the segment: %+v; want the grant again", a)
	}
	if got, err := w.Store.Rollout(t.Context(), id); err != nil || got.Reverted != 2 {
		t.Errorf("%d went back, %v; want the two harmed only", got.Reverted, err)
	}
	observe()
}

// coverage: who was chosen at the start is counted apart from the random cohorts
// while there is room for coverage, and waits for its turn like everyone else then.
func coverage(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 8)
	said := store.Batch{}
	for i := range 8 {
		said.Beacons = append(said.Beacons, w.Beacon(i, 1, ""))
	}
	w.Commit(t, said, Start)
	all, err := w.Store.Eligible(t.Context(), Product, []byte("key"), Start.Add(-time.Hour))
	if err != nil || len(all) != 8 {
		t.Fatalf("%d eligible, %v", len(all), err)
	}
	p := budgetPolicy()
	p.Budget.Cover = 2
	reach := fleet.Reach{Members: []int64{w.Endpoints[0].ID, w.Endpoints[1].ID, w.Endpoints[2].ID}, Chosen: 3, Cells: 4, Missed: []string{"os=plan9"}}
	ro, err := w.Store.StartRollout(t.Context(), store.Start{
		Product: Product, Version: "1.0.0", Policy: p, Seed: seedFor(w), Actor: "operator:ann", Coverage: reach, Pace: rollout.Pace{Window: 8, Ceiling: 8},
	}, Start, nil)
	if err != nil || ro.Coverage.Chosen != 3 || ro.Coverage.Missed[0] != "os=plan9" {
		t.Fatalf("%+v, %v", ro.Coverage, err)
	}
	ask := func(s int, who ...int) (codes []string) {
		b := store.Batch{}
		for _, i := range who {
			b.Asks = append(b.Asks, w.Ask(i, ro.ID))
		}
		for _, a := range w.Commit(t, b, at(s)).Asks {
			codes = append(codes, a.Code)
		}
		return codes
	}
	if got := ask(1, 0, 3); got[0] != "not-your-turn" || got[1] != "not-your-turn" {
		t.Errorf("before there is room for coverage: %v", got)
	}
	d := rollout.Decision{Action: rollout.Advance, State: rollout.Running, Reasons: []rollout.Reason{{Code: "gate-passed"}}, NewRung: true,
		Pace: rollout.Pace{Rung: 1, Window: 8, Ceiling: 6, Cover: 2}, Knowledge: &rollout.Knowledge{}}
	if _, err := w.decide(t, ro.ID, d); err != nil {
		t.Fatal(err)
	}
	// The third of them finds no room, and nobody's turn has come.
	if got := ask(2, 0, 1, 2, 3); got[0] != "granted" || got[1] != "granted" || got[2] != "not-your-turn" || got[3] != "not-your-turn" {
		t.Errorf("with room for two: %v", got)
	}
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, ro.ID, store.AttemptHarmed)}}, at(15))
	snap, err := w.Store.Snapshot(t.Context(), ro.ID, at(16))
	if o := snap.Observed; err != nil || o.Coverage.Granted != 2 || o.Coverage.Arm.Harmed != 1 || o.Cohorts[1].Granted != 0 {
		t.Errorf("%+v, %v; want two of coverage, one harmed, and nobody at random", o, err)
	}
	if ids, err := w.Store.Chosen(t.Context(), ro.ID); err != nil || len(ids) != 3 {
		t.Errorf("chosen %v, %v", ids, err)
	}
	Healthy(t, w.Store)
}

func at(s int) time.Time { return Start.Add(time.Duration(s) * time.Second) }

// segmented rolls out to the first six; 0 and 2 are harmed, 1 is proven, and 7
// falls ill as a control.
func (w *World) segmented(t *testing.T) store.Rollout {
	t.Helper()
	p := budgetPolicy()
	p.Budget.Segments, p.Budget.MaxSegment, p.Budget.MaxExcluded = true, 0.5, 0.5
	ro, err := w.Store.StartRollout(t.Context(), store.Start{
		Product: Product, Version: "1.0.0", Policy: p, Seed: seedFor(w), Actor: "operator:ann", Pace: rollout.Pace{Window: 8, Ceiling: 8, Turn: 1},
	}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	asks, all := store.Batch{}, store.Batch{}
	for i := range 8 {
		all.Beacons = append(all.Beacons, w.Beacon(i, ro.ID, ""))
	}
	w.Commit(t, all, at(1))
	for i := range 6 {
		asks.Asks = append(asks.Asks, w.Ask(i, ro.ID))
	}
	w.Commit(t, asks, at(2))
	ill := w.Beacon(7, ro.ID, "")
	ill.Installations[0].Healthy = false
	failed := store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, ro.ID, store.AttemptHarmed), w.Beacon(1, ro.ID, store.AttemptProven), w.Beacon(2, ro.ID, store.AttemptHarmed), ill}}
	w.Commit(t, failed, at(20))
	w.Commit(t, failed, at(21)) // says nothing new
	return ro
}

// composed: the fleet is counted by its labels.
func (w *World) composed(t *testing.T, id int64) {
	t.Helper()
	groups, err := w.Store.Composition(t.Context(), id, at(1), at(1))
	fit, exposed, heard := int64(0), int64(0), int64(0)
	for _, g := range groups {
		fit, exposed, heard = fit+g.Fit, exposed+g.Exposed, heard+g.Heard
	}
	if err != nil || len(groups) != 6 || fit != 8 || exposed != 6 || heard != 2 {
		t.Fatalf("composition %+v, %v", groups, err)
	}
}

// early: what fails as a control before anybody could be seen to fail speaks for
// nobody; silence could be seen later than a report.
func early(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 20)
	p := budgetPolicy()
	p.Budget.Segments, p.Budget.MaxSegment, p.Budget.MaxExcluded = true, 0.5, 0.5
	ro, err := w.Store.StartRollout(t.Context(), store.Start{
		Product: Product, Version: "1.0.0", Policy: p, Seed: seedFor(w), Actor: "operator:ann", Pace: rollout.Pace{Window: 8, Ceiling: 1, Turn: 1},
	}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	beat := func(s int, quiet map[int]bool, ill ...int) { t.Helper(); w.beat(t, ro.ID, s, quiet, ill) }
	sums := func(s int) (n [3]int64) {
		t.Helper()
		groups, err := w.Store.Composition(t.Context(), ro.ID, at(0), at(s))
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			n[0], n[1], n[2] = n[0]+g.First, n[1]+g.Early[0], n[2]+g.Early[1]
		}
		return n
	}
	quiet := int(p.Quiet().Seconds())
	beat(1, nil)
	away := map[int]bool{11: true, 12: true}
	beat(2, away, 10) // reported before the first grant
	if got := sums(2); got != [3]int64{0, 1, 1} {
		t.Errorf("before anybody is exposed: %v", got)
	}
	if a := w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro.ID)}}, at(3)).Asks[0]; a.Verdict != rollout.Granted {
		t.Fatalf("%+v", a)
	}
	beat(4, away, 10, 13)       // reported after it
	beat(2+quiet, away, 10, 13) // 11 and 12 were heard at 1 s: silent now, when the first could not be yet
	if got := sums(2 + quiet); got != [3]int64{1, 3, 4} {
		t.Errorf("with the first cohort, first and early %v; want 1, 3 and 4", got)
	}
	d := rollout.Decision{Action: rollout.Advance, State: rollout.Running, Reasons: []rollout.Reason{{Code: "gate-passed"}}, NewRung: true,
		Pace: rollout.Pace{Rung: 1, Window: 8, Ceiling: 2, Turn: 1}, Knowledge: &rollout.Knowledge{}}
	if _, err := w.decide(t, ro.ID, d); err != nil {
		t.Fatal(err)
	}
	if a := w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(1, ro.ID)}}, at(3+quiet)).Asks[0]; a.Verdict != rollout.Granted {
		t.Fatalf("%+v", a)
	}
	beat(4+quiet, away, 10, 13, 14) // reported after the second cohort's first grant
	if got := sums(4 + quiet); got != [3]int64{1, 3, 4} {
		t.Errorf("with the second cohort, first and early %v; want 1, 3 and 4", got)
	}
	Healthy(t, w.Store)
}

// beat: all of 20 are heard, but for those of quiet; ill report themselves as such.
func (w *World) beat(t *testing.T, id int64, s int, quiet map[int]bool, ill []int) {
	t.Helper()
	b := store.Batch{}
	for i := range 20 {
		if !quiet[i] {
			r := w.Beacon(i, id, "")
			r.Installations[0].Healthy = !slices.Contains(ill, i)
			b.Beacons = append(b.Beacons, r)
		}
	}
	w.Commit(t, b, at(s))
	if _, err := w.Store.SweepQuiet(t.Context(), id, at(s), 100); err != nil {
		t.Fatal(err)
	}
}

// lift has two operators take a segment in again.
func (w *World) lift(t *testing.T, id int64, segment fleet.Labels) {
	t.Helper()
	order := func(who string, l fleet.Labels) (store.Rollout, error) {
		return w.Store.OrderRollout(t.Context(), id, rollout.Order{Verb: rollout.VerbLift, Operator: who, Segment: l}, Start, nil)
	}
	if _, err := order("ann", fleet.Labels{"os": "plan9"}); !errors.Is(err, store.ErrState) {
		t.Errorf("a segment that is not left out: %v", err)
	}
	for range 2 { // one person's word is one, however often
		if r, err := order("ann", segment); err != nil || r.LiftAskedBy != "ann" || len(r.Halted) != 1 {
			t.Fatalf("one operator: %+v, %v", r.Halted, err)
		}
	}
	if r, err := order("bob", segment); err != nil || r.LiftAskedBy != "" || len(r.Halted) != 0 || r.Pace.AcceptedHarm != 2 {
		t.Fatalf("two operators: %+v %+v, %v", r.Halted, r.Pace, err)
	}
}

// failures sums up the treated and control failures in a segment.
func failures(all []rollout.Failures, segment fleet.Labels) (n [2]int64) {
	for _, f := range all {
		if f.Labels.Match(segment) {
			n[0], n[1] = n[0]+f.Treated, n[1]+f.Control
		}
	}
	return n
}
