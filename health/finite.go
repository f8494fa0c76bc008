package health

import "math"

// Where the finite population is worth its price: a sample of at least a
// twentieth of it, with few failures, in a population that counts exactly.
const (
	leastFraction  = 20
	mostFailures   = 1000
	mostPopulation = 1 << 32
)

// UpperRateOf is UpperRate for a sample of n drawn without repetition from a
// population: the hypergeometric limit, by inversion of its distribution function
// (Buonaccorsi 1987). Who has seen half of a fleet knows more of the rest than who
// has seen as many of infinitely many. It is never above UpperRate.
func UpperRateOf(failed, n, population int64, delta float64) float64 {
	u := UpperRate(failed, n, delta)
	if u >= 1 || population < n || population > mostPopulation || n < population/leastFraction || failed > mostFailures {
		return u
	}
	// The largest number of bad ones that delta does not rule out.
	lo, hi := failed, population-n+failed // lo is not ruled out
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		if logAtMost(failed, n, population, mid) > math.Log(delta) {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return min(u, float64(lo)/float64(population))
}

// logAtMost is the log of the probability of at most k bad ones in n of a
// population with so many bad.
func logAtMost(k, n, population, bad int64) float64 {
	// The terms from the largest x down, in parts of the first, each by its ratio to
	// the one before; where they grow beyond any float, the probability is 1.
	most := min(k, bad)
	sum, part := 0.0, 1.0
	for x := most; x >= max(0, n-(population-bad)); x-- {
		sum += part
		part *= float64(x) / float64(bad-x+1) * (float64(population-bad-n+x) / float64(n-x+1))
		if part < sum*1e-18 { // and the further ones are smaller still
			break
		}
	}
	return min(0, math.Log(sum)+logBinomial(bad, most)+logBinomial(population-bad, n-most)-logBinomial(population, n))
}

func logBinomial(n, k int64) float64 {
	lg := func(x int64) float64 {
		v, _ := math.Lgamma(float64(x) + 1)
		return v
	}
	return lg(n) - lg(k) - lg(n-k)
}
