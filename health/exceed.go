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

// LogWorse is the log e-value of "the update makes a measure worse", after worse
// endpoints did what at most expected of them were to do without it: expected is
// the sum of their chances, each known before its endpoint was looked at, so that
// they may differ (they do, where the controls change). r^worse·e^(-(r-1)·expected),
// mixed over r, falls on the average, for 1+(r-1)q <= e^((r-1)q). Each endpoint
// counts once, however often it does it, so that a few that crash all day are a few.
// It needs no state and is valid at all times.
func LogWorse(worse int64, expected float64) float64 {
	if worse < 0 || !(expected >= 0) || math.IsInf(expected, 0) {
		return 0
	}
	total := math.Inf(-1)
	under := [...]float64{1.1, 1.3, 1.7, 3, 10}
	for _, r := range under {
		total = logAdd(total, float64(worse)*math.Log(r)-(r-1)*expected)
	}
	return total - math.Log(float64(len(under)))
}

// UpperWorse is the upper confidence limit, at error delta, of the share of
// endpoints whose measure the update makes worse, where usual of the measured are
// in any case.
func UpperWorse(worse, measured int64, usual, delta float64) float64 {
	if measured <= 0 {
		return 1
	}
	return min(1, max(UpperRate(worse, measured, delta)-usual/float64(measured), 1e-12))
}

// LogMean is the log of the mean of e-values, which is one whatever they depend on
// (Vovk and Wang 2021); of one, it is that one.
func LogMean(logs ...float64) float64 {
	if len(logs) == 1 {
		return logs[0]
	}
	total := math.Inf(-1)
	for _, l := range logs {
		total = logAdd(total, l)
	}
	return total - math.Log(float64(max(1, len(logs))))
}
