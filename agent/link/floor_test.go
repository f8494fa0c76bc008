package link

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/link/linktest"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

func TestNobodyHurriesAFleetPastTheVendorsFloor(t *testing.T) {
	const fleetSize, floor = 2000, 24 * time.Hour
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	have := func(at time.Duration, known bool) Have {
		return Have{Product: ipc.Product{Product: "acme/rules", Version: "1.0.0", Digest: digest(1)}, Now: start.Add(at),
			Floors: map[string]Floor{digest(2): {Seen: start, Known: known, Floor: floor}}}
	}
	for _, at := range []time.Duration{0, time.Hour, 6 * time.Hour, 23 * time.Hour, floor} {
		asks := 0
		for i := range fleetSize {
			o := offer(2, "2.0.0", release.ActionOffer, 1)
			// Whoever holds the online key gives each its own plan, with a seed for it.
			o.Seed = fmt.Appendf(nil, "%d %d", i, at)
			id := fmt.Sprintf("E-%013d", i)
			w := Choose(release.Plan{Offers: []release.Offer{o}}, id, []Have{have(at, true)})[0]
			switch {
			case w.Do == DoAsk:
				asks++
			case w.Do != DoStage || w.Code != "vendor-floor" || w.Wait <= 0 || w.Wait > floor-at:
				t.Fatalf("after %s: %+v", at, w)
			}
			if w := Choose(release.Plan{Offers: []release.Offer{o}}, id, []Have{have(at, false)})[0]; w.Do != DoStage || w.Code != "floor-unknown" {
				t.Fatalf("without the vendor's word: %+v", w)
			}
		}
		want := int(float64(fleetSize) * at.Hours() / floor.Hours())
		if asks < want-fleetSize/20 || asks > want+fleetSize/20 {
			t.Errorf("after %s %d of %d endpoints ask; want about %d", at, asks, fleetSize, want)
		}
	}
}

func TestFewCanariesMayGoBeforeTheFloor(t *testing.T) {
	now := time.Now()
	h := Have{Product: ipc.Product{Product: "acme/rules"}, Now: now, Floors: map[string]Floor{digest(2): {Seen: now, Known: true, Floor: 1 << 60}}}
	o := offer(2, "2.0.0", release.ActionOffer, 0)
	mine := fmt.Sprintf("%016x", fleet.Rank(o.Seed, me))
	for n, want := range map[int]Do{1: DoAsk, MaxCanaries: DoAsk, MaxCanaries + 1: DoStage} {
		o.First = []string{mine}
		for len(o.First) < n {
			o.First = append(o.First, fmt.Sprintf("%016x", len(o.First)))
		}
		if w := Choose(release.Plan{Offers: []release.Offer{o}}, me, []Have{h})[0]; w.Do != want {
			t.Errorf("one of %d canaries: %+v; want %s", n, w, want)
		}
	}
}

func TestFloorHoldsBackWhatIsStagedAndSurvivesARestart(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	o := publishFloored(t, w, 1, "1.0.0", 365*24*time.Hour)
	w.SetPlan(plan(o))
	r.start(t)
	eventually(t, "staged, and kept back", func() bool { return r.count("stage") == 1 && r.logs.has("vendor-floor") })
	first, err := openFloors(r.dir)
	if err != nil || !first.of[o.Digest].Known || first.of[o.Digest].Seen.IsZero() {
		t.Fatalf("on disk: %+v, %v", first, err)
	}
	r.stop()
	r.start(t)
	eventually(t, "kept back again", func() bool { return r.logs.has("vendor-floor") })
	if again, err := openFloors(r.dir); err != nil || !again.of[o.Digest].Seen.Equal(first.of[o.Digest].Seen) {
		t.Errorf("the restart began the wait anew: %+v, %v; before %+v", again, err, first)
	}
	if len(w.Asks()) != 0 || r.count("activate") != 0 {
		t.Fatal("asked before it was due")
	}
	r.stop()
	// A floor that is over asks.
	m := first.of[o.Digest]
	m.Seen = m.Seen.Add(-2 * m.Floor)
	first.of[o.Digest] = m
	if err := first.save(); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	eventually(t, "due", func() bool { return r.count("activate") == 1 })
}

func TestShortFloorEndsByItself(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	w.SetPlan(plan(publishFloored(t, w, 1, "1.0.0", 300*time.Millisecond)))
	r.start(t)
	eventually(t, "due", func() bool { return r.count("activate") == 1 })
}

func TestFirstSightsForgetWhatLeftThePlanAndTheFuture(t *testing.T) {
	dir := t.TempDir()
	f, err := openFloors(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	p := release.Plan{Offers: []release.Offer{offer(1, "1.0.0", release.ActionOffer, 1), offer(2, "2.0.0", release.ActionStop, 1)}}
	if err := f.meet(p, now.Add(time.Hour)); err != nil { // the clock is ahead
		t.Fatal(err)
	}
	if err := f.meet(release.Plan{Offers: p.Offers[:1]}, now); err != nil { // and set right
		t.Fatal(err)
	}
	if len(f.of) != 1 || !f.of[digest(1)].Seen.Equal(now) {
		t.Errorf("%+v; want the first offer, seen at %s", f.of, now)
	}
	if err := os.WriteFile(f.path, []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = openFloors(dir); err != nil || len(f.of) != 0 {
		t.Errorf("a torn file: %+v, %v", f, err)
	}
}

// publishFloored serves a release whose vendor signed a floor.
func publishFloored(t *testing.T, w *linktest.World, rollout int64, version string, floor time.Duration) release.Offer {
	t.Helper()
	return publish(t, w, rollout, version, release.Custom{Floor: span.Duration(floor)})
}
