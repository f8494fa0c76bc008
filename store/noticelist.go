package store

import (
	"context"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
)

// NoticeQuery selects notices.
type NoticeQuery struct {
	Case  int64 // of this case only, if not 0
	Open  bool  // only those that are not closed
	After int64 // only ids above this: the last of the page before
	Limit int   // at most 1000; 100 if 0
}

// The notices that a viewer may see: $1 is the tenant's name, or the member.
const (
	textNoticesTenant = `SELECT ` + noticeColumns + ` FROM notice n JOIN tenant t ON t.id = n.tenant WHERE t.name = $1 AND n.id > $2 AND (n.case_id = $3 OR $3 = 0) AND (n.closed = FALSE OR n.closed = $4) ORDER BY n.id LIMIT $5`
	textNoticesMember = `SELECT ` + noticeColumns + ` FROM case_member m JOIN notice n ON n.case_id = m.subject JOIN tenant t ON t.id = n.tenant WHERE m.principal = $1 AND m.role <> 'observer' AND n.id > $2 AND (n.case_id = $3 OR $3 = 0) AND (n.closed = FALSE OR n.closed = $4) ORDER BY n.id LIMIT $5`
	textNoticesEngine = `SELECT ` + noticeColumns + ` FROM notice n JOIN tenant t ON t.id = n.tenant WHERE $1 <> '' AND n.id > $2 AND (n.case_id = $3 OR $3 = 0) AND (n.closed = FALSE OR n.closed = $4) ORDER BY n.id LIMIT $5`
)

