package health

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// TestEveryFactorIsASupermartingale enumerates all outcomes of one interval.
// Without a fault, the treated among those that fail are hypergeometric; the
// mean of the factor must not exceed 1, whatever failed and however small the
// groups are, so ties need no tie-breaking.
func TestEveryFactorIsASupermartingale(t *testing.T) {
	for _, y := range [][2]int{{1, 1}, {3, 2}, {5, 40}, {47, 1000}, {200, 10}} {
		for failed := 1; failed <= min(12, y[0]+y[1]); failed++ {
			for _, r := range ratios {
				mean := 0.0
				for k := max(0, failed-y[1]); k <= min(failed, y[0]); k++ {
					p := math.Exp(logChoose(y[0], k) + logChoose(y[1], failed-k) - logChoose(y[0]+y[1], failed))
					mean += p * math.Exp(logFactor(r, float64(k), float64(failed-k), float64(y[0])/float64(y[0]+y[1])))
				}
				if mean > 1+1e-9 {
					t.Errorf("%v at risk, %d fail, ratio %g: mean %g", y, failed, r, mean)
				}
			}
		}
	}
}

// TestEvidenceIsWorthOneWithoutAFault enumerates two intervals of a whole
// two-cohort rollout with every outcome of small groups: the mean of the e-value
// stays at most 1, restarts and mixture included.
func TestEvidenceIsWorthOneWithoutAFault(t *testing.T) {
	const p = 0.1
	binom := func(n, k int) float64 {
		return math.Exp(logChoose(n, k)) * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
	}
	mean := 0.0
	for a1 := 0; a1 <= 2; a1++ {
		for b1 := 0; b1 <= 3; b1++ {
			e1 := Evidence{}.Next(Look{At: time.Minute, Cohorts: []Arm{{Harmed: int64(a1), AtRisk: 2, AtLeast: 2}}, Control: Arm{Harmed: int64(b1), AtRisk: 3, AtLeast: 3}})
			for a2 := 0; a2 <= 2-a1; a2++ {
				for b2 := 0; b2 <= 3-b1; b2++ {
					pr := binom(2, a1) * binom(3, b1) * binom(2-a1, a2) * binom(3-b1, b2)
					left := func(n, k int) Arm { return Arm{AtRisk: int64(n - k), AtLeast: int64(n - k)} }
					t2, c2 := left(2, a1), left(3, b1)
					t2.Harmed, c2.Harmed = int64(a1+a2), int64(b1+b2)
					e2 := e1.Next(Look{At: 2 * time.Minute, Cohorts: []Arm{t2}, Control: c2})
					mean += pr * math.Exp(e2.Log())
				}
			}
		}
	}
	if mean > 1+1e-9 || mean < 0.5 {
		t.Errorf("mean e-value %g", mean)
	}
}

// TestStartWeightsNeverExceedOne: the prior over the time of trouble.
func TestStartWeightsNeverExceedOne(t *testing.T) {
	last := 0.0
	for _, d := range []time.Duration{0, time.Second, time.Minute, time.Hour, 24 * time.Hour, 30 * 24 * time.Hour, math.MaxInt64} {
		if s := startedBy(d); s < last || s > 1 {
			t.Errorf("%s: %g after %g", d, s, last)
		} else {
			last = s
		}
	}
}

func drawArm(t *rapid.T, name string, most int64) Arm {
	n := func(what string, hi int64) int64 { return rapid.Int64Range(0, hi).Draw(t, name+" "+what) }
	a := Arm{Harmed: n("harmed", most/10), Silent: n("silent", most/10), AtLeast: n("at least", most)}
	a.AtRisk = a.AtLeast + n("late", 100)
	return a
}

// drawLooks makes a history of looks: counts up to 10^7 that only grow.
func drawLooks(t *rapid.T) []Look {
	var out []Look
	var last Look
	for i := range rapid.IntRange(1, 8).Draw(t, "looks") {
		l := Look{At: last.At + time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "later")), Control: drawArm(t, "control", 10_000_000), Coverage: drawArm(t, "coverage", 5000)}
		for range min(MaxCohorts, max(len(last.Cohorts), rapid.IntRange(1, 3).Draw(t, "cohorts"))) {
			l.Cohorts = append(l.Cohorts, drawArm(t, "cohort", 10_000_000))
		}
		if i > 0 {
			l.Control.Harmed += last.Control.Harmed
			l.Control.Silent += last.Control.Silent
			l.Coverage.Harmed += last.Coverage.Harmed
			for k, c := range last.Cohorts {
				l.Cohorts[k].Harmed += c.Harmed
				l.Cohorts[k].Silent += c.Silent
			}
		}
		out = append(out, l)
		last = l
	}
	return out
}

