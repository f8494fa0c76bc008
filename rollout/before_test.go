package rollout

import (
	"testing"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
)

// afterAnOutage is a rollout whose cohorts 1 and 2 have matured; 700 of the first
// and 80 of the coverage cohort are silent by then, and so many more controls that
// was of the 700 were to be expected.
func afterAnOutage(t *testing.T, was float64) Snapshot {
	s := budgeted(t, "flash")
	first := s.Observed.Cohorts[0]
	cohort := func(n, failed int64) Cohort {
		return Cohort{Granted: n, Size: n, Last: t0, ByAge: []int64{failed}, Arm: health.Arm{Silent: failed, AtRisk: n - failed, AtLeast: n - failed}}
	}
	s.Observed.Cohorts = []Cohort{first, cohort(35_000, 700), cohort(450_000, 90)}
	s.Observed.Coverage = cohort(2500, 80)
	// Of those, all but one fell silent long after it.
	s.Observed.Coverage.ByAge = []int64{1}
	s.Pace = Pace{Rung: 2, Ceiling: 487_548, Cover: 2500, Turn: 0.1, Boost: 1}
	s.Counts = health.Counts{Exposed: 487_548, Proven: 486_678, Silent: 870}
	expect := func(cohort int, size int64, mean float64) Gated {
		return Gated{Cohort: cohort, Size: size, Expected: health.Expected{Mean: mean, Variance: mean * float64(size) / 8e6}}
	}
	s.Observed.Control = health.Arm{Silent: 170_000, AtRisk: 8_000_000, AtLeast: 8_000_000}
	s.Observed.Knowledge.Gates = []Gated{expect(0, 48, 0), expect(1, 35_000, was), expect(2, 450_000, 90)}
	// What was seen is known; no alarm is this test's.
	s.Observed.Knowledge.Evidence = health.Evidence{
		At: 90 * time.Second, Started: 1, Cohorts: []health.Arm{first.Arm, s.Observed.Cohorts[1].Arm, s.Observed.Cohorts[2].Arm},
		Coverage: s.Observed.Coverage.Arm, Control: s.Observed.Control, Expected: make([]health.Expected, 3),
	}
	return s
}

// TestWhatAnOutageSilencedSpendsNoBudget: 700 of an earlier cohort fell silent, as
// their controls did. By the rules of before that is harm.
func TestWhatAnOutageSilencedSpendsNoBudget(t *testing.T) {
	at := func(s Snapshot) Bound { return decide(t, s, t0.Add(2*time.Minute)).Numbers.Bounds[0] }
	b := at(afterAnOutage(t, 700))
	if b.Cohort != 2 || b.BeforeFailed != 701 || b.BeforeUnharmed < 500 || b.BeforeUnharmed > 700 || b.Allowed < million8 {
		t.Errorf("%+v", b)
	}
	old := afterAnOutage(t, 700)
	old.Rules = 2
	if b := at(old); b.BeforeFailed != 780 || b.BeforeUnharmed != 0 || b.Allowed > million8/2 {
		t.Errorf("by the rules of before: %+v", b)
	}
	// What chance may have added, the later cohort's bound limits further.
	if b := at(afterAnOutage(t, 620)); b.BeforeUnharmed < 650 {
		t.Errorf("a fault or chance: %+v", b)
	}
	for name, change := range map[string]func(*Observed){
		"a segment was halted since": func(o *Observed) {
			o.Halted = []HaltedSegment{{ID: 1, Labels: fleet.Labels{"arch": "arm64"}, Share: 0.001, Rung: 1}}
		},
		"no control fell silent":       func(o *Observed) { o.Knowledge.Gates[1].Expected = health.Expected{} },
		"its expectation is not known": func(o *Observed) { o.Knowledge.Gates = o.Knowledge.Gates[2:] },
		"it came back":                 func(o *Observed) { o.Knowledge.Returning = 1 },
	} {
		s := afterAnOutage(t, 700)
		if change(s.Observed); at(s).BeforeUnharmed != 0 {
			t.Errorf("%s: %+v", name, at(s))
		}
	}
}

// TestStragglersSpendNoLooks: once everyone who was there has it, the cohort that
// did not fill is judged as it is. The last looks wait for those who come back.
func TestStragglersSpendNoLooks(t *testing.T) {
	at := func(rung, returning int64) Decision {
		s := budgeted(t, "flash")
		s.Observed.Cohorts[0].Granted, s.Observed.Cohorts[0].Size, s.Pace.Turn = 40, 40, 1
		for range rung {
			s.Observed.Cohorts = append(s.Observed.Cohorts, Cohort{Granted: 1, Size: 1, Last: t0, ByAge: []int64{0}})
		}
		s.Pace.Rung, s.Observed.Knowledge.Returning = rung, returning
		return decide(t, s, t0.Add(4*time.Minute))
	}
	for _, c := range []struct {
		rung, returning int64
		code            string
		after           int64
	}{{0, 0, "cohort-closed", 1}, {lastLooks, 0, "cohort-closed", lastLooks + 1}, {2, 1, "cohort-closed", 1}, {lastLooks, 1, "waiting-for-endpoints", 1}} {
		d := at(c.rung, c.returning)
		if d.Reasons[0].Code != c.code || d.Knowledge.Returning != c.after {
			t.Errorf("%+v: returning from %d on, %v", c, d.Knowledge.Returning, d.Reasons)
		}
	}
}
