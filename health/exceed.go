package health

import "math"

// Exceeding is the share of healthy endpoints whose vitals (CPU, memory, boot
// time, latency) exceed the controls' concurrent 95th percentile, with 0.0002
// for the error of that percentile.
const Exceeding = 0.0502

// LogExceedance is the log e-value of "the update slows endpoints", after slow
// of measured endpoints exceeded the controls' 95th percentile at their first
// outcome: a binomial likelihood ratio mixed over the exceedance under a fault.
// It needs no state and is valid at all times.
func LogExceedance(slow, measured int64) float64 {
	k, m := float64(slow), float64(measured)
	if k < 0 || m < k {
		return 0
	}
	total := math.Inf(-1)
	under := [...]float64{0.052, 0.056, 0.065, 0.08, 0.15}
	for _, q := range under {
		total = logAdd(total, k*math.Log(q/Exceeding)+(m-k)*math.Log((1-q)/(1-Exceeding)))
	}
	return total - math.Log(float64(len(under)))
}

// UpperExceedance is the upper confidence limit, at error delta, of the share of
// endpoints that the update slows.
func UpperExceedance(slow, measured int64, delta float64) float64 {
	return min(1, max(UpperRate(slow, measured, delta)-0.05, 1e-12))
}
