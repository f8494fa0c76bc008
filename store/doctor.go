package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
)

// Problem is something in the database that breaks one of its rules.
type Problem struct {
	Code    string // stable: "counts", "recount", "reverted", "preflight", "cohort", "orphan", "ledger-head", "commitment", "case"
	Subject string // "R-17", "E-..."
	Detail  string
}

// Doctor checks the rules that tie rows together: counts against exposures
// recounted, per rollout and segment; rows without owner; the ledger's head
// against its entries. It changes nothing.
func (s *Store) Doctor(ctx context.Context) (out []Problem, err error) {
	err = s.inRead(ctx, "examine database", func(c conn) error {
		out = nil
		rollouts, err := c.rollouts(ctx, `SELECT `+rolloutColumns+fromRollout+`ORDER BY r.id`)
		if err != nil {
			return err
		}
		for _, r := range rollouts {
			found, err := c.examineRollout(ctx, r)
			if err != nil {
				return fmt.Errorf("rollout R-%d: %w", r.ID, err)
			}
			out = append(out, found...)
		}
		for _, examine := range []func(context.Context) ([]Problem, error){c.examineOrphans, c.examineLedger, c.examineCases} {
			found, err := examine(ctx)
			if err != nil {
				return err
			}
			out = append(out, found...)
		}
		return nil
	})
	return out, err
}

// examineRollout recounts one rollout from its exposures.
func (c conn) examineRollout(ctx context.Context, r Rollout) (out []Problem, err error) {
	bad := func(code, format string, a ...any) {
		out = append(out, Problem{code, subjectOf(r.ID), fmt.Sprintf(format, a...)})
	}
	kept, err := c.segments(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	kept[""] = r.Counts
	counted, gone, err := c.recount(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	for _, seg := range slices.Sorted(maps.Keys(kept)) {
		n := kept[seg]
		if err := n.Check(); err != nil {
			bad("counts", "segment %q: %v", seg, err)
		}
		if counted[seg] != n {
			bad("recount", "segment %q: kept %+v, its exposures are %+v", seg, n, counted[seg])
		}
	}
	if r.Reverted != gone {
		bad("reverted", "kept %d reverted, its exposures are %d", r.Reverted, gone)
	}
	var refused int64
	if err := c.row(ctx, `SELECT COUNT(*) FROM preflight_failure WHERE rollout = $1`, r.ID).Scan(&refused); err != nil {
		return nil, err
	}
	if r.PreflightFailed != refused {
		bad("preflight", "kept %d preflight failures, there are %d", r.PreflightFailed, refused)
	}
	if r.Policy.Budget != nil {
		wrong, err := c.examineCohorts(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		for _, w := range wrong {
			bad("cohort", "%s", w)
		}
	}
	return out, nil
}

// recount counts a rollout's exposures, in total and by segment.
func (c conn) recount(ctx context.Context, id int64) (counts map[string]health.Counts, gone int64, err error) {
	counts = map[string]health.Counts{}
	rows, err := c.rows(ctx, `SELECT x.state, x.reverted, COALESCE(e.labels, '{}'), COUNT(*) FROM exposure x LEFT JOIN endpoint e ON e.id = x.endpoint
		WHERE x.rollout = $1 GROUP BY x.state, x.reverted, COALESCE(e.labels, '{}')`, id)
	err = each(rows, err, func() error {
		var state health.State
		var reverted bool
		var labels string
		var n int64
		if err := rows.Scan(&state, &reverted, &labels, &n); err != nil {
			return err
		}
		if reverted || state == health.Harmed {
			gone += n
		}
		segments, err := c.s.segmentsOf(labels)
		if err != nil {
			return err
		}
		var one health.Counts
		one.Grant()
		one.Move(health.Open, state)
		for _, seg := range append([]string{""}, segments...) {
			sum := counts[seg]
			add(&sum, &health.Counts{Exposed: n, Proven: n * one.Proven, Harmed: n * one.Harmed, Silent: n * one.Silent, Open: n * one.Open})
			counts[seg] = sum
		}
		return nil
	})
	return counts, gone, err
}

// examineOrphans looks for rows whose owner is missing: the hot path's tables
// have no foreign keys.
func (c conn) examineOrphans(ctx context.Context) (out []Problem, err error) {
	for _, q := range []struct{ what, text string }{
		{"exposure of no endpoint", `SELECT x.endpoint FROM exposure x LEFT JOIN endpoint e ON e.id = x.endpoint WHERE e.id IS NULL LIMIT 100`},
		{"exposure of no rollout", `SELECT x.endpoint FROM exposure x LEFT JOIN rollout r ON r.id = x.rollout WHERE r.id IS NULL LIMIT 100`},
		{"installation of no endpoint", `SELECT i.endpoint FROM installation i LEFT JOIN endpoint e ON e.id = i.endpoint WHERE e.id IS NULL LIMIT 100`},
		{"preflight failure of no endpoint", `SELECT f.endpoint FROM preflight_failure f LEFT JOIN endpoint e ON e.id = f.endpoint WHERE e.id IS NULL LIMIT 100`},
	} {
		rows, err := c.rows(ctx, q.text)
		err = each(rows, err, func() error {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			out = append(out, Problem{"orphan", ids.Format("E", id), q.what})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", q.what, err)
		}
	}
	return out, nil
}

// examineLedger compares the head with the last entry. VerifyLedger reads all.
func (c conn) examineLedger(ctx context.Context) ([]Problem, error) {
	head, err := c.head(ctx)
	if err != nil {
		return nil, fmt.Errorf("read ledger head: %w", err)
	}
	last, err := c.entries(ctx, entryTexts[[2]bool{false, true}], int64(1<<63-1), 1)
	if err != nil {
		return nil, fmt.Errorf("read last ledger entry: %w", err)
	}
	switch {
	case head.Size == 0 && len(last) == 0:
		return nil, nil
	case len(last) == 0 || last[0].Seq != head.Size-1 || last[0].Hash() != head.Last:
		return []Problem{{"ledger-head", "ledger", fmt.Sprintf("the head says %d entries ending in %s, which is not the last entry", head.Size, head.Last)}}, nil
	}
	return nil, nil
}
