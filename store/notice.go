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

// Notice is one tenant's notice of one case.
type Notice struct {
	ID             int64
	Case           int64
	Tenant         string
	Rung           notify.Rung
	Edition        int64
	Language       notify.Language
	Mark           string
	Created        time.Time
	AcknowledgedBy string
	Reopenings     int64
	Reopened       time.Time
	Ended          bool
	Progress       notify.Progress
	Content        notify.Content
	Reasons        []notify.Reason // of the last decision
	Look           time.Time       // of the next one; zero: when something happens

	tenant, wave int64
}

const noticeColumns = `n.id, n.case_id, n.tenant, t.name, n.wave, n.edition, n.rung, n.language, n.mark, n.resources, n.created, n.edited, n.delivered, n.opened, n.acknowledged, n.acknowledged_by, n.reopenings, n.reopened, n.ended, n.reasons, n.look`

func scanNotice(row interface{ Scan(...any) error }) (n Notice, err error) {
	var resources, reasons string
	var created, edited, delivered, opened, acknowledged, reopened, look int64
	err = row.Scan(&n.ID, &n.Case, &n.tenant, &n.Tenant, &n.wave, &n.Edition, &n.Rung, &n.Language, &n.Mark, &resources, &created, &edited, &delivered, &opened, &acknowledged,
		&n.AcknowledgedBy, &n.Reopenings, &reopened, &n.Ended, &reasons, &look)
	if err != nil {
		return n, found(err)
	}
	n.Created, n.Reopened, n.Look = fromMicros(created), fromMicros(reopened), fromMicros(look)
	n.Progress = notify.Progress{Created: fromMicros(edited), Delivered: fromMicros(delivered), Opened: fromMicros(opened), Acknowledged: fromMicros(acknowledged)}
	if err := json.Unmarshal([]byte(resources), &n.Progress.Resources); err != nil {
		return n, fmt.Errorf("resources of notice %s: %w", NoticeID(n.ID), err)
	}
	if err := json.Unmarshal([]byte(reasons), &n.Reasons); err != nil {
		return n, fmt.Errorf("reasons of notice %s: %w", NoticeID(n.ID), err)
	}
	return n, nil
}

// notice reads a whole notice; lock keeps it as it is until the commit.
func (c conn) notice(ctx context.Context, id int64, lock bool) (n Notice, err error) {
	if lock {
		var one int64
		if err := c.row(ctx, `SELECT id FROM notice WHERE id = $1`+c.s.dialect.lock, id).Scan(&one); err != nil {
			return n, found(err)
		}
	}
	n, err = scanNotice(c.row(ctx, `SELECT `+noticeColumns+` FROM notice n JOIN tenant t ON t.id = n.tenant WHERE n.id = $1`, id))
	if err != nil {
		return n, err
	}
	return n, c.complete(ctx, &n)
}

// complete adds what other tables hold.
func (c conn) complete(ctx context.Context, n *Notice) (err error) {
	if n.Content, err = c.content(ctx, n.Case, n.wave); err != nil {
		return err
	}
	n.Progress.Steps = make([]notify.StepProgress, len(n.Content.Steps))
	for i, s := range n.Content.Steps {
		n.Progress.Steps[i].HasCheck = s.Check != nil
	}
	step := func(i int) *notify.StepProgress {
		if i < 1 || i > len(n.Progress.Steps) {
			return &notify.StepProgress{} // of an edition that had more steps
		}
		return &n.Progress.Steps[i-1]
	}
	rows, err := c.rows(ctx, `SELECT n, attested, attested_by, verified FROM notice_step WHERE notice = $1`, n.ID)
	err = each(rows, err, func() error {
		var i int
		var attested, verified int64
		var by string
		if err := rows.Scan(&i, &attested, &by, &verified); err != nil {
			return err
		}
		p := step(i)
		p.Attested, p.AttestedBy, p.Verified = fromMicros(attested), by, fromMicros(verified)
		return nil
	})
	if err != nil {
		return err
	}
	results, err := c.rows(ctx, `SELECT n, resource, passed, at FROM notice_result WHERE notice = $1 ORDER BY n, resource`, n.ID)
	return each(results, err, func() error {
		var i int
		var r notify.Result
		var at int64
		if err := results.Scan(&i, &r.Resource, &r.Passed, &at); err != nil {
			return err
		}
		r.At = fromMicros(at)
		p := step(i)
		p.Results = append(p.Results, r)
		return nil
	})
}

