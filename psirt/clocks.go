package psirt

import (
	_ "embed" // the default policy
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/internal/strict"
)

// ClockPolicy says which deadlines a case has. It is data: the rules change more
// often than the code.
type ClockPolicy struct {
	ID        string     `json:"id"`
	Effective string     `json:"effective"` // the day from which it holds
	Calendar  Calendar   `json:"calendar"`  // for what counts in business days
	Rows      []ClockRow `json:"rows"`
}

// ClockRow makes one clock: it starts when the last of From is known, is due After
// that or at the end of a business day, and stops when ClearedBy is known.
type ClockRow struct {
	Name         string        `json:"name"`
	Rule         string        `json:"rule"`
	Force        Force         `json:"force"`
	Severity     []Severity    `json:"severity,omitempty"` // only for these; all if empty
	From         []string      `json:"from"`               // events, see moments
	After        span.Duration `json:"after,omitempty"`
	BusinessDays int           `json:"business_days,omitempty"`
	ClearedBy    string        `json:"cleared_by"`
	Act          string        `json:"act"` // {case} and {report} stand for the ids

	from    []moment
	cleared moment
}

//go:embed clocks.json
var defaultClocks []byte

// DefaultClocks is the policy that Headgate ships, in UTC.
func DefaultClocks() ClockPolicy {
	p, err := ParseClockPolicy(defaultClocks, func(string) (*time.Location, error) { return time.UTC, nil })
	if err != nil {
		panic("psirt: the policy that we ship: " + err.Error())
	}
	return p
}

// maxClockPolicy is the longest policy, in bytes.
const maxClockPolicy = 1 << 20

// ParseClockPolicy reads a policy strictly. zone finds a time zone by its name: a
// pure package knows none but UTC.
func ParseClockPolicy(b []byte, zone func(name string) (*time.Location, error)) (p ClockPolicy, err error) {
	if len(b) > maxClockPolicy {
		return p, invalid("clock policy: %d bytes; at most %d", len(b), maxClockPolicy)
	}
	if err := strict.Decode(b, &p); err != nil {
		return p, invalid("clock policy: %v", err)
	}
	if err := first(line("id", p.ID), line("effective", p.Effective), p.Calendar.complete(zone)); err != nil {
		return p, fmt.Errorf("clock policy: %w", err)
	}
	for i := range p.Rows {
		if err := p.Rows[i].complete(); err != nil {
			return p, fmt.Errorf("clock policy %s: rows[%d]: %w", p.ID, i, err)
		}
	}
	return p, nil
}

// complete checks the row and prepares it for use.
func (r *ClockRow) complete() error {
	if len(r.From) == 0 || (r.After == 0) == (r.BusinessDays == 0) || r.After < 0 || r.BusinessDays < 0 || r.BusinessDays > maxBusinessDays {
		return invalid("%q: want from, and either after or business_days (1 to %d)", r.Name, maxBusinessDays)
	}
	for _, name := range append(slices.Clone(r.From), r.ClearedBy) {
		m := momentOf(name)
		if m == nil {
			return invalid("%q: no event %q", r.Name, name)
		}
		r.from = append(r.from, m)
	}
	last := len(r.from) - 1
	r.from, r.cleared = r.from[:last], r.from[last]
	for _, s := range r.Severity {
		if err := oneOf("severity", s, None, Low, Medium, High, Critical); err != nil {
			return err
		}
	}
	return first(line("name", r.Name), line("rule", r.Rule), oneOf("force", r.Force, Must, Should), line("act", r.Act))
}

// moment is when an event happened.
type moment func(c *Case) FactTime

// moments are what clocks start and stop by. Besides these there are
// "authority:DUTY/STAGE".
var moments = map[string]moment{
	"report.received":     func(c *Case) FactTime { return c.Reported },
	"report.acknowledged": func(c *Case) FactTime { return c.Heard },
	"opened":              func(c *Case) FactTime { return FactTime{At: c.Opened} },
	"triaged":             func(c *Case) FactTime { return c.Triage.First },
	"vendor.aware":        func(c *Case) FactTime { return c.When(VendorAware) },
	"fix.ready":           func(c *Case) FactTime { return c.When(FixReady) },
	"fix.deployed":        func(c *Case) FactTime { return c.When(FixDeployed) },
	"public":              func(c *Case) FactTime { return c.publicAt() },
	"attack.observed":     func(c *Case) FactTime { return c.When(AttackObserved) },
	"record.published": func(c *Case) FactTime {
		if len(c.Records) == 0 {
			return FactTime{}
		}
		return c.Records[0].At
	},
}

