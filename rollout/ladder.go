package rollout

import (
	"math"
	"slices"

	"github.com/headgate/headgate/health"
)

// planner holds what the backward plan depends on. upper is the bound that is
// expected of n healthy endpoints in a cohort, at error delta.
type planner struct {
	n, budget, baseline float64
	cover               float64
	// pooled lets every outcome so far count, as the limit may; a gate of ours
	// judges its newest cohort alone, which keeps it exact.
	pooled bool
	least  float64 // first cohort, if the budget has room for it
	// now are exposed already, by first cohorts: 0 and 0 is a plan from the start.
	now   float64
	first int
	delta func(cohort int) float64
	upper func(n, baseline, delta float64) float64
	later []laterLook
	// slow is the budget of endpoints slowed down; 0 is not to plan with it. A cohort
	// measures as many as it has endpoints.
	slow float64
}

// leastCohort is the smallest first cohort worth its latency: with fewer, all of
// them dead would not be enough to halt on.
const leastCohort = 3

// smallFirst is a first cohort that is not worth another gate.
const smallFirst = 100

// maxGates bounds the search for a plan.
const maxGates = health.MaxCohorts - 1

// Ladder is the plan of a rollout to n endpoints: how many are exposed in all
// after each cohort, coverage included from the second on. It has the fewest
// gates that the first horizon's budget allows (or b.Gates, if more, as far as the
// fleet is large enough for them) and then the smallest cohorts. Nil means that no
// plan can keep the budget.
func (b Budget) Ladder(n int64) []int64 { return b.ladder(n, b.SlowShare > 0) }

// ladder is Ladder with or without the budget of vitals, which may cost gates and
// never a first cohort that is much larger: that is what a release that kills everything harms.
func (b Budget) ladder(n int64, vitals bool) []int64 {
	p, least := b.planner(n, false), b.leastGates(n)
	l := p.fewest(least)
	for gates := least - 1; l == nil && gates > 0; gates-- {
		l = p.with(gates)
	}
	if l == nil || !vitals {
		return l
	}
	p = b.planner(n, true)
	for gates := len(l) - 1; gates <= maxGates; gates++ {
		if slow := p.with(gates); slow != nil && slow[0] <= max(l[0], smallFirst) {
			return slow
		}
	}
	return l
}

// leastGates is the fewest gates to plan with: coverage goes with a cohort between
// the first and everyone, so that there must be one.
func (b Budget) leastGates(n int64) int {
	if b.coverOf(n) > 0 {
		return max(2, int(b.Gates))
	}
	return int(b.Gates)
}

func (b Budget) planner(n int64, vitals bool) planner {
	p := planner{
		n: float64(n), budget: b.Horizons[0].Budget(n), baseline: b.Baseline, cover: float64(b.coverOf(n)), least: leastCohort,
		delta: func(k int) float64 { return b.delta(k, 0) }, upper: planUpper, later: b.laterLooks(n),
	}
	if vitals {
		p.slow = b.slowBudget(n)
	}
	return p
}

// laterLook is a later horizon's budget, and the error of its look at a cohort.
type laterLook struct {
	budget float64
	delta  func(cohort int) float64
}

// laterLooks are those of the horizons after the first. In millions their budgets
// are far larger; in a small fleet all are LeastHarm, and the smaller error rules.
func (b Budget) laterLooks(n int64) (out []laterLook) {
	for j := 1; j < len(b.Horizons); j++ {
		out = append(out, laterLook{b.Horizons[j].Budget(n), func(k int) float64 { return b.delta(k, j) }})
	}
	return out
}

// rest is the plan from where a rollout stands, now exposed by so many cohorts,
// with exactly so many gates after the next step: what is exposed after the next
// cohort and the later ones. Nil means that there is none.
func (b Budget) rest(n, now int64, cohorts, gates int, covered, vitals bool) []int64 {
	p := b.planner(n, vitals)
	p.now, p.first, p.least = float64(now), cohorts, 0
	if covered {
		p.cover = 0
	}
	if cohorts+gates >= health.MaxCohorts {
		return nil
	}
	return p.with(gates)
}

// LimitLadder is the fastest growth that any policy could risk which goes on
// under a good release at least every second time and lets harm pass budget with
// probability at most delta whatever the failure rate: what Headgate's own plan
// is measured against (docs/decisions/0010, the growth limit).
func LimitLadder(n int64, budget, baseline, delta float64) []int64 {
	return planner{
		n: float64(n), budget: budget, baseline: baseline,
		delta: func(int) float64 { return delta }, upper: LimitExcess, pooled: true,
	}.fewest(0)
}

