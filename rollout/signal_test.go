package rollout

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/span"
)

func signalled(s Snapshot, readings []Reading, signals ...Signal) Snapshot {
	s.Policy.Signals, s.Signals = signals, readings
	return s
}

// healthyStart is a rollout that would take its first step.
func healthyStart() Snapshot {
	return Snapshot{
		Rollout: 1, Product: "acme/rules", Version: "1.0.0", State: Running, Policy: DefaultPolicy(), Started: t0, RungSince: t0,
		Control: health.Control{Fit: 100, Online: 100, Unexposed: 100, Heard: 100},
	}
}

func TestASignalThatIsNotKnownNeverPasses(t *testing.T) {
	errors := Signal{Name: "errors", Query: "x", Is: SignalAbove, Threshold: 5, Then: SignalHalt}
	lasting := errors
	lasting.For = span.Duration(2 * time.Minute) // 21 samples, 6 s apart
	below := Signal{Name: "errors", Query: "x", Is: SignalBelow, Threshold: 0.99, Then: SignalHold}
	at := func(d time.Duration, series ...Series) []Reading {
		return []Reading{{Name: "errors", At: t0.Add(d), Series: series}}
	}
	flat := func(v float64, n int64) Series { return Series{Samples: n, Latest: v, Least: v, Most: v} }
	for _, c := range []struct {
		name   string
		signal Signal
		read   []Reading
		want   string // code of the first reason
	}{
		{"never read", errors, nil, "signal-missing"},
		{"another signal was read", errors, []Reading{{Name: "else", At: t0, Series: []Series{flat(0, 1)}}}, "signal-missing"},
		{"no answer", errors, []Reading{{Name: "errors", At: t0, Error: "timeout"}}, "signal-missing"},
		{"no result", errors, at(0), "signal-missing"},
		{"too old", errors, at(-2*time.Minute, flat(0, 1)), "signal-missing"},
		{"of the future", errors, at(2*time.Minute, flat(0, 1)), "signal-missing"},
		{"good", errors, at(0, flat(1, 1)), "start"},
		{"on the threshold is good", errors, at(0, flat(5, 1)), "start"},
		{"bad at once", errors, at(0, flat(5.1, 1)), "signal-breached"},
		{"one series of many", errors, at(0, flat(1, 1), flat(9, 1)), "signal-breached"},
		{"bad, and not for so long", lasting, at(0, flat(9, 20)), "signal-pending"},
		{"bad now, good before", lasting, at(0, Series{Samples: 21, Latest: 9, Least: 1, Most: 9}), "signal-pending"},
		{"bad for so long", lasting, at(0, flat(9, 21)), "signal-breached"},
		{"was bad", lasting, at(0, Series{Samples: 21, Latest: 1, Least: 1, Most: 9}), "start"},
		{"too low", below, at(0, flat(0.9, 1)), "signal-breached"},
		{"high enough", below, at(0, flat(1, 1)), "start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := decide(t, signalled(healthyStart(), c.read, c.signal), t0)
			if d.Reasons[0].Code != c.want {
				t.Fatalf("%+v, want %s", d.Reasons, c.want)
			}
			switch {
			case c.want == "start":
				if d.Action != Advance {
					t.Errorf("%+v", d)
				}
			case c.want == "signal-breached" && c.signal.Then == SignalHalt:
				if d.State.Grants() || d.State == Held {
					t.Errorf("a breach that halts: %+v", d)
				}
			case d.State != Held || d.HeldBy != byEngine || d.Pace != (Pace{}):
				t.Errorf("not held: %+v", d)
			}
		})
	}
}

