package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// observed reads what a rollout with a budget has seen, but for the numbers of
// controls at risk, which are Presence's.
func (c conn) observed(ctx context.Context, r Rollout, now time.Time) (*rollout.Observed, error) {
	rows, err := c.cohorts(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	o := &rollout.Observed{Halted: r.Halted, Knowledge: r.Knowledge}
	if r.Pace.Ceiling > 0 {
		o.Cohorts = make([]rollout.Cohort, r.Pace.Rung+1)
	}
	for i := range o.Cohorts {
		o.Cohorts[i] = rows[int64(i)].observed(r, now)
	}
	o.Coverage = rows[rungCoverage].observed(r, now)
	if n := rows[rungControl]; n != nil {
		o.Control = health.Arm{Harmed: n.harmed, Silent: n.silent}
		o.Vitals = n.measured > 0
		o.Measures = n.controls(r.Policy)
	}
	if r.Policy.Budget.Segments {
		o.Failures, err = c.failures(ctx, r.ID)
	}
	return o, err
}

// observed is a cohort as a decision sees it. What is still open is no success
// yet: it counts as failed at each horizon until it is proven.
func (n *cohort) observed(r Rollout, now time.Time) rollout.Cohort {
	if n == nil {
		return rollout.Cohort{Last: r.RungSince, ByAge: make([]int64, len(r.Policy.Budget.Horizons))}
	}
	out := rollout.Cohort{Granted: n.granted, Size: n.size, Last: n.last, Slow: n.slow, Measured: n.measured, Measures: n.compared(r.Policy)}
	atRisk := max(0, n.size-n.harmed-n.silent)
	young := min(n.young(now, r.Policy.Quiet()), atRisk)
	out.Arm = health.Arm{Harmed: n.harmed, Silent: n.silent, AtRisk: atRisk, AtLeast: atRisk - young, Young: young}
	for _, failed := range n.byAge {
		out.ByAge = append(out.ByAge, min(failed+n.unsettled, n.size))
	}
	return out
}

// evidence is the JSON of what a rollout keeps from decision to decision; empty if
// there is nothing.
func (r *Rollout) evidence() (knowledge, halted string, err error) {
	if halted, err = encodeHalted(r.Halted); err != nil || r.Policy.Budget == nil && r.Accepted == nil {
		return "", halted, err
	}
	knowledge, err = encodeKnowledge(r.Knowledge, r.Accepted)
	return knowledge, halted, err
}

// keptKnowledge is what the column knowledge holds: what people accepted stands beside the
// evidence.
type keptKnowledge struct {
	rollout.Knowledge
	Accepted *rollout.Accepted `json:"accepted,omitempty"`
}

func encodeKnowledge(k rollout.Knowledge, a *rollout.Accepted) (string, error) {
	b, err := json.Marshal(keptKnowledge{k, a})
	if err != nil {
		return "", fmt.Errorf("knowledge: %w", err)
	}
	return string(b), nil
}

func decodeKnowledge(b []byte) (rollout.Knowledge, *rollout.Accepted, error) {
	var k keptKnowledge
	if len(b) == 0 {
		return k.Knowledge, nil, nil
	}
	if err := json.Unmarshal(b, &k); err != nil {
		return k.Knowledge, nil, fmt.Errorf("knowledge: %w", err)
	}
	return k.Knowledge, k.Accepted, nil
}

// keepEvery is how old the kept evidence may grow while nothing fails.
const keepEvery = 2 * time.Second

// keepKnowledge keeps what a decision that changes nothing else has learned.
// Two servers may look at once: each one's knowledge follows from what was kept
// and from counts that are cumulative, so that either may come last.
func (c conn) keepKnowledge(ctx context.Context, r Rollout, d DecisionCommit) error {
	k := d.Decision.Knowledge
	if k == nil || !learned(r.Knowledge, *k) {
		return nil
	}
	text, err := encodeKnowledge(*k, r.Accepted)
	if err != nil {
		return err
	}
	_, err = c.exec(ctx, `UPDATE rollout SET knowledge = $2 WHERE id = $1`, r.ID, text)
	return err
}

// learned tells whether new knowledge is worth a write.
func learned(old, k rollout.Knowledge) bool {
	e, n := old.Evidence, k.Evidence
	if n.At-e.At >= keepEvery || len(k.Gates) != len(old.Gates) || k.AlarmAt != old.AlarmAt || k.Relieved != old.Relieved || len(n.Cohorts) != len(e.Cohorts) {
		return true
	}
	for i := range n.Cohorts {
		if n.Cohorts[i].Failed() != e.Cohorts[i].Failed() {
			return true
		}
	}
	return n.Coverage.Failed() != e.Coverage.Failed() || n.Control.Failed() != e.Control.Failed()
}
