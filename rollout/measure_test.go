package rollout

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/span"
)

func TestAMeasureThatCannotBeComparedIsRefusedByItsField(t *testing.T) {
	many := strings.Repeat(`{"measure":"start","worse":"20%"},`, MaxMeasures) + `{"measure":"start","worse":"20%"}`
	for doc, want := range map[string]string{
		`{"measure":"Start","worse":"20%"}`:                                 "budget.measures[0].measure",
		`{"measure":"vitals","worse":"20%"}`:                                "budget.measures[0].measure",
		`{"measure":"` + strings.Repeat("a", 41) + `","worse":"20%"}`:       "budget.measures[0].measure",
		`{"measure":"crashes","worse":"20%"}`:                               "budget.measures[0].over",
		`{"measure":"crashes","over":"2m","worse":"20%"}`:                   "budget.measures[0].over",
		`{"measure":"crashes","over":"soon","worse":"20%"}`:                 "budget.measures[].over",
		`{"measure":"start","over":"1m","worse":"20%"}`:                     "budget.measures[0].over",
		`{"measure":"start","worse":"20"}`:                                  "budget.measures[0].worse",
		`{"measure":"start","worse":"1001%"}`:                               "budget.measures[0].worse",
		`{"measure":"start","worse":"-100%"}`:                               "budget.measures[0].worse",
		`{"measure":"start","worse":"NaN%"}`:                                "budget.measures[0].worse",
		`{"measure":"crashes","over":"1m","worse":"-10%"}`:                  "budget.measures[0].worse",
		`{"measure":"start","worse":"1%"},{"measure":"start","worse":"2%"}`: "budget.measures[1].measure",
		`{"measure":"start","worse":"1%","than":1}`:                         "budget.measures[0].than",
		many: "budget.measures",
		`{"measure":"crashes","over":"10m","worse":"0%"}`:                     "",
		`{"measure":"start","worse":"20%"},{"measure":"speed","worse":"-5%"}`: "",
	} {
		p, err := Preset("flash")
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.Document()
		if err != nil {
			t.Fatal(err)
		}
		_, err = ParsePolicy([]byte(strings.Replace(string(b), `"budget":{`, `"budget":{"measures":[`+doc+`],`, 1)))
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
	p, _ := Preset("emergency")
	p.Budget.Measures = []Measure{{Name: "start", Worse: "20%"}}
	if err := p.Check(); err == nil || !strings.Contains(err.Error(), "slow_share") {
		t.Errorf("measures without a budget: %v", err)
	}
}

// measured is a rollout by flash with two measures, at its second cohort: of those
// compared by the second measure so many are worse, where a hundredth is usual.
func measured(t *testing.T, worse, compared int64) Snapshot {
	s := budgeted(t, "flash")
	b := *s.Policy.Budget
	b.Measures = []Measure{{Name: "start", Worse: "20%"}, {Name: "false-positives", Over: span.Duration(time.Minute), Worse: "50%"}}
	s.Policy.Budget = &b
	n := float64(compared)
	second := Cohort{Granted: 30_000, Size: 30_000, Last: t0, ByAge: []int64{0}, Arm: health.Arm{AtRisk: 30_000, AtLeast: 30_000}, Measured: 6000, Slow: 300}
	if compared > 0 {
		s.Observed.Cohorts[0].Measures = []Compared{{48, 2, 2.4, 1.9}, {48, 0, 0.7, 0.5}}
		second.Measures = []Compared{{6000, 250, 300, 240}, {compared, worse, 0.015 * n, 0.01 * n}}
	}
	s.Observed.Cohorts = append(s.Observed.Cohorts, second)
	s.Observed.Vitals, s.Observed.Measures = true, []int64{4000, 4000}
	s.Pace.Rung, s.Pace.Ceiling, s.Pace.Window = 1, 30_048, 30_000
	s.Counts = health.Counts{Exposed: 30_048, Proven: 30_048}
	return s
}

// TestAMeasureGatesAndHalts: nothing opens while controls have a measure by which
// no exposed endpoint was compared; as many worse ones as usual pass; three times
// as many halt; and in between a step is small.
func TestAMeasureGatesAndHalts(t *testing.T) {
	for name, c := range map[string]struct {
		worse, compared int64
		action          Action
		says            string
	}{
		"not compared":    {0, 0, Hold, "start: no cohort was compared"},
		"as the controls": {60, 6000, Advance, "the budgets pay for"},
		"doubtful":        {125, 6000, Advance, "measure-doubt"},
		"three times":     {180, 6000, Revert, "measure"},
	} {
		s := measured(t, c.worse, c.compared)
		d := decide(t, s, t0.Add(2*time.Minute))
		said := ""
		for _, r := range d.Reasons {
			said += r.Code + ": " + r.Detail + "; "
		}
		if d.Action != c.action || !strings.Contains(said, c.says) {
			t.Errorf("%s: %s, %s", name, d.Action, said)
		}
		// As the ledger keeps it, it is decided again just so.
		raw, err := json.Marshal(s)
		var again Snapshot
		if err != nil || json.Unmarshal(raw, &again) != nil || !reflect.DeepEqual(decide(t, again, t0.Add(2*time.Minute)), d) {
			t.Errorf("%s: %v: from %s another decision", name, err, raw)
		}
		for _, b := range d.Numbers.Bounds {
			// The second cohort pays for more than the first, by the same rule.
			if n := float64(c.compared); b.Age == "false-positives over 1m" && c.worse > 60 && !(b.Measure && b.Upper > (float64(c.worse)-0.01*n)/n && b.Upper < 0.05) {
				t.Errorf("%s: %+v", name, b)
			}
		}
		known := strings.Join(Explain(s, d).Known, "\n")
		if c.compared > 0 && !strings.Contains(known, "false-positives over 1m of 6000 compared") {
			t.Errorf("%s: explained as\n%s", name, known)
		}
	}
	s := measured(t, 0, 0)
	s.Observed.Measures = []int64{4000, 0}
	s.Observed.Cohorts[1].Measures = []Compared{{6000, 250, 300, 240}}
	d := decide(t, s, t0.Add(2*time.Minute))
	if known := Explain(s, d).Known; d.Action != Advance || !slices.Contains(known, "false-positives over 1m is not judged: too few controls report it to compare with") {
		t.Errorf("without controls: %s, %q", d.Action, known)
	}
}

// TestWhoResumesAcceptsMeasures: what was compared by then halts no more; the same
// again does.
func TestWhoResumesAcceptsMeasures(t *testing.T) {
	s := measured(t, 180, 6000)
	was := Sum(s.Observed.Cohorts[1].Measures)
	got, err := Obey(Standing{State: Halted, Pace: s.Pace, ResumeAskedBy: "ann", Policy: s.Policy, Vitals: Vitals{300, 6000}, Measures: was}, Order{Verb: VerbResume, Operator: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	s.Accepted = got.Decision.Accepted
	if d := decide(t, s, t0.Add(2*time.Minute)); d.Reasons[0].Code == "measure" {
		t.Errorf("accepted, and %v", d.Reasons)
	}
	s.Observed.Cohorts[1].Measures = Sum(was, was)
	if d := decide(t, s, t0.Add(2*time.Minute)); d.Reasons[0].Code != "measure" {
		t.Errorf("as much again, and %v", d.Reasons)
	}
}

// TestASwitchKeepsTheMeasures that endpoints were compared by, or has fewer.
func TestASwitchKeepsTheMeasures(t *testing.T) {
	from, _ := Preset("flash")
	b := *from.Budget
	b.Measures = []Measure{{Name: "start", Worse: "20%"}, {Name: "crashes", Over: span.Duration(time.Minute), Worse: "0%"}}
	from.Budget = &b
	for _, c := range []struct {
		to []Measure
		ok bool
	}{{nil, true}, {b.Measures[:1], true}, {b.Measures, true}, {b.Measures[1:], false}, {append(slices.Clone(b.Measures), Measure{Name: "x", Worse: "0%"}), false}} {
		to, _ := Preset("flash")
		changed := *to.Budget
		changed.Measures = c.to
		to.Budget = &changed
		if err := from.CanSwitch(to); (err == nil) != c.ok {
			t.Errorf("to %v: %v", c.to, err)
		}
	}
}