// A rollout that missing data held goes on by itself, an operator's hold stays, a
// finished one is halted by a breach and not by silence.
func TestSignalsHoldAndLetGo(t *testing.T) {
	sig := Signal{Name: "errors", Query: "x", Is: SignalAbove, Threshold: 5, Then: SignalHalt}
	good, bad := []Reading{{Name: "errors", At: t0, Series: []Series{{Samples: 1, Latest: 1, Least: 1, Most: 1}}}}, []Reading{{Name: "errors", At: t0, Series: []Series{{Samples: 1, Latest: 9, Least: 9, Most: 9}}}}
	s := healthyStart()
	s.State, s.HeldBy = Held, byEngine
	if d := decide(t, signalled(s, good, sig), t0); d.State != Running || d.Action != Advance {
		t.Errorf("held by missing data, which is back: %+v", d)
	}
	s.HeldBy = "ann"
	if d := decide(t, signalled(s, good, sig), t0); d.State != Held {
		t.Errorf("held by ann: %+v", d)
	}
	if d := decide(t, signalled(s, bad, sig), t0); d.State.Grants() || d.State == Held {
		t.Errorf("a breach while ann holds: %+v", d)
	}
	s.State, s.HeldBy, s.Pace = Finished, "", Pace{Ceiling: 100, Window: 100, Turn: 1}
	if d := decide(t, signalled(s, nil, sig), t0); d.State != Finished {
		t.Errorf("finished, nothing read: %+v", d)
	}
	if d := decide(t, signalled(s, bad, sig), t0); d.State == Finished {
		t.Errorf("finished, breached: %+v", d)
	}
}

// Whatever is read, a signal only ever holds back.
func TestASignalNeverMakesARolloutFaster(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := healthyStart()
		sig := Signal{Name: "errors", Query: "x", Is: rapid.SampledFrom([]string{SignalAbove, SignalBelow}).Draw(rt, "is"), Threshold: rapid.Float64Range(-10, 10).Draw(rt, "threshold"),
			For: span.Duration(rapid.IntRange(0, 300).Draw(rt, "for")) * span.Duration(time.Second), Then: rapid.SampledFrom([]string{SignalHalt, SignalHold}).Draw(rt, "then")}
		low, high := rapid.Float64Range(-20, 20).Draw(rt, "low"), rapid.Float64Range(-20, 20).Draw(rt, "high")
		x := Series{Samples: rapid.Int64Range(0, 30).Draw(rt, "samples"), Least: min(low, high), Most: max(low, high), Latest: high}
		without := decide(t, s, t0)
		with := decide(t, signalled(s, []Reading{{Name: "errors", At: t0, Series: []Series{x}}}, sig), t0)
		if with.Pace.Ceiling > without.Pace.Ceiling || with.Pace.Turn > without.Pace.Turn {
			rt.Fatalf("%+v without, %+v with %+v read as %+v", without, with, sig, x)
		}
		bad := sig.Is == SignalAbove && x.Latest > sig.Threshold || sig.Is == SignalBelow && x.Latest < sig.Threshold
		if bad == (with.Action == Advance) {
			rt.Fatalf("bad is %v, decided %+v", bad, with)
		}
	})
}

func TestSignalsThatCannotBeMeantNameTheField(t *testing.T) {
	for doc, field := range map[string]string{
		`{"signals":[{"name":"A b","query":"x","is":"above","then":"halt"}]}`:                                                   "signals[0].name",
		`{"signals":[{"name":"a","is":"above","then":"halt"}]}`:                                                                 "signals[0].query",
		`{"signals":[{"name":"a","query":"x","is":"over","then":"halt"}]}`:                                                      "signals[0].is",
		`{"signals":[{"name":"a","query":"x","is":"above","then":"pass"}]}`:                                                     "signals[0].then",
		`{"signals":[{"name":"a","query":"x","is":"above","then":"halt","for":"48h"}]}`:                                         "signals[0].for",
		`{"signals":[{"name":"a","query":"x","is":"above","then":"halt","missing":"pass"}]}`:                                    "signals[0].missing",
		`{"signals":[{"name":"a","query":"x","is":"above","then":"halt"},{"name":"a","query":"y","is":"above","then":"halt"}]}`: "signals[1].name",
	} {
		if _, err := ParsePolicy([]byte(doc)); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v; want %q in it", doc, err, field)
		}
	}
	q, step := Signal{Query: `x{v="$version",p="$product",r="$rollout"}`, For: span.Duration(2 * time.Minute)}.Ask(Subject{7, "acme/rules", "1.0.0"})
	if q != `x{v="1.0.0",p="acme/rules",r="7"}` || step != 6*time.Second {
		t.Errorf("%s, %s", q, step)
	}
}
