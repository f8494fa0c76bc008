package psirt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const twoShifts = `{"id": "acme", "levels": [
	{"wait": "10m", "shifts": [{"from": "08:00", "until": "20:00", "who": "operator:ada"}, {"from": "20:00", "until": "08:00", "who": "operator:bob"}]},
	{"wait": "20m", "shifts": [{"from": "00:00", "until": "00:00", "who": "operator:carol"}]}],
	"reach": {"operator:ada": ["ada@acme.example"], "operator:bob": ["bob@acme.example"], "operator:carol": ["carol@acme.example"]}}`

func roster(t *testing.T) Roster {
	t.Helper()
	r, err := ParseRoster([]byte(twoShifts))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSomebodyIsOnDutyAtEachMinute(t *testing.T) {
	r := roster(t)
	for clock, want := range map[string]string{"07:59": "operator:bob", "08:00": "operator:ada", "19:59": "operator:ada", "20:00": "operator:bob", "00:00": "operator:bob"} {
		at, err := time.Parse("15:04", clock)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.OnDuty(0, at); got != want {
			t.Errorf("%s: %s, want %s", clock, got, want)
		}
	}
	for name, c := range map[string][2]string{
		"a gap":       {`"until": "20:00"`, `"until": "19:00"`},
		"two at once": {`"until": "20:00"`, `"until": "21:00"`},
		"unreachable": {`"operator:carol": ["carol@acme.example"]`, `"operator:dan": ["dan@acme.example"]`},
		"no address":  {`carol@acme.example`, `carol`},
		"injection":   {`carol@acme.example`, `carol@acme.example> x`},
		"too short":   {`"wait": "10m"`, `"wait": "1s"`},
		"no time":     {`"08:00", "until"`, `"8", "until"`},
		"unknown key": {`"id": "acme",`, `"id": "acme", "pager": 1,`},
		"no hook":     {`"reach"`, `"hooks": {"operator:ada": ["http://pager.example"]}, "reach"`},
		"a password":  {`"reach"`, `"hooks": {"operator:ada": ["https://a:b@pager.example"]}, "reach"`},
		"no levels":   {twoShifts, `{"id": "x", "levels": []}`},
	} {
		if _, err := ParseRoster([]byte(strings.Replace(twoShifts, c[0], c[1], 1))); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who has a webhook is reached without mail; who has neither, by nothing.
func TestTheRosterSaysWhoIsNotReached(t *testing.T) {
	r, err := ParseRoster([]byte(strings.Replace(twoShifts, `"operator:carol": ["carol@acme.example"]}`, `"operator:ada": ["ada@acme.example"]}, "hooks": {"operator:bob": ["https://pager.example/b"], "operator:carol": ["https://pager.example/b"]}`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if with, without := r.Deaf(true), r.Deaf(false); len(with) != 0 || len(without) != 1 || without[0] != "operator:ada" {
		t.Errorf("with mail %q, without %q", with, without)
	}
	if w := r.Webhooks(); len(w) != 1 {
		t.Errorf("%q", w)
	}
}

// A call that nobody answers never rests: it climbs when its wait is over, not
// before, to whoever is on duty then, and at the top it is repeated.
func TestAnUnansweredCallClimbs(t *testing.T) {
	r := roster(t)
	at := func(clock string) time.Time {
		t.Helper()
		x, err := time.Parse("2006-01-02 15:04", "2026-03-04 "+clock)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	p := Page{To: "operator:ada", Raised: at("19:55"), Called: at("19:55")}
	if c := r.Climbs(p, at("20:04")); c.Call || !c.At.Equal(at("20:05")) {
		t.Errorf("before its wait is over: %+v", c)
	}
	if c := r.Climbs(p, at("20:05")); !c.Call || c.To != "operator:carol" {
		t.Errorf("when its wait is over: %+v", c)
	}
	p.Level, p.To, p.Called = 1, "operator:carol", at("20:05")
	if c := r.Climbs(p, at("20:24")); c.Call {
		t.Errorf("at the top, within its wait: %+v", c)
	}
	if c := r.Climbs(p, at("20:25")); !c.Call || c.To != "operator:carol" {
		t.Errorf("at the top, after its wait: %+v", c)
	}
	p.Acknowledged, p.By = at("20:26"), "operator:carol"
	if c := r.Climbs(p, at("23:59")); c.Call {
		t.Errorf("answered: %+v", c)
	}
	rapid.Check(t, func(t *rapid.T) {
		p := Page{Level: rapid.Int64Range(0, 1000).Draw(t, "level"), Called: at("12:00")}
		late := time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "late"))
		c := r.Climbs(p, p.Called.Add(late))
		if c.Call != (late >= r.Levels[min(p.Level, 1)].Wait.Std()) || c.To == "" {
			t.Fatalf("level %d, %s late: %+v", p.Level, late, c)
		}
	})
}

func FuzzParseRoster(f *testing.F) {
	f.Add([]byte(twoShifts))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRoster(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		for m := range dayMinutes {
			for level := range int64(len(r.Levels) + 1) {
				if who := r.OnDuty(level, time.Date(2026, 3, 4, 0, m, 0, 0, time.UTC)); len(r.Reach[who])+len(r.Hooks[who]) == 0 {
					t.Fatalf("minute %d, level %d: %q cannot be reached", m, level, who)
				}
			}
		}
	})
}

// A reporter learns how far the fix is, and never of how many or whose.
func TestBlindProgressTellsNothingOfFew(t *testing.T) {
	at := func(n int64, lower float64) string {
		c := &Case{}
		c.Outcome.Fixed = &FixMeasured{N: n, Lower: lower, Verified: int64(lower * float64(n))}
		p, ok := BlindProgress(c)
		return fmt.Sprintf("%d %t", p, ok)
	}
	for _, c := range []struct {
		n     int64
		lower float64
		want  string
	}{{1, 1, "0 false"}, {49, 0.97, "0 false"}, {50, 0.97, "90 true"}, {999, 0.999, "90 true"}, {1000, 0.979, "97 true"}, {1000, 1, "100 true"}, {5000, 0, "0 true"}} {
		if got := at(c.n, c.lower); got != c.want {
			t.Errorf("%d endpoints, %v fixed: %s, want %s", c.n, c.lower, got, c.want)
		}
	}
	for _, c := range []*Case{nil, {}} {
		if _, ok := BlindProgress(c); ok {
			t.Error("progress of what was not measured")
		}
	}
}

func TestAReporterSeesWhereHerReportStands(t *testing.T) {
	state := func(r *Report, c *Case) string {
		var done, now []string
		for _, s := range ReporterSteps(r, c) {
			if s.Done {
				done = append(done, s.Text)
			}
			if s.Now {
				now = append(now, s.Text)
			}
		}
		return strings.Join(done, ", ") + " > " + strings.Join(now, ", ")
	}
	seen := FactTime{At: time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)}
	r := &Report{Received: seen}
	if got := state(r, nil); got != "Received > Acknowledged" {
		t.Error(got)
	}
	r.Acknowledged = seen
	c := &Case{State: VendorAware | FixReady}
	if got := state(r, c); got != "Received, Acknowledged, Assessment, A fix > The fix brought to everyone whom it concerns" {
		t.Error(got)
	}
	r.Closed = "it is by design"
	if got := state(r, nil); got != "Received, Acknowledged > " {
		t.Error(got)
	}
}