// TestEvidenceIsANumberAndReplaysBitForBit, through JSON and back at every step.
func TestEvidenceIsANumberAndReplaysBitForBit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e, replay Evidence
		for _, l := range drawLooks(t) {
			before := slices.Clone(e.Streams)
			n := e.Next(l)
			if !reflect.DeepEqual(before, slices.Clone(e.Streams)) {
				t.Fatal("a look changed the evidence it started from")
			}
			e = n
			b, err := json.Marshal(replay)
			if err != nil {
				t.Fatal(err)
			}
			var back Evidence
			if err := json.Unmarshal(b, &back); err != nil {
				t.Fatal(err)
			}
			replay = back.Next(l)
			if v := e.Log(); math.IsNaN(v) || math.IsInf(v, 0) || v != replay.Log() {
				t.Fatalf("log e-value %g, replayed %g", v, replay.Log())
			}
			if again := e.Next(l); again.Log() != e.Log() {
				t.Fatal("the same look counted twice")
			}
		}
	})
}

// TestMoreFailuresNeverLowerTheEvidence, and failures withdrawn never raise it.
func TestMoreFailuresNeverLowerTheEvidence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		looks := drawLooks(t)
		var e Evidence
		for _, l := range looks[:len(looks)-1] {
			e = e.Next(l)
		}
		l := looks[len(looks)-1]
		worse := l
		worse.Cohorts = slices.Clone(l.Cohorts)
		worse.Cohorts[0].Harmed += rapid.Int64Range(1, 50).Draw(t, "more")
		a, b := e.Next(l), e.Next(worse)
		if len(l.Cohorts) == 1 && b.Log() < a.Log()-1e-9 {
			t.Fatalf("%g with more failures, %g with fewer", b.Log(), a.Log())
		}
		back := worse
		back.Cohorts = slices.Clone(l.Cohorts)
		back.At += time.Second
		back.Control.Harmed, back.Control.Silent = worse.Control.Harmed, worse.Control.Silent
		if c := b.Next(back); c.Log() > b.Log()+math.Log(2) {
			t.Fatalf("withdrawing failures raised the evidence from %g to %g", b.Log(), c.Log())
		}
	})
}

// TestASilentCohortIsFoundAndAnOutageIsNot: three dead of 47 among 8.4 million
// healthy ones; then a region of both arms falls silent.
func TestASilentCohortIsFoundAndAnOutageIsNot(t *testing.T) {
	const n = 8_400_000
	e := Evidence{}
	for i := range 10 {
		e = e.Next(Look{At: time.Duration(i+1) * 10 * time.Second, Cohorts: []Arm{{AtRisk: 47, AtLeast: 47}}, Control: Arm{Silent: int64(252 * (i + 1)), AtRisk: n, AtLeast: n}})
	}
	if v := e.Log(); v > 1 {
		t.Fatalf("nothing happened, log e-value %g", v)
	}
	dead := e.Next(Look{At: 2 * time.Minute, Cohorts: []Arm{{Silent: 47, AtRisk: 47}}, Control: Arm{Silent: 2800, AtRisk: n, AtLeast: n}})
	if v := dead.Log(); v < math.Log(1e4) {
		t.Errorf("47 of 47 dead: log e-value %g", v)
	}
	outage := e.Next(Look{At: 2 * time.Minute, Cohorts: []Arm{{Silent: 1, AtRisk: 47, AtLeast: 47}}, Control: Arm{Silent: 2520 + n*18/1000, AtRisk: n, AtLeast: n}})
	if v := outage.Log(); v > 2 {
		t.Errorf("an outage hits both arms: log e-value %g", v)
	}
}

