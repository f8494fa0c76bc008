package rollout

import (
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/span"
)

// lastLooks is the cohort from which on each is waited for at every horizon.
const lastLooks = 4

// leastStep is how much more than now a step must expose to be worth a cohort.
const leastStep = 1.2

// progress starts, fills, waits, steps or finishes. Nothing speaks against the
// release here; only what was proven for it lets it grow.
func (p *pacing) progress() Decision {
	s := p.s
	d := s.stay(Hold)
	if s.State == Held {
		d.State, d.HeldBy = Running, ""
	}
	switch {
	case s.Control.Fit == 0 || p.n.Target == 0:
		d.Reasons = append(d.Reasons, s.nobody())
		return d
	case s.State == Finished:
		return p.late(d)
	case s.Pace.Ceiling == 0:
		return p.start(d)
	case s.Pace.Ceiling >= p.n.Target:
		return p.last(d)
	case !p.full():
		return p.fill(d)
	}
	if wait := p.immature(); wait > 0 {
		d.Reasons = append(d.Reasons, Reason{"probation", fmt.Sprintf("cohort %d has %d endpoints; its youngest reaches %s in %s", s.Pace.Rung, p.newest().Granted, p.b.Horizons[0].Age, wait.Round(time.Second))})
		return d
	}
	return p.step(d)
}

// newest is the present rung's cohort.
func (p *pacing) newest() Cohort {
	if i := p.s.Pace.Rung; i < int64(len(p.o.Cohorts)) {
		return p.o.Cohorts[i]
	}
	return Cohort{Last: p.now}
}

// immature is how long the newest cohort still needs for the first horizon.
func (p *pacing) immature() time.Duration {
	return p.b.Horizons[0].Age.Std() - p.now.Sub(p.newest().Last)
}

// start opens the first cohort, whose size is the whole risk: nothing is known.
func (p *pacing) start(d Decision) Decision {
	p.plan()
	first := p.b.Horizons[0].Budget(p.s.Control.Fit)
	size := max(1, min(int64(first), p.n.Target/10))
	if len(p.n.Ladder) > 0 {
		size = p.n.Ladder[0]
	}
	// Every horizon's budget holds before anything is known.
	size = max(1, min(size, int64(p.n.Allowed), p.n.Target))
	d.Pace.Small = math.Floor(float64(p.s.Control.Fit)*p.b.Holdback) < 1
	return p.open(d, 0, size, 0, Reason{"start", fmt.Sprintf("the first cohort: %d of %d endpoints; planned %v", size, p.s.Control.Fit, p.n.Ladder)})
}

// plan fills in the ladder and the limit beside it.
func (p *pacing) plan() {
	p.n.Ladder = p.b.ladder(p.n.Target, p.plansVitals())
	limit := LimitLadder(p.n.Target, p.b.Horizons[0].Budget(p.s.Control.Fit), p.b.Baseline, p.b.Delta)
	p.n.GatesLimit = Gates(limit)
}

// plansVitals tells whether the plan knows the budget of vitals: at the start, when
// nobody was compared yet, as if they were going to be.
func (p *pacing) plansVitals() bool {
	return p.s.Rules >= 1 && p.b.SlowShare > 0 && (p.judges() || p.s.Pace.Ceiling == 0)
}

// open lets the rollout grow to total endpoints, cover of them for coverage.
func (p *pacing) open(d Decision, rung, total, cover int64, why ...Reason) Decision {
	s := p.s
	if total >= p.n.Target {
		if wait := s.Floor - p.now.Sub(s.Started); wait > 0 {
			d.Reasons = append(d.Reasons, Reason{"vendor-floor", fmt.Sprintf("the vendor lets it reach everyone no sooner than %s after the start: %s to go", s.Floor, wait.Round(time.Second))})
			return d
		}
	}
	d.Action, d.NewRung = Advance, true
	// The ceiling bounds what is exposed in all, proven or not; the window is the
	// same bound, seen from what is proven now.
	d.Pace.Rung, d.Pace.Ceiling, d.Pace.Cover, d.Pace.Window, d.Pace.Boost = rung, total, cover, max(0, total-s.Counts.Proven), 1
	d.Pace.Turn = s.turn(d.Pace)
	p.n.GatesUsed = rung
	d.Reasons = append(d.Reasons, why...)
	d.Reasons = append(d.Reasons, Reason{"window", fmt.Sprintf("cohort %d: %d more endpoints, %d in all; %d gates used, any policy needs %d", rung, total-s.Counts.Exposed, total, rung, p.n.GatesLimit)})
	return d
}

