package rollout

import (
	"fmt"
	"math"
	"time"
)

// Emergency is what a policy may do where a hole is exploited.
type Emergency struct {
	// Overrides are what it overrides of tenants' limits, OverrideDefer and
	// OverrideWindow, where the tenant follows emergencies.
	Overrides []string `json:"overrides,omitempty"`
	// Operators is how many it takes to switch a running rollout to an emergency's
	// policy, 1 or 2; 0 is 2.
	Operators int64 `json:"operators,omitempty"`
	// Lane names the policy that is taken when a case says exploited.
	Lane string `json:"lane,omitempty"`
	// Trade is what a lane is weighed by where it is taken without anybody's entering
	// one; without costs both are 1.
	Trade *Trade `json:"trade,omitempty"`
}

func (e Emergency) check() (field string, err error) {
	for _, o := range e.Overrides {
		if o != OverrideDefer && o != OverrideWindow {
			return "overrides", fmt.Errorf("%q; want %s and %s", o, OverrideDefer, OverrideWindow)
		}
	}
	if e.Operators < 0 || e.Operators > 2 {
		return "operators", fmt.Errorf("%d; want 1 or 2", e.Operators)
	}
	if e.Lane != "" {
		if _, err := ParseRef(e.Lane); err != nil {
			return "lane", err
		}
	}
	if e.Trade != nil {
		if err := e.Trade.Priced().Check(); err != nil {
			return "trade", err
		}
	}
	return "", nil
}

// AssumedTrade weighs a lane that was taken with no trade from anybody: one
// unprotected endpoint in ten thousand is compromised in an hour, one release in a
// thousand is bad. It is recorded as assumed, and chooses nothing.
var AssumedTrade = Trade{Hazard: 1e-4, Bad: 1e-3, CostCompromised: 1, CostHarmed: 1}

// Whose trade a lane was weighed by, where its signers entered none.
const (
	TradeOfPolicy = "policy"
	TradeAssumed  = "assumed"
)

// TradeOf is the trade of the first of some policies that has one, and whose it is.
func TradeOf(policies ...Policy) (t Trade, of string) {
	for _, p := range policies {
		if p.Emergency != nil && p.Emergency.Trade != nil {
			return p.Emergency.Trade.Priced(), TradeOfPolicy
		}
	}
	return AssumedTrade, TradeAssumed
}

// Priced is the trade with costs of 1 if it says nothing of costs.
func (t Trade) Priced() Trade {
	if t.CostCompromised == 0 && t.CostHarmed == 0 {
		t.CostCompromised, t.CostHarmed = 1, 1
	}
	return t
}

// ErrNoPlan means that no plan of gates keeps a policy's budget with so few
// endpoints: nothing can be weighed.
var ErrNoPlan = fmt.Errorf("no plan of gates: %w", ErrInvalid)

// Overrides are what the policy overrides of tenants' limits.
func (p Policy) Overrides() []string {
	if p.Emergency == nil {
		return nil
	}
	return p.Emergency.Overrides
}

// Lane is how fast a policy protects a fleet at best, and what it may harm.
type Lane struct {
	Name  string `json:"name"`
	Fleet int64  `json:"fleet"`
	Steps []Step `json:"steps"`
	// Harm is the first horizon's budget: what a bad release is held to. Without a
	// budget it is the fleet.
	Harm float64 `json:"harm"`
}

// Step says that so many endpoints are protected after so long.
type Step struct {
	After     time.Duration `json:"after_ns"`
	Endpoints int64         `json:"endpoints"`
}

// switching is from a grant to a protected endpoint.
const switching = 15 * time.Second

