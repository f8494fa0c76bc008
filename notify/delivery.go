package notify

import (
	"errors"
	"fmt"
	"time"
)

// ErrStep: a delivery's event that its state does not allow.
var ErrStep = errors.New("delivery: no such step from here")

// DeliveryState is where one message to one address stands.
type DeliveryState string

// The states and their transitions:
//
//	waiting ─lease→ leased ─release→ released ─answer→ sent | waiting | failed
//	                leased ─answer→ sent | waiting | failed      (never released)
//	                leased, released ─expire→ waiting            (the server died)
//
// Each is committed before the next thing is done. "released" is written after
// the whole message was handed over and before the one byte sequence or request
// that makes the receiver take it: a crash before it is known to have sent
// nothing, a crash after it is the only doubt there is.
const (
	Waiting   DeliveryState = "waiting" // due at Due
	Leased    DeliveryState = "leased"  // a server works on it
	Released  DeliveryState = "released"
	Sent      DeliveryState = "sent" // the receiver said that it has it
	Failed    DeliveryState = "failed"
	Cancelled DeliveryState = "cancelled" // what it says was overtaken before it was sent
)

// Settled tells whether nothing more happens to a delivery in this state.
func (s DeliveryState) Settled() bool { return s == Sent || s == Failed || s == Cancelled }

// Outcome is what came of an attempt.
type Outcome string

// The outcomes. Which one it is, is the transport's knowledge: see
// notify/smtp and notify/webhook.
const (
	Accepted Outcome = "accepted" // the receiver said that it has it
	Deferred Outcome = "deferred" // certainly not taken; worth another try
	Refused  Outcome = "refused"  // certainly not taken, and never will be
	Unsure   Outcome = "unsure"   // it may have been taken: the answer was lost
)

// Answer is what a transport says after an attempt.
type Answer struct {
	Outcome Outcome
	Code    int           // SMTP reply or HTTP status; 0: none came
	Detail  string        // for the operator; at most maxLine bytes, one line, no content of the notice
	After   time.Duration // the receiver's own wish when to be tried again (Retry-After)
}

// Delivery is one message to one address on one channel. MessageID never changes:
// it is the Message-ID of the mail and the webhook-id of the request on every
// attempt, so that a receiver can tell a repeat from a second message.
type Delivery struct {
	Channel   Channel
	MessageID string
	State     DeliveryState
	Created   time.Time
	Due       time.Time // when to try (waiting), or when the lease ends (leased, released)
	Attempts  int
	// Doubtful counts the attempts after which it could not be known whether the
	// receiver took the message: an upper bound of how many extra copies it has
	// seen. A webhook's receiver drops them by the id; a mail's may show them.
	Doubtful int
	Code     int
	Detail   string
}

// leaseLife is for how long a server leases a delivery. While the attempt lasts it
// renews the lease, so that a dead server's deliveries are taken over soon and a
// slow receiver's are not.
const leaseLife = time.Minute

// LeaseLife is how long a lease lasts that is not renewed.
func LeaseLife() time.Duration { return leaseLife }

// Limit is how long one attempt may take. Ten minutes are what RFC 5321 4.5.3.2.6
// asks a client to wait for the answer to a whole message: giving up sooner is
// what makes doubles.
const Limit = 12 * time.Minute

// backoff is how long to wait after each failed attempt. The sum is over a week:
// a receiver that is down for a day is reached on the day after.
var backoff = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour,
}

// giveUp is how long a message is tried at all.
const giveUp = 7 * 24 * time.Hour

// GiveUp is how long a message is tried before it counts as failed.
func GiveUp() time.Duration { return giveUp }

// wait is the pause after attempt n (1 is the first), spread by the message's id
// so that a thousand messages to one receiver that comes back do not arrive as one.
func (d Delivery) wait(n int) time.Duration {
	base := backoff[min(n, len(backoff))-1]
	h := uint32(2166136261)
	for _, c := range []byte(d.MessageID) {
		h = (h ^ uint32(c)) * 16777619
	}
	return base + base*time.Duration((h+uint32(n)*2654435761)%256)/1024 // up to a quarter more
}

