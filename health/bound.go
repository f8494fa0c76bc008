package health

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Where each bound is computed by another formula: gonum v0.17's inverse beta is
// wrong near 1e-16 even in the complement form below, and now and then before,
// so it is checked; its inverse gamma slows down above 1e5 counts, where
// Wilson-Hilferty is exact to 1e-6.
const (
	tinyDelta  = 1e-10
	exactTrial = 20000
	manyCounts = 1e5
)

// UpperRate is the upper confidence limit, at error delta, of a failure
// probability after failed of n: Clopper and Pearson 1934, and for many trials
// the Poisson limit, which is never the smaller one (Anderson and Samuels 1967).
// Without trials, and for a delta that is no probability, it is 1: unknown is
// never safe.
func UpperRate(failed, n int64, delta float64) float64 {
	switch {
	case n <= 0, failed < 0, failed >= n, !(delta > 0 && delta < 1):
		return 1
	case delta < tinyDelta:
		return chernoffUpper(float64(failed), float64(n), delta)
	case n > exactTrial:
		return min(1, UpperMean(failed, delta)/float64(n))
	case failed == 0:
		return -math.Expm1(math.Log(delta) / float64(n))
	}
	// The complement form: the textbook one inverts at 1-delta, which rounds to 1.
	a, b := float64(n-failed), float64(failed+1)
	u := 1 - mathext.InvRegIncBeta(a, b, delta)
	if !agree(mathext.RegIncBeta(a, b, 1-u), delta) { // e.g. 10 of 19000 at 1e-9
		return min(1, UpperMean(failed, delta)/float64(n))
	}
	return u
}

// agree tells whether an inverse came back to where it started: gonum's give up
// in places without saying so.
func agree(got, delta float64) bool { return math.Abs(got-delta) <= 1e-6*delta }

// chernoffUpper solves n·KL(failed/n || u) = ln(1/delta) for u: never below
// Clopper-Pearson, and good for any delta.
func chernoffUpper(failed, n, delta float64) float64 {
	p, want := failed/n, -math.Log(delta)/n
	lo, hi := p, 1.0
	for range 200 {
		mid := lo + (hi-lo)/2
		kl := (1 - p) * (math.Log1p(-p) - math.Log1p(-mid))
		if p > 0 {
			kl += p * math.Log(p/mid)
		}
		if kl < want {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// UpperMean is the upper confidence limit, at error delta, of a Poisson mean
// after count events (Garwood 1936). It is +Inf for a delta that is no
// probability.
func UpperMean(count int64, delta float64) float64 {
	switch {
	case count < 0, !(delta > 0 && delta < 1):
		return math.Inf(1)
	case delta < tinyDelta:
		return chernoffMean(float64(count), delta)
	case count > manyCounts:
		return wilsonHilferty(float64(count)+1, -normal(delta))
	}
	u := mathext.GammaIncRegCompInv(float64(count)+1, delta)
	if !agree(mathext.GammaIncRegComp(float64(count)+1, u), delta) {
		return chernoffMean(float64(count), delta)
	}
	return u
}

// chernoffMean solves u - k + k·ln(k/u) = ln(1/delta) for u above k.
func chernoffMean(k, delta float64) float64 {
	want := -math.Log(delta)
	lo, hi := k, k+want+math.Sqrt(2*k*want)+want // beyond the solution
	for range 200 {
		mid := lo + (hi-lo)/2
		kl := mid - k
		if k > 0 {
			kl += k * math.Log(k/mid)
		}
		if kl < want {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// Expected is how many failures the controls let one expect in a treated group
// (Breslow's estimate, the sum of control failures × at risk treated / at risk
// control), with its variance.
type Expected struct {
	Mean     float64 `json:"mean"`
	Variance float64 `json:"variance"`
}

// Lower is the lower confidence limit of the expectation, at error delta: the
// gamma method for a weighted sum of Poisson counts (Fay and Feuer 1997), which
// is Garwood's exact limit when the weights are equal.
func (e Expected) Lower(delta float64) float64 {
	if !(e.Mean > 0 && e.Variance > 0 && delta > 0 && delta < 1) {
		return 0
	}
	shape, scale := e.Mean/e.Variance*e.Mean, e.Variance/e.Mean
	if shape < 0.01 { // the limit is 0 to a hundred digits; gonum panics at a shape of 0
		return 0
	}
	if shape > manyCounts || delta < tinyDelta {
		return min(e.Mean, scale*wilsonHilferty(shape, normal(delta)))
	}
	q := mathext.GammaIncRegInv(shape, delta)
	if !agree(mathext.GammaIncReg(shape, q), delta) {
		return 0
	}
	return min(e.Mean, scale*q)
}

// LeastCount is the lower limit, at error delta, of a count of which mean or more
// were to be expected: Chernoff's for a Poisson count, whose lower tail is never
// below that of as many draws without replacement (Hoeffding 1963, Theorem 4).
func LeastCount(mean, delta float64) float64 {
	if !(mean > 0 && delta > 0 && delta < 1) {
		return 0
	}
	return max(0, mean-math.Sqrt(-2*mean*math.Log(delta)))
}

// MostCount is the upper limit, at error delta, of a count of which mean or fewer were
// to be expected: Bernstein's, of the same counts. It is +Inf for a delta that is no
// probability.
func MostCount(mean, delta float64) float64 {
	if !(mean >= 0 && delta > 0 && delta < 1) {
		return math.Inf(1)
	}
	l := -math.Log(delta)
	return mean + l/3 + math.Sqrt(l*l/9+2*mean*l)
}

// UpperExcess is the upper confidence limit of the excess failure probability of
// n treated endpoints of which failed failed while e was to be expected. The
// error is at most delta for the count and controlDelta for the expectation.
// It lies in (0, 1].
// population is how many the treated were drawn from, themselves included; 0 is
// any number.
func UpperExcess(failed, n, population int64, e Expected, delta, controlDelta float64) float64 {
	u := UpperRateOf(failed, n, population, delta)
	if n > 0 {
		u -= e.Lower(controlDelta) / float64(n)
	}
	return min(1, max(u, 1e-12))
}

// wilsonHilferty is the z-quantile of a gamma distribution of a large shape.
func wilsonHilferty(shape, z float64) float64 {
	t := 1 - 1/(9*shape) + z/(3*math.Sqrt(shape))
	if t <= 0 {
		return 0
	}
	return shape * t * t * t
}

// normal is the p-quantile of the standard normal distribution, never above the
// true one by more than 1e-3 for p of 1e-300 to 1/2.
func normal(p float64) float64 {
	if p > 1e-14 {
		return -math.Sqrt2 * math.Erfcinv(2*p)
	}
	// Mills: Q(z) < phi(z)/z; two rounds from the leading term.
	l := -2*math.Log(p) - math.Log(2*math.Pi)
	z := math.Sqrt(max(1, l))
	for range 8 {
		z = math.Sqrt(max(1, l-2*math.Log(z)))
	}
	return -z
}

// logAdd is log(exp(a)+exp(b)); either may be -Inf.
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}
