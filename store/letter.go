package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/psirt"
)

// LetterKind says what a letter is about.
type LetterKind string

// The kinds of letters.
const (
	LetterReceived LetterKind = "received" // to a reporter: we have it, and here is its page
	LetterMessage  LetterKind = "message"  // to a reporter: somebody wrote to you
	LetterCall     LetterKind = "call"     // to somebody on duty
)

// Letter is a mail that is to go out. It has no text: that is made of the subject
// when it is sent.
type Letter struct {
	ID      int64
	Subject int64 // a report's or case's
	Report  bool  // which of the two
	Seq     int64 // of the fact that made it
	Kind    LetterKind
	Address string
	Made    time.Time
	Tries   int64 // attempts before this one
}

// letter has a letter sent, once for a fact, kind and address.
func (c conn) letter(ctx context.Context, subject, seq int64, kind LetterKind, address string, now time.Time) error {
	_, err := c.exec(ctx, `INSERT INTO letter (id, subject, seq, kind, address, made, due, tries, sent, trouble) VALUES ($1, $2, $3, $4, $5, $6, $6, 0, 0, '') ON CONFLICT (subject, seq, kind, address) DO NOTHING`,
		ids.Random(), subject, seq, string(kind), address, micros(now))
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
		if err := c.letter(ctx, id, f.Seq, LetterMessage, contact, now); err != nil {
			return err
		}
	}
	return nil
}

// TakeLetters takes letters that are due, for one attempt each: until lease, no
// other server takes them. What is due again after that was in doubt, and is sent
// under the same Message-ID.
func (s *Store) TakeLetters(ctx context.Context, now, lease time.Time, limit int) (out []Letter, err error) {
	err = s.inWrite(ctx, "take letters", func(c conn) error {
		out = nil
		rows, err := c.rows(ctx, `SELECT l.id, l.subject, l.seq, l.kind, l.address, l.made, l.tries, CASE WHEN r.id IS NULL THEN 0 ELSE 1 END FROM letter l LEFT JOIN psirt_report r ON r.id = l.subject WHERE l.due > 0 AND l.due <= $1 ORDER BY l.due, l.id LIMIT $2`, micros(now), limit)
		err = each(rows, err, func() error {
			var l Letter
			var made int64
			var isReport int
			if err := rows.Scan(&l.ID, &l.Subject, &l.Seq, &l.Kind, &l.Address, &made, &l.Tries, &isReport); err != nil {
				return err
			}
			l.Made, l.Report = fromMicros(made), isReport == 1
			out = append(out, l)
			return nil
		})
		if err != nil {
			return err
		}
		kept := out[:0]
		for _, l := range out {
			n, err := c.exec(ctx, `UPDATE letter SET due = $1, tries = tries + 1 WHERE id = $2 AND tries = $3 AND due > 0 AND due <= $4`, micros(lease), l.ID, l.Tries, micros(now))
			if err != nil {
				return err
			}
			if n == 1 {
				kept = append(kept, l)
			}
		}
		out = kept
		return nil
	})
	return out, err
}

// LetterSent ends a letter: it was taken by a mail server.
func (s *Store) LetterSent(ctx context.Context, id int64, now time.Time) error {
	return s.letterDone(ctx, id, 0, now, "")
}

// LetterFailed says why an attempt failed, and when the next one is; a zero next
// gives up.
func (s *Store) LetterFailed(ctx context.Context, id int64, next time.Time, trouble string) error {
	if trouble = strings.TrimSpace(trouble); trouble == "" {
		return fmt.Errorf("letter failed: nothing says why: %w", ErrInvalid)
	}
	return s.letterDone(ctx, id, micros(next), time.Time{}, trouble)
}

func (s *Store) letterDone(ctx context.Context, id, due int64, sent time.Time, trouble string) error {
	return s.inWrite(ctx, "keep letter's end", func(c conn) error {
		_, err := c.exec(ctx, `UPDATE letter SET due = $1, sent = $2, trouble = $3 WHERE id = $4`, due, micros(sent), trouble, id)
		return err
	})
}
