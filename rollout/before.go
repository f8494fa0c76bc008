package rollout

import (
	"slices"

	"github.com/headgate/headgate/health"
)

// pays finds what the budget pays for: of those exposed before the cohort it is
// known what came of them; the others may fail as often as the bound allows.
func (b *Bound) pays() {
	harmed := max(0, float64(b.BeforeFailed)-b.BeforeUnharmed)
	b.Allowed = float64(b.Before) + max(0, b.Budget-harmed)/b.Upper
}

// before fills in who was exposed before the cohort of a bound, and how many of those
// had failed by a horizon. Who was chosen for coverage counts as soon as the youngest
// of them has reached it, and raw, for no control stands for them; until then as one
// of the others.
func (p *pacing) before(b *Bound, cohort, horizon int) {
	for _, c := range p.o.Cohorts[:cohort] {
		b.Before, b.BeforeFailed = b.Before+c.Granted, b.BeforeFailed+c.ByAge[horizon]
	}
	if p.s.Rules >= 4 {
		b.BeforeUnharmed = p.unharmed(*b, cohort, horizon)
	}
	c := p.o.Coverage
	if c.Granted > 0 && p.now.Sub(c.Last) >= p.b.Horizons[horizon].Age.Std() {
		failed := c.Arm.Failed()
		if p.s.Rules >= 4 && horizon < len(c.ByAge) {
			failed = c.ByAge[horizon]
		}
		b.Before, b.BeforeFailed = b.Before+c.Granted, b.BeforeFailed+failed
	}
}

// unharmed is how many of the failures before a cohort, at least, are not the
// release's: what an outage silences there it silences among the controls too. Of each
// cohort two things are known. It failed as its controls did, but for what such a
// count may fall short by; and no more of it were harmed than the bound allows of the
// fleet that it was drawn from, and what a count may exceed. The smaller harm holds,
// unless they contradict each other. A cohort whose expectation is not known counts raw.
func (p *pacing) unharmed(b Bound, cohort, horizon int) float64 {
	most, least, draw := make([]float64, cohort), make([]float64, cohort), make([]bool, cohort)
	for i, c := range p.o.Cohorts[:cohort] {
		e, known := p.expected(i, horizon)
		draw[i] = known && !p.returned(cohort)
		failed, low := float64(c.ByAge[horizon]), e.Lower(p.controlDelta())
		most[i] = max(0, failed-health.LeastCount(low, p.countDelta()))
		least[i] = failed - health.MostCount(2*e.Mean-low, p.countDelta())
	}
	fit := float64(p.s.Control.Fit)
	for range 4 { // each round starts from what the last one allows; they converge
		rate := (sum(most) + b.Upper*max(0, fit-float64(b.Before))) / max(1, fit)
		for i, c := range p.o.Cohorts[:cohort] {
			m := health.MostCount(rate*float64(c.Granted), p.countDelta())
			if draw[i] && least[i] <= m {
				most[i] = min(most[i], m)
			}
		}
	}
	return max(0, float64(b.BeforeFailed)-sum(most))
}

func sum(xs []float64) (total float64) {
	for _, x := range xs {
		total += x
	}
	return total
}

// expected is what a cohort's controls let one expect of it at a horizon. They do not
// stand for endpoints that came back, nor for a cohort of whom a segment was halted,
// which was chosen by its failures.
func (p *pacing) expected(cohort, horizon int) (health.Expected, bool) {
	if p.returned(cohort) || slices.ContainsFunc(p.o.Halted, func(h HaltedSegment) bool { return int64(cohort) <= h.Rung }) {
		return health.Expected{}, false
	}
	i := slices.IndexFunc(p.k.Gates, func(g Gated) bool { return g.Cohort == cohort && g.Horizon == horizon })
	if i < 0 {
		return health.Expected{}, false
	}
	return p.k.Gates[i].Expected, true
}

// returned tells whether a cohort is of endpoints that came back.
func (p *pacing) returned(cohort int) bool {
	return p.k.Returning > 0 && int64(cohort) >= p.k.Returning
}

// controlDelta is the error of an expectation's lower limit. Since Rules 4 half of it
// is that of the two counts, of who failed anyway and of who was harmed.
func (p *pacing) controlDelta() float64 {
	if p.s.Rules >= 4 {
		return p.b.controlDelta() / 2
	}
	return p.b.controlDelta()
}

func (p *pacing) countDelta() float64 { return p.b.controlDelta() / 4 }