// Lease begins an attempt: the intent is written before anything is sent.
func (d Delivery) Lease(now time.Time) (Delivery, error) {
	if d.State != Waiting || now.Before(d.Due) {
		return d, fmt.Errorf("lease a delivery that is %s and due at %s: %w", d.State, d.Due.UTC().Format(time.RFC3339), ErrStep)
	}
	d.State, d.Due = Leased, now.Add(leaseLife)
	d.Attempts++
	return d, nil
}

// Renew keeps a lease that has not run out.
func (d Delivery) Renew(now time.Time) (Delivery, error) {
	if (d.State != Leased && d.State != Released) || !now.Before(d.Due) {
		return d, fmt.Errorf("renew a delivery that is %s with a lease until %s: %w", d.State, d.Due.UTC().Format(time.RFC3339), ErrStep)
	}
	d.Due = now.Add(leaseLife)
	return d, nil
}

// Release records that the next thing makes the receiver take the message. A
// lease that ran out may not release: another server may have begun.
func (d Delivery) Release(now time.Time) (Delivery, error) {
	if d.State != Leased || !now.Before(d.Due) {
		return d, fmt.Errorf("release a delivery that is %s with a lease until %s: %w", d.State, d.Due.UTC().Format(time.RFC3339), ErrStep)
	}
	d.State = Released
	return d, nil
}

// Answered records an attempt's answer. An attempt that was never released cannot
// be in doubt, and an acceptance without release is refused: the transport broke
// its contract.
func (d Delivery) Answered(a Answer, now time.Time) (Delivery, error) {
	if d.State != Leased && d.State != Released {
		return d, fmt.Errorf("answer a delivery that is %s: %w", d.State, ErrStep)
	}
	if a.Outcome == Accepted && d.State != Released {
		return d, fmt.Errorf("accepted, and never released: %w", ErrStep)
	}
	d.Code, d.Detail = a.Code, clean(a.Detail)
	switch a.Outcome {
	case Accepted:
		d.State, d.Due = Sent, now
	case Refused:
		d.State, d.Due = Failed, now
	case Deferred:
		d = d.again(now, a.After)
	case Unsure:
		if d.State == Released {
			d.Doubtful++
		}
		d = d.again(now, a.After)
	default:
		return d, fmt.Errorf("outcome %q: %w", a.Outcome, ErrInvalid)
	}
	return d, nil
}

// Expired records that the server that leased the delivery did not come back in
// time. What was released may have been taken.
func (d Delivery) Expired(now time.Time) (Delivery, error) {
	if (d.State != Leased && d.State != Released) || now.Before(d.Due) {
		return d, fmt.Errorf("expire a delivery that is %s with a lease until %s: %w", d.State, d.Due.UTC().Format(time.RFC3339), ErrStep)
	}
	d.Code, d.Detail = 0, "the server ended during the attempt, before the message was released"
	if d.State == Released {
		d.Doubtful++
		d.Detail = "the server ended after the message was released and before its answer was recorded"
	}
	// At once: the receiver did nothing wrong, and the tenant waits.
	d.State, d.Due = Waiting, now
	if d.Attempts > 1 {
		d = d.again(now, 0)
	}
	return d, nil
}

// Cancel takes back what was not sent yet.
func (d Delivery) Cancel(now time.Time) (Delivery, error) {
	if d.State != Waiting {
		return d, fmt.Errorf("cancel a delivery that is %s: %w", d.State, ErrStep)
	}
	d.State, d.Due = Cancelled, now
	return d, nil
}

// again is another try later, or the end.
func (d Delivery) again(now time.Time, wish time.Duration) Delivery {
	due := now.Add(max(d.wait(max(d.Attempts, 1)), min(wish, 24*time.Hour)))
	if due.Sub(d.Created) > giveUp {
		d.State, d.Due = Failed, now
		return d
	}
	d.State, d.Due = Waiting, due
	return d
}

// Parcel is all that a transport needs for one attempt.
type Parcel struct {
	MessageID string    // stable over attempts
	Created   time.Time // of the message, not of the attempt: a repeat has the same date
	Address   string    // a mail address, or a URL
	Key       string    // armored OpenPGP key of the mail's reader; empty: not encrypted
	Secret    []byte    // of the webhook
	Message   Message
	Payload   []byte // the webhook's body, JSON
}
