package store

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/rollout"
)

// Verb is what an operator orders of a rollout.
type Verb string

// The verbs.
const (
	VerbHold   Verb = "hold"
	VerbResume Verb = "resume"
	VerbHalt   Verb = "halt"
	VerbRevert Verb = "revert"
)

// Order is an operator's order to a rollout.
type Order struct {
	Rollout  int64
	Verb     Verb
	Operator string // token name
	Why      string
}

// OrderRollout carries an order out and records who gave it. An order that is
// fulfilled already changes nothing. Resuming a halted rollout takes two
// operators: the first call records the wish (ResumeAskedBy), another
// operator's call resumes. ErrState if the rollout's state does not allow it;
// ErrNotFound.
func (s *Store) OrderRollout(ctx context.Context, o Order, now time.Time, inTx InTx) (ro Rollout, err error) {
	err = s.inWrite(ctx, fmt.Sprintf("%s R-%d", o.Verb, o.Rollout), func(c conn) error {
		if ro, err = c.lockRollout(ctx, o.Rollout); err != nil {
			return err
		}
		before := ro.State
		changed, err := ro.obey(o, now)
		if err != nil || !changed {
			return err
		}
		entry, err := ledger.New("rollout.ordered", subjectOf(ro.ID), "operator:"+o.Operator, map[string]any{
			"verb": o.Verb, "why": o.Why, "from": before, "to": ro.State, "revision": ro.Revision, "resume_asked_by": ro.ResumeAskedBy,
		})
		if err != nil {
			return err
		}
		return c.commitRollout(ctx, &ro, now, inTx, entry)
	})
	return ro, err
}

// obey changes the rollout as ordered and tells whether anything changed.
func (r *Rollout) obey(o Order, now time.Time) (bool, error) {
	d := rollout.Decision{State: r.State, Pace: r.Pace, HeldBy: r.HeldBy}
	switch o.Verb {
	case VerbHold:
		if r.State == rollout.Held && r.HeldBy != "" && r.HeldBy != "engine" {
			return false, nil
		}
		d.Action, d.State, d.HeldBy = rollout.Hold, rollout.Held, o.Operator
	case VerbHalt:
		d.Action, d.State, d.HeldBy = rollout.Halt, rollout.Halted, ""
	case VerbRevert:
		if r.State == rollout.Reverted {
			return false, nil
		}
		d.Action, d.State, d.HeldBy = rollout.Revert, rollout.Reverting, ""
	case VerbResume:
		if r.State == rollout.Halted && (r.ResumeAskedBy == "" || r.ResumeAskedBy == o.Operator) {
			changed := r.ResumeAskedBy == ""
			r.ResumeAskedBy = o.Operator
			return changed, nil
		}
		d.Action, d.State, d.HeldBy = rollout.Advance, rollout.Running, ""
	default:
		return false, fmt.Errorf("order %q is unknown: %w", o.Verb, ErrInvalid)
	}
	if d.State == r.State && d.HeldBy == r.HeldBy {
		return false, nil
	}
	if d.State != r.State && !r.State.CanBecome(d.State) {
		return false, fmt.Errorf("rollout R-%d is %s: %w", r.ID, r.State, ErrState)
	}
	d.Reasons = []rollout.Reason{{Code: "operator-" + string(o.Verb), Detail: detail(o, r.ResumeAskedBy)}}
	if o.Verb == VerbResume && r.State == rollout.Halted {
		d.Pace = d.Pace.Accept(r.Counts, r.PreflightFailed)
	}
	// A rung that was held does not count the pause as time to fill it.
	d.NewRung = o.Verb == VerbResume
	r.ResumeAskedBy = ""
	r.apply(d, now)
	return true, nil
}

func detail(o Order, asked string) string {
	who := o.Operator
	if asked != "" && o.Verb == VerbResume {
		who = asked + " and " + o.Operator
	}
	if o.Why == "" {
		return "ordered by " + who
	}
	return "ordered by " + who + ": " + o.Why
}
