package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/notify"
)

// Shipment is a delivery that a server has leased, and all that its transport
// needs.
type Shipment struct {
	ID      int64
	Attempt int
	Channel notify.Channel
	Parcel  notify.Parcel
}

const deliveryColumns = `d.channel, d.message_id, d.state, d.created, d.due, d.attempts, d.doubtful, d.code, d.detail`

func scanDelivery(row interface{ Scan(...any) error }, more ...any) (d notify.Delivery, err error) {
	var created, due int64
	err = row.Scan(append([]any{&d.Channel, &d.MessageID, &d.State, &created, &due, &d.Attempts, &d.Doubtful, &d.Code, &d.Detail}, more...)...)
	d.Created, d.Due = fromMicros(created), fromMicros(due)
	return d, found(err)
}

func (c conn) keepDelivery(ctx context.Context, id int64, d notify.Delivery, holder string) error {
	_, err := c.exec(ctx, `UPDATE delivery SET state = $2, due = $3, attempts = $4, doubtful = $5, code = $6, detail = $7, holder = $8 WHERE id = $1`,
		id, string(d.State), micros(d.Due), d.Attempts, d.Doubtful, d.Code, d.Detail, holder)
	return err
}

// LeaseDelivery leases the delivery that has been due longest, for holder. The
// intent is in the log of attempts before anything is sent. ErrNotFound if none is
// due. A delivery for which the tenant has no address any more is cancelled, and
// the next one is looked at.
func (s *Store) LeaseDelivery(ctx context.Context, holder string, now time.Time) (out Shipment, err error) {
	for {
		var empty bool
		err := s.inWrite(ctx, "lease a delivery", func(c conn) error {
			empty = false
			id, d, notice, purpose, err := c.dueDelivery(ctx, now)
			if err != nil {
				return err
			}
			parcel, err := c.parcel(ctx, id, notice, purpose, d)
			if errors.Is(err, errNoAddress) {
				empty = true
				if d, err = d.Cancel(now); err != nil {
					return err
				}
				d.Detail = errNoAddress.Error()
				return c.keepDelivery(ctx, id, d, "")
			}
			if err != nil {
				return err
			}
			if d, err = d.Lease(now); err != nil {
				return err
			}
			out = Shipment{ID: id, Attempt: d.Attempts, Channel: d.Channel, Parcel: parcel}
			if err := c.keepDelivery(ctx, id, d, holder); err != nil {
				return err
			}
			_, err = c.exec(ctx, `INSERT INTO delivery_attempt (delivery, n, holder, address, began, released, ended, outcome, code, detail) VALUES ($1, $2, $3, $4, $5, 0, 0, '', 0, '')`,
				id, d.Attempts, holder, parcel.Address, micros(now))
			return err
		})
		if err != nil || !empty {
			return out, err
		}
	}
}

// errNoAddress means that the tenant is not on the channel any more.
var errNoAddress = errors.New("the tenant has no address on this channel any more")

// textDue finds what is due longest.
const textDue = `SELECT d.id, d.notice, m.purpose, ` + deliveryColumns + ` FROM delivery d JOIN notice_message m ON m.id = d.message WHERE d.state = 'waiting' AND d.due <= $1 ORDER BY d.due, d.id LIMIT 1`

func (c conn) dueDelivery(ctx context.Context, now time.Time) (id int64, d notify.Delivery, notice int64, purpose notify.Purpose, err error) {
	var created, due int64
	err = c.row(ctx, textDue+c.s.dialect.skip, micros(now)).Scan(&id, &notice, &purpose, &d.Channel, &d.MessageID, &d.State, &created, &due, &d.Attempts, &d.Doubtful, &d.Code, &d.Detail)
	d.Created, d.Due = fromMicros(created), fromMicros(due)
	return id, d, notice, purpose, found(err)
}

// parcel gathers what the transport sends, from one tenant's rows only.
func (c conn) parcel(ctx context.Context, id, notice int64, purpose notify.Purpose, d notify.Delivery) (p notify.Parcel, err error) {
	n, err := c.notice(ctx, notice, false)
	if err != nil {
		return p, err
	}
	k, err := c.contact(ctx, n.tenant)
	if errors.Is(err, ErrNotFound) {
		return p, errNoAddress
	}
	if err != nil {
		return p, err
	}
	p = notify.Parcel{MessageID: d.MessageID, Key: k.OpenPGP, Secret: k.Secret}
	var created int64
	err = c.row(ctx, `SELECT m.subject, m.opaque, m.body, m.created FROM notice_message m JOIN delivery d ON d.message = m.id WHERE d.id = $1`, id).
		Scan(&p.Message.Subject, &p.Message.Opaque, &p.Message.Body, &created)
	if err != nil {
		return p, found(err)
	}
	p.Created = fromMicros(created)
	switch {
	case d.Channel == notify.Webhook:
		p.Address = k.Webhook
		p.Payload, err = payload(n, purpose, p)
	case purpose == notify.ForEscalation:
		p.Address, p.Key = k.Second, "" // the key is the first contact's
	default:
		p.Address = k.Email
	}
	if err == nil && p.Address == "" {
		err = errNoAddress
	}
	return p, err
}

