package rollout

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
)

const million8 = 8_500_000

// budgeted is a rollout of 8.5 million endpoints by a preset, two minutes old,
// whose first cohort of 48 is exposed, healthy and matured.
func budgeted(t interface{ Fatal(...any) }, preset string) Snapshot {
	p, err := Preset(preset)
	if err != nil {
		t.Fatal(err)
	}
	ages := make([]int64, len(p.Budget.Horizons))
	return Snapshot{
		Rollout: 7, Product: "acme/rules", Version: "1.0.0", State: Running, Policy: p, Rules: Rules, Started: t0, RungSince: t0,
		Pace:    Pace{Window: 48, Ceiling: 48, Turn: 1e-5, Boost: 1},
		Counts:  health.Counts{Exposed: 48, Proven: 48},
		Control: health.Control{Fit: million8, Online: million8, Unexposed: million8 - 48, Heard: million8 - 48},
		Observed: &Observed{
			Cohorts: []Cohort{{Granted: 48, Size: 48, Last: t0, ByAge: ages, Arm: health.Arm{AtRisk: 48, AtLeast: 48}}},
			Control: health.Arm{Silent: 2500, AtRisk: million8 - 48, AtLeast: million8 - 48}, CellsTested: 12014,
		},
	}
}

func TestBudgetedDecisions(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Snapshot)
		after  time.Duration
		action Action
		state  State
		code   string
	}{
		"nothing observed: nothing moves": {func(s *Snapshot) { s.Observed = nil }, 2 * time.Minute, Hold, Running, "no-observations"},
		"the first cohort":                {func(s *Snapshot) { s.Pace, s.Counts, s.Observed.Cohorts = Pace{}, health.Counts{}, nil }, 0, Advance, Running, "start"},
		"filling":                         {func(s *Snapshot) { s.Observed.Cohorts[0].Granted, s.Observed.Cohorts[0].Size = 40, 40 }, 2 * time.Minute, Hold, Running, "filling"},
		"called but not there: call more": {func(s *Snapshot) { s.Observed.Cohorts[0].Granted, s.Observed.Cohorts[0].Size = 40, 40 }, 4 * time.Minute, Advance, Running, "widen"},
		"all were called: go on with those who came": {func(s *Snapshot) {
			s.Observed.Cohorts[0].Granted, s.Observed.Cohorts[0].Size, s.Pace.Turn = 40, 40, 1
		}, 4 * time.Minute, Advance, Running, "cohort-closed"},
		"those who came are not all: others may not ask yet": {func(s *Snapshot) {
			s.Observed.Cohorts[0].Granted, s.Observed.Cohorts[0].Size, s.Pace.Turn, s.Waits = 40, 40, 1, true
		}, 4 * time.Minute, Hold, Running, "waiting-for-endpoints"},
		"the last cohort waits for them too": {func(s *Snapshot) {
			s.Pace.Turn, s.Pace.Ceiling, s.Pace.Window, s.Waits = 1, million8, million8, true
		}, 30 * 24 * time.Hour, Hold, Running, "waiting-for-endpoints"},
		"the youngest is too young":       {func(s *Snapshot) {}, 99 * time.Second, Hold, Running, "probation"},
		"healthy: the gate opens":         {func(s *Snapshot) {}, 2 * time.Minute, Advance, Running, "gate-passed"},
		"failures cost the budget's room": {func(s *Snapshot) { s.Observed.Cohorts[0].ByAge[0] = 47 }, 2 * time.Minute, Advance, Running, "gate-passed"},
		"CF-291: all dead": {func(s *Snapshot) {
			s.Observed.Cohorts[0].Arm, s.Observed.Cohorts[0].ByAge[0] = health.Arm{Silent: 48, AtRisk: 48}, 48
		}, 2 * time.Minute, Revert, Reverting, "evidence"},
		"a few dead: look for the segment first": {func(s *Snapshot) {
			s.Observed.Cohorts[0].Arm.Silent, s.Observed.Cohorts[0].ByAge[0] = 6, 6
		}, 2 * time.Minute, Hold, Held, "evidence"},
		"a segment explains it": {func(s *Snapshot) {
			s.Observed.Cohorts[0].Arm = health.Arm{Silent: 6, AtRisk: 5000, AtLeast: 5000}
			s.Observed.Cohorts[0].Granted, s.Observed.Cohorts[0].Size = 5000, 5000
			s.Observed.Cells = []health.CellLook{{ID: 3, Labels: fleet.Labels{"arch": "arm64", "driver": "X"}, Failed: 6, AtRisk: 6, ControlAtRisk: 4000, Exposed: 6, Share: 0.0005}}
		}, 2 * time.Minute, HaltSegment, Held, "segment-evidence"},
		"an outage is unknown, not harm": {func(s *Snapshot) { s.Control.Heard, s.Control.Gone = 4_000_000, 4_000_000 }, 2 * time.Minute, Hold, Held, "controls-silent"},
		"an operator's hold stays":       {func(s *Snapshot) { s.State, s.HeldBy = Held, "alice" }, 2 * time.Minute, Hold, Held, "operator"},
		"slower than the controls": {func(s *Snapshot) {
			s.Observed.Coverage = Cohort{Granted: 9000, Size: 9000, Slow: 900, Measured: 9000}
		}, 2 * time.Minute, Revert, Reverting, "vitals"},
		"an alarm does not fade": {func(s *Snapshot) { s.Observed.Knowledge.AlarmAt = t0.UnixMicro() }, 2 * time.Minute, Revert, Reverting, "evidence"},
		"but a halted segment relieves it": {func(s *Snapshot) {
			s.Observed.Knowledge.AlarmAt, s.Observed.Knowledge.Relieved, s.State, s.HeldBy = t0.UnixMicro(), true, Held, "engine"
		}, 2 * time.Minute, Advance, Running, "gate-passed"},
		"everyone has it and is proven": {func(s *Snapshot) {
			s.Control, s.Pace.Turn = health.Control{Fit: 48, Online: 48}, 1
		}, 10 * time.Minute, Finish, Finished, "everyone"},
		"without controls, what was never proven does not pass": {func(s *Snapshot) {
			s.Control, s.Pace.Turn = health.Control{Fit: 48, Online: 48}, 1
			s.Counts = health.Counts{Exposed: 48, Proven: 30, Silent: 18}
		}, 10 * time.Minute, Hold, Running, "unproven"},
		"the floor": {func(s *Snapshot) {
			s.Control.Fit, s.Floor = 60, time.Hour
		}, 2 * time.Minute, Hold, Running, "vendor-floor"},
		"all looks are spent": {func(s *Snapshot) {
			s.Pace.Rung = 8
			for range 8 {
				s.Observed.Cohorts = append(s.Observed.Cohorts, Cohort{Last: t0, ByAge: []int64{0}})
			}
		}, 2 * time.Minute, Hold, Running, "looks-spent"},
	} {
		t.Run(name, func(t *testing.T) {
			s := budgeted(t, "flash")
			c.change(&s)
			if name == "the floor" {
				s.Control.Fit, s.Pace.Ceiling = 50_000, 48
				b := *s.Policy.Budget // without coverage, which would have a cohort of its own first
				b.Cover = 0
				s.Policy.Budget = &b
				s.Observed.Cohorts[0] = Cohort{Granted: 5000, Size: 5000, Last: t0, ByAge: []int64{0}}
				s.Counts = health.Counts{Exposed: 5000, Proven: 5000}
			}
			d := decide(t, s, t0.Add(c.after))
			if d.Action != c.action || d.State != c.state || d.Reasons[0].Code != c.code {
				t.Errorf("got %s, %s, %v; want %s, %s, %s", d.Action, d.State, d.Reasons, c.action, c.state, c.code)
			}
		})
	}
}

