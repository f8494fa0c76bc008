package store

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/rollout"
)

// OrderRollout carries an operator's order out, as rollout.Obey has it, and
// records who gave it. An order that is fulfilled already changes nothing.
// ErrState if the rollout's state does not allow it; ErrNotFound.
func (s *Store) OrderRollout(ctx context.Context, id int64, o rollout.Order, now time.Time, inTx InTx) (ro Rollout, err error) {
	err = s.inWrite(ctx, fmt.Sprintf("%s R-%d", o.Verb, id), func(c conn) error {
		if ro, err = c.lockRollout(ctx, id); err != nil {
			return err
		}
		before, stands := ro.State, ro.standing()
		if stands.Vitals, stands.Measures, err = c.compared(ctx, ro); err != nil {
			return err
		}
		got, err := rollout.Obey(stands, o)
		if err != nil {
			return fmt.Errorf("rollout R-%d: %w", id, err)
		}
		if !got.Changed {
			return nil
		}
		ro.ResumeAskedBy, ro.LiftAskedBy, ro.LiftAskedOf = got.ResumeAskedBy, got.LiftAskedBy, got.LiftAskedOf
		if err := c.liftSegments(ctx, ro, got.Decision.LiftSegments); err != nil {
			return err
		}
		if got.Acts {
			ro.apply(got.Decision, now)
		}
		body := map[string]any{
			"verb": o.Verb, "why": o.Why, "from": before, "to": ro.State, "revision": ro.Revision, "resume_asked_by": ro.ResumeAskedBy,
			"segment": o.Segment, "lift_asked_by": ro.LiftAskedBy,
		}
		if a := got.Decision.Accepted; a != nil {
			body["accepted"] = a
		}
		entry, err := ledger.New("rollout.ordered", subjectOf(ro.ID), "operator:"+o.Operator, body)
		if err != nil {
			return err
		}
		return c.commitRollout(ctx, &ro, now, inTx, entry)
	})
	return ro, err
}

// compared counts the exposed endpoints of a rollout that were compared, by vitals
// and by the policy's measures.
func (c conn) compared(ctx context.Context, r Rollout) (v rollout.Vitals, m []rollout.Compared, err error) {
	if r.Policy.Budget == nil {
		return v, nil, nil
	}
	rows, err := c.cohorts(ctx, r.ID)
	for rung, n := range rows {
		if rung != rungControl {
			v.Slow, v.Measured = v.Slow+n.slow, v.Measured+n.measured
			m = rollout.Sum(m, n.compared(r.Policy))
		}
	}
	return v, m, err
}

// standing is what an order may depend on, but for what was compared.
func (r Rollout) standing() rollout.Standing {
	return rollout.Standing{
		State: r.State, Pace: r.Pace, HeldBy: r.HeldBy, ResumeAskedBy: r.ResumeAskedBy, Counts: r.Counts, PreflightFailed: r.PreflightFailed,
		Policy: r.Policy, Halted: r.Halted, LiftAskedBy: r.LiftAskedBy, LiftAskedOf: r.LiftAskedOf,
	}
}