// ListNotices lists the notices that a viewer may see, by id: a tenant its own, a
// member those of its cases. For a tenant it counts as delivered; it opens
// nothing, since the text is not shown.
func (s *Store) ListNotices(ctx context.Context, v Viewer, q NoticeQuery, now time.Time) (out []Notice, err error) {
	err = s.inWrite(ctx, "list notices", func(c conn) error {
		text, who := textNoticesMember, v.Principal()
		switch {
		case v.engine:
			text, who = textNoticesEngine, v.Actor
		case v.Scope == ScopeTenant:
			text, who = textNoticesTenant, v.Of
		}
		out = nil
		rows, err := c.rows(ctx, text, who, q.After, q.Case, !q.Open, pageSize(q.Limit))
		err = each(rows, err, func() error {
			n, err := scanNotice(rows)
			out = append(out, n)
			return err
		})
		if err != nil {
			return err
		}
		for i := range out {
			if err := c.complete(ctx, &out[i]); err != nil {
				return err
			}
			if v.Scope == ScopeTenant && !v.engine && out[i].Progress.Delivered.IsZero() {
				out[i].Progress.Delivered = now.UTC()
				if err := c.touch(ctx, out[i], now); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return out, err
}

// NoticeCounts is how many notices of a case are in each state, and how many are
// open, for whoever may read the case; an observer gets only the counts that name
// nobody. total is false when even the sum is not to be shown.
func (s *Store) NoticeCounts(ctx context.Context, v Viewer, caseID int64, k int) (cells []notify.Cell, total bool, err error) {
	err = s.inWrite(ctx, "count notices of case "+CaseID(caseID), func(c conn) error {
		m, err := c.mayCase(ctx, v, caseID)
		if err != nil {
			return err
		}
		counts := map[notify.State]int{}
		rows, err := c.rows(ctx, `SELECT state, COUNT(*) FROM notice WHERE case_id = $1 GROUP BY state`, caseID)
		err = each(rows, err, func() error {
			var state notify.State
			var n int
			if err := rows.Scan(&state, &n); err != nil {
				return err
			}
			counts[state] = n
			return nil
		})
		if err != nil {
			return err
		}
		cells = nil
		for _, state := range notify.States() {
			cells = append(cells, notify.Cell{Name: string(state), N: counts[state]})
		}
		total = true
		if !m.engine && (m.Role == psirt.Observer || v.Scope != ScopeOperator) {
			cells, total = notify.Suppress(cells, k)
		}
		return nil
	})
	return cells, total, err
}

// Read is one read of a notice by its tenant.
type Read struct {
	At    time.Time
	Actor string
	Via   string // "api" or "feed"
}

// NoticeReads lists the reads of a notice by its tenant, oldest first. ErrNotFound.
func (s *Store) NoticeReads(ctx context.Context, v Viewer, id int64) (out []Read, err error) {
	err = s.inWrite(ctx, "read the reads of notice "+NoticeID(id), func(c conn) error {
		if _, _, err := c.mayNotice(ctx, v, id); err != nil {
			return err
		}
		out = nil
		rows, err := c.rows(ctx, `SELECT at, actor, via FROM notice_read WHERE notice = $1 ORDER BY at, id LIMIT 1000`, id)
		return each(rows, err, func() error {
			var r Read
			var at int64
			if err := rows.Scan(&at, &r.Actor, &r.Via); err != nil {
				return err
			}
			r.At = fromMicros(at)
			out = append(out, r)
			return nil
		})
	})
	return out, err
}

// FeedNotice is a notice as a feed shows it.
type FeedNotice struct {
	Notice
	Text notify.Message
}

// feedLimit is how many notices a feed holds: the newest.
const feedLimit = 100

// ReadFeed finds the tenant of a feed's secret, and its notices, newest first.
// Each is recorded as read when it is first seen in its edition. ErrNotFound.
func (s *Store) ReadFeed(ctx context.Context, hash Hash, now time.Time) (tenant string, out []FeedNotice, err error) {
	err = s.inWrite(ctx, "read a feed", func(c conn) error {
		var of int64
		if err := c.row(ctx, `SELECT t.id, t.name FROM tenant_contact k JOIN tenant t ON t.id = k.tenant WHERE k.feed = $1`, hash[:]).Scan(&of, &tenant); err != nil {
			return found(err)
		}
		out = nil
		rows, err := c.rows(ctx, `SELECT `+noticeColumns+` FROM notice n JOIN tenant t ON t.id = n.tenant WHERE n.tenant = $1 ORDER BY n.edited DESC, n.id LIMIT $2`, of, feedLimit)
		err = each(rows, err, func() error {
			n, err := scanNotice(rows)
			out = append(out, FeedNotice{Notice: n})
			return err
		})
		if err != nil {
			return err
		}
		v := Viewer{Actor: "feed:" + tenant, Scope: ScopeTenant, Of: tenant}
		for i := range out {
			if err := c.feedEntry(ctx, &out[i], v, now); err != nil {
				return err
			}
		}
		return nil
	})
	return tenant, out, err
}

// feedEntry completes a feed's entry and records that it was fetched.
func (c conn) feedEntry(ctx context.Context, n *FeedNotice, v Viewer, now time.Time) error {
	if err := c.complete(ctx, &n.Notice); err != nil {
		return err
	}
	err := c.row(ctx, `SELECT subject, opaque, body FROM notice_message WHERE notice = $1 AND purpose = 'notice' AND n = $2`, n.ID, n.Edition).Scan(&n.Text.Subject, &n.Text.Opaque, &n.Text.Body)
	if err != nil {
		return found(err)
	}
	var before int64
	if err := c.row(ctx, `SELECT COUNT(*) FROM notice_read WHERE notice = $1 AND via = 'feed' AND at >= $2`, n.ID, micros(n.Progress.Created)).Scan(&before); err != nil || before > 0 {
		return err
	}
	return c.wasRead(ctx, &n.Notice, v, string(notify.Feed), now)
}

// EndNotices ends the notices of a case for tenants that nothing is expected of
// any more: all of them if the case is closed, or those that left the audience.
func (s *Store) EndNotices(ctx context.Context, v Viewer, caseID int64, stay notify.Audience, now time.Time) (ended int, err error) {
	err = s.inWrite(ctx, "end notices of case "+CaseID(caseID), func(c conn) error {
		if _, err := c.mayTell(ctx, v, WaveDraft{Case: caseID}); err != nil {
			return err
		}
		ended = 0
		gone := map[int64]string{}
		rows, err := c.rows(ctx, `SELECT n.id, t.name FROM notice n JOIN tenant t ON t.id = n.tenant WHERE n.case_id = $1 AND n.ended = FALSE`, caseID)
		err = each(rows, err, func() error {
			var id int64
			var name string
			if err := rows.Scan(&id, &name); err != nil {
				return err
			}
			if _, still := stay.Of(name); !still {
				gone[id] = name
			}
			return nil
		})
		if err != nil {
			return err
		}
		for id := range gone {
			if _, err := c.exec(ctx, `UPDATE notice SET ended = TRUE, closed = TRUE, look = 0 WHERE id = $1`, id); err != nil {
				return err
			}
			// What waits to be sent says what is not so any more.
			if _, err := c.exec(ctx, `UPDATE delivery SET state = 'cancelled', due = $2, detail = 'the notice was ended' WHERE notice = $1 AND state = 'waiting'`, id, micros(now)); err != nil {
				return err
			}
			if err := c.seal(ctx, now, caseID, noticeEntry{Kind: "notice.ended", Notice: NoticeID(id), By: v.Actor}); err != nil {
				return err
			}
			ended++
		}
		return nil
	})
	return ended, err
}