// mayNotice finds a notice that v may read: its own tenant, for whom it is locked,
// and the members of its case. Everybody else's is ErrNotFound.
func (c conn) mayNotice(ctx context.Context, v Viewer, id int64) (Notice, clearance, error) {
	n, err := c.notice(ctx, id, v.Scope == ScopeTenant && !v.engine)
	if err != nil {
		return Notice{}, clearance{}, err
	}
	if v.Scope == ScopeTenant && !v.engine {
		if v.Of != n.Tenant {
			return Notice{}, clearance{}, ErrNotFound
		}
		return n, clearance{}, nil
	}
	m, err := c.mayCase(ctx, v, n.Case)
	if err != nil {
		return Notice{}, clearance{}, err
	}
	if !m.engine && m.Role == psirt.Observer { // sees counts only
		return Notice{}, clearance{}, ErrNotFound
	}
	return n, m, nil
}

// ReadNotice reads a notice and its newest text. A read by its tenant opens it,
// and each is recorded. ErrNotFound.
func (s *Store) ReadNotice(ctx context.Context, v Viewer, id int64, via string, now time.Time) (n Notice, body notify.Message, err error) {
	err = s.inWrite(ctx, "read notice "+NoticeID(id), func(c conn) error {
		var m clearance
		if n, m, err = c.mayNotice(ctx, v, id); err != nil {
			return err
		}
		err := c.row(ctx, `SELECT subject, opaque, body FROM notice_message WHERE notice = $1 AND purpose = 'notice' AND n = $2`, id, n.Edition).Scan(&body.Subject, &body.Opaque, &body.Body)
		if err != nil {
			return found(err)
		}
		if v.Scope != ScopeTenant || v.engine {
			if m.sealed() {
				return c.seal(ctx, now, n.Case, noticeEntry{Kind: "notice.seen", Notice: NoticeID(id), By: v.Actor})
			}
			return nil
		}
		return c.wasRead(ctx, &n, v, via, now)
	})
	return n, body, err
}

// wasRead records one read by the tenant.
func (c conn) wasRead(ctx context.Context, n *Notice, v Viewer, via string, now time.Time) error {
	if _, err := c.exec(ctx, `INSERT INTO notice_read (id, notice, at, actor, via) VALUES ($1, $2, $3, $4, $5)`, ids.Random(), n.ID, micros(now), v.Actor, via); err != nil {
		return err
	}
	if n.Progress.Delivered.IsZero() {
		n.Progress.Delivered = now
	}
	if n.Progress.Opened.IsZero() && via != string(notify.Feed) { // a feed reader is no person
		n.Progress.Opened = now
	}
	if err := c.touch(ctx, *n, now); err != nil {
		return err
	}
	return c.seal(ctx, now, n.Case, noticeEntry{Kind: "notice.read", Notice: NoticeID(n.ID), By: v.Actor, Via: via})
}

// touch keeps a notice's progress and has it decided about at once.
func (c conn) touch(ctx context.Context, n Notice, now time.Time) error {
	p := n.Progress
	_, err := c.exec(ctx, `UPDATE notice SET delivered = $2, opened = $3, acknowledged = $4, acknowledged_by = $5, reopenings = $6, reopened = $7, state = $8, closed = $9, look = $10 WHERE id = $1`,
		n.ID, micros(p.Delivered), micros(p.Opened), micros(p.Acknowledged), n.AcknowledgedBy, n.Reopenings, micros(n.Reopened), string(p.State()), p.Closed(), micros(now))
	return err
}

// AcknowledgeNotice records that the tenant will act. ErrNotFound for a notice
// that is not the viewer's own; repeating it changes nothing.
func (s *Store) AcknowledgeNotice(ctx context.Context, v Viewer, id int64, now time.Time) (n Notice, err error) {
	err = s.inWrite(ctx, "acknowledge notice "+NoticeID(id), func(c conn) error {
		if n, err = c.own(ctx, v, id); err != nil {
			return err
		}
		// A notice that opened again, or has a new edition, is acknowledged anew.
		if last := n.Progress.Acknowledged; !last.IsZero() && !last.Before(n.Reopened) && !last.Before(n.Progress.Created) {
			return nil
		}
		n.Progress.Acknowledged, n.AcknowledgedBy = now, v.Actor
		n.reached(now)
		if err := c.touch(ctx, n, now); err != nil {
			return err
		}
		return c.seal(ctx, now, n.Case, noticeEntry{Kind: "notice.acknowledged", Notice: NoticeID(id), By: v.Actor})
	})
	return n, err
}

// reached: who answers has it, and has read it.
func (n *Notice) reached(now time.Time) {
	if n.Progress.Delivered.IsZero() {
		n.Progress.Delivered = now
	}
	if n.Progress.Opened.IsZero() {
		n.Progress.Opened = now
	}
}

// own finds a notice of the tenant itself.
func (c conn) own(ctx context.Context, v Viewer, id int64) (Notice, error) {
	if v.Scope != ScopeTenant || v.engine {
		return Notice{}, fmt.Errorf("only the tenant itself may answer for itself: %w", psirt.ErrForbidden)
	}
	n, _, err := c.mayNotice(ctx, v, id)
	return n, err
}

