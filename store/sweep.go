package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/headgate/headgate/health"
)

const textExpired = `SELECT rollout, endpoint FROM exposure WHERE state = 'open' AND NOT reverted AND deadline < $1 ORDER BY deadline LIMIT $2`

// SweepSilent turns at most limit open exposures past their deadline to
// silent, and returns how many it turned. One that went back by order has
// spoken, and stays open.
func (s *Store) SweepSilent(ctx context.Context, now time.Time, limit int) (turned int, err error) {
	now = now.UTC().Truncate(time.Microsecond)
	err = s.inWrite(ctx, "sweep silent exposures", func(c conn) error {
		turned, err = c.sweep(ctx, now, limit)
		return err
	})
	return turned, err
}

func (c conn) sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	expired, all := map[int64][]any{}, []any{}
	rows, err := c.rows(ctx, textExpired, micros(now), limit)
	err = each(rows, err, func() error {
		var id, endpoint int64
		if err := rows.Scan(&id, &endpoint); err != nil {
			return err
		}
		expired[id] = append(expired[id], endpoint)
		all = append(all, endpoint)
		return nil
	})
	if err != nil || len(all) == 0 {
		return 0, err
	}
	r := &batchRun{c: c, now: now, gates: map[int64]*gate{}, endpoints: map[int64]*identity{}}
	if err := r.loadEndpoints(ctx, distinct(all)); err != nil {
		return 0, err
	}
	for _, id := range slices.Sorted(maps.Keys(expired)) {
		g, err := c.lockGate(ctx, id, now)
		if err == nil && g == nil {
			err = ErrNotFound
		}
		if err != nil {
			return 0, fmt.Errorf("lock rollout R-%d: %w", id, err)
		}
		r.gates[id] = g
		// Read again behind the lock: a beacon may have settled it meanwhile.
		if err := c.loadExposures(ctx, g, distinct(expired[id])); err != nil {
			return 0, fmt.Errorf("load exposures of rollout R-%d: %w", id, err)
		}
		for endpoint, x := range g.exposures {
			if who := r.endpoints[endpoint]; who != nil && !x.reverted {
				r.move(g, who, x, health.Silent, AttemptReport{})
			}
		}
	}
	return len(r.members), r.save(ctx)
}
