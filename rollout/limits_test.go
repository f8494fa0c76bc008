package rollout

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/span"
)

func limits(t testing.TB, doc string) *Limits {
	t.Helper()
	l, err := ParseLimits([]byte(doc), time.LoadLocation)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func codesOf(bars []Bar) (out []string) {
	for _, b := range bars {
		out = append(out, b.Code)
	}
	return out
}

func TestEachLimitBarsWhatItSays(t *testing.T) {
	start := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC) // a Monday
	m := Moment{Product: "acme/rules", Version: "2.1.0", Started: start}
	finished, newer, passed, emergency := m, m, m, m
	finished.Finished, newer.NewerFinished, passed.Passed = true, true, 0.5
	emergency.Overrides = []string{OverrideDefer, OverrideWindow}
	for _, c := range []struct {
		name, doc string
		m         Moment
		after     time.Duration
		want      string
	}{
		{"nothing", `{"rules":[]}`, m, 0, ""},
		{"another product", `{"rules":[{"product":"acme/else","opt_out":true}]}`, m, 0, ""},
		{"opt-out of content too", `{"rules":[{"product":"acme/rules","opt_out":true}]}`, m, 0, "tenant-opted-out"},
		{"opt-out of all", `{"rules":[{"opt_out":true}]}`, m, 0, "tenant-opted-out"},
		{"pinned below", `{"rules":[{"pin":"2.0.9"}]}`, m, 0, "tenant-pinned"},
		{"pinned at it", `{"rules":[{"pin":"2.1.0"}]}`, m, 0, ""},
		{"one behind", `{"rules":[{"previous":true}]}`, m, 0, "tenant-previous"},
		{"one behind, a newer one is out", `{"rules":[{"previous":true}]}`, newer, 0, ""},
		{"deferred", `{"rules":[{"defer":"24h"}]}`, m, 24*time.Hour - time.Second, "tenant-deferred"},
		{"deferred long enough", `{"rules":[{"defer":"24h"}]}`, m, 24 * time.Hour, ""},
		{"not proven elsewhere", `{"rules":[{"proven":0.5}]}`, m, 0, "tenant-unproven"},
		{"proven elsewhere", `{"rules":[{"proven":0.5}]}`, passed, 0, ""},
		{"raised since", `{"rules":[{"proven":0.6}]}`, passed, 0, "tenant-unproven"},
		{"finished elsewhere", `{"rules":[{"proven":1}]}`, finished, 0, ""},
		{"window closed", `{"rules":[{"windows":[{"zone":"UTC","from":"22:00","to":"23:00"}]}]}`, m, 0, "tenant-window"},
		{"window open", `{"rules":[{"windows":[{"zone":"UTC","from":"22:00","to":"23:00"}]}]}`, m, 12 * time.Hour, ""},
		{"two rules hold together", `{"rules":[{"defer":"1h"},{"product":"acme/rules","pin":"1.0.0"}]}`, m, 0, "tenant-deferred tenant-pinned"},
		{"an emergency is ignored unless followed", `{"rules":[{"defer":"1h"}]}`, emergency, 0, "tenant-deferred"},
		{"an emergency that is followed", `{"rules":[{"defer":"1h","emergency":"follow"}]}`, emergency, 0, ""},
		{"no policy says so", `{"rules":[{"defer":"1h","emergency":"follow"}]}`, m, 0, "tenant-deferred"},
		{"no emergency overrides a pin", `{"rules":[{"pin":"1.0.0","opt_out":true,"previous":true,"emergency":"follow"}]}`, emergency, 0, "tenant-opted-out tenant-pinned tenant-previous"},
		{"each rule follows for itself", `{"rules":[{"defer":"1h","emergency":"follow"},{"product":"acme/rules","defer":"2h"}]}`, emergency, 0, "tenant-deferred"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bars, _ := limits(t, c.doc).Bars(c.m, start.Add(c.after))
			if got := strings.Join(codesOf(bars), " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	over := limits(t, `{"rules":[{"defer":"1h","emergency":"follow"}]}`)
	if _, overridden := over.Bars(emergency, start); len(overridden) != 1 || !overridden[0].Until.Equal(start.Add(time.Hour)) {
		t.Errorf("what is overridden is not told: %+v", overridden)
	}
	if bars, _ := BrokenLimits(errors.New("no such zone")).Bars(m, start); len(bars) != 1 {
		t.Errorf("limits that cannot be read bar nothing: %+v", bars)
	}
}

func TestLimitsThatCannotBeMeantAreRefused(t *testing.T) {
	for doc, word := range map[string]string{
		`{"rules":[{"deferr":"1h"}]}`:       "deferr",
		`{"rules":[{"defer":"-1h"}]}`:       "defer",
		`{"rules":[{"defer":"9999h"}]}`:     "defer",
		`{"rules":[{"proven":1.5}]}`:        "proven",
		`{"rules":[{"pin":"latest"}]}`:      "pin",
		`{"rules":[{"product":"rules"}]}`:   "product",
		`{"rules":[{"emergency":"maybe"}]}`: "emergency",
		`{"rules":[{},{}]}`:                 "second rule",
		`{"rules":[{"windows":[{"zone":"Europe/Atlantis","from":"01:00","to":"02:00"}]}]}`:    "zone",
		`{"rules":[{"windows":[{"zone":"Local","from":"01:00","to":"02:00"}]}]}`:              "zone",
		`{"rules":[{"windows":[{"zone":"UTC","from":"1:00","to":"02:00"}]}]}`:                 "from",
		`{"rules":[{"windows":[{"zone":"UTC","from":"24:00","to":"02:00"}]}]}`:                "from",
		`{"rules":[{"windows":[{"zone":"UTC","from":"01:00","to":"25:00"}]}]}`:                "to",
		`{"rules":[{"windows":[{"zone":"UTC","from":"01:00","to":"01:00"}]}]}`:                "both",
		`{"rules":[{"windows":[{"zone":"UTC","days":["day"],"from":"01:00","to":"02:00"}]}]}`: "days",
		`{"rules":[]} {}`: "after the JSON value",
	} {
		if _, err := ParseLimits([]byte(doc), time.LoadLocation); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v; want %q in it", doc, err, word)
		}
	}
}

func drawRule(t *rapid.T, label string) Limit {
	r := Limit{Product: rapid.SampledFrom([]string{"", "acme/rules", "acme/else"}).Draw(t, label)}
	r.OptOut = rapid.IntRange(0, 9).Draw(t, "opt-out") == 0
	r.Pin = rapid.SampledFrom([]string{"", "", "1.0.0", "9.0.0"}).Draw(t, "pin")
	r.Previous = rapid.Bool().Draw(t, "previous")
	r.Defer = span.Duration(rapid.IntRange(0, 72).Draw(t, "defer")) * span.Duration(time.Hour)
	r.Proven = rapid.SampledFrom([]float64{0, 0.1, 0.9}).Draw(t, "proven")
	if rapid.Bool().Draw(t, "window") {
		r.Windows = []Window{{Zone: "Europe/Berlin", From: "22:00", To: rapid.SampledFrom([]string{"22:30", "04:00"}).Draw(t, "to")}}
	}
	r.Emergency = rapid.SampledFrom([]string{"", "follow", "ignore"}).Draw(t, "emergency")
	return r
}

// The strictest wins: whatever limits there are, another rule never lets an
// endpoint have a release earlier, and limits never let one have what the gate
// would not grant without them.
func TestAddingALimitNeverMakesAnythingEarlier(t *testing.T) {
	start := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(rt *rapid.T) {
		build := func(rules []Limit) *Limits {
			b, err := json.Marshal(Limits{Rules: rules})
			if err != nil {
				rt.Fatal(err)
			}
			l, err := ParseLimits(b, time.LoadLocation)
			if err != nil {
				rt.Skip("two rules for one product")
			}
			return l
		}
		rules := []Limit{drawRule(rt, "first")}
		more := append(slices.Clone(rules), drawRule(rt, "second"))
		few, many := build(rules), build(more)
		g := Gate{
			Rollout: 1, State: rapid.SampledFrom([]State{Running, Held, Finished, Halted}).Draw(rt, "state"), Digest: "d", Seed: []byte{1}, Retry: time.Second,
			Pace: Pace{Window: 10, Ceiling: 10, Turn: rapid.SampledFrom([]float64{0.5, 1}).Draw(rt, "turn")}, Counts: health.Counts{Exposed: 3, Proven: 3},
			Floor: time.Duration(rapid.IntRange(0, 48).Draw(rt, "floor")) * time.Hour,
			Now:   start.Add(time.Duration(rapid.IntRange(0, 96*60).Draw(rt, "minutes")) * time.Minute),
			Moment: Moment{Product: "acme/rules", Version: "2.0.0", Started: start, NewerFinished: rapid.Bool().Draw(rt, "newer"),
				Overrides: rapid.SampledFrom([][]string{nil, {OverrideDefer}, {OverrideDefer, OverrideWindow}}).Draw(rt, "overrides")},
		}
		ask := Ask{Endpoint: "E-1", Tenant: "north", Digest: "d", Passed: rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(rt, "passed")}
		answer := func(l *Limits) (Answer, []Bar) {
			g, a := g, ask
			a.Limits = l
			bars := g.Bars(a)
			return g.Admit(a), bars
		}
		none, _ := answer(nil)
		one, oneBars := answer(few)
		two, twoBars := answer(many)
		if one.Verdict == Granted && none.Verdict != Granted || two.Verdict == Granted && one.Verdict != Granted {
			rt.Fatalf("without %s, with %+v %s, with %+v %s", none.Verdict, rules, one.Verdict, more, two.Verdict)
		}
		if len(twoBars) < len(oneBars) {
			rt.Fatalf("another rule took a bar away: %v, then %v", codesOf(oneBars), codesOf(twoBars))
		}
		// Why and Admit are one logic: granted exactly where nothing bars.
		if (one.Verdict == Granted) != (len(oneBars) == 0) || len(oneBars) > 0 && one.Code != oneBars[0].Code {
			rt.Fatalf("answered %s %s, explained by %v", one.Verdict, one.Code, codesOf(oneBars))
		}
	})
}

// A tenant that stays behind keeps the release that it may take on offer.
func TestWhatATenantStillNeedsIsKept(t *testing.T) {
	now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	newer := Moment{Product: "acme/rules", Version: "2.0.0", Started: now.Add(-time.Hour), Finished: true}
	older := Moment{Product: "acme/rules", Version: "1.0.0", Started: now.Add(-9 * time.Hour), Finished: true, NewerFinished: true}
	for doc, want := range map[string]bool{
		`{"rules":[{"pin":"1.0.0"}]}`:                                          true,
		`{"rules":[{"pin":"0.9.0"}]}`:                                          false,
		`{"rules":[{"previous":true}]}`:                                        true,
		`{"rules":[{"defer":"2h"}]}`:                                           true,
		`{"rules":[{"defer":"30m"}]}`:                                          false,
		`{"rules":[{"opt_out":true}]}`:                                         false,
		`{"rules":[{"opt_out":true,"previous":true}]}`:                         false,
		`{"rules":[{"windows":[{"zone":"UTC","from":"22:00","to":"23:00"}]}]}`: false,
		`{"rules":[{"product":"acme/else","previous":true}]}`:                  false,
	} {
		if got := limits(t, doc).Keeps(older, newer, now); got != want {
			t.Errorf("%s: kept is %v", doc, got)
		}
	}
}

func FuzzParseLimits(f *testing.F) {
	f.Add([]byte(`{"rules":[{"product":"acme/rules","pin":"1.0.0","defer":"24h","proven":0.5,"windows":[{"zone":"Europe/Berlin","days":["sat"],"from":"22:00","to":"04:00"}],"emergency":"follow"}]}`))
	f.Add([]byte(`{"rules":[{"opt_out":true,"previous":true}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseLimits(b, time.LoadLocation)
		if err != nil {
			return
		}
		for _, h := range []time.Duration{0, time.Hour, 100 * 24 * time.Hour} {
			now := time.Date(2026, 3, 29, 0, 59, 0, 0, time.UTC).Add(h)
			l.Bars(Moment{Product: "acme/rules", Version: "1.0.0", Started: now.Add(-time.Hour)}, now)
		}
		again, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseLimits(again, time.LoadLocation); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
