package rollout

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/health"
)

// pacing is one budgeted decision in the making: the snapshot, and what is known
// after its look.
type pacing struct {
	s   Snapshot
	b   Budget
	o   Observed
	now time.Time
	k   Knowledge
	n   Numbers
	// compared is what measures say: vitals first.
	compared []comparison
}

// unexplained is how many failures without a segment that explains them make a
// global halt certain, not to be waited with.
const unexplained = 12

// decideBudget is Decide for a policy with a budget. The order is the safety:
// what is known halts before anything that is missing holds, and holds before
// anything moves.
func (s Snapshot) decideBudget(now time.Time) Decision {
	if s.Observed == nil {
		return s.stay(Hold, Reason{"no-observations", "the policy has a budget, and nothing was observed that could pay for an exposure"})
	}
	p := s.newPacing(now)
	d := p.verdict()
	d.Knowledge, d.Numbers = &p.k, &p.n
	return d
}

func (p *pacing) verdict() Decision {
	if d, alarmed := p.alarm(); alarmed {
		return d
	}
	s := p.s
	if s.PreflightFailed-s.Pace.AcceptedRefusals >= s.Policy.MaxPreflightFailed {
		return s.stop(Reason{"preflight-failed", fmt.Sprintf("%d endpoints refused it in preflight; the limit is %d", s.PreflightFailed, s.Policy.MaxPreflightFailed)})
	}
	if s.State == Held && s.HeldBy != byEngine {
		return s.stay(Hold, Reason{"operator", "held by " + s.HeldBy})
	}
	// Harm is the evidence's to judge; only what cannot be known is asked here.
	finding := health.Judge(s.Counts, s.Control, health.Limits{MaxHarmed: math.MaxInt64, MinControls: s.Policy.MinControls})
	if finding.Verdict == health.Unknown {
		return s.holdForEvidence(finding, p.now)
	}
	if _, hold := s.signals(p.now); len(hold) > 0 && s.State != Finished {
		return s.holdForSignals(hold)
	}
	return p.progress()
}

// newPacing takes the look: evidence is advanced, gates that matured are kept,
// bounds are found. It changes nothing that the snapshot holds.
func (s Snapshot) newPacing(now time.Time) *pacing {
	p := &pacing{s: s, b: *s.Policy.Budget, o: *s.Observed, now: now, k: s.Observed.Knowledge}
	look := health.Look{At: max(0, now.Sub(s.Started)), Coverage: p.o.Coverage.Arm, Control: p.o.Control}
	for _, c := range p.o.Cohorts {
		look.Cohorts = append(look.Cohorts, c.Arm)
	}
	kept := math.Floor(float64(s.Control.Fit) * (1 - p.o.HaltedShare))
	p.n.Target = int64(kept - math.Floor(kept*p.b.Holdback))
	look.Joined, look.Returning = s.Pace.Ceiling >= p.n.Target, int(p.k.Returning)
	p.k.Evidence = p.k.Evidence.Next(look)
	if p.b.Segments {
		p.k.Cells = p.o.mostFailed(health.NextCells(p.k.Cells, p.o.Cells, p.k.Evidence.Started, s.Rules >= 3))
		p.o.CellsTested = max(p.o.CellsTested, p.k.Tested)
		p.k.Tested = p.o.CellsTested
	}
	p.mature()
	p.n.LogE, p.n.LogHalt = p.k.Evidence.Log(), -math.Log(p.b.alphaFailures())
	p.weigh()
	p.n.GatesUsed = s.Pace.Rung
	p.bounds()
	return p
}

// random is how many endpoints were granted at random.
func (p *pacing) random() (n int64) {
	for _, c := range p.o.Cohorts {
		n += c.Granted
	}
	return n
}

// full tells whether the present cohort has all its endpoints.
func (p *pacing) full() bool { return p.random() >= p.s.Pace.Ceiling-p.s.Pace.Cover }

// mature keeps the expectation of each cohort at the first look after its
// youngest member reached a horizon.
func (p *pacing) mature() {
	gates := slices.Clone(p.k.Gates)
	for i, c := range p.o.Cohorts {
		if c.Granted == 0 || i >= len(p.k.Evidence.Expected) || int64(i) >= p.s.Pace.Rung && !p.full() {
			continue
		}
		for j, h := range p.b.Horizons {
			known := slices.ContainsFunc(gates, func(g Gated) bool { return g.Cohort == i && g.Horizon == j })
			if !known && p.now.Sub(c.Last) >= h.Age.Std() {
				gates = append(gates, Gated{Cohort: i, Horizon: j, Size: c.Size, Expected: p.k.Evidence.Expected[i]})
			}
		}
	}
	slices.SortFunc(gates, func(a, b Gated) int {
		return cmp.Or(cmp.Compare(a.Cohort, b.Cohort), cmp.Compare(a.Horizon, b.Horizon))
	})
	p.k.Gates = gates
}

