package health

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestTiesAmongFewAreWhatTheyAre: over everybody who may have been the treated, the
// mean of the factor is 1, as each way to choose who failed shows by itself.
func TestTiesAmongFewAreWhatTheyAre(t *testing.T) {
	for _, f := range []struct{ atRisk, rest, failed int }{{1, 4, 2}, {3, 9, 2}, {3, 9, 5}, {4, 11, 3}, {6, 8, 6}} {
		all := f.atRisk + f.rest
		for _, r := range ratios {
			sum, ways := 0.0, 0.0
			for who := range 1 << all { // a bit is an endpoint that failed, the lowest are the treated
				n, treated := 0, 0
				for i := range all {
					if who>>i&1 == 1 {
						n++
						if i < f.atRisk {
							treated++
						}
					}
				}
				if n != f.failed {
					continue
				}
				ways++
				sum += math.Exp(tiedFactor(r, float64(treated), float64(n-treated), float64(f.atRisk), float64(f.atRisk)/float64(all)))
			}
			if mean := sum / ways; math.Abs(mean-1) > 1e-9 {
				t.Errorf("%+v, ratio %g: the mean is %.12g", f, r, mean)
			}
		}
	}
}

// TestTiesAreWorthNoLessThanTheirBound, and are a number whatever the counts.
func TestTiesAreWorthNoLessThanTheirBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string, lo, hi int64) float64 { return float64(rapid.Int64Range(lo, hi).Draw(t, name)) }
		atRisk, rest := n("at risk", 1, 60), n("rest", 0, 1e7)
		treated, others := n("treated", -5, int64(atRisk)), n("others", 0, 2000)
		for _, r := range ratios {
			tied, bound := tiedFactor(r, treated, others, atRisk, atRisk/(atRisk+rest)), logFactor(r, treated, others, atRisk/(atRisk+rest))
			if math.IsNaN(tied) || math.IsInf(tied, 0) || tied < bound-1e-6*max(1, math.Abs(bound)) {
				t.Fatalf("ratio %g: %g, and the bound %g", r, tied, bound)
			}
		}
	})
}

// TestThreeDeathsOfThreeNameASegment of four thousand, whether they come up
// together or one by one, and though four of its controls had failed before and one
// does meanwhile; of the same three in thirty exposed it is not sure.
func TestThreeDeathsOfThreeNameASegment(t *testing.T) {
	look := func(failed, exposed int64) CellLook {
		return CellLook{ID: 1, Failed: failed, ControlFailed: 5, ControlBefore: 4, AtRisk: exposed, ControlAtRisk: 4200, Exposed: exposed, Share: 0.0005}
	}
	play := func(exact bool, exposed int64, failed ...int64) bool {
		var cells []Cell
		for _, n := range failed {
			cells = NextCells(cells, []CellLook{look(n, exposed)}, 0.5, exact)
		}
		last := []CellLook{look(3, exposed)}
		test := test12k
		test.Exact = exact
		return len(test.Alarms(cells, last)) > 0 && len(test.Diagnose(last, Whole{Failed: 5, ControlFailed: 5300, Exposed: 6773})) > 0
	}
	if !play(true, 3, 3) || !play(true, 3, 1, 2, 3) {
		t.Error("three deaths of three named nothing")
	}
	if play(true, 30, 1, 2, 3) {
		t.Error("three deaths of thirty named a segment")
	}
}