// fill waits for those called; calls more; and goes on with those who came.
func (p *pacing) fill(d Decision) Decision {
	s := p.s
	if p.now.Sub(s.RungSince) < s.Policy.FillTimeout.Std() {
		d.Reasons = append(d.Reasons, Reason{"filling", fmt.Sprintf("%d of %d endpoints of this cohort and the earlier ones are exposed", s.Counts.Exposed, s.Pace.Ceiling)})
		return d
	}
	if s.Pace.Turn < 1 {
		return s.widen(d)
	}
	if s.Waits || p.newest().Granted == 0 {
		d.Reasons = append(d.Reasons, Reason{"waiting-for-endpoints", s.unasked()})
		return d
	}
	if p.s.Rules >= 4 {
		if p.k.Returning == 0 {
			p.k.Returning = s.Pace.Rung + 1
		} else if s.Pace.Rung >= lastLooks {
			// Everyone who was there has it: more looks at the few who come back would
			// be the last ones, and let nobody in who may not come anyway.
			d.Reasons = append(d.Reasons, Reason{"waiting-for-endpoints", s.unasked()})
			return d
		}
	}
	d.Action = Advance
	d.Pace.Cover = p.o.Coverage.Granted
	d.Pace.Ceiling = p.random() + d.Pace.Cover
	d.Reasons = append(d.Reasons, Reason{"cohort-closed", fmt.Sprintf("only %d of %d endpoints asked within %s; they are judged as they are", s.Counts.Exposed, s.Pace.Ceiling, s.Policy.FillTimeout)})
	return d
}

// unasked says that endpoints have not asked.
func (s Snapshot) unasked() string {
	if s.Counts.Exposed == 0 {
		return "nobody has asked yet"
	}
	return fmt.Sprintf("%d of %d endpoints of this rung are exposed; the others have not asked", s.Counts.Exposed, s.Pace.Ceiling)
}

// step opens the next cohort as far as the budgets pay and the plan asks for.
func (p *pacing) step(d Decision) Decision {
	now, rung := p.exposed(), p.s.Pace.Rung+1
	if h, wait := p.ripening(); wait > 0 {
		d.Reasons = append(d.Reasons, Reason{"probation", fmt.Sprintf("cohort %d reaches %s in %s; in a small fleet no cohort is spent before", p.s.Pace.Rung, h, wait.Round(time.Second))}, p.ruling())
		return d
	}
	if rung >= health.MaxCohorts && p.n.Allowed >= float64(p.n.Target) {
		// The last ones need no look of their own: they join the last cohort.
		p.plan()
		return p.open(d, rung-1, p.n.Target, p.s.Pace.Cover, Reason{"gate-passed", "the budgets pay for everyone"}, p.ruling())
	}
	if rung >= health.MaxCohorts {
		d.Reasons = append(d.Reasons, Reason{"looks-spent", fmt.Sprintf("%d cohorts have spent all of delta; a person must go on", rung)}, p.ruling())
		return d
	}
	least := min(leastStep*float64(now), float64(p.n.Target))
	hold := func() Decision {
		d.Reasons = append(d.Reasons, Reason{"budget", p.shortOf(least)}, p.ruling())
		return d
	}
	if p.n.Allowed < least {
		return hold() // no plan is made each second of a wait
	}
	p.plan()
	total := p.wanted(now, rung)
	if total < p.n.Target && float64(total) <= least {
		return hold()
	}
	cover := p.s.Pace.Cover
	if l := p.n.Ladder; cover == 0 && total < p.n.Target && len(l) > 1 && 10*total >= 9*l[min(len(l)-1, coverRung(len(l)-1))] {
		cover = min(p.b.coverOf(p.n.Target), (total-p.s.Counts.Exposed)/2)
	}
	return p.open(d, rung, total, cover, Reason{"gate-passed", fmt.Sprintf("the budgets pay for %.0f exposed endpoints", min(p.n.Allowed, 1e15))}, p.ruling())
}

