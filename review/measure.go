package review

import (
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/psirt"
)

// Incident is all that the review of a case is drawn from. What is zero is
// unknown, and is said to be so.
type Incident struct {
	Facts []psirt.Fact // of the case, in order, as far as the reader may read them
	// Exposure is how long resources stood vulnerable.
	Exposure Exposure
	Rollouts []Rollout // of its fixes
	Notices  Notices
}

// Exposure is the vulnerable time of all affected resources together.
type Exposure struct {
	Since     time.Time     // of the first vulnerable resource
	Resources int64         // ever vulnerable
	Open      int64         // vulnerable still
	Time      time.Duration // summed over the resources
}

// Rollout is what a rollout of a fix did.
type Rollout struct {
	ID      int64         `json:"id"`
	Product string        `json:"product"`
	Version string        `json:"version"`
	State   string        `json:"state"`
	Started time.Time     `json:"started"`
	Exposed int64         `json:"exposed"`
	Proven  int64         `json:"proven"`
	Harmed  int64         `json:"harmed"`
	Silent  int64         `json:"silent"`
	Down    span.Duration `json:"down"` // summed over the harmed
}

// Notices is what became of the case's notices.
type Notices struct {
	Sent     int64     `json:"sent"`
	Verified int64     `json:"verified"` // closed by proof
	First    time.Time `json:"first,omitzero"`
	Last     time.Time `json:"last,omitzero"` // when the last was closed; zero while one is open
}

// Measure is one length of time of a case: how long from one fact to another.
type Measure struct {
	Code string `json:"code"` // stable: "acknowledge"
	Name string `json:"name"`
	// From and To are its ends; zero where they are not known yet.
	From time.Time     `json:"from,omitzero"`
	To   time.Time     `json:"to,omitzero"`
	Took span.Duration `json:"took,omitzero"`
	// Unknown says why it cannot be told; empty if it can.
	Unknown string `json:"unknown,omitempty"`
}

// thresholds are the verified-fixed fractions whose times are measured.
var thresholds = []struct {
	code, name string
	reached    func(*psirt.FixMeasured) bool
}{
	{"verified-first", "from the fix until the first resource was verified", func(m *psirt.FixMeasured) bool { return m.Verified > 0 }},
	{"verified-50", "until 50 % were verified, by the lower bound", func(m *psirt.FixMeasured) bool { return m.Lower >= 0.5 }},
	{"verified-90", "until 90 % were verified, by the lower bound", func(m *psirt.FixMeasured) bool { return m.Lower >= 0.9 }},
	{"verified-99", "until 99 % were verified, by the lower bound", func(m *psirt.FixMeasured) bool { return m.Lower >= 0.99 }},
}

// Measures measures a case by its facts. A measure whose end did not come is
// unknown, never zero.
func Measures(in Incident) ([]Measure, error) {
	kase, err := psirt.View(in.Facts)
	if err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	ready := kase.When(psirt.FixReady).At
	reported := kase.Reported.At
	out := []Measure{
		between("detect", "from the first vulnerable resource to the first report", in.Exposure.Since, reported, "no resource is known to be vulnerable", "no report came in"),
		between("acknowledge", "from the report to the answer to its reporter", reported, kase.Heard.At, "no report came in", "the reporter was not answered"),
		between("triage", "from the report to its first assessment", reported, kase.Triage.First.At, "no report came in", "nobody has assessed it"),
		between("mitigate", "from the report to the first fix", reported, ready, "no report came in", "no fix is ready"),
		between("deploy", "from the fix to the start of its rollout", ready, kase.Work.Started.At, "no fix is ready", "no rollout was started"),
	}
	for _, t := range thresholds {
		out = append(out, between(t.code, t.name, ready, firstMeasured(in.Facts, t.reached), "no fix is ready", "it was not reached"))
	}
	return append(out,
		between("notify", "from the report to the first notice", reported, in.Notices.First, "no report came in", "no notice was sent"),
		between("customers-done", "from the first notice until the last was closed by proof", in.Notices.First, in.Notices.Last, "no notice was sent", "a notice is open"),
		between("disclose", "from the report until it was public", reported, kase.When(psirt.Public).At, "no report came in", "it is not public"),
	), nil
}

// between is a measure, or why there is none.
func between(code, name string, from, to time.Time, noFrom, noTo string) Measure {
	m := Measure{Code: code, Name: name, From: from, To: to}
	switch {
	case from.IsZero():
		m.Unknown = noFrom
	case to.IsZero():
		m.Unknown = noTo
	case to.Before(from):
		m.Unknown = "what it is measured to came first"
	default:
		m.Took = span.Duration(to.Sub(from))
	}
	return m
}

// firstMeasured is when a measurement of the fix first was as reached wants it.
func firstMeasured(facts []psirt.Fact, reached func(*psirt.FixMeasured) bool) time.Time {
	i := slices.IndexFunc(facts, func(f psirt.Fact) bool {
		body, err := f.Decode()
		m, ok := body.(*psirt.FixMeasured)
		return err == nil && ok && reached(m)
	})
	if i < 0 {
		return time.Time{}
	}
	return facts[i].At
}
