package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// budgetPolicy observes two horizons; who is not heard from for 20 s is silent.
func budgetPolicy() rollout.Policy {
	p := Policy()
	d := func(n int) span.Duration { return span.Duration(time.Duration(n) * time.Second) }
	p.Beacon, p.Grace = d(10), d(10)
	p.Budget = &rollout.Budget{
		Horizons: []rollout.Horizon{{Age: d(30), Share: 0.1}, {Age: d(300), Share: 0.1}},
		Delta:    1e-3, Alpha: 1e-4, AlphaSegment: 1e-3, Holdback: 0.01,
	}
	return p
}

// seedFor is a seed under which none of the world's endpoints, whose ids are
// random, is held back as a control.
func seedFor(w *World) []byte {
	for i := 0; ; i++ {
		seed := fmt.Appendf(nil, "seed %d", i)
		if !slices.ContainsFunc(w.Endpoints, func(e Endpoint) bool { return !fleet.InTurn(fleet.Rank(seed, ids.Format("E", e.ID)), 0.9) }) {
			return seed
		}
	}
}

// bothArms: cohorts are counted by the rung of the grant; exposed endpoints and
// controls fail by the same rule, each once in each arm; what is open is no
// success at any horizon; and what a decision has learned is there for the next.
func bothArms(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 8)
	ro, err := w.Store.StartRollout(t.Context(), store.Start{
		Product: Product, Version: "1.0.0", Policy: budgetPolicy(), Seed: seedFor(w), Actor: "operator:ann",
		Pace: rollout.Pace{Window: 4, Ceiling: 4, Turn: 1},
	}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	id := ro.ID
	at := func(s int) time.Time { return Start.Add(time.Duration(s) * time.Second) }
	ill := func(i int) store.BeaconReport {
		b := w.Beacon(i, id, "")
		b.Installations[0].Healthy = false
		return b
	}
	all := store.Batch{}
	for i := range 8 {
		all.Beacons = append(all.Beacons, w.Beacon(i, id, ""))
	}
	w.Commit(t, all, at(1))
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, id), w.Ask(1, id), w.Ask(2, id)}}, at(2))
	observe := func(s int) *rollout.Observed {
		t.Helper()
		snap, err := w.Store.Snapshot(t.Context(), id, at(s))
		if err != nil || snap.Observed == nil {
			t.Fatalf("%+v, %v", snap.Observed, err)
		}
		return snap.Observed
	}
	if o := observe(3); len(o.Cohorts) != 1 || o.Cohorts[0].Granted != 3 || o.Cohorts[0].ByAge[0] != 3 || o.Cohorts[0].Arm.Young != 3 {
		t.Fatalf("three who were just granted: %+v", o)
	}
	// 0 proves, 1 is harmed; 7 falls ill unexposed, says so twice, and is exposed
	// later; 3 to 6 go on reporting but for 5, a control, and 2, who is exposed.
	later := store.Batch{Beacons: []store.BeaconReport{
		w.Beacon(0, id, store.AttemptProven), w.Beacon(1, id, store.AttemptHarmed), w.Beacon(3, id, ""), w.Beacon(4, id, ""), w.Beacon(6, id, ""), ill(7),
	}}
	w.Commit(t, later, at(20))
	later.Beacons = append(later.Beacons[:5], ill(7))
	w.Commit(t, later, at(25))
	n, err := w.Store.SweepQuiet(t.Context(), id, at(26), 100)
	if again, err2 := w.Store.SweepQuiet(t.Context(), id, at(26), 100); err != nil || err2 != nil || n != 2 || again != 0 {
		t.Fatalf("%d turned silent, then %d, %v, %v; want one of each arm, once", n, again, err, err2)
	}
	o := observe(26)
	if c := o.Cohorts[0]; c.Arm.Harmed != 1 || c.Arm.Silent != 1 || c.ByAge[0] != 2 || c.Arm.AtRisk != 1 || c.Arm.Young != 0 {
		t.Errorf("the cohort: %+v; want one harmed, one silent, one at risk", c)
	}
	if o.Control.Harmed != 1 || o.Control.Silent != 1 {
		t.Errorf("the controls: %+v; want one of each", o.Control)
	}
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(7, id)}}, at(27))
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(7, id, store.AttemptHarmed)}}, at(40))
	if c := observe(40).Cohorts[0]; c.Granted != 4 || c.Arm.Harmed != 2 {
		t.Errorf("who failed as a control and again when exposed: %+v", c)
	}
	w.keepsKnowledge(t, id)
	Healthy(t, w.Store)
}

