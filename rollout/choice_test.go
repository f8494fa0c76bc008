package rollout

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/health"
)

func preset(t testing.TB, name string) Policy {
	t.Helper()
	p, err := Preset(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Whatever the hurry: canaries, silence and halt stay.
func TestNoLaneIsWithoutCanariesSilenceAndHalt(t *testing.T) {
	for _, name := range Presets() {
		if err := preset(t, name).CheckLane(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for what, spoil := range map[string]func(*Policy){
		"no budget":          func(p *Policy) { p.Budget = nil },
		"everyone at once":   func(p *Policy) { p.Budget.Horizons[0].Harm, p.Budget.Horizons[0].Share = 0, 1 },
		"deaf to silence":    func(p *Policy) { p.MinControls = 0 },
		"hard of hearing":    func(p *Policy) { p.MinControls = 0.4 },
		"the default ladder": func(p *Policy) { *p = DefaultPolicy() },
	} {
		p := preset(t, "emergency")
		spoil(&p)
		if err := p.CheckLane(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := Take(100000, Trade{Hazard: 0.1, Bad: 0.01, CostCompromised: 1, CostHarmed: 1}, p, nil, "ann"); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s was taken: %v", what, err)
		}
	}
}

// The record holds J of the lane taken and of the next slower one, by the numbers
// that were entered.
func TestTheChoiceHasItsPrice(t *testing.T) {
	trade := Trade{Hazard: 1e-3, Bad: 1e-2, CostCompromised: 1, CostHarmed: 2}
	others := []Policy{preset(t, "flash"), preset(t, "standard"), preset(t, "safe")}
	c, err := Take(100000, trade, preset(t, "emergency"), others, "ann")
	if err != nil {
		t.Fatal(err)
	}
	if c.Taken.Lane != "emergency-1" || c.Slower == nil || c.Slower.Lane == "emergency-1" || c.Slower.Lane == "all-at-once" || !slices.Equal(c.Signed, []string{"ann"}) || len(c.Lanes) != 5 {
		t.Fatalf("%+v", c)
	}
	if want := c.Taken.Compromised + 2*c.Taken.Harmed; math.Abs(c.Taken.Total-want) > 1e-9 {
		t.Errorf("J %v, want %v", c.Taken.Total, want)
	}
	if slowest, err := Take(100000, trade, preset(t, "safe"), others[:2], "ann"); err != nil || slowest.Slower != nil {
		t.Errorf("slower than the slowest: %+v, %v", slowest.Slower, err)
	}
	for _, bad := range []Trade{{Hazard: 2, CostHarmed: 1}, {Hazard: math.NaN(), CostHarmed: 1}, {Bad: -1, CostHarmed: 1}, {Hazard: 0.1, Bad: 0.1}, {CostHarmed: math.Inf(1)}} {
		if _, err := Take(100000, bad, preset(t, "emergency"), others, "ann"); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestToSwitchTakesTwoOrThePolicysWord(t *testing.T) {
	standard, emergency := preset(t, "standard"), preset(t, "emergency")
	one := preset(t, "standard")
	one.Emergency = &Emergency{Operators: 1}
	other := preset(t, "emergency")
	other.Budget.Horizons[0].Harm = 1500
	for _, c := range []struct {
		name   string
		w      Switch
		now    bool
		signed []string
		err    error
	}{
		{"the first asks", Switch{State: Running, From: standard, To: emergency, Operator: "ann"}, false, []string{"ann"}, nil},
		{"the same again is no second", Switch{State: Running, From: standard, To: emergency, Operator: "ann", Asked: "ann", AskedFor: &emergency}, false, []string{"ann"}, nil},
		{"another one agrees", Switch{State: Held, From: standard, To: emergency, Operator: "bob", Asked: "ann", AskedFor: &emergency}, true, []string{"ann", "bob"}, nil},
		{"to something else is no agreement", Switch{State: Running, From: standard, To: other, Operator: "bob", Asked: "ann", AskedFor: &emergency}, false, []string{"bob"}, nil},
		{"the policy asks for one", Switch{State: Running, From: one, To: emergency, Operator: "ann"}, true, []string{"ann"}, nil},
		{"a case is exploited and the policy names the lane", Switch{State: Running, From: standard, To: emergency, Operator: "ann", Exploited: true}, true, []string{"ann"}, nil},
		{"what has ended", Switch{State: Halted, From: standard, To: emergency, Operator: "ann"}, false, nil, ErrState},
		{"to itself", Switch{State: Running, From: emergency, To: emergency, Operator: "ann"}, false, nil, ErrState},
		{"from a ladder nothing was observed", Switch{State: Running, From: DefaultPolicy(), To: emergency, Operator: "ann"}, false, nil, ErrState},
		{"to more horizons", Switch{State: Running, From: emergency, To: standard, Operator: "ann"}, false, nil, ErrState},
		{"to no lane", Switch{State: Running, From: standard, To: DefaultPolicy(), Operator: "ann"}, false, nil, ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			now, signed, err := c.w.Agree()
			if now != c.now || !slices.Equal(signed, c.signed) || !errors.Is(err, c.err) {
				t.Errorf("%v %v %v; want %v %v %v", now, signed, err, c.now, c.signed, c.err)
			}
		})
	}
}

// After a switch the rollout is decided by the new policy on what was observed
// under the old one; no decision is an error, and harm halts as before.
func TestWhatWasObservedIsStillEvidenceAfterASwitch(t *testing.T) {
	standard, emergency := preset(t, "standard"), preset(t, "emergency")
	rapid.Check(t, func(rt *rapid.T) {
		dead := rapid.Int64Range(0, 40).Draw(rt, "dead")
		gates := []Gated{{Cohort: 0, Horizon: 0, Size: 47, Expected: health.Expected{}}, {Cohort: 0, Horizon: 1, Size: 47}}
		s := Snapshot{
			Rollout: 1, Product: "acme/rules", Version: "1.0.0", State: Running, Policy: emergency, Started: t0, RungSince: t0,
			Pace:    Pace{Ceiling: 47, Window: 47, Turn: 0.1, Boost: 1},
			Counts:  health.Counts{Exposed: 47, Proven: 47 - dead, Harmed: dead},
			Control: health.Control{Fit: 100000, Online: 100000, Unexposed: 99953, Heard: 99953},
			Observed: &Observed{
				Cohorts:     []Cohort{{Granted: 47, Size: 47, Last: t0, Arm: health.Arm{Harmed: dead, AtRisk: 47 - dead, AtLeast: 47 - dead}, ByAge: []int64{dead}}},
				Control:     health.Arm{AtRisk: 99953, AtLeast: 99953},
				CellsTested: 10, Vitals: false, Knowledge: Knowledge{Gates: gates}.Trim(len(emergency.Budget.Horizons)),
			},
		}
		if err := standard.CanSwitch(emergency); err != nil {
			rt.Fatal(err)
		}
		d, err := Decide(s, t0.Add(rapid.SampledFrom([]time.Duration{time.Minute, 101 * time.Second, time.Hour}).Draw(rt, "after")))
		if err != nil {
			rt.Fatal(err)
		}
		if dead >= 20 && d.Action == Advance {
			rt.Fatalf("%d of 47 are dead: %+v", dead, d)
		}
	})
}

// A preset that has no plan for so few is no lane to compare with, and no reason to
// compare none; the one to be taken must have one.
func TestAPolicyWithoutAPlanIsLeftOutOfTheLanes(t *testing.T) {
	trade := Trade{Hazard: 1e-3, Bad: 1e-2, CostCompromised: 1, CostHarmed: 1}
	driver := preset(t, "driver")
	if _, err := driver.Lane(5000); !errors.Is(err, ErrNoPlan) || !errors.Is(err, ErrInvalid) {
		t.Fatalf("a plan of driver's for 5,000: %v", err)
	}
	c, err := Take(5000, trade, preset(t, "emergency"), []Policy{driver, preset(t, "standard")}, "ann")
	if err != nil || len(c.Lanes) != 3 {
		t.Errorf("%+v, %v", c.Lanes, err)
	}
	if _, err := Take(5000, trade, driver, nil, "ann"); !errors.Is(err, ErrNoPlan) {
		t.Errorf("taken: %v", err)
	}
}

// TestATradeOfThePolicyIsChecked, and priced at 1 each if it says nothing of costs.
func TestATradeOfThePolicyIsChecked(t *testing.T) {
	p, err := ParsePolicy([]byte(`{"emergency": {"lane": "flash", "trade": {"hazard_per_hour": 0.02, "bad": 0.01}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, of := TradeOf(DefaultPolicy(), p); of != TradeOfPolicy || got != (Trade{0.02, 0.01, 1, 1}) {
		t.Errorf("%+v of %s", got, of)
	}
	if got, of := TradeOf(DefaultPolicy()); of != TradeAssumed || got != AssumedTrade || got.Check() != nil {
		t.Errorf("%+v of %s", got, of)
	}
	for _, doc := range []string{`{"emergency": {"trade": {"hazard_per_hour": 2}}}`, `{"emergency": {"trade": {"hazard": 0.1}}}`} {
		if _, err := ParsePolicy([]byte(doc)); err == nil || !strings.Contains(err.Error(), "emergency.trade") {
			t.Errorf("%s: %v", doc, err)
		}
	}
}