// TestTheWindowGrowsAsThePlanSays, and each decision says how far any policy
// could be.
func TestTheWindowGrowsAsThePlanSays(t *testing.T) {
	s := budgeted(t, "flash")
	d := decide(t, s, t0.Add(2*time.Minute))
	want := s.Policy.Budget.Ladder(d.Numbers.Target)
	if d.Pace.Ceiling < want[1]*99/100 || d.Pace.Ceiling > want[1] || d.Pace.Cover != s.Policy.Budget.Cover || d.Numbers.GatesLimit != 3 || Gates(want) != 3 {
		t.Errorf("ceiling %d of which %d for coverage, %+v; planned %v", d.Pace.Ceiling, d.Pace.Cover, d.Numbers, want)
	}
	std := decide(t, budgeted(t, "standard"), t0.Add(2*time.Minute))
	if b := std.Numbers.Bounds[1]; b.Upper != 1 || std.Pace.Ceiling > 42_500 {
		t.Errorf("15 minutes are not over: bound %+v, ceiling %d", b, std.Pace.Ceiling)
	}
}

// TestACohortIsOpenedForWhatItCanShow: not for a rung of the first plan most of
// which is exposed already, and the last endpoints are not left for a person
// because they are few.
func TestACohortIsOpenedForWhatItCanShow(t *testing.T) {
	at := func(exposed, size, failed int64) Decision {
		s := budgeted(t, "flash")
		s.Policy.Budget.SlowShare = 0
		s.Pace = Pace{Rung: 2, Ceiling: exposed, Window: exposed, Cover: 2500, Turn: 1, Boost: 1}
		s.Counts = health.Counts{Exposed: exposed, Proven: exposed}
		first := s.Observed.Cohorts[0]
		rest := Cohort{Granted: exposed - 2500 - 96 - size, Size: exposed - 2500 - 96 - size, Last: t0, ByAge: []int64{0}, Arm: health.Arm{AtRisk: 1, AtLeast: 1}}
		rest.Granted, rest.Size, rest.ByAge = max(1, rest.Granted), max(1, rest.Size), []int64{0}
		last := Cohort{Granted: size, Size: size, Last: t0, ByAge: []int64{failed}, Arm: health.Arm{AtRisk: size, AtLeast: size}}
		s.Observed.Coverage = Cohort{Granted: 2500, Size: 2500}
		s.Observed.Cohorts = []Cohort{first, rest, last}
		s.Pace.Ceiling = first.Granted + rest.Granted + last.Granted + 2500
		s.Counts = health.Counts{Exposed: s.Pace.Ceiling, Proven: s.Pace.Ceiling}
		return decide(t, s, t0.Add(2*time.Minute))
	}
	d := at(214_000, 207_000, 90)
	if l := d.Numbers.Ladder; d.Action != Advance || d.Pace.Ceiling < 214_000+l[2]-l[1]-10_000 || d.Pace.Ceiling > l[3]/2 {
		t.Errorf("opened a cohort of %d after %v: %v", d.Pace.Ceiling-214_000, d.Numbers.Ladder, d.Reasons)
	}
	if d := at(8_300_000, 8_000_000, 0); d.Action != Advance || d.Pace.Ceiling != d.Numbers.Target {
		t.Errorf("the last of %d: %v", d.Numbers.Target, d.Reasons)
	}
}

