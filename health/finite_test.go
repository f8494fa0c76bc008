package health

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// TestTheFiniteLimitIsExact: every number of bad ones above the limit would show
// so few with probability delta at most, and the limit itself with more; counted
// with whole numbers.
func TestTheFiniteLimitIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		population := rapid.Int64Range(1, 400).Draw(t, "population")
		n := rapid.Int64Range((population+leastFraction-1)/leastFraction, population).Draw(t, "n")
		failed := rapid.Int64Range(0, n).Draw(t, "failed")
		delta := rapid.SampledFrom([]float64{0.1, 1e-3, 1e-6}).Draw(t, "delta")
		u := UpperRateOf(failed, n, population, delta)
		bad := int64(math.Round(u * float64(population)))
		if u > UpperRate(failed, n, delta) {
			t.Fatalf("%v is above the limit of any population", u)
		}
		if bad < population-n+failed && atMost(failed, n, population, bad+1) > delta*(1+1e-9) {
			t.Fatalf("%d bad of %d are ruled out, and show so few with probability %v", bad+1, population, atMost(failed, n, population, bad+1))
		}
	})
}

// atMost is the hypergeometric distribution function in rational numbers.
func atMost(k, n, population, bad int64) float64 {
	sum := new(big.Int)
	for x := int64(0); x <= k; x++ {
		if x > bad || n-x > population-bad {
			continue
		}
		sum.Add(sum, new(big.Int).Mul(new(big.Int).Binomial(bad, x), new(big.Int).Binomial(population-bad, n-x)))
	}
	p, _ := new(big.Rat).SetFrac(sum, new(big.Int).Binomial(population, n)).Float64()
	return p
}

func TestWhoHasSeenEveryoneKnows(t *testing.T) {
	for _, c := range []struct {
		failed, n, population int64
		want                  float64
	}{{0, 100, 100, 0}, {3, 100, 100, 0.03}, {0, 0, 100, 1}, {0, 100, 50, UpperRate(0, 100, 1e-3)}, {0, 10, 1 << 40, UpperRate(0, 10, 1e-3)}} {
		if got := UpperRateOf(c.failed, c.n, c.population, 1e-3); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%d of %d in %d: %v, want %v", c.failed, c.n, c.population, got, c.want)
		}
	}
}