// Lane is the plan of a policy with a budget for n endpoints, if nothing fails:
// a gate each time the first horizon passes, and a step beyond a later horizon's
// budget once the second cohort has reached its age.
func (p Policy) Lane(n int64) (Lane, error) {
	if p.Budget == nil {
		return Lane{}, fmt.Errorf("lane of policy %q: it has no budget: %w", p.Name, ErrInvalid)
	}
	b := *p.Budget
	ladder := b.Ladder(n)
	if ladder == nil {
		return Lane{}, fmt.Errorf("lane of policy %q: its budget cannot be kept with %d endpoints: %w", p.Name, n, ErrNoPlan)
	}
	first := b.Horizons[0].Age.Std()
	l := Lane{Name: p.Name, Fleet: n, Harm: b.Horizons[0].Budget(n)}
	at := time.Duration(0)
	for k, size := range ladder {
		if k > 0 {
			at += first
		}
		for _, h := range b.Horizons[1:] {
			if float64(size) > h.Budget(n) {
				at = max(at, first+h.Age.Std())
			}
		}
		l.Steps = append(l.Steps, Step{After: at + switching, Endpoints: size})
	}
	l.Steps[len(l.Steps)-1].After += p.Poll.Std() // everybody polls once
	return l, nil
}

// AllAtOnce is the lane without any gate: it exists to be compared with.
func AllAtOnce(n int64, poll time.Duration) Lane {
	return Lane{Name: "all-at-once", Fleet: n, Harm: float64(n), Steps: []Step{{After: poll + switching, Endpoints: n}}}
}

// Trade is what an emergency weighs: a person enters it, or policy does.
type Trade struct {
	// Hazard is the probability that an unprotected endpoint is compromised within
	// an hour; Bad the probability that the release is bad.
	Hazard float64 `json:"hazard_per_hour"`
	Bad    float64 `json:"bad"`
	// Costs of one compromised and of one harmed endpoint, in any one unit.
	CostCompromised float64 `json:"cost_compromised"`
	CostHarmed      float64 `json:"cost_harmed"`
}

// Cost is what a lane costs under a trade.
type Cost struct {
	Lane        string  `json:"lane"`
	Hazard      float64 `json:"hazard_per_hour"`
	Compromised float64 `json:"compromised"` // endpoints expected, while they wait
	Harmed      float64 `json:"harmed"`      // endpoints expected at most, if it is bad, × that
	Total       float64 `json:"total"`
}

// Exposure is how long endpoints stay unprotected, summed, in endpoint-hours.
func (l Lane) Exposure() (hours float64) {
	done := int64(0)
	for _, s := range l.Steps {
		hours += float64(max(0, s.Endpoints-done)) * s.After.Hours()
		done = max(done, s.Endpoints)
	}
	return hours
}

// Until is when a share of the fleet is protected.
func (l Lane) Until(share float64) time.Duration {
	for _, s := range l.Steps {
		if float64(s.Endpoints) >= share*float64(l.Fleet) {
			return s.After
		}
	}
	return l.Steps[len(l.Steps)-1].After // but for whom the holdback keeps
}

// Cost weighs waiting against going: hazard × endpoint-hours, and the harm
// budget × the probability of a bad release.
func (l Lane) Cost(t Trade) Cost {
	c := Cost{Lane: l.Name, Hazard: t.Hazard, Compromised: min(float64(l.Fleet), t.Hazard*l.Exposure()), Harmed: t.Bad * l.Harm}
	c.Total = t.CostCompromised*c.Compromised + t.CostHarmed*c.Harmed
	return c
}

// Curve is the cost of every lane at every hazard, hazards outermost, with the
// cheapest lane's index for each hazard.
func Curve(lanes []Lane, hazards []float64, t Trade) (costs [][]Cost, cheapest []int) {
	for _, h := range hazards {
		t.Hazard = h
		var row []Cost
		best := 0
		for i, l := range lanes {
			row = append(row, l.Cost(t))
			if row[i].Total < row[best].Total {
				best = i
			}
		}
		costs, cheapest = append(costs, row), append(cheapest, best)
	}
	return costs, cheapest
}

// Indifferent is the hazard above which the faster lane is the cheaper one,
// +Inf if it never is.
func Indifferent(faster, slower Lane, t Trade) float64 {
	saved := t.CostCompromised * (slower.Exposure() - faster.Exposure())
	risked := t.CostHarmed * t.Bad * (faster.Harm - slower.Harm)
	switch {
	case risked <= 0 && saved >= 0:
		return 0
	case saved <= 0:
		return math.Inf(1)
	}
	return risked / saved
}
