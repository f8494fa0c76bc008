// Package advisory decides how much is disclosed of a case, and when: the ladder
// of disclosure, whose rungs open on measured protection between hard floor and
// ceiling times. Protection may hold back detail; it never holds back what is
// out already.
//
// It sends nothing and renders no document. Its words: rung, ladder, protection.
package advisory

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/psirt"
)

// ErrInvalid marks input that breaks a rule: of this package, or of the case's ladder.
var ErrInvalid = psirt.ErrInvalid

// Protection is what is known of how far the affected resources are fixed.
type Protection struct {
	// Resources are all that match, Verified those whose fix was verified and that
	// were heard from lately, Stale those not heard from for too long: whatever they
	// said last, they count as unfixed.
	Resources int64 `json:"resources"`
	Verified  int64 `json:"verified"`
	Stale     int64 `json:"stale"`
	// At is when it was measured, microseconds since 1970; 0 is never.
	At int64 `json:"at_us"`
}

// Lower is the lower bound of the verified-fixed fraction at a confidence; 0 where
// nothing is known. Confidence 0 is the fraction itself.
func (p Protection) Lower(confidence float64) float64 {
	if p.Resources <= 0 || p.Verified <= 0 {
		return 0
	}
	if confidence == 0 {
		return float64(p.Verified) / float64(p.Resources)
	}
	return 1 - health.UpperRate(p.Resources-p.Verified, p.Resources, 1-confidence)
}

// Override is two people's decision to open a rung on too little protection. It
// does not lift the floor.
type Override struct {
	Rung psirt.Rung `json:"rung"`
	By   [2]string  `json:"by"` // two different actors
	Why  string     `json:"why"`
}

// Snapshot is all that a decision on a case's disclosure depends on. Times are
// microseconds since 1970, 0 is never.
type Snapshot struct {
	Case       string       `json:"case"`
	Revision   int64        `json:"revision"`
	Ladder     psirt.Ladder `json:"ladder"`
	Opened     int64        `json:"opened_us"`
	Rung       psirt.Rung   `json:"rung"`
	Protection Protection   `json:"protection"`
	// EmbargoEnd is the end of the active embargo: until then nothing becomes
	// public, unless the ceiling is reached or it is public already.
	EmbargoEnd int64 `json:"embargo_end_us,omitempty"`
	// What collapses the ladder: it is out, or used.
	Leaked   bool       `json:"leaked,omitempty"`   // public knowledge, or a public exploit
	Attacked bool       `json:"attacked,omitempty"` // attacks were observed
	KEV      bool       `json:"kev,omitempty"`      // listed as known to be exploited
	Override []Override `json:"override,omitempty"`
}

// Reason is one reason of a decision. Code is stable; Detail is for people.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Gate is one rung in a decision: what it asks for and what there is.
type Gate struct {
	Rung  psirt.Rung `json:"rung"`
	Open  bool       `json:"open"`
	Need  float64    `json:"need"`  // verified-fixed fraction
	Lower float64    `json:"lower"` // its lower bound
	// Floor and Ceiling are instants, microseconds since 1970; an embargo is in the
	// floor.
	Floor   int64  `json:"floor_us"`
	Ceiling int64  `json:"ceiling_us"`
	Why     Reason `json:"why"`
}

// Decision is up to which rung a case is disclosed, and why.
type Decision struct {
	Rung    psirt.Rung   `json:"rung"`
	Opened  []psirt.Rung `json:"opened,omitempty"` // by this decision, from the bottom
	Reasons []Reason     `json:"reasons"`
	Gates   []Gate       `json:"gates"`
	Lower   float64      `json:"lower"`
	// Emergency asks for the emergency lane: exploitation is known.
	Emergency bool `json:"emergency,omitempty"`
	// Next is when the answer may change by time alone; 0 is never.
	Next int64 `json:"next_us,omitempty"`
}

// Recorded is a decision with all that making it again takes but the time: the
// body of a rung.opened fact, whose time it is.
type Recorded struct {
	Snapshot Snapshot `json:"snapshot"`
	Decision Decision `json:"decision"`
}

