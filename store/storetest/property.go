package storetest

import (
	"errors"
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
		defer func() { // makes room for the next, even if this one fails
			_, err1 := w.order(t, ro.ID, rollout.VerbHalt, "ann")
			_, err2 := w.Store.SweepSilent(t.Context(), now.Add(time.Hour), 1000)
			if err := errors.Join(err1, err2); err != nil {
				t.Error(err)
			}
		}()
		h := history{model: map[int]health.State{}, granted: map[int]time.Time{}}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds")) * time.Second)
			if rapid.IntRange(0, 4).Draw(rt, "sweep") == 0 {
				w.sweepModel(rt, &h, now)
			} else {
				w.batchModel(rt, t, ro.ID, &h, now)
			}
			w.compare(rt, t, ro.ID, window, &h)
		}
		Healthy(t, w.Store)
	})
}

// history is what the endpoints of one rollout went through.
type history struct {
	model   map[int]health.State
	granted map[int]time.Time
	late    int64 // proven, and harmed afterwards
}

func (w *World) sweepModel(rt *rapid.T, h *history, now time.Time) {
	if _, err := w.Store.SweepSilent(rt.Context(), now, 1000); err != nil {
		rt.Fatal(err)
	}
	for i, s := range h.model {
		if s == health.Open && h.granted[i].Add(30*time.Second).Before(now) {
			h.model[i] = health.Silent
		}
	}
}

func (w *World) batchModel(rt *rapid.T, t *testing.T, ro int64, h *history, now time.Time) {
	var b store.Batch
	for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(w.Endpoints)-1), 0, 10).Draw(rt, "beacons") {
		s := rapid.SampledFrom([]store.AttemptState{store.AttemptProven, store.AttemptHarmed, store.AttemptProbation, store.AttemptStaged}).Draw(rt, "state")
		b.Beacons = append(b.Beacons, w.Beacon(i, ro, s))
		_, exposed := h.model[i]
		switch {
		case !exposed:
		case s == store.AttemptHarmed:
			if h.model[i] == health.Proven {
				h.late++
			}
			h.model[i] = h.model[i].Next(health.Harmed)
		case s == store.AttemptProven && now.Sub(h.granted[i]) >= 10*time.Second:
			h.model[i] = h.model[i].Next(health.Proven)
		}
	}
	asked := rapid.SliceOfN(rapid.IntRange(0, len(w.Endpoints)-1), 0, 10).Draw(rt, "asks")
	for _, i := range asked {
		b.Asks = append(b.Asks, w.Ask(i, ro))
	}
	for k, a := range w.Commit(t, b, now).Asks {
		i := asked[k]
		if _, exposed := h.model[i]; !exposed && a.Verdict == rollout.Granted {
			h.model[i], h.granted[i] = health.Open, now
		}
	}
}

func (w *World) compare(rt *rapid.T, t *testing.T, ro, window int64, h *history) {
	var want health.Counts
	for _, s := range h.model {
		want.Grant()
		want.Move(health.Open, s)
	}
	snap, err := w.Store.Snapshot(t.Context(), ro, Start)
	if err != nil {
		rt.Fatal(err)
	}
	if err := snap.Counts.Check(); err != nil || snap.Counts != want {
		rt.Fatalf("counts %+v, want %+v, %v", snap.Counts, want, err)
	}
	// Late harm comes on top: its place in the window was given on long ago.
	if snap.Counts.Unproven() > window+h.late {
		rt.Fatalf("%d unproven in a window of %d", snap.Counts.Unproven(), window)
	}
	var linux, windows = snap.Segments["os=linux"], snap.Segments["os=windows"]
	if linux.Exposed+windows.Exposed != want.Exposed || linux.Harmed+windows.Harmed != want.Harmed {
		rt.Fatalf("segments %+v do not add up to %+v", snap.Segments, want)
	}
}
