package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// measures: endpoints are compared by each of the policy's measures once, in any
// order of beacons; a count only where its span is past; a value of which less is
// worse the other way; and a halted segment's are counted out.
func measures(t *testing.T, newDSN func(testing.TB) string) {
	forward := measuresIn(t, newDSN(t), func([]store.BeaconReport) {})
	backward := measuresIn(t, newDSN(t), slices.Reverse[[]store.BeaconReport])
	want := [][2]int64{{2, 9}, {1, 8}, {1, 9}}
	if !slices.Equal(forward, want) || !slices.Equal(backward, want) {
		t.Errorf("worse of measured %v, in another order %v; want %v", forward, backward, want)
	}
}

func measuresIn(t *testing.T, dsn string, order func([]store.BeaconReport)) (out [][2]int64) {
	t.Helper()
	w := NewWorld(t, Open(t, dsn), 400)
	p := budgetPolicy()
	p.Budget.SlowShare = 0.001
	p.Budget.Measures = []rollout.Measure{
		{Name: "start", Worse: "20%"}, {Name: "false-positives", Over: span.Duration(10 * time.Minute), Worse: "50%"}, {Name: "speed", Worse: "-10%"},
	}
	ro, err := w.Store.StartRollout(t.Context(), store.Start{
		Product: Product, Version: "1.0.0", Policy: p, Seed: seedFor(&World{Endpoints: w.Endpoints[:10]}), Actor: "operator:ann", Pace: rollout.Pace{Window: 10, Ceiling: 10, Turn: 1},
	}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	asks, treated, controls := w.saidMeasures(ro.ID)
	order(treated.Beacons)
	order(controls.Beacons)
	w.Commit(t, asks, at(1))
	w.Commit(t, treated, at(20))
	w.Commit(t, controls, at(21))
	w.Commit(t, store.Batch{Beacons: append(slices.Clone(treated.Beacons), treated.Beacons...)}, at(22))
	w.Commit(t, treated, at(23))
	snap, err := w.Store.Snapshot(t.Context(), ro.ID, at(24))
	if err != nil {
		t.Fatal(err)
	}
	if got := snap.Observed.Measures; !slices.Equal(got, []int64{390, 390, 390}) {
		t.Errorf("controls of each measure: %v, want 390", got)
	}
	for i, m := range snap.Observed.Cohorts[0].Measures {
		out = append(out, [2]int64{m.Worse, m.Measured})
		if n := float64(m.Measured); !(m.Usual > 0 && m.Usual < m.Expected && m.Expected < 1.5*0.0503*n) {
			t.Errorf("measure %d: %+v; want usual less than expected, and that a twentieth at most, half as much again", i, m)
		}
	}
	Healthy(t, w.Store)
	w.haltMeasured(t, ro)
	return out
}

// haltMeasured halts a segment: what was compared in it is counted out, and in again
// when it is lifted.
func (w *World) haltMeasured(t *testing.T, ro store.Rollout) {
	t.Helper()
	windows := fleet.Labels{"os": "windows"}
	start := func() (worse, measured int64) {
		snap, err := w.Store.Snapshot(t.Context(), ro.ID, at(25))
		if err != nil {
			t.Fatal(err)
		}
		Healthy(t, w.Store)
		m := snap.Observed.Cohorts[0].Measures[0]
		return m.Worse, m.Measured
	}
	d := rollout.Decision{Action: rollout.HaltSegment, State: rollout.Running, Reasons: []rollout.Reason{{Code: "segment-evidence"}}, Pace: ro.Pace,
		HaltSegments: []rollout.HaltedSegment{{ID: 1, Labels: windows, Share: 0.5}}, Knowledge: &rollout.Knowledge{}}
	if _, err := w.decide(t, ro.ID, d); err != nil {
		t.Fatal(err)
	}
	if worse, measured := start(); worse != 1 || measured != 5 {
		t.Errorf("without a segment: %d worse of %d, want 1 of 5", worse, measured)
	}
	for _, who := range []string{"ann", "bob"} {
		if _, err := w.Store.OrderRollout(t.Context(), ro.ID, rollout.Order{Verb: rollout.VerbLift, Operator: who, Segment: windows}, at(26), nil); err != nil {
			t.Fatal(err)
		}
	}
	if worse, measured := start(); worse != 2 || measured != 9 {
		t.Errorf("with it again: %d worse of %d, want 2 of 9", worse, measured)
	}
}

// saidMeasures is what ten exposed endpoints and 390 controls say. Of those exposed
// two start slower than a fifth above the limit, and one just below that; one has
// false positives, as a hundredth of the controls do, one has not run for ten
// minutes; one is slow; and one is not proven.
func (w *World) saidMeasures(id int64) (asks, treated, controls store.Batch) {
	say := func(start, speed float64, falsePositives int64) [][]store.Measure {
		return [][]store.Measure{{
			{Name: "false-positives", Lately: []int64{0, falsePositives, -1}}, {Name: "speed", Value: speed}, {Name: "start", Value: start},
		}}
	}
	for i := range 10 {
		asks.Asks = append(asks.Asks, w.Ask(i, id))
		b := w.Beacon(i, id, store.AttemptProven)
		b.Measures = say(1, 1000, 0)
		switch i {
		case 0, 1:
			b.Measures = say(2.5, 1000, 0)
		case 2:
			b.Measures = say(1.6, 1000, 3)
		case 3:
			b.Measures = say(1, 1000, -1)
		case 4:
			b.Measures = say(1, 500, 0)
		case 5:
			b.Attempts[0].State = store.AttemptProbation
		}
		treated.Beacons = append(treated.Beacons, b)
	}
	for i := 10; i < 400; i++ {
		b := w.Beacon(i, id, "")
		b.Installations[0].Version, b.Installations[0].Digest = "0.9.0", ""
		positives := int64(0)
		if i%100 == 50 {
			positives = 1
		}
		b.Measures = say(1+float64(i)/800, 1000-float64(i)/10, positives)
		controls.Beacons = append(controls.Beacons, b)
	}
	return asks, treated, controls
}
