package storetest

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// countsAddUp drives random asks, beacons and sweeps, repeated and out of
// order, against a model of one state per endpoint.
func countsAddUp(t *testing.T, newDSN func(testing.TB) string) {
	const endpoints = 12
	w := NewWorld(t, Open(t, newDSN(t)), endpoints)
	now := Start
	rapid.Check(t, func(rt *rapid.T) {
		window := rapid.Int64Range(1, endpoints).Draw(rt, "window")
		ro := w.Roll(t, window)
		model, granted := map[int]health.State{}, map[int]time.Time{}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds")) * time.Second)
			if rapid.IntRange(0, 4).Draw(rt, "sweep") == 0 {
				w.sweepModel(rt, model, granted, now)
			} else {
				w.batchModel(rt, t, ro.ID, model, granted, now)
			}
			w.compare(rt, t, ro.ID, window, model)
		}
		Healthy(t, w.Store)
		if _, err := w.order(t, ro.ID, store.VerbHalt, "ann"); err != nil { // makes room for the next
			rt.Fatal(err)
		}
		if _, err := w.Store.SweepSilent(t.Context(), now.Add(time.Hour), 1000); err != nil {
			rt.Fatal(err)
		}
	})
}

func (w *World) sweepModel(rt *rapid.T, model map[int]health.State, granted map[int]time.Time, now time.Time) {
	if _, err := w.Store.SweepSilent(rt.Context(), now, 1000); err != nil {
		rt.Fatal(err)
	}
	for i, s := range model {
		if s == health.Open && granted[i].Add(30*time.Second).Before(now) {
			model[i] = health.Silent
		}
	}
}

func (w *World) batchModel(rt *rapid.T, t *testing.T, ro int64, model map[int]health.State, granted map[int]time.Time, now time.Time) {
	var b store.Batch
	for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(w.Endpoints)-1), 0, 10).Draw(rt, "beacons") {
		s := rapid.SampledFrom([]store.AttemptState{store.AttemptProven, store.AttemptHarmed, store.AttemptProbation, store.AttemptStaged}).Draw(rt, "state")
		b.Beacons = append(b.Beacons, w.Beacon(i, ro, s))
		_, exposed := model[i]
		switch {
		case !exposed:
		case s == store.AttemptHarmed:
			model[i] = model[i].Next(health.Harmed)
		case s == store.AttemptProven && now.Sub(granted[i]) >= 10*time.Second:
			model[i] = model[i].Next(health.Proven)
		}
	}
	asked := rapid.SliceOfN(rapid.IntRange(0, len(w.Endpoints)-1), 0, 10).Draw(rt, "asks")
	for _, i := range asked {
		b.Asks = append(b.Asks, w.Ask(i, ro))
	}
	for k, a := range w.Commit(t, b, now).Asks {
		i := asked[k]
		if _, exposed := model[i]; !exposed && a.Verdict == rollout.Granted {
			model[i], granted[i] = health.Open, now
		}
	}
}

func (w *World) compare(rt *rapid.T, t *testing.T, ro, window int64, model map[int]health.State) {
	var want health.Counts
	for _, s := range model {
		want.Grant()
		want.Move(health.Open, s)
	}
	snap, err := w.Store.Snapshot(t.Context(), ro)
	if err != nil {
		rt.Fatal(err)
	}
	if err := snap.Counts.Check(); err != nil || snap.Counts != want {
		rt.Fatalf("counts %+v, want %+v, %v", snap.Counts, want, err)
	}
	if snap.Counts.Unproven() > window {
		rt.Fatalf("%d unproven in a window of %d", snap.Counts.Unproven(), window)
	}
	var linux, windows = snap.Segments["os=linux"], snap.Segments["os=windows"]
	if linux.Exposed+windows.Exposed != want.Exposed || linux.Harmed+windows.Harmed != want.Harmed {
		rt.Fatalf("segments %+v do not add up to %+v", snap.Segments, want)
	}
}
