package rollout

import (
	"errors"
	"fmt"
	"slices"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/release"
)

// ErrState means that a rollout's state does not allow what was asked.
var ErrState = errors.New("not possible in this state")

// Verb is what a person orders of a rollout.
type Verb string

// The verbs.
const (
	VerbHold   Verb = "hold"
	VerbResume Verb = "resume"
	VerbHalt   Verb = "halt"
	VerbRevert Verb = "revert"
	// VerbLift takes a halted segment in again.
	VerbLift Verb = "lift"
)

// Verbs lists all verbs.
var Verbs = []Verb{VerbHold, VerbResume, VerbHalt, VerbRevert, VerbLift}

// Order is a person's order to a rollout.
type Order struct {
	Verb     Verb
	Operator string // who
	Why      string
	// Segment is what to lift.
	Segment fleet.Labels
}

// Standing is all of a rollout that an order may depend on.
type Standing struct {
	State  State
	Pace   Pace
	HeldBy string
	// ResumeAskedBy is the operator who asked to resume after a halt and waits for
	// another one.
	ResumeAskedBy   string
	Counts          health.Counts
	PreflightFailed int64
	// Policy and Vitals say what else resuming accepts.
	Policy Policy
	Vitals Vitals
	// Measures are by the policy's measures what Vitals is by vitals.
	Measures []Compared
	Halted   []HaltedSegment
	// LiftAskedBy is the operator who asked to lift the segment LiftAskedOf, as
	// fleet.Labels.String writes it, and waits for another one.
	LiftAskedBy, LiftAskedOf string
}

// Obeyed is what an order comes to.
type Obeyed struct {
	// Changed: something is to be recorded. An order that is fulfilled already
	// changes nothing.
	Changed bool
	// Acts: Decision is to be carried out. Otherwise only ResumeAskedBy changes.
	Acts                     bool
	Decision                 Decision
	ResumeAskedBy            string
	LiftAskedBy, LiftAskedOf string
}

// Obey says what a person's order does to a rollout. To hold, halt and revert is
// one person's word and at once. To resume after a halt takes two: the first is
// noted, another one resumes, and both accept the harm, the vitals and the breached
// signals that there are by then. A halt in between withdraws the first one's wish. To lift a halted segment takes
// two likewise. Errors wrap ErrState, or
// ErrInvalid for an unknown verb.
func Obey(s Standing, o Order) (Obeyed, error) {
	if o.Operator == "" {
		return Obeyed{}, fmt.Errorf("order %q: nobody gives it: %w", o.Verb, ErrInvalid)
	}
	if o.Verb == VerbLift {
		return s.lift(o)
	}
	got, err := s.obey(o)
	if o.Verb != VerbHalt && o.Verb != VerbRevert {
		got.LiftAskedBy, got.LiftAskedOf = s.LiftAskedBy, s.LiftAskedOf
	}
	return got, err
}

// obey is Obey for orders to the whole rollout.
func (s Standing) obey(o Order) (Obeyed, error) {
	d := Decision{Pace: s.Pace}
	switch o.Verb {
	case VerbHold:
		if s.State == Held && s.HeldBy != "" && s.HeldBy != byEngine {
			return Obeyed{ResumeAskedBy: s.ResumeAskedBy}, nil // a person holds it already
		}
		d.Action, d.State, d.HeldBy = Hold, Held, o.Operator
	case VerbHalt:
		d.Action, d.State = Halt, Halted
	case VerbRevert:
		if s.State == Reverted {
			return Obeyed{ResumeAskedBy: s.ResumeAskedBy}, nil
		}
		d.Action, d.State = Revert, Reverting
	case VerbResume:
		if s.State == Halted && (s.ResumeAskedBy == "" || s.ResumeAskedBy == o.Operator) {
			return Obeyed{Changed: s.ResumeAskedBy == "", ResumeAskedBy: o.Operator}, nil
		}
		d.Action, d.State = Advance, Running
		// A rung that was held does not count the pause as time to fill it.
		d.NewRung = true
	default:
		return Obeyed{}, fmt.Errorf("order %q is unknown: %w", o.Verb, ErrInvalid)
	}
	if d.State == s.State && d.HeldBy == s.HeldBy {
		return Obeyed{Changed: s.ResumeAskedBy != ""}, nil
	}
	if d.State != s.State && !s.State.CanBecome(d.State) {
		return Obeyed{}, fmt.Errorf("it is %s: %w", s.State, ErrState)
	}
	if o.Verb == VerbResume && s.State == Halted {
		d.Pace, d.Accepted = d.Pace.Accept(s.Counts, s.PreflightFailed), s.accept()
	}
	d.Reasons = []Reason{{Code: "operator-" + string(o.Verb), Detail: o.detail(s.ResumeAskedBy)}}
	return Obeyed{Changed: true, Acts: true, Decision: d}, nil
}