// drawBudgeted makes any snapshot that a budgeted rollout can look like.
func drawBudgeted(t *rapid.T) Snapshot {
	s := budgeted(t, rapid.SampledFrom(Presets()).Draw(t, "preset"))
	n := func(label string, most int64) int64 { return rapid.Int64Range(0, max(0, most)).Draw(t, label) }
	s.State = rapid.SampledFrom([]State{Running, Held, Finished}).Draw(t, "state")
	s.HeldBy = rapid.SampledFrom([]string{"", "engine", "alice"}).Draw(t, "held by")
	s.Control = health.Control{Fit: n("fit", 1e7), Heard: n("heard", 1e7), Gone: n("gone", 1e6), Online: n("online", 1e7)}
	o := s.Observed
	o.Cohorts = nil
	arm := func(c *Cohort) {
		c.Arm = health.Arm{Harmed: n("harmed", min(c.Size, 100)), AtLeast: n("at least", c.Size)}
		c.Arm.AtRisk = c.Arm.AtLeast + n("late", 50)
		c.Arm.Silent = n("silent", min(c.Size-c.Arm.Harmed, 100))
		c.Measured = n("measured", c.Size)
		c.Slow = n("slow", c.Measured/10)
		c.ByAge = nil
		for range s.Policy.Budget.Horizons {
			c.ByAge = append(c.ByAge, n("by age", c.Arm.Failed()))
		}
	}
	for range rapid.IntRange(0, health.MaxCohorts).Draw(t, "cohorts") {
		c := Cohort{Granted: n("granted", 3e6), Last: t0.Add(time.Duration(n("last", int64(3*time.Hour))))}
		c.Size = c.Granted - n("halted", c.Granted/20)
		arm(&c)
		o.Cohorts = append(o.Cohorts, c)
		s.Counts.Exposed += c.Granted
	}
	o.Coverage = Cohort{Granted: n("coverage", 6000)}
	o.Coverage.Size = o.Coverage.Granted
	arm(&o.Coverage)
	s.Counts = health.Counts{Exposed: s.Counts.Exposed - 48 + o.Coverage.Granted}
	s.Counts.Proven = n("proven", s.Counts.Exposed)
	s.Counts.Open = s.Counts.Exposed - s.Counts.Proven
	s.Pace = Pace{Rung: max(0, int64(len(o.Cohorts))-1), Ceiling: s.Counts.Exposed + n("room", 1e6), Turn: rapid.Float64Range(0, 1).Draw(t, "turn"), Boost: 1}
	s.Pace.Cover = min(s.Pace.Ceiling, o.Coverage.Granted)
	o.Control = health.Arm{Silent: n("control silent", 1e7), Harmed: n("control harmed", 1e7), AtLeast: n("controls", 1e7)}
	o.Control.AtRisk = o.Control.AtLeast
	o.Vitals = rapid.Bool().Draw(t, "vitals")
	return s
}

