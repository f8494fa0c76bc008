package rollout

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Choice is the lane that people, or a policy, chose in an emergency, with what it
// was weighed by: what the ledger keeps of it.
type Choice struct {
	Trade Trade `json:"trade"`
	// TradeOf is TradeOfPolicy or TradeAssumed; empty if the signers entered it.
	TradeOf string `json:"trade_of,omitempty"`
	Fleet   int64  `json:"fleet"` // endpoints that the lanes were compared for
	Taken   Cost   `json:"taken"`
	// Slower is the next slower lane, nil if there is none: J of both is the price of
	// the hurry.
	Slower *Cost  `json:"slower,omitempty"`
	Lanes  []Cost `json:"lanes"` // all that were compared, the fastest first
	// Signed are who chose it, and By is the policy that let it be taken without a
	// second one, if one did.
	Signed []string `json:"signed"`
	By     string   `json:"by,omitempty"`
	// Why is what a case says of it, in words that name no case.
	Why string `json:"why,omitempty"`
}

// maxRisk bounds costs: they are relative, in any one unit.
const maxRisk = 1e9

// Check refuses a trade that cannot be meant.
func (t Trade) Check() error {
	for _, f := range []struct {
		name   string
		v, max float64
	}{{"hazard_per_hour", t.Hazard, 1}, {"bad", t.Bad, 1}, {"cost_compromised", t.CostCompromised, maxRisk}, {"cost_harmed", t.CostHarmed, maxRisk}} {
		if !(f.v >= 0 && f.v <= f.max) {
			return fmt.Errorf("trade: %s: %v; want 0 to %g: %w", f.name, f.v, f.max, ErrInvalid)
		}
	}
	if t.CostCompromised+t.CostHarmed == 0 {
		return fmt.Errorf("trade: both costs are 0, so that every lane is alike: %w", ErrInvalid)
	}
	return nil
}

// minSilenceGate is the least min_controls of an emergency's policy.
const minSilenceGate = 0.5

// CheckLane refuses a policy that is no lane for an emergency: whatever the hurry,
// there is a first cohort that the budget can bear, silence is heard, and evidence
// halts.
func (p Policy) CheckLane() error {
	bad := func(what string) error {
		return fmt.Errorf("policy %q is no emergency lane: %s: %w", p.Name, what, ErrInvalid)
	}
	switch {
	case p.Budget == nil:
		return bad("it has no budget, so that no evidence would halt it")
	case p.Budget.Horizons[0].Share >= 0.5:
		return bad("its first horizon's budget is half of the fleet: the first cohort would be no canary")
	case p.MinControls < minSilenceGate:
		return bad(fmt.Sprintf("min_controls is %v, less than %v: it would not hear silence", p.MinControls, minSilenceGate))
	}
	return nil
}

// Weigh compares the lanes of policies with a budget, and all at once, for n
// endpoints: the fastest first. A policy that has no plan for so few is left out.
func Weigh(n int64, t Trade, policies []Policy) (lanes []Lane, costs []Cost, err error) {
	if err := t.Check(); err != nil {
		return nil, nil, err
	}
	for _, p := range policies {
		l, err := p.Lane(n)
		if errors.Is(err, ErrNoPlan) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if !slices.ContainsFunc(lanes, func(x Lane) bool { return x.Name == l.Name }) {
			lanes = append(lanes, l)
		}
	}
	if len(policies) > 0 {
		lanes = append(lanes, AllAtOnce(n, policies[0].Poll.Std()))
	}
	slices.SortStableFunc(lanes, func(a, b Lane) int { return cmp.Compare(a.Exposure(), b.Exposure()) })
	for _, l := range lanes {
		costs = append(costs, l.Cost(t))
	}
	return lanes, costs, nil
}

