package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// swept is when a rollout's endpoints were looked at last, and what it cost.
type swept struct {
	at   time.Time
	took time.Duration
}

// lookAt looks for silence under a rollout with a budget, and for who is back under
// one that is ordered back.
func (d *Decider) lookAt(ctx context.Context, r store.Rollout) (err error) {
	if r.Policy.Budget != nil {
		err = d.look(ctx, &d.quiet, r.ID, d.Rollouts.SweepQuiet)
	}
	if r.State == rollout.Reverting {
		err = errors.Join(err, d.look(ctx, &d.back, r.ID, d.Rollouts.SweepBack))
	}
	return err
}

// look has sweep record what endpoints' silence, or their word, says about a
// rollout, before it is decided. It reads a row for each endpoint, so it is done no
// more often than each tick, and than twenty times what it cost.
func (d *Decider) look(ctx context.Context, last *map[int64]swept, id int64, sweep func(ctx context.Context, id int64, now time.Time, limit int) (int, error)) error {
	now := d.Now()
	d.mu.Lock()
	before := (*last)[id]
	d.mu.Unlock()
	if now.Sub(before.at) < max(d.Every*9/10, 20*before.took) {
		return nil
	}
	for {
		n, err := sweep(ctx, id, now, sweepBatch)
		if err != nil {
			return fmt.Errorf("look at the endpoints of R-%d: %w", id, err)
		}
		if n < sweepBatch || ctx.Err() != nil {
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if *last == nil {
		*last = map[int64]swept{}
	}
	(*last)[id] = swept{at: now, took: d.Now().Sub(now)}
	return nil
}

// atRisk fills in how many controls could be seen to fail. The count is older
// than the rest: endpoints exposed since are no controls any more, so that the
// lower number leaves them out; nor are those of later cohorts that are not heard
// from.
func atRisk(s *rollout.Snapshot) {
	if s.Observed == nil {
		return
	}
	o, c := s.Observed, s.Control
	since := max(0, s.Counts.Exposed-(c.Fit-c.Unexposed))
	o.Control.AtRisk = c.Heard
	o.Control.AtLeast = max(0, c.Heard-since-o.Control.Failed())
	if c.Fit == 0 {
		return
	}
	there := float64(c.Online) / float64(c.Fit)
	for i := range o.Cohorts {
		a := &o.Cohorts[i].Arm
		a.AtLeast = int64(float64(a.AtLeast) * min(1, there))
	}
}

// composition is a fleet counted by its labels, and what that cost.
type composition struct {
	groups []rollout.Group
	at     time.Time
	took   time.Duration
}

// segment cuts what was observed into segments, where the policy halts them.
func (d *Decider) segment(ctx context.Context, s *rollout.Snapshot) error {
	b := s.Policy.Budget
	if s.Observed == nil || b == nil || !b.Segments {
		return nil
	}
	groups, err := d.composition(ctx, s.Rollout, s.Policy)
	if err != nil {
		return err
	}
	s.Segment(groups)
	return nil
}

// composition counts the fleet by its labels. It reads a row for each endpoint,
// so the count is kept until it is older than twenty times what it cost.
func (d *Decider) composition(ctx context.Context, id int64, p rollout.Policy) ([]rollout.Group, error) {
	now := d.Now()
	d.mu.Lock()
	kept, ok := d.groups[id]
	grain := d.grain
	d.mu.Unlock()
	if ok && now.Sub(kept.at) < 20*kept.took {
		return kept.groups, nil
	}
	groups, err := d.Rollouts.Composition(ctx, id, now.Add(-2*p.Beacon.Std()-grain), now)
	if err != nil {
		return nil, fmt.Errorf("count the fleet by labels: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.groups == nil {
		d.groups = map[int64]composition{}
	}
	d.groups[id] = composition{groups: groups, at: now, took: d.Now().Sub(now)}
	return groups, nil
}