// TestBudgetedDecideIsPureAndReplays: same input, same output, through JSON too,
// with evidence carried over; no number in it is not one.
func TestBudgetedDecideIsPureAndReplays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawBudgeted(t)
		now := t0.Add(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, "now")))
		for range 2 {
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			var back Snapshot
			if err := json.Unmarshal(b, &back); err != nil {
				t.Fatal(err)
			}
			d := decide(t, s, now)
			if again := decide(t, s, now); !reflect.DeepEqual(d, again) {
				t.Fatalf("the same snapshot gave %v, then %v", d, again)
			}
			one, err1 := json.Marshal(d)
			two, err2 := json.Marshal(decide(t, back, now))
			if err1 != nil || err2 != nil || string(one) != string(two) {
				t.Fatalf("replayed from JSON: %s, was %s (%v %v)", two, one, err1, err2)
			}
			if after, _ := json.Marshal(s); string(after) != string(b) {
				t.Fatal("the decision changed its snapshot")
			}
			if d.State != s.State && !s.State.CanBecome(d.State) {
				t.Fatalf("%s became %s", s.State, d.State)
			}
			s.Observed.Knowledge = *d.Knowledge
			now = now.Add(time.Second)
		}
	})
}

// TestNoStepPassesTheBudget: after any advance, bound × exposed <= budget for
// every horizon, the first cohort included.
func TestNoStepPassesTheBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawBudgeted(t)
		s.State, s.HeldBy = Running, ""
		s.Pace.Ceiling = s.Counts.Exposed
		d := decide(t, s, t0.Add(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, "now"))))
		if d.Action != Advance || d.Pace.Ceiling <= s.Pace.Ceiling {
			return
		}
		for _, b := range d.Numbers.Bounds {
			if b.Upper*float64(d.Pace.Ceiling) > b.Budget*(1+1e-9) && d.Pace.Ceiling > 1 {
				t.Fatalf("a ceiling of %d under %+v: %v", d.Pace.Ceiling, b, d.Reasons)
			}
		}
		if float64(d.Pace.Ceiling) < leastStep*float64(s.Pace.Ceiling) && d.Pace.Ceiling < d.Numbers.Target && d.NewRung {
			t.Fatalf("a cohort was spent on a step from %d to %d", s.Pace.Ceiling, d.Pace.Ceiling)
		}
		if d.Pace.Ceiling > d.Numbers.Target {
			t.Fatalf("a ceiling of %d; the target is %d", d.Pace.Ceiling, d.Numbers.Target)
		}
	})
}

// TestMoreFailuresNeverGoFasterOnABudget: not by one more failure in any cohort.
func TestMoreFailuresNeverGoFasterOnABudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawBudgeted(t)
		if len(s.Observed.Cohorts) == 0 {
			t.Skip()
		}
		now := t0.Add(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, "now")))
		worse := s
		o := *s.Observed
		worse.Observed = &o
		o.Cohorts = slices.Clone(o.Cohorts)
		i := rapid.IntRange(0, len(o.Cohorts)-1).Draw(t, "cohort")
		c := &o.Cohorts[i]
		c.ByAge = slices.Clone(c.ByAge)
		for j := range c.ByAge {
			if c.ByAge[j] >= c.Size {
				t.Skip()
			}
			c.ByAge[j]++
		}
		a, b := decide(t, s, now), decide(t, worse, now)
		if b.Pace.Ceiling > a.Pace.Ceiling || b.Numbers.Allowed > a.Numbers.Allowed {
			t.Fatalf("one more failure raised the ceiling from %d to %d, allowed %g to %g", a.Pace.Ceiling, b.Pace.Ceiling, a.Numbers.Allowed, b.Numbers.Allowed)
		}
		if math.IsNaN(b.Numbers.LogE) || math.IsNaN(b.Numbers.Allowed) {
			t.Fatalf("%+v", b.Numbers)
		}
	})
}

func TestAbsurdObservationsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Observed){
		"more failures than endpoints": func(o *Observed) { o.Cohorts[0].ByAge = []int64{49} },
		"a horizon is missing":         func(o *Observed) { o.Cohorts[0].ByAge = nil },
		"cells out of order":           func(o *Observed) { o.Cells = []health.CellLook{{ID: 2}, {ID: 1}} },
		"a look at no cohort":          func(o *Observed) { o.Knowledge.Gates = []Gated{{Cohort: 1}} },
		"streams are missing":          func(o *Observed) { o.Knowledge.Evidence.Streams = make([]health.Stream, 1) },
		"a fleet beyond counting":      func(*Observed) {},
		"too many cohorts":             func(o *Observed) { o.Cohorts = make([]Cohort, 10) },
	} {
		s := budgeted(t, "flash")
		change(s.Observed)
		if name == "a fleet beyond counting" {
			s.Control.Fit = 1 << 60
		}
		if d, err := Decide(s, t0); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v %v", name, d, err)
		}
	}
}

// FuzzDecideOnABudget feeds snapshots from JSON.
func FuzzDecideOnABudget(f *testing.F) {
	for _, p := range []string{"flash", "safe"} {
		s := budgeted(f, p)
		for range 2 {
			b, err := json.Marshal(s)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, t0.Add(2*time.Minute).UnixMicro())
			d, err := Decide(s, t0.Add(time.Minute))
			if err != nil {
				f.Fatal(err)
			}
			s.Observed.Knowledge = *d.Knowledge
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, us int64) {
		var s Snapshot
		if json.Unmarshal(b, &s) != nil {
			return
		}
		if d, err := Decide(s, time.UnixMicro(us)); err == nil && len(d.Reasons) == 0 {
			t.Error("a decision without a reason")
		}
	})
}

// TestAHaltedSegmentTakesItsEvidenceAlong: what its deaths said of other segments goes
// with them, and is not made up for by failures that come when nearly all are exposed.
// By the rules of before it stayed, and halted good releases whole.
func TestAHaltedSegmentTakesItsEvidenceAlong(t *testing.T) {
	for rules, alarmed := range map[int64]bool{2: true, 3: false} {
		s := budgeted(t, "flash")
		s.Rules = rules
		deaths := func(id uint32, share float64) health.CellLook {
			return health.CellLook{ID: id, Failed: 30, AtRisk: 60, ControlAtRisk: 400_000, Exposed: 60, Share: share}
		}
		s.Observed.CellsTested, s.Observed.Cells = 12_000, []health.CellLook{deaths(1, 0.005), deaths(2, 0.04)}
		s.Observed.Cells[1].AtRisk, s.Observed.Cells[1].Exposed = 300, 300
		s.Observed.Cohorts[0] = Cohort{Granted: 6000, Size: 6000, Last: t0, ByAge: []int64{30}, Arm: health.Arm{Silent: 30, AtRisk: 6000, AtLeast: 6000}}
		s.Counts = health.Counts{Exposed: 6000, Proven: 5970, Silent: 30}
		s.Pace.Ceiling = 6000
		d := decide(t, s, t0.Add(101*time.Second))
		if d.Action != HaltSegment || len(d.HaltSegments) != 1 || d.HaltSegments[0].ID != 1 {
			t.Fatalf("rules %d: %s %v", rules, d.Action, d.HaltSegments)
		}
		// Nearly everyone has it by the time that the other segment is listed again.
		s.Observed.Halted, s.Observed.Knowledge = d.HaltSegments, *d.Knowledge
		s.Observed.Cells = []health.CellLook{{ID: 2, Failed: 29, ControlFailed: 1, AtRisk: 330_000, ControlAtRisk: 3000, Exposed: 330_000, Share: 0.04}}
		test := health.CellTest{Tested: 12_000, Alpha: 1e-3, MaxShare: 0.05}
		p := s.newPacing(t0.Add(500 * time.Second))
		if got := len(test.Alarms(p.k.Cells, s.Observed.Cells)) > 0; got != alarmed {
			t.Errorf("rules %d: alarmed %v, want %v", rules, got, alarmed)
		}
	}
}