func (w *World) keepsKnowledge(t *testing.T, id int64) {
	t.Helper()
	d := rollout.Decision{Action: rollout.Hold, State: rollout.Running, Reasons: []rollout.Reason{{Code: "probation"}}, Pace: rollout.Pace{Window: 9, Ceiling: 9, Turn: 1, Cover: 2}}
	for i, want := range []int64{2, 2} { // the second changes nothing but what is known
		d.Knowledge = &rollout.Knowledge{AlarmAt: int64(i + 5), Evidence: health.Evidence{At: time.Duration(i+1) * time.Minute}}
		r, err := w.decide(t, id, d)
		if err != nil || r.Revision != want || r.Pace.Cover != 2 {
			t.Fatalf("revision %d, pace %+v, %v", r.Revision, r.Pace, err)
		}
		snap, err := w.Store.Snapshot(t.Context(), id, Start)
		if err != nil || snap.Observed.Knowledge.AlarmAt != int64(i+5) || snap.Observed.Knowledge.Evidence.At != d.Knowledge.Evidence.At {
			t.Fatalf("knowledge %+v, %v", snap.Observed.Knowledge, err)
		}
	}
}

// lateSilence: who was never proven counts as failed at a horizon that is long
// past when its silence is found, as after a server that was away; taken out with
// its segment, and in again, like any other.
func lateSilence(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 4)
	ro, err := w.Store.StartRollout(t.Context(), store.Start{
		Product: Product, Version: "1.0.0", Policy: budgetPolicy(), Seed: seedFor(w), Actor: "operator:ann", Pace: rollout.Pace{Window: 2, Ceiling: 2, Turn: 1},
	}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, two := store.Batch{}, store.Batch{}
	for i := range 4 {
		all.Beacons = append(all.Beacons, w.Beacon(i, ro.ID, ""))
	}
	w.Commit(t, all, at(1))
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro.ID), w.Ask(1, ro.ID)}}, at(2))
	two.Beacons = []store.BeaconReport{w.Beacon(0, ro.ID, store.AttemptProven), w.Beacon(2, ro.ID, ""), w.Beacon(3, ro.ID, "")}
	w.Commit(t, two, at(20))
	byAge := func(s int) []int64 {
		t.Helper()
		snap, err := w.Store.Snapshot(t.Context(), ro.ID, at(s))
		if err != nil {
			t.Fatal(err)
		}
		return snap.Observed.Cohorts[0].ByAge
	}
	if got := byAge(33); !slices.Equal(got, []int64{1, 1}) {
		t.Fatalf("one is open when the cohort is looked at: %v", got)
	}
	two.Beacons = []store.BeaconReport{w.Beacon(0, ro.ID, store.AttemptProven), w.Beacon(2, ro.ID, ""), w.Beacon(3, ro.ID, "")}
	w.Commit(t, two, at(400))
	if n, err := w.Store.SweepQuiet(t.Context(), ro.ID, at(401), 100); err != nil || n != 1 {
		t.Fatalf("%d turned silent, %v", n, err)
	}
	if got := byAge(402); !slices.Equal(got, []int64{1, 1}) {
		t.Errorf("its silence was found after the horizons: %v; it must not drop out of them", got)
	}
	windows := fleet.Labels{"os": "windows"} // the silent one's
	d := rollout.Decision{Action: rollout.HaltSegment, State: rollout.Running, Reasons: []rollout.Reason{{Code: "segment-evidence"}}, Pace: ro.Pace,
		HaltSegments: []rollout.HaltedSegment{{ID: 1, Labels: windows, Share: 0.5}}, Knowledge: &rollout.Knowledge{}}
	if _, err := w.decide(t, ro.ID, d); err != nil {
		t.Fatal(err)
	}
	if got := byAge(403); !slices.Equal(got, []int64{0, 0}) {
		t.Errorf("without its segment: %v", got)
	}
	for _, who := range []string{"ann", "bob"} {
		if _, err := w.Store.OrderRollout(t.Context(), ro.ID, rollout.Order{Verb: rollout.VerbLift, Operator: who, Segment: windows}, at(404), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := byAge(405); !slices.Equal(got, []int64{1, 1}) {
		t.Errorf("with its segment again: %v", got)
	}
	Healthy(t, w.Store)
}
