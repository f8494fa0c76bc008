package health

import "math"

// fewTied is how many at risk are few: of more, ties hardly matter.
const fewTied = 50

// tiedFactor is logFactor where few are at risk: each can fail but once, so that
// of those who failed in the interval the treated are hypergeometric, and the mean
// of r^treated is less than the binomial's. The population is atRisk/share.
func tiedFactor(r, treated, others, atRisk, share float64) float64 {
	n := treated + others
	if treated < 0 || others < 0 || n < 2 || atRisk < 1 || atRisk > fewTied || share <= 0 {
		return logFactor(r, treated, others, share)
	}
	rest := atRisk/share - atRisk // who is at risk and not treated
	if n >= rest {
		return logFactor(r, treated, others, share)
	}
	// P(none of the treated), and from each number of them to the next.
	logP := 0.0
	for i := range int(atRisk) {
		logP += math.Log1p(-n / (atRisk + rest - float64(i)))
	}
	mean := logP
	for k := 0.0; k < min(atRisk, n); k++ {
		logP += math.Log(r * (atRisk - k) * (n - k) / ((k + 1) * (rest - n + k + 1)))
		mean = logAdd(mean, logP)
	}
	return treated*math.Log(r) - mean
}