// DecideRung says up to which rung a case is disclosed now. A rung that was
// opened stays open: nobody forgets what was told. It is total: an absurd
// snapshot is an error that names the field.
func DecideRung(s Snapshot, now time.Time) (Decision, error) {
	if err := s.check(); err != nil {
		return Decision{}, err
	}
	d := Decision{Rung: s.Rung, Lower: s.Protection.Lower(s.Ladder.Confidence), Emergency: s.Attacked || s.KEV}
	open := true // a rung opens only if all beneath it are open
	for _, step := range s.Ladder.Steps {
		g := s.gate(step, d.Lower, now)
		if g.Open = g.Open && open; !g.Open {
			open = false
			d.next(g, now)
		}
		if g.Open && above(step.Rung, d.Rung) {
			d.Opened = append(d.Opened, step.Rung)
			d.Reasons = append(d.Reasons, Reason{g.Why.Code, fmt.Sprintf("%s opens: %s", step.Rung, g.Why.Detail)})
		}
		d.Gates = append(d.Gates, g)
	}
	if n := len(d.Opened); n > 0 {
		d.Rung = d.Opened[n-1]
		return d, nil
	}
	for _, g := range d.Gates {
		if !g.Open {
			d.Reasons = append(d.Reasons, Reason{g.Why.Code, fmt.Sprintf("%s stays shut: %s", g.Rung, g.Why.Detail)})
			return d, nil
		}
	}
	d.Reasons = append(d.Reasons, Reason{"all-open", "everything is disclosed"})
	return d, nil
}

// Of makes the snapshot of a case at now: what its facts say, and how far it is
// fixed. An override counts once two people have asked for it.
func Of(id string, c psirt.Case, p Protection, now time.Time) Snapshot {
	s := Snapshot{
		Case: id, Revision: c.Revision, Ladder: c.Ladder(), Opened: c.Opened.UnixMicro(), Rung: c.Rung, Protection: p,
		Leaked:   c.State.Has(psirt.Public) || c.State.Has(psirt.ExploitPublic),
		Attacked: c.State.Has(psirt.AttackObserved), KEV: c.Triage.KEV.Known(),
	}
	if e := c.Embargo(); e != nil && !e.Active.IsZero() && e.State(now) != psirt.Ended {
		s.EmbargoEnd = e.End().UnixMicro()
	}
	asked := map[psirt.Rung]string{}
	for _, o := range c.Outcome.Overrides {
		switch first := asked[o.Rung]; first {
		case "":
			asked[o.Rung] = o.By
		case o.By:
		default:
			s.Override = append(s.Override, Override{Rung: o.Rung, By: [2]string{first, o.By}, Why: o.Why})
		}
	}
	return s
}

// above tells whether rung a lies above b.
func above(a, b psirt.Rung) bool { return a.At() > b.At() }

// next notes when a shut gate may open by time alone.
func (d *Decision) next(g Gate, now time.Time) {
	for _, at := range []int64{g.Floor, g.Ceiling} {
		if at > now.UnixMicro() && (d.Next == 0 || at < d.Next) {
			d.Next = at
		}
	}
}

// gate judges one rung by itself. The order is the policy: what is open stays
// open, what is out needs no secrecy, no rung stays shut past its ceiling, and
// unknown protection is none.
func (s Snapshot) gate(step psirt.LadderStep, lower float64, now time.Time) Gate {
	opened := time.UnixMicro(s.Opened)
	floor, ceiling := opened.Add(step.Floor.Std()).UnixMicro(), opened.Add(step.Ceiling.Std()).UnixMicro()
	if !above(psirt.PublicRung, step.Rung) { // public and what lies above it
		floor = min(max(floor, s.EmbargoEnd), ceiling)
	}
	g := Gate{Rung: step.Rung, Need: step.Protection, Lower: lower, Floor: floor, Ceiling: ceiling}
	g.Open, g.Why = s.judge(g, now)
	return g
}

