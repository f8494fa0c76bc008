package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
)

// Prepared is a case whose notices are written, and the rung that its tenants may
// hear at.
type Prepared struct {
	Case    int64
	Rung    notify.Rung
	Content notify.Content
}

// PrepareNotices keeps what a case's notices will say, in place of what was
// prepared before. It tells nobody. ErrNotFound if the viewer may not read the
// case.
func (s *Store) PrepareNotices(ctx context.Context, v Viewer, caseID int64, content notify.Content, now time.Time) error {
	if err := content.Check(); err != nil {
		return err
	}
	b, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return s.inWrite(ctx, "prepare the notices of case "+CaseID(caseID), func(c conn) error {
		m, err := c.mayCase(ctx, v, caseID)
		if err != nil {
			return err
		}
		if !m.engine && (v.Scope != ScopeOperator || m.Role == psirt.Observer) {
			return fmt.Errorf("preparing notices takes a member of the case: %w", psirt.ErrForbidden)
		}
		if _, err := c.exec(ctx, `INSERT INTO notice_draft (case_id, content, actor, at) VALUES ($1, $2, $3, $4) ON CONFLICT (case_id) DO UPDATE SET content = excluded.content, actor = excluded.actor, at = excluded.at`,
			caseID, string(b), v.Actor, micros(now)); err != nil {
			return err
		}
		return c.seal(ctx, now, caseID, struct {
			Kind    string          `json:"kind"`
			By      string          `json:"by"`
			Content json.RawMessage `json:"content"`
		}{"notice.prepared", v.Actor, b})
	})
}

// PreparedNotices reads what was prepared. ErrNotFound if nothing was, or the
// viewer may not read the case.
func (s *Store) PreparedNotices(ctx context.Context, v Viewer, caseID int64) (out notify.Content, err error) {
	err = s.inWrite(ctx, "read the prepared notices of case "+CaseID(caseID), func(c conn) error {
		if _, err := c.mayCase(ctx, v, caseID); err != nil {
			return err
		}
		var text string
		if err := c.row(ctx, `SELECT content FROM notice_draft WHERE case_id = $1`, caseID).Scan(&text); err != nil {
			return found(err)
		}
		out, err = notify.ParseContent([]byte(text))
		return err
	})
	return out, err
}

// PreparedCases lists the prepared cases whose tenants may hear now, for the
// engine.
func (s *Store) PreparedCases(ctx context.Context) (out []Prepared, err error) {
	err = s.inRead(ctx, "list prepared cases", func(c conn) error {
		rows, err := c.rows(ctx, `SELECT d.case_id, c.rung, d.content FROM notice_draft d JOIN psirt_case c ON c.id = d.case_id WHERE c.closed = FALSE AND c.rung IN ('tenants', 'public', 'details') ORDER BY d.case_id`)
		return each(rows, err, func() error {
			var p Prepared
			var text string
			if err := rows.Scan(&p.Case, &p.Rung, &text); err != nil {
				return err
			}
			if p.Content, err = notify.ParseContent([]byte(text)); err != nil {
				return fmt.Errorf("prepared content in row %d: %w", p.Case, err)
			}
			out = append(out, p)
			return nil
		})
	})
	return out, err
}

// CasesToEnd lists the closed cases whose notices did not end yet, for the engine.
func (s *Store) CasesToEnd(ctx context.Context) (out []int64, err error) {
	err = s.inRead(ctx, "list closed cases with notices", func(c conn) error {
		rows, err := c.rows(ctx, `SELECT DISTINCT n.case_id FROM notice n JOIN psirt_case c ON c.id = n.case_id WHERE c.closed = TRUE AND n.ended = FALSE ORDER BY n.case_id`)
		return each(rows, err, func() error {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			out = append(out, id)
			return nil
		})
	})
	return out, err
}

// NoticeMarks are the marks of all tenants that were told of a case, for its
// members. ErrNotFound.
func (s *Store) NoticeMarks(ctx context.Context, v Viewer, caseID int64, key []byte) (out map[string]notify.Mark, err error) {
	err = s.inWrite(ctx, "read the marks of case "+CaseID(caseID), func(c conn) error {
		m, err := c.mayCase(ctx, v, caseID)
		if err != nil {
			return err
		}
		if !m.engine && (v.Scope != ScopeOperator || m.Role == psirt.Observer) {
			return fmt.Errorf("tracing takes a member of the case: %w", psirt.ErrForbidden)
		}
		out = map[string]notify.Mark{}
		rows, err := c.rows(ctx, `SELECT t.name FROM notice n JOIN tenant t ON t.id = n.tenant WHERE n.case_id = $1`, caseID)
		return each(rows, err, func() error {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			out[name] = notify.NewMark(key, caseID, name)
			return nil
		})
	})
	return out, err
}
