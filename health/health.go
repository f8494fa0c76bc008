// Package health turns what endpoints report into evidence, and evidence into
// a verdict: healthy, unhealthy or unknown. It never moves a rollout.
//
// Its words: exposed, proven, harmed, silent, evidence, verdict. Unknown is a
// value here: what was not heard is never a success.
package health

import "fmt"

// State is what is known of one exposure, an endpoint that was granted a release.
type State string

// The states of an exposure, and the only ways between them:
//
//	open ──▶ proven ──▶ harmed      (a late fault)
//	  ├────▶ harmed                 (final)
//	  └────▶ silent ──▶ proven | harmed   (it spoke after all)
const (
	Open   State = "open"
	Proven State = "proven"
	Harmed State = "harmed"
	Silent State = "silent"
)

// Next is the state after an exposure in state s was reported as to. A report
// that says nothing new, or that would turn harm into success, changes nothing:
// so order and repetition of reports do not matter.
func (s State) Next(to State) State {
	switch {
	case s == Harmed, to == Open, to == Silent && s != Open:
		return s
	case s == Open, s == Silent, to == Harmed:
		return to
	}
	return s
}

// Counts are the exposures of a rollout or of one of its segments.
// Exposed = Proven + Harmed + Silent + Open at every instant.
type Counts struct {
	Exposed int64 `json:"exposed"`
	Proven  int64 `json:"proven"`
	Harmed  int64 `json:"harmed"`
	Silent  int64 `json:"silent"`
	Open    int64 `json:"open"`
}

// Check returns an error if the counts do not add up.
func (c Counts) Check() error {
	if c.Exposed != c.Proven+c.Harmed+c.Silent+c.Open || min(c.Exposed, c.Proven, c.Harmed, c.Silent, c.Open) < 0 {
		return fmt.Errorf("exposed %d is not proven %d + harmed %d + silent %d + open %d", c.Exposed, c.Proven, c.Harmed, c.Silent, c.Open)
	}
	return nil
}

// Unproven is how many endpoints are exposed without proof of health.
func (c Counts) Unproven() int64 { return c.Exposed - c.Proven }

// Grant counts one more open exposure.
func (c *Counts) Grant() { c.Exposed++; c.Open++ }

// Move counts one exposure's change of state.
func (c *Counts) Move(from, to State) {
	*c.of(from)--
	*c.of(to)++
}

func (c *Counts) of(s State) *int64 {
	switch s {
	case Open:
		return &c.Open
	case Proven:
		return &c.Proven
	case Harmed:
		return &c.Harmed
	case Silent:
		return &c.Silent
	}
	panic("health: no such exposure state: " + string(s))
}

// Control counts the endpoints that the release fits and that were not granted
// it: what would have happened without it.
type Control struct {
	Fit    int64 `json:"fit"`    // endpoints of the product, exposed ones included
	Online int64 `json:"online"` // of those, heard from within two beacon intervals
	// Unexposed and Heard are Fit and Online without the exposed endpoints, said
	// to be known only if at least one endpoint is in them.
	Unexposed int64 `json:"unexposed"`
	Heard     int64 `json:"heard"`
	// Gone counts unexposed endpoints that were online when the rollout started,
	// are not heard from now, and did not say goodbye.
	Gone int64 `json:"gone"`
	// Deferred are unexposed endpoints that their tenants' limits keep from the
	// release at present. They are in none of the other numbers: nobody waits for
	// them, and they are not compared with.
	Deferred int64 `json:"deferred,omitempty"`
}

// Limits say how much harm a rollout may do before the verdict is unhealthy.
type Limits struct {
	MaxHarmed int64   // unhealthy at this many harmed and silent
	MaxShare  float64 // or at this share of the exposed, if that is more
	// MinControls is the share of controls that must be heard from for silence to
	// mean anything.
	MinControls float64
	// Returning means that an outage ended so lately that the endpoints it cut off
	// may not have spoken yet.
	Returning bool
	// Accepted is the harm that people knew and accepted: the limit counts from
	// there.
	Accepted int64
}

// Verdict is what evidence says.
type Verdict string

// The verdicts.
const (
	Healthy   Verdict = "healthy"
	Unhealthy Verdict = "unhealthy"
	Unknown   Verdict = "unknown"
)

// Finding is a verdict with what ruled it.
type Finding struct {
	Verdict Verdict
	// Code is stable: "harm-limit", "silence", "controls-silent",
	// "controls-returning", "within-limits".
	Code   string
	Detail string
}

// Judge compares counts with limits. Reported harm counts alone; silence counts
// like harm, unless the controls fell silent too, which makes it unknown: a
// network outage hits both.
func Judge(c Counts, ctl Control, lim Limits) Finding {
	limit := max(lim.MaxHarmed, int64(lim.MaxShare*float64(c.Exposed))) + lim.Accepted
	if c.Harmed >= limit {
		return Finding{Unhealthy, "harm-limit", fmt.Sprintf("%d of %d exposed reported harm; the limit is %d", c.Harmed, c.Exposed, limit)}
	}
	known := ctl.Heard + ctl.Gone
	if known > 0 && float64(ctl.Heard) < lim.MinControls*float64(known) {
		return Finding{Unknown, "controls-silent", fmt.Sprintf("only %d of %d controls are heard from: an outage would look like harm", ctl.Heard, known)}
	}
	if lim.Returning && c.Silent > 0 {
		return Finding{Unknown, "controls-returning", fmt.Sprintf("an outage has ended; the %d silent endpoints have time to speak", c.Silent)}
	}
	if c.Silent > 0 && c.Harmed+c.Silent >= limit {
		return Finding{Unhealthy, "silence", fmt.Sprintf("%d harmed and %d silent of %d exposed, while %d of %d controls are heard from; the limit is %d", c.Harmed, c.Silent, c.Exposed, ctl.Heard, known, limit)}
	}
	return Finding{Healthy, "within-limits", fmt.Sprintf("%d harmed and %d silent of %d exposed; the limit is %d", c.Harmed, c.Silent, c.Exposed, limit)}
}