func (s Snapshot) judge(g Gate, now time.Time) (bool, Reason) {
	at := now.UnixMicro()
	if !above(g.Rung, s.Rung) {
		return true, Reason{"opened-before", "it was opened before"}
	}
	if why, out := s.collapsed(); out && !above(g.Rung, psirt.PublicRung) {
		return true, why
	}
	if at >= g.Ceiling {
		return true, Reason{"ceiling", "its ceiling, " + instant(g.Ceiling) + ", is reached"}
	}
	if at < g.Floor {
		why := Reason{"floor", "not before its floor, " + instant(g.Floor)}
		if g.Floor == s.EmbargoEnd {
			why = Reason{"embargo", "not before the embargo ends, " + instant(g.Floor)}
		}
		return false, why
	}
	for _, o := range s.Override {
		if o.Rung == g.Rung {
			return true, Reason{"override", fmt.Sprintf("%s and %s decided it: %s", o.By[0], o.By[1], o.Why)}
		}
	}
	return s.protected(g, now)
}

// protected judges the protection: unknown or old is none.
func (s Snapshot) protected(g Gate, now time.Time) (bool, Reason) {
	p := s.Protection
	switch {
	case g.Need == 0:
		return true, Reason{"no-protection-asked", "it asks for no protection, and its floor is reached"}
	case p.At == 0 || p.Resources == 0:
		return false, Reason{"protection-unknown", "how far it is fixed was not measured; it opens at " + instant(g.Ceiling) + " in any case"}
	case now.Sub(time.UnixMicro(p.At)) > s.Ladder.Fresh.Std():
		return false, Reason{"protection-stale", fmt.Sprintf("how far it is fixed was last measured at %s; older than %s counts for nothing", instant(p.At), s.Ladder.Fresh)}
	}
	numbers := fmt.Sprintf("%d of %d resources are verified as fixed, %d are stale: at least %.2f %%, %.4g %% are asked for", p.Verified, p.Resources, p.Stale, 100*g.Lower, 100*g.Need)
	if g.Lower < g.Need {
		return false, Reason{"protection", numbers}
	}
	return true, Reason{"protected", numbers}
}

// collapsed tells whether secrecy is over for everybody's good.
func (s Snapshot) collapsed() (Reason, bool) {
	switch {
	case s.Attacked:
		return Reason{"attacked", "attacks were observed: the ladder collapses to public"}, true
	case s.KEV:
		return Reason{"kev", "it is listed as known to be exploited: the ladder collapses to public"}, true
	case s.Leaked:
		return Reason{"leaked", "it is public already: the ladder collapses to public"}, true
	}
	return Reason{}, false
}

func instant(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02 15:04:05 UTC") }

// check refuses what no case can look like.
func (s Snapshot) check() error {
	bad := func(field, format string, a ...any) error {
		return fmt.Errorf("disclosure of %s: %s: %s: %w", s.Case, field, fmt.Sprintf(format, a...), ErrInvalid)
	}
	if err := s.Ladder.Check(); err != nil {
		return fmt.Errorf("disclosure of %s: %w", s.Case, err)
	}
	if s.Rung.At() < 0 {
		return bad("rung", "%q is unknown", s.Rung)
	}
	p := s.Protection
	if p.Resources < 0 || p.Resources > maxResources || p.Verified < 0 || p.Stale < 0 || p.Verified+p.Stale > p.Resources {
		return bad("protection", "%d verified and %d stale of %d resources", p.Verified, p.Stale, p.Resources)
	}
	if s.Opened <= 0 || s.Opened > maxInstant || p.At < 0 || p.At > maxInstant || s.EmbargoEnd < 0 || s.EmbargoEnd > maxInstant {
		return bad("times", "opened %d, measured %d, embargo's end %d; want microseconds since 1970, and a case that was opened", s.Opened, p.At, s.EmbargoEnd)
	}
	for _, o := range s.Override {
		if o.By[0] == "" || o.By[1] == "" || o.By[0] == o.By[1] {
			return bad("override", "of %s by %q and %q; want two people", o.Rung, o.By[0], o.By[1])
		}
	}
	return nil
}

// Bounds within which sums of counts and times cannot overflow.
const (
	maxResources = 1 << 40
	maxInstant   = 1 << 55 // year 3111
)