// Take records the choice of a policy among others. Errors wrap ErrInvalid.
func Take(n int64, t Trade, taken Policy, others []Policy, signed ...string) (Choice, error) {
	if err := taken.CheckLane(); err != nil {
		return Choice{}, err
	}
	if _, err := taken.Lane(n); err != nil {
		return Choice{}, err
	}
	lanes, costs, err := Weigh(n, t, append([]Policy{taken}, others...))
	if err != nil {
		return Choice{}, err
	}
	c := Choice{Trade: t, Fleet: n, Lanes: costs, Signed: signed}
	at := slices.IndexFunc(lanes, func(l Lane) bool { return l.Name == taken.Name })
	c.Taken = costs[at]
	for i := at + 1; i < len(lanes); i++ {
		if lanes[i].Exposure() > lanes[at].Exposure() {
			c.Slower = &costs[i]
			break
		}
	}
	return c, nil
}

// Hazards are what a curve is drawn over: a decade each, around the one entered.
func (t Trade) Hazards() []float64 {
	out := []float64{1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1}
	if t.Hazard > 0 && !slices.ContainsFunc(out, func(h float64) bool { return math.Abs(h/t.Hazard-1) < 1e-9 }) {
		out = append(out, t.Hazard)
		slices.Sort(out)
	}
	return out
}

// CanSwitch refuses to switch a running rollout from p to another policy if what
// was observed under p would not be evidence under the other.
func (p Policy) CanSwitch(to Policy) error {
	if err := to.CheckLane(); err != nil {
		return err
	}
	if p.Budget == nil {
		return fmt.Errorf("policy %q has no budget, so that nothing was observed that %q could go on from; halt the rollout and start another: %w", p.Name, to.Name, ErrState)
	}
	was, will := p.Budget.Horizons, to.Budget.Horizons
	if len(will) > len(was) {
		return fmt.Errorf("%q waits for more horizons than %q did: %w", to.Name, p.Name, ErrState)
	}
	for i, h := range will {
		if h.Age != was[i].Age {
			return fmt.Errorf("horizon %d of %q is %s and was %s: failures were counted by another age: %w", i, to.Name, h.Age, was[i].Age, ErrState)
		}
	}
	// What was compared is counted by the place of the measure.
	if old, next := p.Budget.Measures, to.Budget.Measures; len(next) > len(old) || !slices.Equal(next, old[:len(next)]) {
		return fmt.Errorf("%q names measures that are not the first ones of %q: endpoints were compared by others: %w", to.Name, p.Name, ErrState)
	}
	return nil
}

// Trim is what is known after a switch to a policy with so many horizons.
func (k Knowledge) Trim(horizons int) Knowledge {
	k.Gates = slices.DeleteFunc(slices.Clone(k.Gates), func(g Gated) bool { return g.Horizon >= horizons })
	return k
}

// Switch is what an operator's wish to switch a running rollout comes to: it is
// noted, or carried out by the second one, or at once where the policy in force
// asks for one only or the case is exploited and the policy names this lane.
type Switch struct {
	State    State
	From, To Policy
	Operator string
	// Asked is who wished for it before, and AskedFor the policy; empty if nobody.
	Asked    string
	AskedFor *Policy
	// Exploited: a case says so, and From's lane is To.
	Exploited bool
}

// Agree says whether the switch is carried out now, and by whose signatures.
func (w Switch) Agree() (now bool, signed []string, err error) {
	if !w.State.Active() {
		return false, nil, fmt.Errorf("it is %s: %w", w.State, ErrState)
	}
	if err := w.From.CanSwitch(w.To); err != nil {
		return false, nil, err
	}
	if w.From.Same(w.To) {
		return false, nil, fmt.Errorf("it goes by policy %q already: %w", w.To.Name, ErrState)
	}
	alone := w.Exploited || w.From.Emergency != nil && w.From.Emergency.Operators == 1
	second := w.Asked != "" && w.Asked != w.Operator && w.AskedFor != nil && w.AskedFor.Same(w.To)
	switch {
	case alone:
		return true, []string{w.Operator}, nil
	case second:
		return true, []string{w.Asked, w.Operator}, nil
	}
	return false, []string{w.Operator}, nil
}
