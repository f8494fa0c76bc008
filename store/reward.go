package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/psirt"
)

// AppliedRewards is one revision of a table of rewards, with who applied it when.
type AppliedRewards struct {
	psirt.RewardTable
	Revision int64
	Text     string // as it was given
	Made     time.Time
	Actor    string
	InForce  bool // it is the one that was applied last
}

// ApplyRewards puts a table of rewards in force as the next revision of its id.
// Whoever may triage may. What is in force already, byte for byte, is not applied
// again: changed is false then.
func (s *Store) ApplyRewards(ctx context.Context, v Viewer, body []byte, now time.Time) (out AppliedRewards, changed bool, err error) {
	t, err := psirt.ParseRewardTable(body)
	if err != nil {
		return out, false, err
	}
	err = s.inWrite(ctx, fmt.Sprintf("apply table of rewards %q", t.ID), func(c conn) error {
		changed = false
		if err := c.mayTriage(ctx, v, true); err != nil {
			return err
		}
		// Its row is the lock of all applies: one after another.
		if _, err := c.exec(ctx, `UPDATE counter SET value = value + 1 WHERE name = 'policy'`); err != nil {
			return err
		}
		before, err := c.rewards(ctx, psirt.RewardRef{})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if before.Text == string(body) {
			out = before
			return nil
		}
		same, err := c.rewards(ctx, psirt.RewardRef{ID: t.ID})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		// The last one applied is in force, also if a clock went back.
		made := max(micros(now), micros(before.Made)+1)
		if before.Revision == 0 {
			made = micros(now)
		}
		if _, err := c.exec(ctx, `INSERT INTO reward_table (id, revision, body, made, actor) VALUES ($1, $2, $3, $4, $5)`, t.ID, same.Revision+1, string(body), made, v.Actor); err != nil {
			return err
		}
		if out, err = c.rewards(ctx, psirt.RewardRef{}); err != nil {
			return err
		}
		changed = true
		return c.note(ctx, now, "rewards.applied", "", v.Actor, map[string]any{"table": out.Name(), "revision": out.Revision, "document": json.RawMessage(body)})
	})
	return out, changed, err
}

// Rewards finds an applied table of rewards. ErrNotFound.
func (s *Store) Rewards(ctx context.Context, ref psirt.RewardRef) (out AppliedRewards, err error) {
	err = s.inRead(ctx, "read table of rewards", func(c conn) error {
		out, err = c.rewards(ctx, ref)
		return err
	})
	return out, err
}

// ListRewards lists all revisions of all tables, the last applied first.
func (s *Store) ListRewards(ctx context.Context) (out []AppliedRewards, err error) {
	err = s.inRead(ctx, "list tables of rewards", func(c conn) error {
		out, err = c.rewardTables(ctx, `SELECT id, revision, body, made, actor, made = (SELECT MAX(made) FROM reward_table) FROM reward_table ORDER BY made DESC`)
		return err
	})
	return out, err
}

func (c conn) rewards(ctx context.Context, ref psirt.RewardRef) (AppliedRewards, error) {
	out, err := c.rewardTables(ctx, `SELECT id, revision, body, made, actor, made = (SELECT MAX(made) FROM reward_table) FROM reward_table WHERE (id = $1 OR $1 = '') AND (revision = $2 OR $2 = 0) ORDER BY made DESC LIMIT 1`, ref.ID, ref.Revision)
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("table of rewards %q: %w", ref.ID, ErrNotFound)
	}
	if err != nil {
		return AppliedRewards{}, err
	}
	return out[0], nil
}

func (c conn) rewardTables(ctx context.Context, text string, args ...any) (out []AppliedRewards, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var a AppliedRewards
		var id string
		var made int64
		if err := rows.Scan(&id, &a.Revision, &a.Text, &made, &a.Actor, &a.InForce); err != nil {
			return err
		}
		a.Made = fromMicros(made)
		if a.RewardTable, err = psirt.ParseRewardTable([]byte(a.Text)); err != nil {
			return fmt.Errorf("table of rewards %s@%d: %w", id, a.Revision, err)
		}
		out = append(out, a)
		return nil
	})
	return out, err
}
