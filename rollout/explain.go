package rollout

import (
	"fmt"
	"math"
)

// Explanation is a decision in words and numbers, for people.
type Explanation struct {
	Known  []string `json:"known"`  // what the decision had before it
	Ruled  string   `json:"ruled"`  // what ruled it
	Change string   `json:"change"` // what would have changed it
	Gates  string   `json:"gates,omitempty"`
}

// changes say what would change a decision, by the code of its first reason.
var changes = map[string]string{
	"start":                 "nothing: the first cohort's size is the whole risk, for nothing is known yet",
	"filling":               "more of those whose turn it is ask, or the fill timeout passes and more are called",
	"widen":                 "more of those whose turn it is ask",
	"waiting-for-endpoints": "endpoints come online and ask",
	"cohort-closed":         "nothing: the cohort is judged as it is",
	"probation":             "time: the youngest of the cohort reaches the horizon; a failure meanwhile speaks against the release",
	"gate-passed":           "more failures in the cohort than were to be expected",
	"budget":                "fewer failures, a larger cohort, a larger budget in a new rollout's policy, or a person's order",
	"vendor-floor":          "time: the vendor's floor ends",
	"looks-spent":           "a person's order: the looks that the policy allows are used up",
	"evidence":              "nothing undoes a halt but two people who resume it",
	"silence":               "nothing undoes a halt but two people who resume it",
	"harm-limit":            "nothing undoes a halt but two people who resume it",
	"preflight-failed":      "nothing undoes a halt but two people who resume it",
	"vitals-doubt":          "more endpoints compared with their controls",
	"measure-doubt":         "more endpoints compared with their controls",
	"measure":               "nothing undoes a halt but two people who resume it",
	"vitals":                "nothing undoes a halt but two people who resume it",
	"segment-evidence":      "the evidence without the segment; a halted segment stays out",
	"diagnosing":            "a segment that explains the failures, or more failures without one",
	"controls-silent":       "the controls are heard from again: until then silence says nothing",
	"controls-returning":    "the endpoints that the outage cut off speak, or their time to do so ends",
	"operator":              "who holds it resumes it",
	"released":              "more failures than were to be expected",
	"everyone":              "a failure before the longest horizon",
	"watching":              "late failures, judged like all others",
	"late-joiners":          "late failures, judged like all others",
	"rung-proven":           "more harm than the limit before the rung was proven",
	"no-endpoints":          "an endpoint that runs the product",
	"all-deferred":          "time, or what the tenants ask: see headgate tenant limits show",
	"signal-breached":       "a signal on the good side of its threshold; a halt, two people who resume it: they accept the breach until the signal is good again",
	"signal-pending":        "a signal on the good side of its threshold; if it stays bad, what the policy says then",
	"signal-missing":        "an answer to the signal's query: what is not known does not pass",
	"no-observations":       "a server that observes what the budget needs",
	"reverting":             "the exposed endpoints that are not back yet report that they are",
	"all-back":              "nothing: the rollout is over",
}

