package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/headgate/headgate/health"
)

// textQuiet finds, controls first, who is not heard from: a control that spoke
// since the start ($4) and not since $3, a proven endpoint likewise, an open one
// that has not spoken since its grant either, or that is not proven by the
// deadline that all policies have ($5). Of those who are heard from it reads no
// exposure, but for the open ones, which are few: "+" keeps engines from reading
// all of the rollout's for them.
const textQuiet = `SELECT q.endpoint, q.exposed FROM (
		SELECT i.endpoint AS endpoint, CASE WHEN x.endpoint IS NULL THEN 0 ELSE 1 END AS exposed
		FROM installation i LEFT JOIN exposure x ON x.rollout = $1 AND x.endpoint = i.endpoint
		WHERE i.product = $2 AND i.last_seen < $3 AND NOT i.goodbye AND (
			(x.endpoint IS NULL AND i.last_seen >= $4)
			OR (x.state = 'proven' AND NOT x.reverted)
			OR (x.state = 'open' AND NOT x.reverted AND x.granted < $3))
		UNION
		SELECT x.endpoint, 1 FROM exposure x JOIN installation i ON i.product = $2 AND i.endpoint = x.endpoint
		WHERE +x.rollout = $1 AND x.state = 'open' AND NOT x.reverted AND x.granted < $3 AND x.granted < $5
	) q
	WHERE NOT EXISTS (SELECT 1 FROM first_failure f WHERE f.rollout = $1 AND f.endpoint = q.endpoint AND f.exposed = (q.exposed = 1))
	ORDER BY q.exposed, q.endpoint LIMIT $6`

var listStillQuiet = &list{of: "BIGINT", head: `SELECT endpoint FROM installation WHERE product = $1 AND last_seen < $2 AND NOT goodbye AND endpoint IN (`, row: `?`, tail: `)`, fixed: 2, pad: true}

// SweepQuiet records the silence of at most limit endpoints under a rollout with
// a budget, exposed or not, and returns how many. Both are judged by the same
// rule at the same time, and controls are written first: an outage must not show
// among the exposed before it shows among the controls. It reads a row for each
// endpoint of the product, so that callers do not do it all the time.
func (s *Store) SweepQuiet(ctx context.Context, id int64, now time.Time, limit int) (turned int, err error) {
	now = now.UTC().Truncate(time.Microsecond)
	var r Rollout
	var controls, exposed []any
	err = s.inRead(ctx, fmt.Sprintf("look for silence under R-%d", id), func(c conn) error {
		if r, err = c.rollout(ctx, id); err != nil {
			return err
		}
		p := r.Policy
		final := p.GrantTTL.Std() + p.Probation.Std() + p.Grace.Std()
		rows, err := c.rows(ctx, textQuiet, id, r.Product, micros(now.Add(-p.Quiet())), micros(r.Started), micros(now.Add(-final)), limit)
		return each(rows, err, func() error {
			var endpoint, is int64
			if err := rows.Scan(&endpoint, &is); err != nil {
				return err
			}
			if is == 0 {
				controls = append(controls, endpoint)
			} else {
				exposed = append(exposed, endpoint)
			}
			return nil
		})
	})
	if err != nil || len(controls)+len(exposed) == 0 {
		return 0, err
	}
	err = s.inWrite(ctx, fmt.Sprintf("record silence under R-%d", id), func(c conn) error {
		b := &batchRun{c: c, now: now, gates: map[int64]*gate{}, endpoints: map[int64]*identity{}}
		turned, err = b.quiet(ctx, r, append(controls, exposed...))
		return err
	})
	return turned, err
}

// quiet looks again behind the rollout's lock, and records.
func (r *batchRun) quiet(ctx context.Context, ro Rollout, who []any) (int, error) {
	g, err := r.c.lockGate(ctx, ro.ID, r.now)
	if err != nil || g == nil || g.watched == nil {
		return 0, err
	}
	who = distinct(who)
	r.gates[ro.ID] = g
	if err := r.loadEndpoints(ctx, who); err != nil {
		return 0, err
	}
	if err := r.c.loadExposures(ctx, g, who); err != nil {
		return 0, err
	}
	p := ro.Policy
	still := map[int64]bool{}
	err = r.c.queryList(ctx, listStillQuiet, []any{ro.Product, micros(r.now.Add(-p.Quiet()))}, who, func(rows *sql.Rows) error {
		var endpoint int64
		err := rows.Scan(&endpoint)
		still[endpoint] = true
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("look again: %w", err)
	}
	for _, e := range who {
		endpoint := e.(int64)
		id, x := r.endpoints[endpoint], g.exposures[endpoint]
		switch {
		case id == nil, x != nil && x.reverted:
		case x == nil && still[endpoint] && !r.keptFrom(g, id):
			g.fail(endpoint, failure{rung: rungControl, channel: health.Silent})
		case x == nil:
		case x.state == health.Open && (still[endpoint] && r.now.Sub(x.granted) > p.Quiet() || r.now.After(p.Deadline(x.granted))):
			r.move(g, id, x, health.Silent, AttemptReport{})
		case x.state == health.Proven && still[endpoint]:
			g.fail(endpoint, failure{rung: x.rung, channel: health.Silent})
			r.member(g, id, "silent-after-proof")
		}
	}
	turned := len(g.watched.failures)
	return turned, r.save(ctx)
}
