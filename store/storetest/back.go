package storetest

import (
	"testing"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// neverSwitched reverts a rollout of four exposed endpoints: one has the release;
// three were granted it and never switched, of which one says so too early to be
// believed, and one has been silent for so long that it counts as harm.
func neverSwitched(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 4)
	ro := w.Roll(t, 5).ID
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro), w.Ask(1, ro), w.Ask(2, ro), w.Ask(3, ro)}}, Start)
	has, old := w.Beacon(0, ro, ""), []store.BeaconReport{w.Beacon(1, ro, ""), w.Beacon(2, ro, ""), w.Beacon(3, ro, "")}
	for i := range old {
		old[i].Installations[0].Version, old[i].Installations[0].Digest = "0.9.0", "old"
	}
	unsure := w.Beacon(0, ro, "") // of which content of the version it runs
	unsure.Installations[0].Digest = ""
	sweep := func(now time.Time) int { return w.sweepBack(t, ro, now) }
	w.Commit(t, store.Batch{Beacons: append(old, has)}, Start.Add(time.Second))
	if n := sweep(Start.Add(time.Hour)); n != 0 {
		t.Fatalf("%d are back under a rollout that orders nobody back", n)
	}
	if _, err := w.Store.SweepSilent(t.Context(), Start.Add(31*time.Second), 100); err != nil { // all four missed the deadline
		t.Fatal(err)
	}
	if _, err := w.order(t, ro, rollout.VerbRevert, "ann"); err != nil {
		t.Fatal(err)
	}
	if n := sweep(Start.Add(time.Hour)); n != 0 {
		t.Fatalf("%d are back by what they said while a grant could live", n)
	}
	r, err := w.Store.Rollout(t.Context(), ro)
	if err != nil {
		t.Fatal(err)
	}
	over := r.Decided.Add(40 * time.Second) // a grant's life, and a beacon's way
	w.Commit(t, store.Batch{Beacons: old[:1]}, over.Add(-time.Microsecond))
	w.Commit(t, store.Batch{Beacons: append(old[1:2:2], unsure)}, over)
	for _, want := range []int{1, 0} {
		if n := sweep(over); n != want {
			t.Fatalf("%d are back, want %d", n, want)
		}
	}
	w.Commit(t, store.Batch{Beacons: old[:1]}, over.Add(time.Minute))
	if n := sweep(over.Add(time.Minute)); n != 1 {
		t.Fatalf("%d are back, want the one that was too early before", n)
	}
	r, err = w.Store.Rollout(t.Context(), ro)
	if want := (health.Counts{Exposed: 4, Silent: 4}); err != nil || r.Reverted != 2 || r.Counts != want {
		t.Fatalf("%d reverted, %+v, %v; want 2 and %+v", r.Reverted, r.Counts, err, want)
	}
	e, err := w.Store.Endpoint(t.Context(), w.Endpoints[2].ID)
	if err != nil || !e.Exposures[0].Reverted || e.Exposures[0].Reason != "runs-another" {
		t.Fatalf("%+v, %v", e.Exposures, err)
	}
	back := store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, ro, store.AttemptReverted), w.Beacon(2, ro, store.AttemptReverted)}}
	w.Commit(t, back, over.Add(time.Hour)) // and the word of one that is counted already changes nothing
	if r, err = w.Store.Rollout(t.Context(), ro); err != nil || r.Reverted != 3 {
		t.Fatalf("%d reverted, %v; want 3", r.Reverted, err)
	}
	Healthy(t, w.Store)
}

// sweepBack is how many were found to be back.
func (w *World) sweepBack(t *testing.T, id int64, now time.Time) int {
	t.Helper()
	n, err := w.Store.SweepBack(t.Context(), id, now, 100)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