// lift takes a halted segment in again.
func (s Standing) lift(o Order) (Obeyed, error) {
	stays := Obeyed{ResumeAskedBy: s.ResumeAskedBy, LiftAskedBy: s.LiftAskedBy, LiftAskedOf: s.LiftAskedOf}
	name := o.Segment.String()
	i := slices.IndexFunc(s.Halted, func(h HaltedSegment) bool { return h.Labels.String() == name })
	switch {
	case i < 0:
		return stays, fmt.Errorf("segment %q is not left out: %w", name, ErrState)
	case s.State == Reverting, s.State == Reverted, s.State == Superseded:
		return stays, fmt.Errorf("it is %s: %w", s.State, ErrState)
	case s.LiftAskedBy == "" || s.LiftAskedOf != name || s.LiftAskedBy == o.Operator:
		stays.Changed = s.LiftAskedBy != o.Operator || s.LiftAskedOf != name
		stays.LiftAskedBy, stays.LiftAskedOf = o.Operator, name
		return stays, nil
	}
	d := Decision{Action: LiftSegment, State: s.State, HeldBy: s.HeldBy, Pace: s.Pace.Accept(s.Counts, s.PreflightFailed), LiftSegments: s.Halted[i : i+1]}
	d.Reasons = []Reason{{Code: "operator-" + string(o.Verb), Detail: name + ": " + o.detail(s.LiftAskedBy)}}
	return Obeyed{Changed: true, Acts: true, Decision: d, ResumeAskedBy: s.ResumeAskedBy}, nil
}

// Without is halted segments but for those lifted.
func Without(halted, lifted []HaltedSegment) []HaltedSegment {
	if len(lifted) == 0 {
		return halted
	}
	return slices.DeleteFunc(slices.Clone(halted), func(h HaltedSegment) bool {
		return slices.ContainsFunc(lifted, func(l HaltedSegment) bool { return l.Labels.String() == h.Labels.String() })
	})
}

// detail names who ordered, and why.
func (o Order) detail(asked string) string {
	who := o.Operator
	if asked != "" && (o.Verb == VerbResume || o.Verb == VerbLift) {
		who = asked + " and " + o.Operator
	}
	if o.Why == "" {
		return "ordered by " + who
	}
	return "ordered by " + who + ": " + o.Why
}

// Other is another rollout of the same product.
type Other struct {
	Rollout int64
	Version string
	State   State
}

// MayStart refuses a rollout of a version while another one of the product is
// active, and one that is not newer than what finished: an endpoint never goes to
// an older version by an offer, so that it would expose nobody and wait for ever.
// To go back, revert the newer one. Errors wrap ErrState.
func MayStart(version string, others []Other) error {
	for _, o := range others {
		if o.State.Active() {
			return fmt.Errorf("rollout R-%d is active: %w", o.Rollout, ErrState)
		}
		if o.State == Finished && !release.Newer(version, o.Version) {
			return fmt.Errorf("version %s is not newer than %s, which rollout R-%d finished: no endpoint would take it; to go back, revert R-%d: %w", version, o.Version, o.Rollout, o.Rollout, ErrState)
		}
	}
	return nil
}
