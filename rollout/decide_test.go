package rollout

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/health"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// running is a healthy rollout of 1,000 endpoints whose first rung is full.
func running() Snapshot {
	p := DefaultPolicy()
	return Snapshot{
		Rollout: 7, Product: "acme/rules", Version: "1.0.0", Revision: 3, State: Running, Policy: p,
		Pace: Pace{Rung: 0, Window: 5, Ceiling: 5, Turn: 0.02, Boost: 1}, Started: t0, RungSince: t0,
		Counts:  health.Counts{Exposed: 5, Open: 5},
		Control: health.Control{Fit: 1000, Online: 1000, Unexposed: 995, Heard: 995},
	}
}

func decide(t interface {
	Helper()
	Fatal(...any)
}, s Snapshot, now time.Time) Decision {
	t.Helper()
	d, err := Decide(s, now)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Reasons) == 0 {
		t.Fatal("a decision without a reason")
	}
	return d
}

func TestDecisions(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Snapshot)
		after  time.Duration
		action Action
		state  State
		code   string
	}{
		"nothing yet: the first rung":        {func(s *Snapshot) { s.Pace, s.Counts = Pace{}, health.Counts{} }, 0, Advance, Running, "start"},
		"in probation":                       {func(s *Snapshot) {}, time.Minute, Hold, Running, "probation"},
		"silence never advances":             {func(s *Snapshot) { s.Counts = health.Counts{Exposed: 5, Proven: 4, Silent: 1} }, time.Hour, Hold, Running, "probation"},
		"the rung is proven":                 {func(s *Snapshot) { s.Counts = health.Counts{Exposed: 5, Proven: 5} }, time.Hour, Advance, Running, "rung-proven"},
		"harm halts":                         {func(s *Snapshot) { s.Counts = health.Counts{Exposed: 5, Proven: 3, Harmed: 2} }, time.Hour, Revert, Reverting, "harm-limit"},
		"silence halts like harm":            {func(s *Snapshot) { s.Counts = health.Counts{Exposed: 5, Proven: 3, Silent: 2} }, time.Hour, Revert, Reverting, "silence"},
		"without the order to revert, halts": {func(s *Snapshot) { s.Counts.Harmed, s.Counts.Open, s.Policy.RevertOnHalt = 2, 3, false }, 0, Halt, Halted, "harm-limit"},
		"an outage is unknown, not harm": {func(s *Snapshot) {
			s.Counts, s.Control.Heard, s.Control.Gone = health.Counts{Exposed: 5, Proven: 3, Silent: 2}, 500, 495
		}, time.Hour, Hold, Held, "controls-silent"},
		"after an outage the silent may speak first": {func(s *Snapshot) {
			s.State, s.HeldBy, s.Counts, s.Pace.QuietUntil = Held, "engine", health.Counts{Exposed: 5, Proven: 3, Silent: 2}, t0.Add(2*time.Hour).UnixMicro()
		}, time.Hour, Hold, Held, "controls-returning"},
		"and then silence counts again": {func(s *Snapshot) {
			s.State, s.HeldBy, s.Counts, s.Pace.QuietUntil = Held, "engine", health.Counts{Exposed: 5, Proven: 3, Silent: 2}, t0.Add(time.Hour).UnixMicro()
		}, time.Hour, Revert, Reverting, "silence"},
		"two people accepted the harm so far": {func(s *Snapshot) {
			s.Counts = health.Counts{Exposed: 5, Proven: 3, Harmed: 2}
			s.Pace = s.Pace.Accept(s.Counts, 3)
			s.PreflightFailed = 3
		}, time.Hour, Hold, Running, "probation"},
		"and not what came after": {func(s *Snapshot) {
			s.Pace = s.Pace.Accept(health.Counts{Exposed: 5, Proven: 3, Harmed: 2}, 0)
			s.Counts = health.Counts{Exposed: 5, Proven: 1, Harmed: 3, Silent: 1}
		}, time.Hour, Revert, Reverting, "silence"},
		"reported harm halts even in an outage": {func(s *Snapshot) {
			s.Counts, s.Control.Heard, s.Control.Gone = health.Counts{Exposed: 5, Harmed: 5}, 500, 495
		}, time.Hour, Revert, Reverting, "harm-limit"},
		"the evidence comes back: the engine lets go": {func(s *Snapshot) { s.State, s.HeldBy = Held, "engine" }, time.Hour, Hold, Running, "probation"},
		"an operator's hold stays":                    {func(s *Snapshot) { s.State, s.HeldBy = Held, "alice"; s.Counts = health.Counts{Exposed: 5, Proven: 5} }, time.Hour, Hold, Held, "operator"},
		"unhealthy halts even while held":             {func(s *Snapshot) { s.State, s.HeldBy = Held, "alice"; s.Counts.Harmed, s.Counts.Open = 2, 3 }, 0, Revert, Reverting, "harm-limit"},
		"preflight failures halt":                     {func(s *Snapshot) { s.PreflightFailed = 3 }, 0, Revert, Reverting, "preflight-failed"},
		"nobody runs the product":                     {func(s *Snapshot) { s.Pace, s.Counts, s.Control = Pace{}, health.Counts{}, health.Control{} }, 0, Hold, Running, "no-endpoints"},
		"called but not there: call more":             {func(s *Snapshot) { s.Counts = health.Counts{Exposed: 3, Proven: 3} }, 3 * time.Minute, Advance, Running, "widen"},
		"canaries are waited for": {func(s *Snapshot) {
			s.Policy.Canaries, s.Counts = []string{"a", "b"}, health.Counts{Exposed: 1, Proven: 1}
			s.Pace = Pace{Window: 2, Ceiling: 2}
		}, time.Hour, Hold, Running, "waiting-for-endpoints"},
		"all that are there have it": {func(s *Snapshot) {
			s.Counts, s.Pace = health.Counts{Exposed: 900, Proven: 899, Silent: 1}, Pace{Rung: 4, Window: 1600, Ceiling: 2130, Turn: 1, Boost: 1}
			s.Control = health.Control{Fit: 1000, Online: 899, Unexposed: 100}
		}, time.Hour, Finish, Finished, "everyone"},
		"not before the last probation": {func(s *Snapshot) {
			s.Counts, s.Pace = health.Counts{Exposed: 900, Proven: 899, Open: 1}, Pace{Rung: 4, Window: 1600, Ceiling: 2130, Turn: 1, Boost: 1}
			s.Control = health.Control{Fit: 1000, Online: 900, Unexposed: 100}
		}, time.Hour, Hold, Running, "probation"},
		"the vendor's floor": {func(s *Snapshot) {
			s.Counts, s.Pace, s.Floor = health.Counts{Exposed: 530, Proven: 530}, Pace{Rung: 3, Window: 400, Ceiling: 530, Turn: 0.8, Boost: 1}, 24*time.Hour
		}, time.Hour, Hold, Running, "vendor-floor"},
		"a late fault after the finish": {func(s *Snapshot) {
			s.State, s.Counts = Finished, health.Counts{Exposed: 900, Proven: 880, Harmed: 20}
		}, time.Hour, Revert, Reverting, "harm-limit"},
		"a late joiner after the finish": {func(s *Snapshot) {
			s.State, s.Counts, s.Pace.Ceiling = Finished, health.Counts{Exposed: 5, Proven: 5}, 5
		}, time.Hour, Advance, Finished, "late-joiners"},
		"reverting waits for everyone": {func(s *Snapshot) { s.State, s.Reverted = Reverting, 4 }, time.Hour, Revert, Reverting, "reverting"},
		"everyone is back":             {func(s *Snapshot) { s.State, s.Reverted = Reverting, 5 }, time.Hour, Revert, Reverted, "all-back"},
		"a halt is final":              {func(s *Snapshot) { s.State, s.Counts = Halted, health.Counts{Exposed: 5, Proven: 5} }, time.Hour, Hold, Halted, "halted"},
	} {
		t.Run(name, func(t *testing.T) {
			s := running()
			c.change(&s)
			d := decide(t, s, t0.Add(c.after))
			if d.Action != c.action || d.State != c.state || d.Reasons[0].Code != c.code {
				t.Errorf("got %s, %s, %v; want %s, %s, %s", d.Action, d.State, d.Reasons, c.action, c.state, c.code)
			}
			d.Pace.QuietUntil = s.Pace.QuietUntil
			if d.Action != Advance && d.Pace != s.Pace {
				t.Errorf("%s changed the pace from %v to %v", d.Action, s.Pace, d.Pace)
			}
		})
	}
}

