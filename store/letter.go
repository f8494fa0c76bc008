package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
)

// LetterKind says what a letter is about, and by which way it goes.
type LetterKind string

// The kinds of letters.
const (
	LetterReceived LetterKind = "received" // mail to a reporter: we have it, and here is its page
	LetterMessage  LetterKind = "message"  // mail to a reporter: somebody wrote to you
	LetterCall     LetterKind = "call"     // mail to somebody on duty
	LetterHook     LetterKind = "hook"     // a webhook's request for somebody on duty
)

// Letter is what is to be sent to one address. It has no text: that is made of the
// subject when it is sent.
type Letter struct {
	ID      int64
	Subject int64 // a report's or case's
	Report  bool  // which of the two
	Seq     int64 // of the fact that made it
	Kind    LetterKind
	Address string // a mail address, or a URL
	Whom    string // the principal that is called; empty for reporters
	Secret  []byte // of the webhook; nil if the roster names it no more
	Made    time.Time
	Tries   int64 // attempts before this one
}

// letter has a letter sent, once for a fact, kind and address.
func (c conn) letter(ctx context.Context, l Letter) error {
	_, err := c.exec(ctx, `INSERT INTO letter (id, subject, seq, kind, address, whom, made, due, tries, sent, trouble) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 0, 0, '') ON CONFLICT (subject, seq, kind, address) DO NOTHING`,
		ids.Random(), l.Subject, l.Seq, string(l.Kind), l.Address, l.Whom, micros(l.Made))
	if err != nil {
		return fmt.Errorf("queue letter: %w", err)
	}
	return nil
}

// writeTo queues a letter for each message to a reporter who gave an address.
func (c conn) writeTo(ctx context.Context, contact string, id int64, facts []psirt.Fact, now time.Time) error {
	if contact == "" {
		return nil
	}
	for _, f := range facts {
		if f.Kind != "report.message" || f.Actor == reporter {
			continue
		}
		if err := c.letter(ctx, Letter{Subject: id, Seq: f.Seq, Kind: LetterMessage, Address: contact, Made: now}); err != nil {
			return err
		}
	}
	return nil
}

// LetterQuery says which letters to take.
type LetterQuery struct {
	// Kinds are at most two; the second may be empty.
	Kinds [2]LetterKind
	// Lease is until when no other server takes them.
	Lease time.Time
	Limit int
}

// noAnswer is what the log says of an attempt until its answer is known.
const noAnswer = "no answer was recorded: the attempt goes on, or its server ended"

// TakeLetters takes letters that are due, for one attempt each. What is due again
// when its lease is over was in doubt, and is sent under the same id.
func (s *Store) TakeLetters(ctx context.Context, q LetterQuery, now time.Time) (out []Letter, err error) {
	err = s.inWrite(ctx, "take letters", func(c conn) error {
		due, err := c.dueLetters(ctx, q, now)
		if err != nil {
			return err
		}
		out = due[:0]
		for _, l := range due {
			n, err := c.exec(ctx, `UPDATE letter SET due = $1, tries = tries + 1 WHERE id = $2 AND tries = $3 AND due > 0 AND due <= $4`, micros(q.Lease), l.ID, l.Tries, micros(now))
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			if _, err := c.exec(ctx, `INSERT INTO letter_attempt (letter, n, at, outcome, code, detail) VALUES ($1, $2, $3, $4, 0, $5)`, l.ID, l.Tries+1, micros(now), string(notify.Unsure), noAnswer); err != nil {
				return err
			}
			out = append(out, l)
		}
		return nil
	})
	return out, err
}