// TestWhoComesLaterIsNoDraw: laptops that come back join the last cohort, and
// fail more often than the fleet by their nature. That is not held against the
// release by itself; that all treated fail more often than their controls is.
func TestWhoComesLaterIsNoDraw(t *testing.T) {
	const n = 8_000_000
	for joined, halts := range map[bool]bool{false: true, true: false} {
		var e Evidence
		for i := range 20 {
			k := int64(i + 1)
			e = e.Next(Look{
				At: time.Duration(i+1) * 10 * time.Second, Joined: joined,
				Cohorts: []Arm{{Silent: 12 * k, AtRisk: n, AtLeast: n}, {Silent: 9 * k, AtRisk: n / 100, AtLeast: n / 100}},
				Control: Arm{Silent: 240 * k, AtRisk: n, AtLeast: n},
			})
		}
		if got := e.Log() >= math.Log(1e4); got != halts {
			t.Errorf("joined %v: log e-value %.1f", joined, e.Log())
		}
	}
}

// TestWhoCameBackIsComparedWithAMargin: a cohort of laptops that were away, three times
// as often silent as the controls by their nature, halts nothing; a release that kills
// them does after a few. The first cohorts are judged as before.
func TestWhoCameBackIsComparedWithAMargin(t *testing.T) {
	play := func(returning int, silent func(k int64) int64) float64 {
		var e Evidence
		for i := range 20 {
			k := int64(i + 1)
			e = e.Next(Look{
				At: time.Duration(i+1) * 10 * time.Second, Returning: returning,
				Cohorts: []Arm{{Silent: 120 * k, AtRisk: 4_000_000, AtLeast: 4_000_000}, {Silent: silent(k), AtRisk: 50_000, AtLeast: 50_000}},
				Control: Arm{Silent: 3 * k, AtRisk: 100_000, AtLeast: 100_000},
			})
		}
		return e.Log()
	}
	threefold := func(k int64) int64 { return 9 * k / 2 }
	if e := play(0, threefold); e < math.Log(1e4) {
		t.Fatalf("a draw three times as often silent: log e-value %.1f", e)
	}
	if e := play(1, threefold); e > 1 {
		t.Errorf("the same of endpoints that came back: log e-value %.1f", e)
	}
	if e := play(1, func(k int64) int64 { return threefold(k) + 50*k }); e < math.Log(1e4) {
		t.Errorf("50 more of them killed at each look: log e-value %.1f", e)
	}
	if e := play(2, threefold); e < math.Log(1e4) {
		t.Errorf("a draw before others came back: log e-value %.1f", e)
	}
}

// TestProportionsAreWorthOneWithoutAFault enumerates two batches.
func TestProportionsAreWorthOneWithoutAFault(t *testing.T) {
	for _, p := range []float64{0.02, 0.3, 0.7} {
		binom := func(n, k int) float64 {
			return math.Exp(logChoose(n, k)) * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
		}
		mean := 0.0
		for _, first := range [][2]int64{{3, 0}, {2, 1}, {5, 2}} { // any past may be bet on
			past := Proportions{Failed: first, Passed: [2]int64{2, 9}}
			sum := 0.0
			for a := 0; a <= 4; a++ {
				for b := 0; b <= 7; b++ {
					e := past.Next([2]int64{int64(a), int64(b)}, [2]int64{int64(4 - a), int64(7 - b)})
					sum += binom(4, a) * binom(7, b) * math.Exp(e.LogE)
				}
			}
			mean = max(mean, sum)
		}
		if mean > 1+1e-9 {
			t.Errorf("p = %g: mean %g", p, mean)
		}
	}
	var p Proportions
	for range 6 {
		p = p.Next([2]int64{30, 2}, [2]int64{70, 98})
	}
	if p.LogE < math.Log(1e4) {
		t.Errorf("30 %% against 2 %%: log e-value %g", p.LogE)
	}
}

// TestExceedanceIsWorthOneWithoutAFault, by enumeration; and it finds 6.5 %.
func TestExceedanceIsWorthOneWithoutAFault(t *testing.T) {
	mean := 0.0
	for k := 0; k <= 60; k++ {
		mean += math.Exp(logChoose(60, k)+float64(k)*math.Log(0.05)+float64(60-k)*math.Log(0.95)) * math.Exp(LogExceedance(int64(k), 60))
	}
	if mean > 1+1e-9 {
		t.Errorf("mean %g", mean)
	}
	if v := LogExceedance(650, 10000); v < math.Log(1e4) {
		t.Errorf("6.5 %% of 10000: %g", v)
	}
	if v := LogExceedance(500_000, 10_000_000); !(v < 0) || math.IsInf(v, 0) {
		t.Errorf("5 %% of 10^7: %g", v)
	}
}