// drawSnapshot makes any snapshot that a rollout can look like.
func drawSnapshot(t *rapid.T) Snapshot {
	s := running()
	n := func(label string) int64 { return rapid.Int64Range(0, 2000).Draw(t, label) }
	s.State = rapid.SampledFrom([]State{Running, Held, Halted, Reverting, Reverted, Finished, Superseded}).Draw(t, "state")
	s.HeldBy = rapid.SampledFrom([]string{"", "engine", "alice"}).Draw(t, "held by")
	s.Counts = health.Counts{Proven: n("proven"), Harmed: n("harmed"), Silent: n("silent"), Open: n("open")}
	s.Counts.Exposed = s.Counts.Proven + s.Counts.Harmed + s.Counts.Silent + s.Counts.Open
	s.Control = health.Control{Fit: n("fit"), Online: n("online"), Unexposed: n("unexposed"), Heard: n("heard"), Gone: n("gone")}
	s.Pace = Pace{Rung: rapid.Int64Range(0, 60).Draw(t, "rung"), Window: n("window"), Ceiling: n("ceiling"), Turn: rapid.Float64Range(0, 1).Draw(t, "turn"), Boost: rapid.Float64Range(0, MaxBoost).Draw(t, "boost")}
	s.PreflightFailed = rapid.Int64Range(0, 5).Draw(t, "preflight failed")
	s.Reverted = n("reverted")
	s.Floor = time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "floor"))
	s.Policy.RevertOnHalt = rapid.Bool().Draw(t, "revert on halt")
	return s
}

func TestDecideIsPureAndItsStepsAreAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		now := t0.Add(time.Duration(rapid.Int64Range(0, int64(72*time.Hour)).Draw(t, "now")))
		d := decide(t, s, now)
		if again := decide(t, s, now); !reflect.DeepEqual(d, again) {
			t.Fatalf("the same snapshot gave %v, then %v", d, again)
		}
		if d.State != s.State && !s.State.CanBecome(d.State) {
			t.Fatalf("%s became %s", s.State, d.State)
		}
		if d.Action == Advance && (d.Pace.Ceiling < s.Pace.Ceiling || d.Pace.Turn < s.Pace.Turn && d.Pace.Turn != 0) {
			t.Fatalf("an advance from %v back to %v", s.Pace, d.Pace)
		}
	})
}

func TestAHaltIsNeverUndoneByEvidence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		s.State = rapid.SampledFrom([]State{Halted, Reverting, Reverted, Superseded}).Draw(t, "state")
		if d := decide(t, s, t0.Add(time.Hour)); d.State.Grants() || d.Action == Advance {
			t.Fatalf("%s came to %s by %s", s.State, d.State, d.Action)
		}
	})
}

func TestMoreHarmNeverGoesFaster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		better := drawSnapshot(t)
		worse := better
		from := rapid.SampledFrom([]health.State{health.Proven, health.Open, health.Silent}).Draw(t, "from")
		to := rapid.SampledFrom([]health.State{health.Harmed, health.Silent}).Draw(t, "to")
		worse.Counts.Move(from, to)
		if worse.Counts.Check() != nil || from == to {
			t.Skip()
		}
		b, w := decide(t, better, t0.Add(time.Hour)), decide(t, worse, t0.Add(time.Hour))
		if w.Pace.Ceiling > b.Pace.Ceiling {
			t.Fatalf("one more %s raised the ceiling from %d to %d", to, b.Pace.Ceiling, w.Pace.Ceiling)
		}
		if w.State.Grants() && !b.State.Grants() && to == health.Harmed {
			t.Fatalf("one more harmed turned %s into %s", b.State, w.State)
		}
	})
}

func TestAbsurdSnapshotsAreRefusedByName(t *testing.T) {
	for name, change := range map[string]func(*Snapshot){
		"counts":           func(s *Snapshot) { s.Counts.Proven = 1 },
		"segment os=linux": func(s *Snapshot) { s.Segments = map[string]health.Counts{"os=linux": {Exposed: 1}} },
		"control and pace": func(s *Snapshot) { s.Control.Heard = -1 },
		"pace":             func(s *Snapshot) { s.Pace.Turn = 1.5 },
		"state":            func(s *Snapshot) { s.State = "sideways" },
		"policy":           func(s *Snapshot) { s.Policy.Growth = 0 },
	} {
		s := running()
		change(&s)
		if d, err := Decide(s, t0); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v %v", name, d, err)
		}
	}
}

// FuzzDecide feeds snapshots from JSON: whatever they are, a decision with
// reasons or an error, never a panic.
func FuzzDecide(f *testing.F) {
	b, err := json.Marshal(running())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, int64(0))
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

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(`{"ladder":[1,2],"probation":"5s"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy(b)
		if err != nil {
			return
		}
		for rung := range int64(200) {
			if p.Window(rung) < 1 {
				t.Fatalf("window of rung %d is %d", rung, p.Window(rung))
			}
		}
	})
}

func TestPolicyErrorsNameTheField(t *testing.T) {
	for in, want := range map[string]string{
		`{"ladder":[]}`:        "ladder",
		`{"laddr":[1]}`:        "laddr",
		`{"grant_ttl":"61s"}`:  "grant_ttl",
		`{"grant_ttl":60}`:     "want a text",
		`{"min_proven":2}`:     "min_proven",
		`{"growth":1}`:         "growth",
		`{} {}`:                "after the JSON value",
		`{"probation":"-1s"}`:  "probation",
		`{"max_harmed":0}`:     "max_harmed",
		`{"poll_jitter":-0.1}`: "poll_jitter",
	} {
		_, err := ParsePolicy([]byte(in))
		if !errors.Is(err, ErrInvalid) || !contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q in it", in, err, want)
		}
	}
}
