package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/rollout"
)

// AppliedPolicy is one revision of a policy, with who applied it when.
type AppliedPolicy struct {
	rollout.Applied
	At time.Time
	By string // actor
}

// ApplyPolicy puts a policy, which the caller has checked, in force as the next
// revision of its name. base is the revision that was seen in force, 0 for none;
// ErrConflict if another is. What is in force already is not applied again:
// changed is false then, whatever base is.
func (s *Store) ApplyPolicy(ctx context.Context, p rollout.Policy, base int64, actor string, now time.Time) (out AppliedPolicy, changed bool, err error) {
	doc, err := p.Document()
	if err != nil {
		return out, false, err
	}
	err = s.inWrite(ctx, fmt.Sprintf("apply policy %q", p.Name), func(c conn) error {
		changed = false
		// Its row is the lock of all applies: one after another.
		if _, err := c.exec(ctx, `UPDATE counter SET value = value + 1 WHERE name = 'policy'`); err != nil {
			return err
		}
		out, err = c.policy(ctx, rollout.Ref{Name: p.Name})
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return err
		case out.Policy.Same(p):
			return nil
		}
		if out.Revision != base {
			return fmt.Errorf("revision %d was seen in force, %d is: %w", base, out.Revision, ErrConflict)
		}
		out = AppliedPolicy{Applied: rollout.Applied{Name: p.Name, Revision: base + 1, Policy: p}, At: now.UTC().Truncate(time.Microsecond), By: actor}
		if _, err := c.exec(ctx, `INSERT INTO policy (name, revision, document, applied, applied_by) VALUES ($1, $2, $3, $4, $5)`,
			out.Name, out.Revision, string(doc), micros(now), actor); err != nil {
			return err
		}
		changed = true
		return c.note(ctx, now, "policy.applied", p.Name, actor, map[string]any{"policy": p.Name, "revision": out.Revision, "document": json.RawMessage(doc)})
	})
	return out, changed, err
}

// Policy finds a policy. ErrNotFound.
func (s *Store) Policy(ctx context.Context, ref rollout.Ref) (out AppliedPolicy, err error) {
	err = s.inRead(ctx, fmt.Sprintf("read policy %s", ref), func(c conn) error {
		out, err = c.policy(ctx, ref)
		return err
	})
	return out, err
}

// ListPolicies lists the newest revision of each policy, by name.
func (s *Store) ListPolicies(ctx context.Context) (out []AppliedPolicy, err error) {
	err = s.inRead(ctx, "list policies", func(c conn) error {
		out, err = c.policies(ctx, `SELECT p.name, p.revision, p.document, p.applied, p.applied_by FROM policy p
			WHERE p.revision = (SELECT MAX(q.revision) FROM policy q WHERE q.name = p.name) ORDER BY p.name`)
		return err
	})
	return out, err
}

func (c conn) policy(ctx context.Context, ref rollout.Ref) (AppliedPolicy, error) {
	out, err := c.policies(ctx, `SELECT name, revision, document, applied, applied_by FROM policy
		WHERE name = $1 AND (revision = $2 OR $2 = 0) ORDER BY revision DESC LIMIT 1`, ref.Name, ref.Revision)
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("policy %s: %w", ref, ErrNotFound)
	}
	if err != nil {
		return AppliedPolicy{}, err
	}
	return out[0], nil
}

func (c conn) policies(ctx context.Context, text string, args ...any) (out []AppliedPolicy, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var p AppliedPolicy
		var doc []byte
		var at int64
		if err := rows.Scan(&p.Name, &p.Revision, &doc, &at, &p.By); err != nil {
			return err
		}
		p.At = fromMicros(at)
		if err := json.Unmarshal(doc, &p.Policy); err != nil {
			return fmt.Errorf("policy %s@%d: %w", p.Name, p.Revision, err)
		}
		out = append(out, p)
		return nil
	})
	return out, err
}