// ripening is how long the newest cohort still needs for a horizon whose budget
// does not pay for everyone yet. Where every budget is LeastHarm a cohort that is
// opened before the last one has shown all it can is a look spent for little, and
// the looks would not last until everyone. In millions there are enough of them;
// in between the last few are not spent early.
func (p *pacing) ripening() (horizon span.Duration, wait time.Duration) {
	least, closeToLeast := p.b.Horizons[0].Budget(p.s.Control.Fit), float64(LeastHarm)
	if p.s.Rules >= 2 {
		closeToLeast = 4.0 / 3 * LeastHarm
		for _, h := range p.b.Horizons[1:] {
			least = min(least, h.Budget(p.s.Control.Fit))
		}
	}
	if few := p.s.Rules >= 2 && p.s.Pace.Rung >= lastLooks; least > closeToLeast && !few {
		return 0, 0
	}
	for j, h := range p.b.Horizons {
		if left := h.Age.Std() - p.now.Sub(p.newest().Last); left > 0 && p.n.Bounds[j].Allowed < float64(p.n.Target) {
			return h.Age, left
		}
	}
	return 0, 0
}

// wanted is what to expose in all after the next cohort: by the plan from here
// with the fewest gates that the budgets pay for. A new cohort is worth what it
// lets one conclude, and that goes by its own size: a rung of the plan from the
// start, with most of it exposed already, would spend a gate and teach nothing.
// Where the budgets pay for half of what one gate fewer would ask, or for no plan
// at all, it is as much as they pay for; and where another budget than the first
// horizon's rules, for the plan knows that one only.
func (p *pacing) wanted(now, rung int64) int64 {
	paid := int64(min(p.n.Allowed, float64(p.n.Target)))
	least := int(p.b.Gates)
	if p.s.Pace.Cover == 0 {
		least = p.b.leastGates(p.n.Target)
	}
	least = max(0, min(least, int(Gates(p.n.Ladder)))-int(rung))
	if least == 0 && p.n.Bounds[0].Allowed >= float64(p.n.Target) {
		return paid
	}
	most := max(least, 1, int(Gates(p.n.Ladder)-rung))
	for gates := least; gates <= most; gates++ {
		total := p.n.Target
		if gates > 0 {
			rest := p.b.rest(p.n.Target, now, int(rung), gates, p.s.Pace.Cover > 0, p.plansVitals())
			if rest == nil {
				continue
			}
			total = rest[0]
		}
		if total <= paid && float64(total) > leastStep*float64(now) {
			return total
		}
		if 2*paid >= total {
			break
		}
	}
	return paid
}

// ruling names the bound that rules, with its numbers.
func (p *pacing) ruling() Reason {
	r := p.n.Bounds[0]
	for _, b := range p.n.Bounds {
		if b.Allowed < r.Allowed {
			r = b
		}
	}
	if p.doubted() && p.n.Allowed < r.Allowed {
		code, text := p.against("seem")
		return Reason{code + "-doubt", fmt.Sprintf("%s: e-value e^%.1f, e^%.1f halts; until that is settled a step exposes at most %d times as many", text, p.n.LogSlow, p.n.LogHaltSlow, doubtedStep)}
	}
	if r.Measure {
		return r.ruling()
	}
	if r.Cohort < 0 {
		return Reason{"bound", fmt.Sprintf("%s: no cohort has reached it, so a failure rate of 100 %% is possible; the budget is %.0f", r.Age, r.Budget)}
	}
	return Reason{"bound", fmt.Sprintf("%s: of %d in cohort %d, %d failed and %.1f were to be expected, so the release harms at most %.3g %%; the budget of %.0f pays for %.0f", r.Age, r.Size, r.Cohort, r.Failed, r.Expected, 100*r.Upper, r.Budget, r.Allowed)}
}

