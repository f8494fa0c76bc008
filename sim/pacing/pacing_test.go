package pacing

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"sync"
	"testing"

	"github.com/headgate/headgate/rollout"
)

// large is the fleet of the benchmarks, made once.
var large = sync.OnceValue(func() *Fleet { return NewFleet(8_500_000, 2500) })

func preset(t *testing.T, name string) Policy {
	t.Helper()
	all, err := Presets()
	if err != nil {
		t.Fatal(err)
	}
	p, err := ByName(all, func(p Policy) string { return p.Name }, name)
	if err != nil {
		t.Fatal(err)
	}
	return p[0]
}

func fault(t *testing.T, name string) Fault {
	t.Helper()
	f, err := ByName(Faults(), func(f Fault) string { return f.Name }, name)
	if err != nil {
		t.Fatal(err)
	}
	return f[0]
}

func TestTheSameSeedGivesTheSameHistory(t *testing.T) {
	p, x := preset(t, "flash-1"), fault(t, "kill-segment-0.05%")
	a, b := p.Play(large(), x, 3), p.Play(large(), x, 3)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v, then %+v", a, b)
	}
}

// TestAGoodReleaseReachesEveryoneInMinutes, and quicker by push: the median of a
// few seeds, for one in three meets a gate a little above its plan.
func TestAGoodReleaseReachesEveryoneInMinutes(t *testing.T) {
	for name, limit := range map[string]float64{"flash-1": 7, "flash-push": 3} {
		row := Row{}
		for seed := range uint64(5) {
			r := preset(t, name).Play(large(), fault(t, "good"), seed)
			if r.Halted || r.Held {
				t.Errorf("%s, seed %d: %+v", name, seed, r)
			}
			row.Results = append(row.Results, r)
		}
		if m := row.Quantile(0.5, func(r Result) float64 { return r.T99 }, false); m > limit {
			t.Errorf("%s: 99 %% after %.1f min", name, m)
		}
	}
}

// TestTheReplayOf19July2024HarmsAtMostFifty of 8.5 million.
func TestTheReplayOf19July2024HarmsAtMostFifty(t *testing.T) {
	for name, most := range map[string]float64{"flash-1": 50, "standard-1": 50, "flash-4-gates": 5} {
		for seed := range uint64(3) {
			if r := preset(t, name).Play(large(), fault(t, "kill-all"), seed); r.Harmed > most || !r.Halted {
				t.Errorf("%s, seed %d: %+v", name, seed, r)
			}
		}
	}
}

// TestQuantilesAreOfTheResults: R's quantile(x, type = 1); never the maximum
// where fewer than all lie below.
func TestQuantilesAreOfTheResults(t *testing.T) {
	row := Row{}
	for i := range 20 {
		row.Results = append(row.Results, Result{Harmed: float64((i*7)%20 + 1)}) // 1 to 20, shuffled
	}
	for q, want := range map[float64]float64{0: 1, 0.05: 1, 0.5: 10, 0.51: 11, 0.55: 11, 0.95: 19, 0.96: 20, 1: 20} {
		if got := row.Quantile(q, func(r Result) float64 { return r.Harmed }, false); got != want {
			t.Errorf("%g: %g, want %g", q, got, want)
		}
	}
	if got := (Row{Results: []Result{{}, {T99: 5}}}).Quantile(0.5, func(r Result) float64 { return r.T99 }, true); got != 5 {
		t.Errorf("never left out: %g", got)
	}
}

// TestABadSegmentIsHaltedAlone and the rest goes on.
func TestABadSegmentIsHaltedAlone(t *testing.T) {
	row := Row{}
	for seed := range uint64(5) {
		r := preset(t, "flash-1").Play(large(), fault(t, "kill-segment-0.05%"), 10+seed)
		if !r.Segment || r.Halted || r.T99 == 0 || r.T99 > 10 || r.Protected < 0.999 {
			t.Errorf("seed %d: %+v", seed, r)
		}
		row.Results = append(row.Results, r)
	}
	if h := row.Quantile(0.8, func(r Result) float64 { return r.Harmed }, false); h > 15 {
		t.Errorf("harmed %v", row.Results)
	}
}

// TestWhatTheWorldDoesIsNotTheReleasesFault: outage, dead
// control plane, noise, laptops that come and go.
func TestWhatTheWorldDoesIsNotTheReleasesFault(t *testing.T) {
	for _, name := range []string{"good-outage", "good-dead-server", "good-noise", "good-outages", "good-diurnal"} {
		if r := preset(t, "flash-1").Play(large(), fault(t, name), 5); r.Halted || r.Segment || r.T99 == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestOutagesHoldNobodyUp: endpoints that outages silenced for hours in the earlier
// cohorts, or in the 100 seconds of one, spent the budget as harm, and these rollouts
// waited for a person. In the last, laptops that came back were halted for falling
// asleep more often than their controls.
func TestOutagesHoldNobodyUp(t *testing.T) {
	for _, c := range []struct {
		policy, fault string
		seed          uint64
	}{{"flash-1", "good-outages", 8}, {"driver-1", "good-outages", 1}, {"driver-1", "good-outages", 8}, {"driver-1", "good-diurnal", 13}} {
		p := preset(t, c.policy)
		b := *p.Rollout.Budget
		b.Segments = false // none is halted, and the test takes a tenth of the time
		p.Rollout.Budget = &b
		if r := p.Play(large(), fault(t, c.fault), c.seed); r.Halted || r.T99 == 0 {
			t.Errorf("%+v: %+v", c, r)
		}
	}
}

// TestSmallFleetsFinishToo: what holds for millions may not lock up a hundred.
// With longer horizons it may: in a few thousand endpoints the baseline hides a
// harm of half a percent, and a person decides.
func TestSmallFleetsFinishToo(t *testing.T) {
	x := fault(t, "good")
	x.Until = 360
	for _, n := range []int64{1, 20, 300, 5000, 20_000, 200_000} {
		if r := preset(t, "flash-1").Play(NewFleet(n, 0), x, 2); r.Halted || r.T95 == 0 && n >= 100 {
			t.Errorf("%d endpoints: %+v", n, r)
		}
	}
}

func TestCompareAndItsTableAndCharts(t *testing.T) {
	policies := append(Rivals()[:1], preset(t, "flash-1"))
	faults := []Fault{fault(t, "good"), fault(t, "kill-all")}
	seen := 0
	rows, err := Compare(t.Context(), large(), policies, faults, Options{Seeds: 2, Workers: 2, Progress: func(int, int) { seen++ }})
	if err != nil || len(rows) != 4 || seen != 8 {
		t.Fatalf("%d rows, %d rollouts, %v", len(rows), seen, err)
	}
	if r := rows[1]; r.Policy != "all-at-once" || r.Results[0].Harmed < 8e6 {
		t.Errorf("all at once: %+v", r)
	}
	var b bytes.Buffer
	if err := Table(&b, rows); err != nil || bytes.Count(b.Bytes(), []byte("\n")) != 5 {
		t.Errorf("%v\n%s", err, b.String())
	}
	limit := rollout.LimitLadder(8_415_000, 1000, 2e-4, 1e-3)
	for _, c := range []Chart{HarmAgainstTime(rows, "good", "kill-all"), Windows(large(), policies, faults[0], 1, limit), {}} {
		var b bytes.Buffer
		if err := c.SVG(&b); err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(&b); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", c.Title, err)
			}
		}
	}
}
