package pacing

import (
	"flag"
	"os"
	"runtime"
	"testing"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

var (
	seeds    = flag.Int("seeds", 0, "play the comparison with so many seeds")
	policyFl = flag.String("policies", "", "only these, comma separated")
	goods    = flag.Int("goods", 0, "play so many good rollouts and count false halts")
	faultFl  = flag.String("faults", "", "only these, comma separated")
)

// TestCampaign plays the comparison and prints the table:
//
//	go test ./sim/pacing -run Campaign -seeds 20 -v -timeout 2h
func TestCampaign(t *testing.T) {
	if *seeds == 0 {
		t.Skip("with -seeds N")
	}
	presets, err := Presets()
	if err != nil {
		t.Fatal(err)
	}
	policies, err := ByName(append(presets, Rivals()...), func(p Policy) string { return p.Name }, *policyFl)
	if err != nil {
		t.Fatal(err)
	}
	faults, err := ByName(Faults(), func(f Fault) string { return f.Name }, *faultFl)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFleet(8_500_000, 2500)
	rows, err := Compare(t.Context(), f, policies, faults, Options{Seeds: *seeds, First: 1, Workers: runtime.GOMAXPROCS(0)})
	if err != nil {
		t.Fatal(err)
	}
	if err := Table(os.Stdout, rows); err != nil {
		t.Fatal(err)
	}
}

// withoutSegments is flash with the global evidence alone: quick to play.
func withoutSegments(t *testing.T) Policy {
	p, err := rollout.Preset("flash")
	if err != nil {
		t.Fatal(err)
	}
	p.Budget.Segments = false
	return Ours(p)
}

// TestFalseHalts counts halts of good releases under noise, outages and a dead
// control plane: a short form always, the long one by
//
//	go test ./sim/pacing -run FalseHalts -goods 30000 -v -timeout 2h
func TestFalseHalts(t *testing.T) {
	n := max(*goods, 40)
	p := withoutSegments(t)
	faults := Faults()[:4]
	halts, stuck := 0, 0
	for i := range n {
		x := faults[i%len(faults)]
		x.Until = 180
		switch r := p.Play(large(), x, 10_000+uint64(i)); {
		case r.Halted:
			halts++
		case r.T99 == 0:
			stuck++
		}
	}
	t.Logf("%d good rollouts: %d halted, %d not through in 30 min; the false-halt rate is %s", n, halts, stuck, interval(halts, n))
	if allowed := n/1000 + 1; halts > allowed {
		t.Errorf("%d of %d good rollouts were halted", halts, n)
	}
}

// TestTheBudgetHoldsAtEveryFailureRate sweeps prompt faults from one in one to
// one in fifty thousand, silent and reported; more seeds by -goods.
func TestTheBudgetHoldsAtEveryFailureRate(t *testing.T) {
	p := withoutSegments(t)
	each := max(1, *goods/500)
	played, over, worst := 0, 0, 0.0
	for _, silent := range []float64{1, 0} {
		for _, rate := range []float64{1, 0.5, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01, 0.005, 0.003, 0.002, 0.0015, 0.001, 5e-4, 3e-4, 2e-4, 1.5e-4, 1e-4, 8e-5, 5e-5, 2e-5} {
			for seed := range each {
				r := p.Play(large(), Fault{Name: "sweep", Kills: rate, Silent: silent, Until: 180}, 50_000+uint64(seed))
				played++
				worst = max(worst, r.Harmed)
				if r.Harmed > 1000 {
					over++
				}
			}
		}
	}
	t.Logf("%d rollouts: at most %.0f harmed, %d over the budget of 1000; P is at most %.2g (95 %%)", played, worst, over, health.UpperRate(int64(over), int64(played), 0.05))
	if over > played/500+1 {
		t.Errorf("%d of %d rollouts harmed more than the budget", over, played)
	}
}
