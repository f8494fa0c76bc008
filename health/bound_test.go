package health

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestBoundsAgreeWithAnIndependentComputation reads limits that mpmath found by
// bisection on the distribution functions (testdata/bounds.py).
func TestBoundsAgreeWithAnIndependentComputation(t *testing.T) {
	f, err := os.Open("testdata/bounds.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if strings.HasPrefix(sc.Text(), "#") {
			continue
		}
		var kind string
		var count, n int64
		var delta, want float64
		if _, err := fmt.Sscan(sc.Text(), &kind, &count, &n, &delta, &want); err != nil {
			t.Fatalf("%q: %v", sc.Text(), err)
		}
		seen++
		var got float64
		switch kind {
		case "rate":
			got = UpperRate(count, n, delta)
		case "mean":
			got = UpperMean(count, delta)
		case "lower":
			got = Expected{Mean: float64(count), Variance: float64(count)}.Lower(delta)
		}
		if math.Abs(got/want-1) > 1e-6 {
			t.Errorf("%s: got %.15g", sc.Text(), got)
		}
	}
	if seen < 60 {
		t.Errorf("only %d reference values", seen)
	}
}

// TestBoundsBeyondExactComputationAreNeverTooSmall compares the formulas for
// many trials and tiny errors with the exact ones where both can be had.
func TestBoundsBeyondExactComputationAreNeverTooSmall(t *testing.T) {
	for _, c := range []struct{ failed, n int64 }{{0, 47}, {2, 5654}, {30, 15000}, {200, 20000}} {
		exact := UpperRate(c.failed, c.n, 1.01e-10)
		if loose := UpperRate(c.failed, c.n, 0.99e-10); loose < exact || loose > 1.35*exact {
			t.Errorf("%d of %d: %g by Chernoff beside %g by Clopper-Pearson", c.failed, c.n, loose, exact)
		}
		if poisson := UpperMean(c.failed, 1e-4) / float64(c.n); poisson < UpperRate(c.failed, c.n, 1e-4) {
			t.Errorf("%d of %d: the Poisson limit %g is below the binomial one", c.failed, c.n, poisson)
		}
	}
	for _, d := range []float64{1e-3, 1e-9} {
		below, above := UpperMean(manyCounts, d), UpperMean(manyCounts+1, d)
		if above < below || above > below+2 {
			t.Errorf("delta %g: the limit jumps from %g to %g where the formula changes", d, below, above)
		}
	}
}

// TestBoundsAreNumbers: for whatever counts and errors, and they move the right
// way: more failures never lower the bound, a smaller error never does.
func TestBoundsAreNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(-1, 20_000_000).Draw(t, "n")
		failed := rapid.Int64Range(-1, max(0, n)).Draw(t, "failed")
		delta := math.Exp(rapid.Float64Range(-600, -1.2).Draw(t, "log delta"))
		u := UpperRate(failed, n, delta)
		if !(u > 0 && u <= 1) || n > 0 && u < float64(failed)/float64(n) {
			t.Fatalf("%d of %d at %g: %g", failed, n, delta, u)
		}
		if failed >= 0 && failed < n && delta >= tinyDelta && u > chernoffMean(float64(failed), delta)/float64(n)*(1+1e-6) {
			t.Fatalf("%d of %d at %g: %g is above Chernoff's bound %g", failed, n, delta, u, chernoffMean(float64(failed), delta)/float64(n))
		}
		if failed >= 0 && UpperRate(failed+1, n, delta) < u*(1-1e-9) {
			t.Fatalf("%d of %d at %g: one more failure lowered the bound", failed, n, delta)
		}
		if UpperRate(failed, n, delta/2) < u*(1-1e-6) {
			t.Fatalf("%d of %d at %g: half the error lowered the bound", failed, n, delta)
		}
		e := Expected{Mean: rapid.Float64Range(0, 1e7).Draw(t, "mean"), Variance: rapid.Float64Range(0, 1e7).Draw(t, "variance")}
		if l := e.Lower(delta); !(l >= 0 && l <= e.Mean) {
			t.Fatalf("%+v at %g: lower limit %g", e, delta, l)
		}
		if x := UpperExcess(failed, n, 0, e, delta, 1e-4); !(x > 0 && x <= u) {
			t.Fatalf("excess %g of a rate of at most %g", x, u)
		}
	})
}

// TestCountsKeepToTheirLimits: a Poisson count, by summation, and a hypergeometric one
// (of 400 that fail among 2000, those in a cohort of 300, of 15) lie below the least or
// above the most with probability delta at most.
func TestCountsKeepToTheirLimits(t *testing.T) {
	for _, delta := range []float64{0.05, 1e-3, 1e-5} {
		tails := func(name string, mean float64, p func(k int) float64, most int) {
			below, above := 0.0, 0.0
			for k := range most {
				if float64(k) < LeastCount(mean, delta) {
					below += p(k)
				}
				if float64(k) > MostCount(mean, delta) {
					above += p(k)
				}
			}
			if below > delta || above > delta {
				t.Errorf("%s, mean %g, delta %g: %g below, %g above", name, mean, delta, below, above)
			}
		}
		for _, m := range []float64{0.01, 0.5, 3, 40, 700} {
			tails("Poisson", m, func(k int) float64 {
				g, _ := math.Lgamma(float64(k) + 1)
				return math.Exp(float64(k)*math.Log(m) - m - g)
			}, 2000)
		}
		for _, failed := range []int{400, 15} {
			tails("hypergeometric", float64(failed)*300/2000, func(k int) float64 {
				if k > failed {
					return 0
				}
				return math.Exp(logChoose(300, k) + logChoose(1700, failed-k) - logChoose(2000, failed))
			}, 300)
		}
	}
	for _, v := range []float64{LeastCount(5, 0), LeastCount(math.NaN(), 0.1), LeastCount(1, 1e-9)} {
		if v != 0 {
			t.Errorf("at least %g, without knowledge", v)
		}
	}
	if v := MostCount(5, 0); !math.IsInf(v, 1) {
		t.Errorf("at most %g, without an error", v)
	}
}

func TestWhereGonumGivesUp(t *testing.T) {
	if u := UpperRate(10, 19000, 1e-9); math.Abs(u/0.0022941781-1) > 0.01 {
		t.Errorf("10 of 19000 at 1e-9: %g", u)
	}
}

// TestUnknownIsNeverSafe: nobody observed bounds nothing.
func TestUnknownIsNeverSafe(t *testing.T) {
	for _, u := range []float64{UpperRate(0, 0, 0.1), UpperRate(0, 10, 0), UpperRate(0, 10, math.NaN()), UpperExcess(0, 0, 0, Expected{Mean: 5, Variance: 1}, 0.1, 0.1)} {
		if u != 1 {
			t.Errorf("bound %g without knowledge", u)
		}
	}
}
