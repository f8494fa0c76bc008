package rollout

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/health"
)

// resumed is s, halted, after two people resumed it.
func resumed(t *testing.T, s Snapshot, v Vitals) Snapshot {
	t.Helper()
	got, err := Obey(Standing{State: Halted, Pace: s.Pace, ResumeAskedBy: "ann", Counts: s.Counts, Policy: s.Policy, Vitals: v}, Order{Verb: VerbResume, Operator: "bob"})
	if err != nil || !got.Acts || got.Decision.Accepted == nil {
		t.Fatalf("%+v, %v", got, err)
	}
	s.State, s.Pace, s.Accepted = got.Decision.State, got.Decision.Pace, got.Decision.Accepted
	return s
}

// TestWhoResumesAfterSlownessAcceptsIt: what was measured by then halts no more,
// alone or with accepted failures; what is measured later does.
func TestWhoResumesAfterSlownessAcceptsIt(t *testing.T) {
	at := func(slow, measured int64) Snapshot {
		s := budgeted(t, "flash")
		s.Observed.Coverage = Cohort{Granted: 30_000, Size: 30_000, Slow: slow, Measured: measured}
		return s
	}
	if d := decide(t, at(900, 9000), t0.Add(2*time.Minute)); d.Reasons[0].Code != "vitals" {
		t.Fatalf("slow, and %v", d.Reasons)
	}
	for _, failed := range []int64{0, 3} {
		accept := func(s Snapshot) Snapshot {
			s.Counts.Silent, s.Counts.Proven = failed, s.Counts.Proven-failed
			s = resumed(t, s, Vitals{900, 9000})
			if s.Pace.AcceptedHarm != failed {
				t.Fatalf("accepted %+v", s.Pace)
			}
			return s
		}
		for name, c := range map[string]struct {
			slow, measured int64
			halts          bool
		}{
			"nothing new": {900, 9000, false}, "more that are as the controls": {1250, 16_000, false}, "more that are slow": {1800, 18_000, true},
			"fewer, since a segment was halted": {500, 5000, false},
		} {
			s := at(900, 9000)
			s = accept(s)
			s.Observed.Coverage.Slow, s.Observed.Coverage.Measured = c.slow, c.measured
			d := decide(t, s, t0.Add(2*time.Minute))
			if got := d.Reasons[0].Code == "vitals"; got != c.halts || !c.halts && d.State != Running {
				t.Errorf("%d failed, %s: %s, %v", failed, name, d.State, d.Reasons)
			}
		}
	}
}

// TestDecisionsFromBeforeVitalsWereAcceptedReplay: accepted failures spoke for
// vitals too, and such snapshots know nothing of what was accepted beside.
func TestDecisionsFromBeforeVitalsWereAcceptedReplay(t *testing.T) {
	s := budgeted(t, "flash")
	s.Observed.Coverage = Cohort{Granted: 9000, Size: 9000, Slow: 900, Measured: 9000}
	s.Pace.AcceptedHarm = 3
	b, err := json.Marshal(s)
	if err != nil || strings.Contains(string(b), `"accepted":`) {
		t.Fatalf("%s, %v", b, err)
	}
	if d := decide(t, s, t0.Add(2*time.Minute)); d.Action != Advance {
		t.Errorf("%v", d.Reasons)
	}
}

// TestAnAcceptedSignalHaltsAgainOnceItWasGood, and not before.
func TestAnAcceptedSignalHaltsAgainOnceItWasGood(t *testing.T) {
	sig := Signal{Name: "errors", Query: "x", Is: SignalAbove, Threshold: 5, Then: SignalHalt}
	other := Signal{Name: "waits", Query: "y", Is: SignalAbove, Threshold: 5, Then: SignalHold}
	read := func(name string, v float64) Reading {
		return Reading{Name: name, At: t0, Series: []Series{{Samples: 1, Latest: v, Least: v, Most: v}}}
	}
	look := func(s Snapshot, readings ...Reading) (Snapshot, Decision) {
		s = signalled(s, readings, sig, other)
		d := decide(t, s, t0)
		if d.Accepted != nil {
			s.Accepted = d.Accepted
		}
		return s, d
	}
	s := signalled(healthyStart(), nil, sig, other)
	s = resumed(t, s, Vitals{})
	s, d := look(s, read("errors", 9), read("waits", 1))
	if d.Action != Advance || d.Accepted != nil {
		t.Fatalf("accepted: %+v", d)
	}
	if _, d := look(s, read("errors", 9), read("waits", 9)); d.State != Held || d.Reasons[0].Code != "signal-breached" {
		t.Errorf("what only holds is nothing to accept: %+v", d)
	}
	if _, d := look(s, read("waits", 1)); d.State != Held || d.Reasons[0].Code != "signal-missing" || d.Accepted != nil {
		t.Errorf("what is not known is not accepted: %+v", d)
	}
	s, d = look(s, read("errors", 1), read("waits", 1))
	if d.Action != Advance || d.Accepted == nil || len(d.Accepted.Signals) != 0 {
		t.Fatalf("good again: %+v", d)
	}
	if _, d := look(s, read("errors", 9), read("waits", 1)); d.State != Reverting || d.Reasons[0].Code != "signal-breached" {
		t.Errorf("bad after it was good: %+v", d)
	}
}

// TestWhatIsAcceptedIsCounts.
func TestWhatIsAcceptedIsCounts(t *testing.T) {
	for _, a := range []Accepted{{Vitals: Vitals{Slow: -1}}, {Vitals: Vitals{Slow: 2, Measured: 1}}, {Signals: make([]string, MaxSignals+1)}} {
		s := healthyStart()
		s.Accepted = &a
		if _, err := Decide(s, t0); err == nil || !strings.Contains(err.Error(), "accepted") {
			t.Errorf("%+v: %v", a, err)
		}
	}
	if got := Explain(Snapshot{Accepted: &Accepted{Vitals: Vitals{3, 40}, Signals: []string{"errors"}}, Counts: health.Counts{}}, Decision{}); len(got.Known) != 4 || !strings.Contains(got.Known[2], "40 compared, 3 above") || !strings.Contains(got.Known[3], "errors") {
		t.Errorf("%q", got.Known)
	}
}
