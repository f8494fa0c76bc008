package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/store"
)

const (
	letterBatch = 20
	// letterLease is for how long an attempt keeps others away; the mail server's
	// last answer may take ten minutes.
	letterLease = 15 * time.Minute
	// letterTries bounds the attempts: with the waits between them, about three days.
	letterTries   = 80
	longestLetter = time.Hour
)

// Letters is what the postman needs of the store.
type Letters interface {
	TakeLetters(ctx context.Context, now, lease time.Time, limit int) ([]store.Letter, error)
	LetterSent(ctx context.Context, id int64, now time.Time) error
	LetterFailed(ctx context.Context, id int64, next time.Time, trouble string) error
}

// Postman sends the letters that are due. A letter whose attempt ended in doubt is
// sent again under the same Message-ID.
type Postman struct {
	Letters Letters
	// Send composes and sends one.
	Send  func(ctx context.Context, l store.Letter) notify.Answer
	Every time.Duration
	Now   func() time.Time
	Log   *slog.Logger
}

// Run sends until ctx ends.
func (p *Postman) Run(ctx context.Context) {
	c := &complaints{log: p.Log}
	every(ctx, p.Every, p.Every, nil, func(ctx context.Context) {
		c.about(ctx, 0, "cannot send letters", p.Round(ctx))
	})
}

// Round sends what is due now.
func (p *Postman) Round(ctx context.Context) error {
	for {
		now := p.Now()
		due, err := p.Letters.TakeLetters(ctx, now, now.Add(letterLease), letterBatch)
		if err != nil {
			return fmt.Errorf("send letters: %w", err)
		}
		var errs []error
		for _, l := range due {
			errs = append(errs, p.send(ctx, l))
		}
		if err := errors.Join(errs...); err != nil || len(due) < letterBatch {
			return err
		}
	}
}

func (p *Postman) send(ctx context.Context, l store.Letter) error {
	a := p.Send(ctx, l)
	// What came of it is kept even while the server stops.
	ctx = context.WithoutCancel(ctx)
	if a.Outcome == notify.Accepted {
		return p.Letters.LetterSent(ctx, l.ID, p.Now())
	}
	trouble := string(a.Outcome) + ": " + a.Detail
	next := p.Now().Add(max(a.After, min(time.Minute<<min(l.Tries, 6), longestLetter)))
	if a.Outcome == notify.Refused || l.Tries+1 >= letterTries {
		next = time.Time{}
	}
	p.Log.LogAttrs(ctx, slog.LevelWarn, "letter not sent", slog.Int64("letter", l.ID), slog.Int64("attempt", l.Tries+1), slog.String("outcome", string(a.Outcome)), slog.Bool("last", next.IsZero()))
	return p.Letters.LetterFailed(ctx, l.ID, next, trouble)
}