// bounds finds how many endpoints each horizon's budget pays for. Each cohort
// has its own share of delta, so the best of their bounds may be taken.
func (p *pacing) bounds() {
	p.n.Allowed = math.Inf(1)
	for j, h := range p.b.Horizons {
		b := Bound{Age: h.Age.String(), Budget: h.Budget(p.s.Control.Fit), Upper: 1, Cohort: -1}
		for _, g := range p.k.Gates {
			if g.Horizon == j {
				p.improve(&b, p.gate(g))
			}
		}
		p.addBound(b)
	}
	for _, c := range p.compared {
		// The first cohort measures too few to say anything of one endpoint in a
		// hundred; the second is let through on the failures' account.
		if c.judged && p.s.Pace.Rung > 0 {
			p.addBound(p.bound(c))
		}
	}
	if p.doubted() {
		p.n.Allowed = min(p.n.Allowed, doubtedStep*float64(p.exposed()))
	}
}

// doubtedStep is how many times what is exposed a step may expose while vitals
// speak against the release and not loudly enough to halt it.
const doubtedStep = 4

// doubted tells whether they do. By Ville a good release comes into doubt with
// probability SlowDoubt at most.
func (p *pacing) doubted() bool {
	return p.b.SlowDoubt > 0 && p.n.LogSlow >= -math.Log(p.b.SlowDoubt)
}

// exposed is how many are exposed, or may be already.
func (p *pacing) exposed() int64 { return max(p.s.Pace.Ceiling, p.s.Counts.Exposed) }

func (p *pacing) addBound(b Bound) {
	b.pays()
	p.n.Allowed = min(p.n.Allowed, b.Allowed)
	p.n.Bounds = append(p.n.Bounds, b)
}

// improve takes the bound that pays for more.
func (p *pacing) improve(b *Bound, by Bound) {
	by.Age, by.Budget, by.Measure = b.Age, b.Budget, b.Measure
	b.pays()
	if by.pays(); by.Allowed > b.Allowed {
		*b = by
	}
}

// gate is the bound of one look. A cohort granted before segments were halted is
// judged on the rest of the fleet, and pays for the segments' having been chosen
// from the same data: delta over the number of choices.
func (p *pacing) gate(g Gated) Bound {
	c := p.o.Cohorts[g.Cohort]
	delta, size, e := p.b.delta(g.Cohort, g.Horizon), min(c.Size, g.Size), g.Expected
	if g.Size > 0 {
		kept := float64(size) / float64(g.Size)
		e = health.Expected{Mean: e.Mean * kept, Variance: e.Variance * kept * kept}
	}
	for _, h := range p.o.Halted {
		if int64(g.Cohort) <= h.Rung {
			delta /= float64(max(2, p.o.CellsTested))
		}
	}
	// Who was not exposed before is whom the cohort was drawn from; nobody who is
	// left out since is taken off, which only makes them more.
	drawn := p.s.Control.Fit
	for _, earlier := range p.o.Cohorts[:g.Cohort] {
		drawn -= earlier.Granted
	}
	u := health.UpperExcess(c.ByAge[g.Horizon], size, drawn, e, max(delta, 1e-300), p.controlDelta())
	b := Bound{Upper: u, Cohort: g.Cohort, Failed: c.ByAge[g.Horizon], Size: size, Expected: e.Mean}
	p.before(&b, g.Cohort, g.Horizon)
	return b
}

// alarm halts what the evidence is against: the segment that explains it, or
// everything. Once raised, only halting a segment ends it.
func (p *pacing) alarm() (Decision, bool) {
	// Two people resumed it in the face of the failures there were. Before they
	// accepted vitals by themselves, that spoke for vitals too.
	a := p.s.Pace.AcceptedHarm
	accepted := a > 0 && p.failed() < a+unexplained
	if p.n.LogSlow >= p.n.LogHaltSlow && (!accepted || p.s.Accepted != nil) {
		code, text := p.against("are")
		return p.s.stop(Reason{code, fmt.Sprintf("%s: e-value e^%.1f; e^%.1f halts", text, p.n.LogSlow, p.n.LogHaltSlow)}), true
	}
	if accepted {
		return Decision{}, false
	}
	global := p.n.LogE >= p.n.LogHalt
	test := health.CellTest{Tested: p.o.CellsTested, Alpha: p.b.AlphaSegment, MaxShare: p.b.MaxSegment, Exact: p.s.Rules >= 3}
	var cells []uint32
	if p.b.Segments {
		cells = test.Alarms(p.k.Cells, p.o.Cells)
	}
	if !global && len(cells) == 0 {
		if p.k.Relieved {
			p.k.AlarmAt, p.k.Relieved = 0, false
		}
		if p.k.AlarmAt == 0 {
			return Decision{}, false
		}
	}
	if p.k.AlarmAt == 0 {
		p.k.AlarmAt = p.now.UnixMicro()
	}
	why := Reason{"evidence", fmt.Sprintf("endpoints fail more often than their controls: e-value e^%.1f, e^%.1f halts; %d of them failed", p.n.LogE, p.n.LogHalt, p.failed())}
	if !global && len(cells) > 0 {
		why = Reason{"segment-evidence", fmt.Sprintf("%d of %d segments fail more often than their controls", len(cells), p.o.CellsTested)}
	}
	if p.b.Segments {
		if d, ok := p.haltSegments(test, why); ok {
			return d, true
		}
	}
	waited := p.now.Sub(time.UnixMicro(p.k.AlarmAt)) >= p.b.Horizons[0].Age.Std()
	if !p.b.Segments || waited || global && p.failed() >= unexplained {
		return p.s.stop(why), true
	}
	return p.pause(why, Reason{"diagnosing", fmt.Sprintf("no segment explains it yet; everything halts at %d failures or after %s", unexplained, p.b.Horizons[0].Age)}), true
}