// payload is a webhook's body: type, timestamp and data, as Standard Webhooks
// recommends.
func payload(n Notice, purpose notify.Purpose, p notify.Parcel) ([]byte, error) {
	type step struct {
		N     int           `json:"n"`
		Text  string        `json:"text"`
		Check *notify.Check `json:"check,omitempty"`
	}
	data := struct {
		Notice    string            `json:"notice"`
		Tenant    string            `json:"tenant"`
		Rung      notify.Rung       `json:"rung"`
		TLP       string            `json:"tlp"`
		Edition   int64             `json:"edition"`
		Action    notify.Action     `json:"action"`
		Severity  string            `json:"severity,omitempty"`
		Product   string            `json:"product"`
		Subject   string            `json:"subject"`
		Text      string            `json:"text"`
		Mark      string            `json:"mark"`
		Steps     []step            `json:"steps"`
		Resources []notify.Resource `json:"resources"`
	}{NoticeID(n.ID), n.Tenant, n.Rung, notify.TLP(n.Rung), n.Edition, n.Content.Action, n.Content.Severity, n.Content.Product, p.Message.Subject, p.Message.Body, n.Mark, []step{}, n.Progress.Resources}
	for i, s := range n.Content.Steps {
		text, _ := s.Text.In(n.Language)
		data.Steps = append(data.Steps, step{i + 1, text, s.Check})
	}
	return json.Marshal(map[string]any{"type": "notice." + string(purpose), "timestamp": p.Created.Format(time.RFC3339Nano), "data": data})
}

// held finds an attempt that holder still has.
func (c conn) held(ctx context.Context, sh Shipment, holder string) (d notify.Delivery, notice int64, err error) {
	var by string
	d, err = scanDelivery(c.row(ctx, `SELECT `+deliveryColumns+`, d.notice, d.holder FROM delivery d WHERE d.id = $1`+c.s.dialect.lock, sh.ID), &notice, &by)
	if err == nil && (by != holder || d.Attempts != sh.Attempt) {
		err = fmt.Errorf("attempt %d is not this server's any more: %w", sh.Attempt, ErrConflict)
	}
	return d, notice, err
}

// RenewDeliveries keeps the leases of holder that have not run out.
func (s *Store) RenewDeliveries(ctx context.Context, holder string, now time.Time) error {
	return s.inWrite(ctx, "renew leases", func(c conn) error {
		_, err := c.exec(ctx, `UPDATE delivery SET due = $2 WHERE holder = $1 AND state IN ('leased', 'released') AND due > $3`,
			holder, micros(now.Add(notify.LeaseLife())), micros(now))
		return err
	})
}

// ReleaseDelivery records that the next thing makes the receiver take the
// message. ErrConflict if the attempt is not holder's any more.
func (s *Store) ReleaseDelivery(ctx context.Context, sh Shipment, holder string, now time.Time) error {
	return s.inWrite(ctx, "release a delivery", func(c conn) error {
		d, _, err := c.held(ctx, sh, holder)
		if err != nil {
			return err
		}
		if d, err = d.Release(now); err != nil {
			return err
		}
		if err := c.keepDelivery(ctx, sh.ID, d, holder); err != nil {
			return err
		}
		_, err = c.exec(ctx, `UPDATE delivery_attempt SET released = $3 WHERE delivery = $1 AND n = $2`, sh.ID, sh.Attempt, micros(now))
		return err
	})
}

// SettleDelivery records what came of an attempt. What was taken makes the notice
// delivered. ErrConflict if the attempt is not holder's any more.
func (s *Store) SettleDelivery(ctx context.Context, sh Shipment, holder string, a notify.Answer, now time.Time) (d notify.Delivery, err error) {
	err = s.inWrite(ctx, "settle a delivery", func(c conn) error {
		var notice int64
		if d, notice, err = c.held(ctx, sh, holder); err != nil {
			return err
		}
		if d, err = d.Answered(a, now); err != nil {
			return err
		}
		return c.ended(ctx, sh.ID, sh.Attempt, notice, d, string(a.Outcome), now)
	})
	return d, err
}