// ruling is a measure's bound as a reason.
func (b Bound) ruling() Reason {
	if b.Size == 0 {
		return Reason{"bound", fmt.Sprintf("%s: no cohort was compared, so that it may be worse on every endpoint; the budget is %.0f", b.Age, b.Budget)}
	}
	return Reason{"bound", fmt.Sprintf("%s: of %d compared in cohort %d, %d are worse and %.1f were to be expected, so the release makes it worse on at most %.3g %%; the budget of %.0f pays for %.0f", b.Age, b.Size, b.Cohort, b.Failed, b.Expected, 100*b.Upper, b.Budget, b.Allowed)}
}

// shortOf says what would change a hold.
func (p *pacing) shortOf(want float64) string {
	if p.n.Allowed <= 0 || math.IsInf(p.n.Allowed, 1) {
		return "the budgets pay for nothing"
	}
	return fmt.Sprintf("the budgets pay for %.0f exposed endpoints, and %d are; to go on the harm bound would have to be %.2f of what it is, or a person decides", p.n.Allowed, p.s.Counts.Exposed, p.n.Allowed/want)
}

// last waits until everyone who is there has it and the longest horizon has
// passed, then gives up the controls.
func (p *pacing) last(d Decision) Decision {
	s := p.s
	longest := p.b.Horizons[len(p.b.Horizons)-1].Age.Std()
	since := s.RungSince.Add(s.Policy.FillTimeout.Std())
	if p.full() {
		since = p.newest().Last
	} else if p.now.Before(since) {
		d.Reasons = append(d.Reasons, Reason{"filling", fmt.Sprintf("%d of %d endpoints are exposed", s.Counts.Exposed, s.Pace.Ceiling)})
		return d
	} else if s.Pace.Turn < 1 {
		return s.widen(d)
	} else if s.Waits {
		d.Reasons = append(d.Reasons, Reason{"waiting-for-endpoints", s.unasked()})
		return d
	}
	if wait := longest - p.now.Sub(since); wait > 0 {
		d.Reasons = append(d.Reasons, Reason{"probation", fmt.Sprintf("all that are there are exposed; the longest horizon, %s, ends in %s", longest, wait.Round(time.Second))})
		return d
	}
	if s.State == Held {
		d.Reasons = append(d.Reasons, Reason{"released", "the evidence is back; nothing speaks against the release"})
		return d
	}
	if !p.provenEnough() {
		// The evidence compares with controls, of whom hardly any are left here: what
		// was never proven must not pass for want of them.
		d.Reasons = append(d.Reasons, Reason{"unproven", fmt.Sprintf("only %d of %d exposed are proven; the policy asks for %.0f %%: a person must look", s.Counts.Proven, s.Counts.Exposed, 100*s.Policy.MinProven)})
		return d
	}
	d.Action, d.State = Finish, Finished
	d.Pace.Ceiling = max(d.Pace.Ceiling, s.Control.Fit)
	d.Pace.Window, d.Pace.Cover = d.Pace.Ceiling, p.o.Coverage.Granted
	d.Pace.Turn = 1
	d.Reasons = append(d.Reasons, Reason{"everyone", fmt.Sprintf("%d exposed, %d proven; nothing speaks against it after %s, and the controls get it too", s.Counts.Exposed, s.Counts.Proven, longest)})
	return d
}

// provenEnough tells whether enough of those in no halted segment are proven.
func (p *pacing) provenEnough() bool {
	if len(p.o.Halted) == 0 {
		return p.s.provenEnough()
	}
	size, proven := int64(0), int64(0)
	for _, c := range p.o.Cohorts {
		size += c.Size
		proven += c.Size - c.ByAge[len(c.ByAge)-1] // what is open is no proof
	}
	return size > 0 && float64(proven) >= p.s.Policy.MinProven*float64(size)
}

// late watches a finished rollout, and lets the fleet's growth in.
func (p *pacing) late(d Decision) Decision {
	d.Action = Finish
	if fit := p.s.Control.Fit; fit > p.s.Pace.Ceiling {
		d.Action = Advance
		d.Pace.Ceiling, d.Pace.Window = fit, fit
		d.Reasons = append(d.Reasons, Reason{"late-joiners", fmt.Sprintf("the fleet has grown to %d endpoints", fit)})
		return d
	}
	d.Reasons = append(d.Reasons, Reason{"watching", "everyone that was there has it; late faults are still judged"})
	return d
}