// publicAt is when it became public: with its exploit at the latest.
func (c *Case) publicAt() FactTime {
	p, x := c.When(Public), c.When(ExploitPublic)
	if x.Known() && (!p.Known() || x.At.Before(p.At)) {
		return x
	}
	return p
}

const authorityPrefix = "authority:"

// momentOf finds an event by its name; nil if there is none.
func momentOf(name string) moment {
	rest, ok := strings.CutPrefix(name, authorityPrefix)
	if !ok {
		return moments[name]
	}
	duty, stage, _ := strings.Cut(rest, "/")
	if !wordName.MatchString(duty) || !wordName.MatchString(stage) {
		return nil
	}
	return func(c *Case) FactTime {
		for i := range c.Told {
			if c.Told[i].Duty == duty && c.Told[i].Stage == stage {
				return c.Told[i].At
			}
		}
		return FactTime{}
	}
}

// Clocks are the case's deadlines at now: those that run first, and these by due
// time, so that the first is the first to break. A closed case has none that run.
func (c *Case) Clocks(p *ClockPolicy, now time.Time) []Clock {
	severity := c.Triage.Severity()
	out := make([]Clock, 0, len(p.Rows)+1)
	for i := range p.Rows {
		r := &p.Rows[i]
		if len(r.Severity) > 0 && !slices.Contains(r.Severity, severity) {
			continue
		}
		if k, ok := r.clock(c, &p.Calendar); ok {
			out = append(out, k)
		}
	}
	if k, ok := c.embargoClock(now); ok {
		out = append(out, k)
	}
	if !c.Closed.IsZero() {
		for i := range out {
			if k := &out[i]; k.Runs() {
				k.Cleared = later(c.Closed, k.Started)
			}
		}
	}
	SortClocks(out)
	return out
}

// Clocks are the deadlines of a report that belongs to no case, as they would be
// those of its case: it is not to wait because nobody has opened one.
func (r *Report) Clocks(p *ClockPolicy, now time.Time) []Clock {
	if r.Case != "" {
		return nil // they are the case's
	}
	c := Case{Opened: r.Received.At, Reported: r.Received, Heard: r.Acknowledged}
	if r.Closed != "" {
		c.Closed = r.Changed
	}
	return c.Clocks(p, now)
}

func (r *ClockRow) clock(c *Case, cal *Calendar) (Clock, bool) {
	var from FactTime
	for _, when := range r.from {
		t := when(c)
		if !t.Known() {
			return Clock{}, false
		}
		if t.At.After(from.At) {
			from = t
		}
	}
	k := Clock{Name: r.Name, Rule: r.Rule, Force: r.Force, Started: from.At, Clears: r.Act, Fact: from.Seq, Cleared: r.cleared(c).At}
	if r.BusinessDays > 0 {
		k.Due = cal.Add(from.At, r.BusinessDays)
	} else {
		k.Due = from.At.Add(r.After.Std())
	}
	// What was done before the clock started has cleared it then.
	if !k.Runs() {
		k.Cleared = later(k.Cleared, k.Started)
	}
	return k, true
}

// embargoClock runs until the embargo's end: that it is public by then, or that
// other terms are agreed, is somebody's to do.
func (c *Case) embargoClock(now time.Time) (Clock, bool) {
	e := c.Embargo()
	if e == nil {
		return Clock{}, false
	}
	k := Clock{
		Name: "embargo", Rule: "the embargo's end, as its parties agreed", Force: Must, Due: e.Until, Cleared: e.Ended,
		Clears: "publish, then: headgate case fact {case} public; or agree on another end: headgate embargo revise {case}",
	}
	if e.State(now) == Proposed {
		k.Rule = "the proposed embargo's end; no party has accepted it"
	}
	k.Started = e.Proposed.At
	k.Fact = e.Proposed.Seq
	if p := c.publicAt(); k.Runs() && p.Known() {
		k.Cleared = later(p.At, k.Started)
	}
	return k, true
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
