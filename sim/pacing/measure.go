package pacing

import (
	"math"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// A policy's measures, as a server of the product compares by them.
const (
	counted     = 0.005 // of endpoints have what is counted, in any span
	sampled     = 4096  // controls that are compared with
	sampleError = 1e-3
)

// compare compares endpoints by the policy's measures: as soon as their outcome is
// known and the span of a count is past. A value is exceeded by a twentieth of them,
// whatever the release.
func (w *run) compare() {
	for i, m := range w.measures {
		by, _ := m.Factor()
		usual, worse := 0.05, 0.05
		if m.Over > 0 {
			usual, worse = counted, counted*max(1, w.fault.Counts)
		} else {
			by = 1
		}
		age := max(w.ch.Age, int(m.Over.Std().Seconds()/second))
		// The sample is of those heard from last, so that a tick of a large fleet has many.
		samples := sampled * max(1, math.Floor(w.controls()/float64(w.ch.Poll)/sampled))
		seen := w.binomial(samples, usual) / samples
		share, most := min(1, by*seen), min(1, by*health.UpperRate(int64(math.Round(seen*sampled)), sampled, sampleError))
		for k := range w.compared {
			n := w.at(k, age-1) - w.at(k, age)
			if n <= 0 {
				continue
			}
			c := &w.compared[k][i]
			*c = rollout.Compared{
				Measured: c.Measured + int64(n), Worse: c.Worse + int64(w.binomial(n, worse)),
				Expected: c.Expected + n*most, Usual: c.Usual + n*share,
			}
		}
	}
}

// controlsOf are how many controls each measure has: as many as are sampled.
func (w *run) controlsOf() (out []int64) {
	for range w.measures {
		out = append(out, int64(math.Min(sampled, w.controls())))
	}
	return out
}
