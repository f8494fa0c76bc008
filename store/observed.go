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
	o.Coverage.ByAge = nil
	if n := rows[rungControl]; n != nil {
		o.Control = health.Arm{Harmed: n.harmed, Silent: n.silent}
		o.Vitals = n.measured > 0
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
	out := rollout.Cohort{Granted: n.granted, Size: n.size, Last: n.last, Slow: n.slow, Measured: n.measured}
	atRisk := max(0, n.size-n.harmed-n.silent)
	young := min(n.young(now, r.Policy.Quiet()), atRisk)
	out.Arm = health.Arm{Harmed: n.harmed, Silent: n.silent, AtRisk: atRisk, AtLeast: atRisk - young, Young: young}
	for _, failed := range n.byAge {
		out.ByAge = append(out.ByAge, min(failed+n.unsettled, n.size))
	}
	return out
}

// evidence is the JSON of what a rollout with a budget keeps; empty without one.
func (r *Rollout) evidence() (knowledge, halted string, err error) {
	if halted, err = encodeHalted(r.Halted); err != nil || r.Policy.Budget == nil {
		return "", halted, err
	}
	k, err := json.Marshal(r.Knowledge)
	if err != nil {
		return "", "", fmt.Errorf("knowledge: %w", err)
	}
	return string(k), halted, nil
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
	b, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("knowledge: %w", err)
	}
	_, err = c.exec(ctx, `UPDATE rollout SET knowledge = $2 WHERE id = $1`, r.ID, string(b))
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