// pause holds a rollout that grants; a finished one goes on watching.
func (p *pacing) pause(why ...Reason) Decision {
	d := p.s.stay(Hold, why...)
	if p.s.State == Running {
		d.State, d.HeldBy = Held, byEngine
	}
	if p.s.State == Finished { // nothing in between: a finished rollout cannot be held
		return p.s.stop(why[0])
	}
	return d
}

// failed is the failures in no halted segment.
func (p *pacing) failed() (n int64) {
	n = p.o.Coverage.Arm.Failed()
	for _, c := range p.o.Cohorts {
		n += c.Arm.Failed()
	}
	return n
}

// haltSegments halts the segments that explain the harm, and nothing if they
// are too large a part of the fleet to be the exception.
func (p *pacing) haltSegments(test health.CellTest, why Reason) (Decision, bool) {
	exposed := p.o.Coverage.Size
	for _, c := range p.o.Cohorts {
		exposed += c.Size
	}
	suspects := simplest(test.Diagnose(p.notHalted(), health.Whole{Failed: p.failed(), ControlFailed: p.o.Control.Failed(), Exposed: exposed}))
	// The segments overlap, for they explain the same failures; their union is no
	// smaller than the largest, and the next look knows it exactly.
	share := 0.0
	for _, x := range suspects {
		share = max(share, x.Look.Share)
	}
	if len(suspects) == 0 || p.o.HaltedShare+share > p.b.MaxExcluded {
		return Decision{}, false
	}
	d := p.pause(why)
	if d.State == Halted || d.State == Reverting {
		return d, true
	}
	d.Action = HaltSegment
	for _, x := range suspects {
		d.HaltSegments = append(d.HaltSegments, HaltedSegment{ID: x.Look.ID, Labels: x.Look.Labels, Share: x.Look.Share, Rung: p.s.Pace.Rung})
		d.Reasons = append(d.Reasons, Reason{"segment", fmt.Sprintf("%s, %.3g %% of the fleet, has %d of the %d failures: e-value e^%.1f that it is the reason", segmentName(x.Look), 100*x.Look.Share, x.Look.Failed, p.failed(), x.Log)})
	}
	p.k.Relieved = true
	if p.s.Rules >= 3 {
		// What is withdrawn must leave at once, and a segment that is listed again only
		// later would put new failures in its place, as if they had come when few were
		// exposed. All that is left counts again, as of then.
		p.k.Cells = nil
	}
	return d, true
}

// notHalted is the cells without those that are halted already.
func (p *pacing) notHalted() []health.CellLook {
	if len(p.o.Halted) == 0 {
		return p.o.Cells
	}
	return slices.DeleteFunc(slices.Clone(p.o.Cells), func(c health.CellLook) bool {
		return slices.ContainsFunc(p.o.Halted, func(h HaltedSegment) bool { return h.ID == c.ID })
	})
}

// segmentName is a segment as people write it: "arch=arm64 & driver=X".
func segmentName(l health.CellLook) string {
	if len(l.Labels) == 0 {
		return fmt.Sprint("segment ", l.ID)
	}
	return l.Labels.String()
}

// mostFailed bounds what is kept of segments where their looks are bounded: of
// those with the fewest failures, who are far from any verdict, the count starts
// again when they fail next.
func (o Observed) mostFailed(cells []health.Cell) []health.Cell {
	if len(cells) <= 2*MaxCells || len(o.Cells) > MaxCells {
		return cells
	}
	out := slices.Clone(cells)
	slices.SortFunc(out, func(a, b health.Cell) int { return cmp.Or(cmp.Compare(b.Failed, a.Failed), cmp.Compare(a.ID, b.ID)) })
	out = out[:MaxCells]
	slices.SortFunc(out, func(a, b health.Cell) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
