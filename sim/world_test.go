package sim

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/rollout"
)

func quick() rollout.Policy {
	p, err := rollout.ParsePolicy([]byte(`{"poll":"10s","beacon":"20s","probation":"20s","grant_ttl":"10s","grace":"20s","fill_timeout":"40s"}`))
	if err != nil {
		panic(err)
	}
	return p
}

// TestWorldsKeepTheRules plays random fleets with random faults, outages and
// interference of people, and checks what must hold in each.
func TestWorldsKeepTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := New(Config{Seed: rapid.Uint64().Draw(t, "seed"), Endpoints: rapid.IntRange(1, 200).Draw(t, "endpoints")})
		f := rapid.SampledFrom([]Fault{Good, Crash, Hang, Preflight, LateCrash}).Draw(t, "fault")
		r, err := w.Start("1.0.0", f, quick())
		if err != nil {
			t.Fatal(err)
		}
		stopped := -1 // exposures at the stop
		w.OnDecision = func(r *Rollout, d rollout.Decision) {
			if !d.State.Grants() && d.State != rollout.Held && stopped < 0 {
				stopped = w.Touched(r)
			}
		}
		disturbed := false
		for range rapid.IntRange(1, 8).Draw(t, "acts") {
			switch rapid.SampledFrom([]string{"wait", "cut", "back", "server", "halt"}).Draw(t, "act") {
			case "cut":
				w.Cut(rapid.Float64Range(0, 1).Draw(t, "share"))
				disturbed = true
			case "back":
				w.Cut(0)
			case "server":
				w.Dead = !w.Dead
				disturbed = true
			case "halt":
				if w.Order(r, rollout.Halted, "alice") == nil {
					stopped, disturbed = w.Touched(r), true
				}
			}
			w.Run(time.Duration(rapid.Int64Range(1, int64(5*time.Minute)).Draw(t, "for")), nil)
			checkWorld(t, w, r, stopped)
		}
		if f == Good && !disturbed {
			w.Run(2*time.Hour, nil)
			if r.Snapshot.State != rollout.Finished || w.Running("1.0.0") != len(w.Endpoints) {
				t.Fatalf("a good update on a quiet fleet is %s and runs on %d of %d: %v", r.Snapshot.State, w.Running("1.0.0"), len(w.Endpoints), r.Last.Reasons)
			}
		}
	})
}

func checkWorld(t *rapid.T, w *World, r *Rollout, stopped int) {
	s := r.Snapshot
	if err := s.Counts.Check(); err != nil {
		t.Fatal(err)
	}
	if touched := w.Touched(r); int64(touched) != s.Counts.Exposed {
		t.Fatalf("%d endpoints were granted, %d are counted", touched, s.Counts.Exposed)
	} else if stopped >= 0 && touched > stopped {
		t.Fatalf("%d endpoints were granted, %d of them after the stop", touched, touched-stopped)
	}
	if s.Counts.Exposed > s.Pace.Ceiling {
		t.Fatalf("%d exposed of %d allowed", s.Counts.Exposed, s.Pace.Ceiling)
	}
	for _, e := range w.Endpoints {
		if e.Version == s.Version && e.exposures[s.Rollout] == nil {
			t.Fatalf("%s runs %s and was never counted", e.ID, e.Version)
		}
	}
	var head ledger.Head
	for _, e := range w.Entries {
		var err error
		if head, err = ledger.Follow(head, e); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBothHalvesOfAPairAreNeverDownTogether runs a version that hangs on pairs.
func TestBothHalvesOfAPairAreNeverDownTogether(t *testing.T) {
	w := New(Config{Seed: 5, Endpoints: 200, Domains: 100})
	p := quick()
	p.MaxHarmed, p.Ladder = 50, []int64{100}
	if _, err := w.Start("1.0.0", Hang, p); err != nil {
		t.Fatal(err)
	}
	// Silence takes 50 s to be known; until then each pair has one open exposure.
	w.Run(45*time.Second, nil)
	down := map[string]int{}
	hung := 0
	for _, e := range w.Endpoints {
		if e.down {
			down[e.Domain]++
			hung++
		}
	}
	if hung == 0 {
		t.Fatal("nothing hung: the test shows nothing")
	}
	for d, n := range down {
		if n > 1 {
			t.Errorf("both halves of %s are down", d)
		}
	}
}
