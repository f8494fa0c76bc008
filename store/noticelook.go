package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
)

// NoticesToLookAt lists notices that are due to be decided about, oldest first.
func (s *Store) NoticesToLookAt(ctx context.Context, now time.Time, limit int) (out []int64, err error) {
	err = s.inRead(ctx, "list notices to look at", func(c conn) error {
		rows, err := c.rows(ctx, `SELECT id FROM notice WHERE look > 0 AND look <= $1 ORDER BY look LIMIT $2`, micros(now), limit)
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

// DecideNotice decides about one notice and does what was decided, in one
// transaction: messages and their deliveries are queued, pages raised, and the
// instant of the next look kept. Repeating it does nothing more.
func (s *Store) DecideNotice(ctx context.Context, id int64, policy notify.Policy, l Letterhead, now time.Time) (d notify.Decision, err error) {
	err = s.inWrite(ctx, "decide about notice "+NoticeID(id), func(c conn) error {
		n, err := c.notice(ctx, id, true)
		if err != nil {
			return err
		}
		snap, err := c.noticeSnapshot(ctx, n, policy)
		if err != nil {
			return err
		}
		d = notify.Decide(snap, now)
		if err := c.act(ctx, n, snap, d, l, now); err != nil {
			return err
		}
		reasons, err := json.Marshal(d.Reasons)
		if err != nil {
			return err
		}
		if _, err := c.exec(ctx, `UPDATE notice SET state = $2, closed = $3, reasons = $4, look = $5 WHERE id = $1`,
			id, string(snap.Progress.State()), snap.Progress.Closed(), string(reasons), micros(d.Next)); err != nil {
			return err
		}
		if len(d.Acts) == 0 {
			return nil
		}
		if err := c.pageOwner(ctx, n, d.Acts, now); err != nil {
			return fmt.Errorf("page the case's owner: %w", err)
		}
		return c.seal(ctx, now, n.Case, noticeEntry{Kind: "notice.decided", Notice: NoticeID(id), Acts: d.Acts, Reasons: d.Reasons, Policy: policy.Name})
	})
	return d, err
}

// noticeEntry is the content of a commitment about a notice.
type noticeEntry struct {
	Kind    string          `json:"kind"`
	Notice  string          `json:"notice"`
	By      string          `json:"by,omitempty"`
	Via     string          `json:"via,omitempty"`
	Step    int             `json:"step,omitempty"`
	Channel notify.Channel  `json:"channel,omitempty"`
	Message string          `json:"message,omitempty"`
	Outcome string          `json:"outcome,omitempty"`
	Doubt   int             `json:"doubtful,omitempty"`
	Policy  string          `json:"policy,omitempty"`
	Acts    []notify.Act    `json:"acts,omitempty"`
	Reasons []notify.Reason `json:"reasons,omitempty"`
}

// noticeSnapshot gathers what deciding rests on.
func (c conn) noticeSnapshot(ctx context.Context, n Notice, policy notify.Policy) (notify.Snapshot, error) {
	snap := notify.Snapshot{Policy: policy, Edition: int(n.Edition), Ended: n.Ended, Progress: n.Progress, ReopenedAt: n.Reopened, Reopenings: int(n.Reopenings)}
	k, err := c.contact(ctx, n.tenant)
	if err != nil && found(err) != ErrNotFound { //nolint:errorlint // contact has wrapped nothing
		return snap, err
	}
	snap.Channels, snap.Second = k.channels(), k.Second != ""
	rows, err := c.rows(ctx, `SELECT m.purpose, m.n, d.channel, d.state FROM delivery d JOIN notice_message m ON m.id = d.message WHERE d.notice = $1`, n.ID)
	err = each(rows, err, func() error {
		var f notify.DeliveryFact
		if err := rows.Scan(&f.Purpose, &f.N, &f.Channel, &f.State); err != nil {
			return err
		}
		snap.Deliveries = append(snap.Deliveries, f)
		return nil
	})
	if err != nil {
		return snap, err
	}
	pages, err := c.rows(ctx, `SELECT code, n FROM notice_page WHERE notice = $1`, n.ID)
	err = each(pages, err, func() error {
		var p notify.PageFact
		if err := pages.Scan(&p.Code, &p.N); err != nil {
			return err
		}
		snap.Pages = append(snap.Pages, p)
		return nil
	})
	return snap, err
}

// act writes down what a decision asks for.
func (c conn) act(ctx context.Context, n Notice, snap notify.Snapshot, d notify.Decision, l Letterhead, now time.Time) error {
	for _, a := range d.Acts {
		if a.Page != "" {
			if _, err := c.exec(ctx, `INSERT INTO notice_page (notice, code, n, at) VALUES ($1, $2, $3, $4) ON CONFLICT (notice, code, n) DO NOTHING`, n.ID, a.Page, a.N, micros(now)); err != nil {
				return err
			}
			continue
		}
		message, err := c.message(ctx, n, a, l, now)
		if err != nil {
			return fmt.Errorf("write the %s: %w", a.Purpose, err)
		}
		if _, err := c.execList(ctx, listDeliveries, []any{micros(now)}, newDelivery(message, n.ID, a.Channel, l.Domain)); err != nil {
			return err
		}
	}
	return nil
}

// pageOwner calls the case's owner once, whatever the number of reasons and of
// notices: whoever is being called already hears of all by looking. A case that
// nobody owns has its reasons in its notices only.
func (c conn) pageOwner(ctx context.Context, n Notice, acts []notify.Act, now time.Time) error {
	i := slices.IndexFunc(acts, func(a notify.Act) bool { return a.Page != "" })
	if i < 0 {
		return nil
	}
	engine := Engine("herald")
	m, err := c.mayCase(ctx, engine, n.Case)
	if err != nil {
		return err
	}
	before, _, err := c.extend(ctx, engine, m, n.Case, nil, now)
	if err != nil {
		return err
	}
	if before.Owner == "" || !before.Closed.IsZero() || (before.Page != nil && before.Page.Acknowledged.IsZero()) {
		return nil
	}
	fact, err := psirt.Draft(&psirt.PageRaised{To: before.Owner, Why: "notice " + NoticeID(n.ID) + ": " + acts[i].Page}, time.Time{}, psirt.AmberStrict)
	if err != nil {
		return err
	}
	kase, all, err := c.extend(ctx, engine, m, n.Case, []psirt.Fact{fact}, now)
	if err != nil {
		return err
	}
	var p pending
	if err := c.keepCase(ctx, &p, n.Case, kase, all[m.revision:]); err != nil {
		return err
	}
	return p.write(ctx, c, now)
}

// message finds or renders the message of an act.
func (c conn) message(ctx context.Context, n Notice, a notify.Act, l Letterhead, now time.Time) (id int64, err error) {
	const text = `SELECT id FROM notice_message WHERE notice = $1 AND purpose = $2 AND n = $3`
	err = found(c.row(ctx, text, n.ID, string(a.Purpose), a.N).Scan(&id))
	if err != ErrNotFound { //nolint:errorlint // found returns it itself
		return id, err
	}
	id = ids.Random()
	msg := notify.Render(notify.Letter{
		Notice: NoticeID(n.ID), Rung: n.Rung, Content: n.Content, To: notify.Recipient{Tenant: n.Tenant, Resources: n.Progress.Resources},
		Language: n.Language, Mark: notify.NewMark(l.MarkKey, n.Case, n.Tenant), Purpose: a.Purpose, Open: n.Progress.Open(),
	})
	_, err = c.execList(ctx, listMessages, []any{micros(now)}, []any{id, n.ID, string(a.Purpose), a.N, msg.Subject, msg.Opaque, msg.Body})
	return id, err
}