// AttestStep records that the tenant says that a step is done, which is weaker
// than its check. ErrInvalid if there is no such step.
func (s *Store) AttestStep(ctx context.Context, v Viewer, id int64, step int, now time.Time) (n Notice, err error) {
	err = s.inWrite(ctx, "attest a step of notice "+NoticeID(id), func(c conn) error {
		if n, err = c.own(ctx, v, id); err != nil {
			return err
		}
		if step < 1 || step > len(n.Progress.Steps) {
			return fmt.Errorf("step %d: the notice has %d: %w", step, len(n.Progress.Steps), ErrInvalid)
		}
		if _, err := c.exec(ctx, `INSERT INTO notice_step (notice, n, attested, attested_by, verified) VALUES ($1, $2, $3, $4, 0) ON CONFLICT (notice, n) DO UPDATE SET attested = excluded.attested, attested_by = excluded.attested_by`,
			id, step, micros(now), v.Actor); err != nil {
			return err
		}
		n.Progress.Steps[step-1].Attested, n.Progress.Steps[step-1].AttestedBy = now.UTC(), v.Actor
		n.reached(now)
		if err := c.touch(ctx, n, now); err != nil {
			return err
		}
		return c.seal(ctx, now, n.Case, noticeEntry{Kind: "notice.attested", Notice: NoticeID(id), By: v.Actor, Step: step})
	})
	return n, err
}

// CheckResult is what a step's machine check said on one resource.
type CheckResult struct {
	Notice   int64
	Step     int // from 1
	Resource string
	Passed   bool
	At       time.Time
}

// RecordChecks keeps results of machine checks and opens again what fails after
// it held. A result that is older than the one kept, or of a resource that the
// notice does not name, changes nothing.
func (s *Store) RecordChecks(ctx context.Context, results []CheckResult, now time.Time) error {
	by := map[int64][]CheckResult{}
	for _, r := range results {
		by[r.Notice] = append(by[r.Notice], r)
	}
	order := make([]int64, 0, len(by))
	for id := range by {
		order = append(order, id)
	}
	slices.Sort(order)
	return s.inWrite(ctx, "record checks", func(c conn) error {
		for _, id := range order {
			if err := c.checked(ctx, id, by[id], now); err != nil {
				return fmt.Errorf("notice %s: %w", NoticeID(id), err)
			}
		}
		return nil
	})
}

func (c conn) checked(ctx context.Context, id int64, results []CheckResult, now time.Time) error {
	n, err := c.notice(ctx, id, true)
	if err != nil {
		return err
	}
	before := n.Progress
	for _, r := range results {
		known := slices.ContainsFunc(n.Progress.Resources, func(x notify.Resource) bool { return x.ID == r.Resource })
		if !known || r.Step < 1 || r.Step > len(n.Progress.Steps) {
			continue
		}
		if _, err := c.exec(ctx, `INSERT INTO notice_result (notice, n, resource, passed, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (notice, n, resource) DO UPDATE SET passed = excluded.passed, at = excluded.at WHERE notice_result.at <= excluded.at`,
			id, r.Step, r.Resource, r.Passed, micros(r.At)); err != nil {
			return err
		}
	}
	after, err := c.notice(ctx, id, false)
	if err != nil {
		return err
	}
	changed, err := c.settleSteps(ctx, before, &after, now)
	if err != nil || !changed {
		return err
	}
	return c.touch(ctx, after, now)
}

// settleSteps keeps when steps became verified, and counts those that opened
// again. changed is false if no step's state is another one.
func (c conn) settleSteps(ctx context.Context, before notify.Progress, n *Notice, now time.Time) (changed bool, err error) {
	for i := range n.Progress.Steps {
		was, is := before.Steps[i].State(before.Resources), n.Progress.Steps[i].State(n.Progress.Resources)
		if was == is {
			continue
		}
		changed = true
		e := noticeEntry{Notice: NoticeID(n.ID), Step: i + 1}
		switch is {
		case notify.StepVerified:
			e.Kind = "notice.verified"
			if _, err := c.exec(ctx, `INSERT INTO notice_step (notice, n, attested, attested_by, verified) VALUES ($1, $2, 0, '', $3) ON CONFLICT (notice, n) DO UPDATE SET verified = excluded.verified`, n.ID, i+1, micros(now)); err != nil {
				return changed, err
			}
			n.Progress.Steps[i].Verified = now
		case notify.StepReopened:
			e.Kind = "notice.reopened"
			n.Reopenings++
			n.Reopened = now
		default:
			continue
		}
		if err := c.seal(ctx, now, n.Case, e); err != nil {
			return changed, err
		}
	}
	return changed, nil
}
