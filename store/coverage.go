package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/ids"
)

// Eligible lists the endpoints of a product that were heard from at or after
// since: those who may be chosen for coverage. key orders them by rank. It holds
// the whole fleet in memory, some hundred bytes for each endpoint.
func (s *Store) Eligible(ctx context.Context, product string, key []byte, since time.Time) (out []fleet.Member, err error) {
	err = s.inRead(ctx, "list endpoints of "+product, func(c conn) error {
		out = nil
		rows, err := c.rows(ctx, `SELECT i.endpoint, e.labels, e.tenant, e.domain FROM installation i JOIN endpoint e ON e.id = i.endpoint
			WHERE i.product = $1 AND i.last_seen >= $2 AND NOT i.goodbye`, product, micros(since))
		return each(rows, err, func() error {
			var labels string
			var tenant int64
			var m fleet.Member
			if err := rows.Scan(&m.ID, &labels, &tenant, &m.Domain); err != nil {
				return err
			}
			m.Rank, m.Tenant = fleet.Rank(key, ids.Format("E", m.ID)), strconv.FormatInt(tenant, 10)
			m.Labels, err = c.s.labelsOf(labels)
			out = append(out, m)
			return err
		})
	})
	return out, err
}

// listCovering inserts those chosen for coverage.
var listCovering = &list{head: `INSERT INTO coverage_member (rollout, endpoint) VALUES `, row: `($1, ?)`, fixed: 1}

// choose records who was chosen for coverage, and returns the digest of their ids
// for the ledger.
func (c conn) choose(ctx context.Context, id int64, r fleet.Reach) (digest string, err error) {
	if len(r.Members) == 0 && r.Cells == 0 && len(r.Uncovered) == 0 {
		return "", nil
	}
	rows, names := make([]any, 0, len(r.Members)), make([]string, 0, len(r.Members))
	for _, m := range r.Members {
		rows, names = append(rows, m), append(names, ids.Format("E", m))
	}
	if _, err := c.execList(ctx, listCovering, []any{id}, rows); err != nil {
		return "", fmt.Errorf("record who covers the fleet: %w", err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("coverage: %w", err)
	}
	if _, err := c.exec(ctx, `UPDATE rollout SET coverage = $2 WHERE id = $1`, id, string(b)); err != nil {
		return "", fmt.Errorf("record coverage: %w", err)
	}
	return digestOf(names), nil
}

// covering lists who was chosen for coverage.
func (c conn) covering(ctx context.Context, id int64) (out []int64, err error) {
	rows, err := c.rows(ctx, `SELECT endpoint FROM coverage_member WHERE rollout = $1 ORDER BY endpoint`, id)
	err = each(rows, err, func() error {
		var endpoint int64
		err := rows.Scan(&endpoint)
		out = append(out, endpoint)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read who covers the fleet: %w", err)
	}
	return out, nil
}

// Chosen lists the ids of the endpoints that were chosen for a rollout's coverage.
func (s *Store) Chosen(ctx context.Context, id int64) (out []string, err error) {
	err = s.inRead(ctx, fmt.Sprintf("read who covers the fleet under R-%d", id), func(c conn) error {
		all, err := c.covering(ctx, id)
		out = nil
		for _, endpoint := range all {
			out = append(out, ids.Format("E", endpoint))
		}
		return err
	})
	return out, err
}
