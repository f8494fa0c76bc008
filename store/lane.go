package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/rollout"
)

// LaneSwitch is an operator's wish to switch a running rollout to an emergency's
// policy, which the caller has checked.
type LaneSwitch struct {
	Rollout        int64
	Policy         rollout.Policy
	PolicyRevision int64
	Choice         rollout.Choice // Signed is filled in here
	Operator       string         // who
	Why            string
	Exploited      bool // rollout.Switch
	For            *CaseOf
}

// CaseOf is the case whose fix a rollout brings, and who says so.
type CaseOf struct {
	Viewer Viewer
	Case   int64
	Why    string // the case is an emergency; empty if it is none
}

// bindRollout records in a case that a rollout brings its fix, and by which lane.
func (c conn) bindRollout(ctx context.Context, of *CaseOf, id int64, choice *rollout.Choice, now time.Time) error {
	if of == nil {
		return nil
	}
	b := &psirt.RolloutBound{Rollout: id}
	if choice != nil {
		b.Lane, b.Why = choice.Taken.Lane, of.Why
	}
	f, err := psirt.Draft(b, time.Time{}, "")
	if err != nil {
		return err
	}
	_, err = c.commitFacts(ctx, of.Viewer, of.Case, AnyRevision, []psirt.Fact{f}, now)
	return err
}

// SwitchLane carries a wish to switch out, or notes it, as rollout.Switch has it;
// done tells which. ErrState if the rollout's state or its evidence does not allow
// it; ErrNotFound.
func (s *Store) SwitchLane(ctx context.Context, w LaneSwitch, now time.Time, inTx InTx) (ro Rollout, done bool, err error) {
	err = s.inWrite(ctx, fmt.Sprintf("switch lane of R-%d", w.Rollout), func(c conn) error {
		if ro, err = c.lockRollout(ctx, w.Rollout); err != nil {
			return err
		}
		sw := rollout.Switch{State: ro.State, From: ro.Policy, To: w.Policy, Operator: w.Operator, Exploited: w.Exploited}
		if sw.Asked, sw.AskedFor, err = c.laneAsked(ctx, ro.ID); err != nil {
			return err
		}
		var signed []string
		if done, signed, err = sw.Agree(); err != nil {
			return fmt.Errorf("rollout R-%d: %w", ro.ID, err)
		}
		w.Choice.Signed = signed
		if !done {
			ro.LaneAskedBy = w.Operator
			return c.askLane(ctx, ro, w, now)
		}
		if err := c.bindRollout(ctx, w.For, ro.ID, &w.Choice, now); err != nil {
			return err
		}
		return c.switchLane(ctx, &ro, w, now, inTx)
	})
	return ro, done, err
}

func (c conn) laneAsked(ctx context.Context, id int64) (by string, p *rollout.Policy, err error) {
	var text string
	if err := c.row(ctx, `SELECT lane_asked_by, lane_asked FROM rollout WHERE id = $1`, id).Scan(&by, &text); err != nil {
		return "", nil, fmt.Errorf("read who asked to switch: %w", err)
	}
	if by == "" {
		return "", nil, nil
	}
	p = &rollout.Policy{}
	if err := json.Unmarshal([]byte(text), p); err != nil {
		return "", nil, fmt.Errorf("policy that %s asked for: %w", by, err)
	}
	return by, p, nil
}

// askLane notes the first of two wishes; a newer one takes its place.
func (c conn) askLane(ctx context.Context, ro Rollout, w LaneSwitch, now time.Time) error {
	doc, err := w.Policy.Document()
	if err != nil {
		return err
	}
	n, err := c.exec(ctx, `UPDATE rollout SET lane_asked_by = $2, lane_asked = $3 WHERE id = $1 AND (lane_asked_by <> $2 OR lane_asked <> $3)`, ro.ID, w.Operator, string(doc))
	if err != nil || n == 0 { // asked the same before
		return err
	}
	return c.note(ctx, now, "rollout.lane-asked", subjectOf(ro.ID), "operator:"+w.Operator, map[string]any{
		"policy": w.Policy, "policy_revision": w.PolicyRevision, "choice": w.Choice, "why": w.Why,
	})
}

// switchLane puts another policy in force. What was observed stays observed: the
// horizons that the new policy does not have are dropped from it.
func (c conn) switchLane(ctx context.Context, ro *Rollout, w LaneSwitch, now time.Time, inTx InTx) error {
	from := ro.Policy
	doc, err1 := w.Policy.Document()
	lane, err2 := json.Marshal(w.Choice)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("lane: %w, %w", err1, err2)
	}
	horizons := len(w.Policy.Budget.Horizons)
	cohorts, err := c.cohorts(ctx, ro.ID)
	if err != nil {
		return err
	}
	for _, n := range cohorts {
		if len(n.byAge) > horizons {
			n.byAge, n.changed = n.byAge[:horizons], true
		}
		if measures := len(w.Policy.Budget.Measures); len(n.measures) > measures {
			n.measures, n.changed = n.measures[:measures], true
		}
	}
	if err := c.saveCohorts(ctx, ro.ID, &watched{policy: w.Policy, cohorts: cohorts}); err != nil {
		return err
	}
	_, err = c.exec(ctx, `UPDATE rollout SET policy = $2, policy_revision = $3, lane = $4, lane_asked_by = '', lane_asked = '', switches = switches + 1 WHERE id = $1`,
		ro.ID, string(doc), w.PolicyRevision, string(lane))
	if err != nil {
		return err
	}
	ro.Policy, ro.PolicyRevision, ro.Lane, ro.LaneAskedBy = w.Policy, w.PolicyRevision, &w.Choice, ""
	ro.Knowledge = ro.Knowledge.Trim(horizons)
	entry, err := ledger.New("rollout.lane", subjectOf(ro.ID), "operator:"+w.Operator, map[string]any{
		"from": from.Name, "policy": w.Policy, "policy_revision": w.PolicyRevision, "choice": w.Choice, "why": w.Why,
	})
	if err != nil {
		return err
	}
	return c.commitRollout(ctx, ro, now, inTx, entry)
}

// startLane records the choice by which a rollout was started, if there was one.
func (c conn) startLane(ctx context.Context, id int64, st Start, now time.Time) error {
	if st.Choice == nil {
		return nil
	}
	lane, err := json.Marshal(st.Choice)
	if err != nil {
		return fmt.Errorf("lane: %w", err)
	}
	if _, err := c.exec(ctx, `UPDATE rollout SET lane = $2 WHERE id = $1`, id, string(lane)); err != nil {
		return err
	}
	return c.note(ctx, now, "rollout.lane", subjectOf(id), st.Actor, map[string]any{"policy": st.Policy.Name, "policy_revision": st.PolicyRevision, "choice": st.Choice})
}

// CountProduct counts the endpoints that run a product.
func (s *Store) CountProduct(ctx context.Context, product string) (n int64, err error) {
	err = s.inRead(ctx, fmt.Sprintf("count endpoints of %s", product), func(c conn) error {
		return c.row(ctx, `SELECT COUNT(*) FROM installation WHERE product = $1`, product).Scan(&n)
	})
	return n, err
}
