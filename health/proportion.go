package health

import "math"

// Proportions is an e-process for two Bernoulli streams that come in batches
// (Turner, Ly and Grünwald, JSPI 230, 2024, arXiv 2106.02693): "the treated fail
// no more often than the controls". It suits outcomes without a time at risk,
// such as a self-test. The zero value is its start.
type Proportions struct {
	Failed  [2]int64 `json:"failed"` // treated, control
	Passed  [2]int64 `json:"passed"`
	LogE    float64  `json:"log_e"`
	Batches int64    `json:"batches"`
}

// Next is the e-process after one batch. The alternative is what earlier batches
// make likely, so it may be chosen freely and the mean stays at most 1.
func (p Proportions) Next(failed, passed [2]int64) Proportions {
	if min(failed[0], failed[1], passed[0], passed[1]) < 0 {
		return p
	}
	var theta [2]float64
	for i := range theta { // the posterior mean under the paper's beta(0.18, 0.18)
		theta[i] = (float64(p.Failed[i]) + 0.18) / (float64(p.Failed[i]+p.Passed[i]) + 0.36)
	}
	if n := [2]int64{failed[0] + passed[0], failed[1] + passed[1]}; n[0] > 0 && n[1] > 0 && theta[0] > theta[1] {
		pooled := (theta[0]*float64(n[0]) + theta[1]*float64(n[1])) / float64(n[0]+n[1])
		for i := range theta {
			p.LogE += float64(failed[i])*math.Log(theta[i]/pooled) + float64(passed[i])*math.Log((1-theta[i])/(1-pooled))
		}
	}
	for i := range theta {
		p.Failed[i] += failed[i]
		p.Passed[i] += passed[i]
	}
	p.Batches++
	return p
}