// Explain says in words and numbers what a decision knew, which bound ruled it,
// and what would have changed it.
func Explain(s Snapshot, d Decision) Explanation {
	c := s.Counts
	e := Explanation{Known: []string{
		fmt.Sprintf("%d exposed: %d proven, %d harmed, %d silent, %d open; %d may be exposed, %d at once without proof", c.Exposed, c.Proven, c.Harmed, c.Silent, c.Open, s.Pace.Ceiling, s.Pace.Window),
		fmt.Sprintf("%d endpoints fit; %d of %d controls heard from, %d gone without goodbye", s.Control.Fit, s.Control.Heard, s.Control.Unexposed, s.Control.Gone),
	}}
	for _, r := range s.Signals {
		e.Known = append(e.Known, r.known())
	}
	e.Known = append(e.Known, s.Accepted.known()...)
	if n := s.Control.Deferred; n > 0 {
		e.Known = append(e.Known, fmt.Sprintf("%d endpoints besides are kept from it by their tenants' limits", n))
	}
	if o := s.Observed; o != nil {
		e.Known = append(e.Known, o.known(s.Policy.Budget)...)
		if b := s.Policy.Budget; b != nil {
			e.Known = append(e.Known, o.unjudged(*b)...)
		}
	}
	for i, r := range d.Reasons {
		if i > 0 {
			e.Ruled += "; "
		}
		e.Ruled += r.Detail
	}
	if len(d.Reasons) > 0 {
		e.Change = changes[d.Reasons[0].Code]
	}
	if e.Change == "" {
		e.Change = "other evidence, or a person's order"
	}
	if n := d.Numbers; n != nil {
		e.Known = append(e.Known, n.known())
		limit := n.GatesLimit // only where a step was planned
		if b := s.Policy.Budget; limit == 0 && b != nil && len(b.Horizons) > 0 && n.Target > 0 {
			limit = Gates(LimitLadder(n.Target, b.Horizons[0].Budget(s.Control.Fit), b.Baseline, b.Delta))
		}
		e.Gates = fmt.Sprintf("%d used / %d any policy needs", n.GatesUsed, limit)
	}
	return e
}

// known is what a signal's query answered.
func (r Reading) known() string {
	if r.Error != "" || len(r.Series) == 0 {
		return fmt.Sprintf("signal %s: nothing was read: %s", r.Name, r.Error)
	}
	text := "signal " + r.Name + ":"
	for _, x := range r.Series {
		text += fmt.Sprintf(" %s%.4g (%.4g to %.4g in %d samples)", lead(x.Labels), x.Latest, x.Least, x.Most, x.Samples)
	}
	return text
}

// vitals is how many of a cohort exceed the controls; nothing if none was compared.
func (c Cohort) vitals() string {
	if c.Measured == 0 {
		return ""
	}
	return fmt.Sprintf("; vitals of %d compared, %d above the controls' 95th percentile", c.Measured, c.Slow)
}

// known is what was observed, a line for each group that shows anything.
func (o Observed) known(b *Budget) (out []string) {
	line := func(name string, c Cohort) {
		out = append(out, fmt.Sprintf("%s: %d granted, %d reported and %d silent failures, %d at risk", name, c.Granted, c.Arm.Harmed, c.Arm.Silent, c.Arm.AtRisk)+c.vitals()+c.measures(b))
	}
	for i, c := range o.Cohorts {
		line(fmt.Sprintf("cohort %d", i), c)
	}
	if o.Coverage.Granted > 0 {
		line("coverage", o.Coverage)
	}
	out = append(out, fmt.Sprintf("controls: %d reported and %d silent failures, %d to %d at risk", o.Control.Harmed, o.Control.Silent, o.Control.AtLeast, o.Control.AtRisk))
	for _, h := range o.Halted {
		out = append(out, fmt.Sprintf("left out: %s, %.3g %% of the fleet", h.Labels, 100*h.Share))
	}
	return out
}

// known is the evidence and the budgets in one line.
func (n Numbers) known() string {
	text := fmt.Sprintf("evidence e^%.1f, e^%.1f halts; of vitals e^%.1f, e^%.1f halts", n.LogE, n.LogHalt, n.LogSlow, n.LogHaltSlow)
	for _, m := range n.Measures {
		text += fmt.Sprintf(" with %s e^%.1f", m.Measure, m.Log)
	}
	for _, b := range n.Bounds {
		harm := "harmed"
		switch {
		case b.Age == vitals:
			harm = "slowed down"
		case b.Measure:
			harm = "worse"
		}
		text += fmt.Sprintf("; by %s at most %.3g %% %s, a budget of %.0f pays for %.0f of %d", b.Age, 100*b.Upper, harm, b.Budget, math.Min(b.Allowed, 1e15), n.Target)
	}
	return text
}