// ExpireDelivery takes over one delivery whose server did not come back.
// ErrNotFound if there is none.
func (s *Store) ExpireDelivery(ctx context.Context, now time.Time) (d notify.Delivery, err error) {
	err = s.inWrite(ctx, "take over a delivery", func(c conn) error {
		var id, notice int64
		d, err = scanDelivery(c.row(ctx, `SELECT `+deliveryColumns+`, d.id, d.notice FROM delivery d WHERE d.state IN ('leased', 'released') AND d.due <= $1 ORDER BY d.due LIMIT 1`+c.s.dialect.lock, micros(now)), &id, &notice)
		if err != nil {
			return err
		}
		outcome := "expired"
		if d.State == notify.Released {
			outcome = string(notify.Unsure)
		}
		attempt := d.Attempts
		if d, err = d.Expired(now); err != nil {
			return err
		}
		return c.ended(ctx, id, attempt, notice, d, outcome, now)
	})
	return d, err
}

// ended keeps the end of an attempt, and what it means for the notice.
func (c conn) ended(ctx context.Context, id int64, attempt int, notice int64, d notify.Delivery, outcome string, now time.Time) error {
	if err := c.keepDelivery(ctx, id, d, ""); err != nil {
		return err
	}
	if _, err := c.exec(ctx, `UPDATE delivery_attempt SET ended = $3, outcome = $4, code = $5, detail = $6 WHERE delivery = $1 AND n = $2`, id, attempt, micros(now), outcome, d.Code, d.Detail); err != nil {
		return err
	}
	if !d.State.Settled() {
		return nil
	}
	n, err := c.notice(ctx, notice, true)
	if err != nil {
		return err
	}
	if d.State == notify.Sent && n.Progress.Delivered.IsZero() {
		n.Progress.Delivered = now
	}
	if err := c.touch(ctx, n, now); err != nil {
		return err
	}
	return c.seal(ctx, now, n.Case, noticeEntry{
		Kind: "notice.delivery", Notice: NoticeID(notice), Channel: d.Channel, Message: d.MessageID, Outcome: string(d.State), Doubt: d.Doubtful,
	})
}

// Attempt is one line of the log of what was sent.
type Attempt struct {
	Purpose   notify.Purpose
	N         int // which edition, reminder, reopening or escalation
	Channel   notify.Channel
	MessageID string
	State     notify.DeliveryState // of the whole delivery
	Doubtful  int
	Due       time.Time
	Attempt   int // 0: none yet
	Address   string
	Began     time.Time
	Released  time.Time
	Ended     time.Time
	Outcome   string
	Code      int
	Detail    string
}

// NoticeLog is the log of what was sent of a notice, oldest first. ErrNotFound.
func (s *Store) NoticeLog(ctx context.Context, v Viewer, id int64) (out []Attempt, err error) {
	err = s.inWrite(ctx, "read the log of notice "+NoticeID(id), func(c conn) error {
		if _, _, err := c.mayNotice(ctx, v, id); err != nil {
			return err
		}
		out = nil
		rows, err := c.rows(ctx, `SELECT m.purpose, m.n, d.channel, d.message_id, d.state, d.doubtful, d.due, a.n, a.address, a.began, a.released, a.ended, a.outcome, a.code, a.detail FROM delivery d JOIN notice_message m ON m.id = d.message LEFT JOIN delivery_attempt a ON a.delivery = d.id WHERE d.notice = $1 ORDER BY d.created, d.id, a.n`, id)
		return each(rows, err, func() error {
			var a Attempt
			var due int64
			var n, began, released, ended, code sql.NullInt64
			var address, outcome, detail sql.NullString
			if err := rows.Scan(&a.Purpose, &a.N, &a.Channel, &a.MessageID, &a.State, &a.Doubtful, &due, &n, &address, &began, &released, &ended, &outcome, &code, &detail); err != nil {
				return err
			}
			a.Attempt, a.Address, a.Outcome, a.Code, a.Detail = int(n.Int64), address.String, outcome.String, int(code.Int64), detail.String
			a.Due, a.Began, a.Released, a.Ended = fromMicros(due), fromMicros(began.Int64), fromMicros(released.Int64), fromMicros(ended.Int64)
			out = append(out, a)
			return nil
		})
	})
	return out, err
}
