package storetest

import (
	"slices"
	"testing"

	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// vitals: exposed endpoints are compared with concurrent controls, each once, from
// its proof on; repeats and the order of beacons change nothing; and while too few
// controls are known nobody is measured.
func vitals(t *testing.T, newDSN func(testing.TB) string) {
	forward := vitalsIn(t, newDSN(t), func([]store.BeaconReport) {})
	backward := vitalsIn(t, newDSN(t), slices.Reverse[[]store.BeaconReport])
	if forward != [2]int64{3, 8} || backward != forward {
		t.Errorf("slow of measured %v, in another order %v; want 3 of 8", forward, backward)
	}
}

func vitalsIn(t *testing.T, dsn string, order func([]store.BeaconReport)) [2]int64 {
	t.Helper()
	w := NewWorld(t, Open(t, dsn), 200)
	p := budgetPolicy()
	p.Budget.SlowShare = 0.001
	ro, err := w.Store.StartRollout(t.Context(), store.Start{
		Product: Product, Version: "1.0.0", Policy: p, Seed: seedFor(&World{Endpoints: w.Endpoints[:10]}), Actor: "operator:ann", Pace: rollout.Pace{Window: 10, Ceiling: 10, Turn: 1},
	}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	observe := func(s int) (c rollout.Cohort, judged bool) {
		snap, err := w.Store.Snapshot(t.Context(), ro.ID, at(s))
		if err != nil {
			t.Fatal(err)
		}
		return snap.Observed.Cohorts[0], snap.Observed.Vitals
	}
	asks, treated, controls := w.said(ro.ID)
	order(treated.Beacons)
	order(controls.Beacons)
	w.Commit(t, asks, at(1))
	w.Commit(t, treated, at(20))
	if c, judged := observe(20); c.Measured != 0 || judged {
		t.Errorf("without a control: %d measured, judged %v; want unknown", c.Measured, judged)
	}
	w.Commit(t, store.Batch{Beacons: controls.Beacons[:100]}, at(21))
	w.Commit(t, treated, at(21))
	if c, judged := observe(21); c.Measured != 0 || judged {
		t.Errorf("with 100 controls: %d measured, judged %v; want unknown", c.Measured, judged)
	}
	w.Commit(t, controls, at(22))
	w.Commit(t, store.Batch{Beacons: append(slices.Clone(treated.Beacons), treated.Beacons...)}, at(23))
	w.Commit(t, treated, at(24))
	c, judged := observe(24)
	if !judged {
		t.Error("measured, and not judged")
	}
	w.acceptVitals(t, ro.ID, rollout.Vitals{Slow: c.Slow, Measured: c.Measured})
	Healthy(t, w.Store)
	return [2]int64{c.Slow, c.Measured}
}

// acceptVitals halts and resumes a rollout: what was measured is accepted, and
// stays so when a look is committed that changes nothing else.
func (w *World) acceptVitals(t *testing.T, id int64, want rollout.Vitals) {
	t.Helper()
	for i, o := range []rollout.Order{{Verb: rollout.VerbHalt, Operator: "ann"}, {Verb: rollout.VerbResume, Operator: "ann"}, {Verb: rollout.VerbResume, Operator: "bob"}} {
		if _, err := w.Store.OrderRollout(t.Context(), id, o, at(25+i), nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		snap, err := w.Store.Snapshot(t.Context(), id, at(28+i))
		if err != nil {
			t.Fatal(err)
		}
		if snap.Accepted == nil || snap.Accepted.Vitals != want {
			t.Fatalf("look %d: accepted %+v, want %+v", i, snap.Accepted, want)
		}
		d := rollout.Decision{Action: rollout.Hold, State: rollout.Running, Reasons: []rollout.Reason{{Code: "probation"}}, Pace: snap.Pace,
			Knowledge: &rollout.Knowledge{AlarmAt: int64(i + 1)}}
		if _, err := w.Store.CommitDecision(t.Context(), store.DecisionCommit{Snapshot: snap, Decision: d, Actor: "engine"}, at(28+i), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// said is what ten exposed endpoints and 190 controls say: of those exposed, two
// need more CPU than any control, one more memory, one says only half, and one is
// not proven.
func (w *World) said(id int64) (asks, treated, controls store.Batch) {
	for i := range 10 {
		asks.Asks = append(asks.Asks, w.Ask(i, id))
		b := w.Beacon(i, id, store.AttemptProven)
		b.CPU, b.RSS = 1000, 1000
		switch i {
		case 0, 1:
			b.CPU = 2000
		case 2:
			b.RSS = 2000
		case 3:
			b.CPU = 0 // does not say
		case 4:
			b.Attempts[0].State = store.AttemptProbation
		}
		treated.Beacons = append(treated.Beacons, b)
	}
	for i := 10; i < 200; i++ {
		b := w.Beacon(i, id, "")
		b.Installations[0].Version, b.Installations[0].Digest = "0.9.0", ""
		b.CPU, b.RSS = 900+int64(i), 1100-int64(i)
		controls.Beacons = append(controls.Beacons, b)
	}
	return asks, treated, controls
}