// GatesLimit is how many gates any policy needs that keeps b in a fleet of n; 0
// if n is not known.
func (b Budget) GatesLimit(n int64) int64 {
	if n < 1 {
		return 0
	}
	return Gates(LimitLadder(n, b.Horizons[0].Budget(n), b.Baseline, b.Delta))
}

// Gates is the number of gates of a ladder.
func Gates(ladder []int64) int64 { return int64(max(0, len(ladder)-1)) }

// planUpper is the bound to be expected under a good release whose failures lie
// one standard deviation above the baseline.
func planUpper(n, baseline, delta float64) float64 {
	mean := baseline * n
	failed := math.Floor(mean + math.Sqrt(mean))
	return max(1e-12, health.UpperRate(int64(failed), int64(n), delta)-0.97*baseline)
}

// planExceedance is the same of those slowed down: as many above the controls'
// percentile as one standard deviation of a good release makes.
func planExceedance(n, exceeding, delta float64) float64 {
	slow := math.Floor(exceeding*n + math.Sqrt(exceeding*(1-exceeding)*n))
	return health.UpperExceedance(int64(slow), int64(n), delta)
}

// LimitExcess is the smallest excess failure rate that any such policy can have
// excluded after n outcomes: by Neyman and Pearson the best rule goes on while
// failures are not above the baseline's median, so P(that) <= 2·delta under
// every excess that would overrun the budget.
func LimitExcess(n, baseline, delta float64) float64 {
	mean := baseline * n
	median := max(0, math.Floor(mean+1.0/3-0.02/max(mean, 1e-9)))
	return max(1e-12, health.UpperRate(int64(median), int64(n), 2*delta)-baseline)
}

// fewest is the plan with the fewest gates, at least so many.
func (p planner) fewest(least int) []int64 {
	for gates := max(1, least); gates <= maxGates; gates++ {
		if l := p.with(gates); l != nil {
			return l
		}
	}
	return nil
}

// with is the plan with exactly so many gates: each cohort is the smallest that
// can pay for all that is exposed after the next step, and the first costs at
// most the budget. A cohort stands on those before it, of whom it is known what
// came of them and who need no payment; the way back from the end does not know
// them yet: a few rounds find them.
func (p planner) with(gates int) []int64 {
	total := make([]float64, gates+1)
	for range 30 {
		next := p.round(gates, total)
		if next == nil {
			return nil
		}
		if slices.Equal(next, total) {
			break
		}
		total = next
	}
	out := make([]int64, gates+1)
	for k, n := range total {
		out[k] = int64(n)
		if k > 0 && out[k] <= out[k-1] {
			return nil
		}
	}
	return out
}

// round goes back from the end once, with the totals of the last round.
func (p planner) round(gates int, last []float64) []float64 {
	total := make([]float64, gates+1)
	total[gates] = p.n
	for k := gates - 1; k >= 0; k-- {
		before := p.now // whose outcome is known by the time that the cohort's is
		if k > 0 && !p.pooled {
			before = last[k-1]
		}
		next := total[k+1]
		if !p.pooled {
			next -= before
		}
		cohort := p.smallest(next, p.budget, p.delta(p.first+k))
		for _, l := range p.later {
			cohort = max(cohort, p.smallest(next, l.budget, l.delta(p.first+k)))
		}
		if p.slow > 0 && p.first+k > 0 { // the first cohort's vitals rule nothing
			q := p
			q.upper, q.baseline = planExceedance, health.Exceeding
			cohort = max(cohort, q.smallest(next, p.slow, p.delta(p.first+k)))
		}
		if k == 0 && p.least > 0 {
			cohort = max(cohort, min(p.least, p.budget))
		}
		total[k] = cohort
		if k == 0 || !p.pooled {
			total[k] += before
		}
		if p.first+k == coverRung(p.first+gates) {
			total[k] += p.cover
		}
		if total[k] >= total[k+1] {
			return nil
		}
	}
	if p.first == 0 && total[0] > p.budget {
		return nil
	}
	return total
}

// coverRung is the cohort that coverage joins: the third from the end, which is
// large enough that it costs little, and never the first.
func coverRung(gates int) int { return max(1, gates-2) }

// smallest is the least cohort whose bound pays for next, +Inf if none does.
func (p planner) smallest(next, budget, delta float64) float64 {
	pays := func(n float64) bool { return p.upper(n, p.baseline, delta)*next <= budget }
	lo, hi := 0.0, next
	if !pays(hi) {
		return math.Inf(1)
	}
	for range 64 { // more than any count of endpoints has bits
		if hi-lo <= 1 {
			break
		}
		if mid := math.Floor((lo + hi) / 2); pays(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return math.Ceil(hi)
}
