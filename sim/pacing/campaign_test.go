package pacing

import (
	"flag"
	"math"
	"os"
	"runtime"
	"sync"
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

// campaignFleet is the fleet of the false-halt count: what is counted does not
// depend on the size but for how many segments are tested (some 1,600 here), and
// a small fleet is played in a twentieth of the time.
const campaignFleet = 200_000

// TestFalseHalts counts halts of good releases, whole or in a segment, under
// noise, outages alone and together, a dead control plane, and laptops that come
// and go: a short form always, the long one by
//
//	go test ./sim/pacing -run FalseHalts -goods 30000 -v -timeout 24h
func TestFalseHalts(t *testing.T) {
	n := max(*goods, 48)
	policies, err := Presets()
	if err != nil {
		t.Fatal(err)
	}
	f := NewFleet(campaignFleet, 2500)
	var worlds []Fault
	for _, x := range Faults() {
		if x.Good() {
			x.Until = 120
			worlds = append(worlds, x)
		}
	}
	results := make([]Result, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				results[i] = policies[0].Play(f, worlds[i%len(worlds)], 10_000+uint64(i))
			}
		})
	}
	for i := range n {
		if next <- i; n >= 10_000 && i%1000 == 999 {
			t.Logf("%d of %d played", i+1, n)
		}
	}
	close(next)
	wg.Wait()
	halts, segments, stuck := map[string]int{}, map[string]int{}, map[string]int{}
	halted, segmented, waiting := 0, 0, 0
	for i, r := range results {
		name := worlds[i%len(worlds)].Name
		switch {
		case r.Halted:
			halts[name]++
			halted++
		case r.Segment:
			segments[name]++
			segmented++
		case r.T99 == 0:
			stuck[name]++
			waiting++
		}
	}
	b := policies[0].Rollout.Budget
	t.Logf("%d good rollouts to %d endpoints: %d halted %v; the rate is %s; declared %g", n, campaignFleet, halted, halts, interval(halted, n), b.Alpha)
	t.Logf("in %d a segment was halted %v; the rate is %s; declared %g", segmented, segments, interval(segmented, n), b.AlphaSegment)
	t.Logf("%d did not reach 99 %% in 20 minutes %v", waiting, stuck)
	// More than so many would be seen with the declared rates less than once in a
	// thousand campaigns.
	if most := surprising(b.Alpha*float64(n), 1e-3); halted > most {
		t.Errorf("%d of %d good rollouts were halted; at %g more than %d is a surprise", halted, n, b.Alpha, most)
	}
	if most := surprising(b.AlphaSegment*float64(n), 1e-3); segmented > most {
		t.Errorf("in %d of %d good rollouts a segment was halted; at %g more than %d is a surprise", segmented, n, b.AlphaSegment, most)
	}
}

// surprising is the smallest count that a Poisson variable passes with
// probability at most p.
func surprising(mean, p float64) int {
	below, term := 0.0, math.Exp(-mean)
	for k := 0; ; k++ {
		below += term
		if 1-below <= p {
			return k
		}
		term *= mean / float64(k+1)
	}
}

func TestSurprisingCounts(t *testing.T) {
	for mean, want := range map[float64]int{0.0048: 1, 1: 5, 3: 10} { // R: qpois(0.999, mean)
		if got := surprising(mean, 1e-3); got != want {
			t.Errorf("mean %g: %d, want %d", mean, got, want)
		}
	}
}

// TestTheBudgetHoldsAtEveryFailureRate sweeps prompt faults from one in one to
// one in fifty thousand, silent and reported, and silent while regions fail; more seeds
// by -goods.
func TestTheBudgetHoldsAtEveryFailureRate(t *testing.T) {
	p := withoutSegments(t)
	each := max(1, *goods/500)
	played, over, worst := 0, 0, 0.0
	for _, world := range []Fault{{Silent: 1}, {Silent: 0}, {Silent: 1, Outages: true}} {
		for _, rate := range []float64{1, 0.5, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01, 0.005, 0.003, 0.002, 0.0015, 0.001, 5e-4, 3e-4, 2e-4, 1.5e-4, 1e-4, 8e-5, 5e-5, 2e-5} {
			for seed := range each {
				x := world
				x.Name, x.Kills, x.Until = "sweep", rate, 180
				r := p.Play(large(), x, 50_000+uint64(seed))
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
