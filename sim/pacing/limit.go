package pacing

import (
	"math"

	"github.com/headgate/headgate/rollout"
)

// LeastSegment is how many endpoints a segment has at least that is tested.
const LeastSegment = leastCell

// DistanceToLimit charts the gates that a harm budget costs before everyone: as
// planned by the product for a fleet of n, as any policy needs at least, and as
// the policies took under the good release, in the median.
func DistanceToLimit(n int64, policies []Policy, rows []Row, good string) (Chart, error) {
	c := Chart{Linear: true, Title: "Gates before everyone, and the least that any policy needs", X: "endpoints that a prompt fault may harm (budget)", Y: "gates (points: median under " + good + ")"}
	flash, err := rollout.Preset("flash")
	if err != nil {
		return c, err
	}
	b := *flash.Budget
	b.SlowShare = 0 // the limit is of failures; the budget of vitals may ask for a gate more
	plan, limit := Series{Name: "planned for failures", Line: true}, Series{Name: "least for any policy", Line: true, Limit: true}
	for e := 2.0; e <= 5; e += 0.02 {
		harm := math.Round(math.Pow(10, e))
		b.Horizons = []rollout.Horizon{{Age: flash.Budget.Horizons[0].Age, Harm: int64(harm), Share: 1}}
		if l := b.Ladder(n); l != nil {
			plan.Points = append(plan.Points, [2]float64{harm, float64(rollout.Gates(l))})
		}
		if l := rollout.LimitLadder(n, harm, b.Baseline, b.Delta); l != nil {
			limit.Points = append(limit.Points, [2]float64{harm, float64(rollout.Gates(l))})
		}
	}
	c.Series = []Series{plan, limit}
	for _, p := range policies {
		if p.Rollout == nil {
			continue
		}
		for _, r := range rows {
			if r.Policy != p.Name || r.Fault != good {
				continue
			}
			gates := r.Quantile(0.5, func(x Result) float64 { return float64(x.Gates) }, false)
			c.mark(p.Name, [2]float64{p.Rollout.Budget.Horizons[0].Budget(n), gates})
		}
	}
	return c, nil
}

// mark adds a point; names that share one stand together.
func (c *Chart) mark(name string, at [2]float64) {
	for i, s := range c.Series {
		if !s.Line && s.Points[0] == at {
			c.Series[i].Name += ", " + name
			return
		}
	}
	c.Series = append(c.Series, Series{Name: name, Points: [][2]float64{at}})
}