func (c conn) dueLetters(ctx context.Context, q LetterQuery, now time.Time) (out []Letter, err error) {
	rows, err := c.rows(ctx, `SELECT l.id, l.subject, l.seq, l.kind, l.address, l.whom, l.made, l.tries, h.secret, CASE WHEN r.id IS NULL THEN 0 ELSE 1 END FROM letter l LEFT JOIN psirt_report r ON r.id = l.subject LEFT JOIN call_hook h ON h.url = l.address WHERE l.due > 0 AND l.due <= $1 AND l.kind IN ($2, $3) ORDER BY l.due, l.id LIMIT $4`,
		micros(now), string(q.Kinds[0]), string(q.Kinds[1]), q.Limit)
	err = each(rows, err, func() error {
		var l Letter
		var made int64
		var isReport int
		if err := rows.Scan(&l.ID, &l.Subject, &l.Seq, &l.Kind, &l.Address, &l.Whom, &made, &l.Tries, &l.Secret, &isReport); err != nil {
			return err
		}
		l.Made, l.Report = fromMicros(made), isReport == 1
		out = append(out, l)
		return nil
	})
	return out, err
}

// LetterTried records what came of the attempt that l was taken for. One that was
// accepted is done with; any other is due again at next, or given up if that is
// zero, as it is if the call was answered meanwhile.
func (s *Store) LetterTried(ctx context.Context, l Letter, a notify.Answer, next, now time.Time) error {
	trouble := strings.TrimSpace(string(a.Outcome) + ": " + a.Detail)
	return s.inWrite(ctx, "keep a letter's attempt", func(c conn) error {
		if _, err := c.exec(ctx, `UPDATE letter_attempt SET outcome = $1, code = $2, detail = $3 WHERE letter = $4 AND n = $5`, string(a.Outcome), a.Code, strings.ToValidUTF8(a.Detail, "?"), l.ID, l.Tries+1); err != nil {
			return err
		}
		if a.Outcome == notify.Accepted {
			_, err := c.exec(ctx, `UPDATE letter SET due = 0, sent = $1, trouble = '' WHERE id = $2`, micros(now), l.ID)
			return err
		}
		// Whoever took it over when this attempt's lease was over goes on by its own.
		_, err := c.exec(ctx, `UPDATE letter SET due = $1, trouble = $2 WHERE id = $3 AND tries = $4 AND due > 0`, micros(next), strings.ToValidUTF8(trouble, "?"), l.ID, l.Tries+1)
		return err
	})
}

// CallAttempt is one attempt to call somebody.
type CallAttempt struct {
	Whom    string
	Kind    LetterKind
	Address string
	N       int64 // 1 is the first
	At      time.Time
	Outcome notify.Outcome // unsure while no answer is known
	Code    int64          // SMTP reply or HTTP status; 0: none came
	Detail  string
	Next    time.Time // of the call, after its last attempt; zero: none
}

// CallLog lists the attempts to call somebody about a report or case, oldest first.
// A read of what is sealed is recorded. ErrNotFound.
func (s *Store) CallLog(ctx context.Context, v Viewer, subject int64, isReport bool, now time.Time) (out []CallAttempt, err error) {
	err = s.inWrite(ctx, "read the log of calls", func(c conn) error {
		may, id := c.mayCase, CaseID(subject)
		if isReport {
			may, id = c.mayReport, ReportID(subject)
		}
		m, err := may(ctx, v, subject)
		if err != nil {
			return err
		}
		if out, err = c.callLog(ctx, subject); err != nil || !m.sealed() {
			return err
		}
		return c.seal(ctx, now, subject, reading{"call.log.read", v.Actor, []string{id}})
	})
	return out, err
}

func (c conn) callLog(ctx context.Context, subject int64) (out []CallAttempt, err error) {
	rows, err := c.rows(ctx, `SELECT l.whom, l.kind, l.address, CASE WHEN a.n = l.tries THEN l.due ELSE 0 END, a.n, a.at, a.outcome, a.code, a.detail FROM letter l JOIN letter_attempt a ON a.letter = l.id WHERE l.subject = $1 AND l.kind IN ('call', 'hook') ORDER BY a.at, l.id, a.n`, subject)
	err = each(rows, err, func() error {
		var a CallAttempt
		var at, next int64
		if err := rows.Scan(&a.Whom, &a.Kind, &a.Address, &next, &a.N, &at, &a.Outcome, &a.Code, &a.Detail); err != nil {
			return err
		}
		if a.At = fromMicros(at); next > 0 {
			a.Next = fromMicros(next)
		}
		out = append(out, a)
		return nil
	})
	return out, err
}
