package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/store"
)

// letterTries bounds the attempts: with the waits between them, about three days,
// and a day and a half for calls.
const letterTries = 80

// Letters is what a postman needs of the store.
type Letters interface {
	TakeLetters(ctx context.Context, q store.LetterQuery, now time.Time) ([]store.Letter, error)
	LetterTried(ctx context.Context, l store.Letter, a notify.Answer, next, now time.Time) error
}

// Round is how a postman goes: what, how many at once, and how soon again.
type Round struct {
	Kinds [2]store.LetterKind
	// Hands is how many are under way at once.
	Hands int
	// Longest is how long one attempt may take.
	Longest time.Duration
	// First and Most are the waits after the first failed attempt, and between later
	// ones; each is twice the one before.
	First, Most time.Duration
}

// The rounds. Reporters' mail, calls by mail and calls by webhook go apart: a call
// waits for nobody else's mail. A mail server's last answer may take ten minutes
// (RFC 5321 4.5.3.2.6).
var (
	ReporterRound = Round{Kinds: [2]store.LetterKind{store.LetterReceived, store.LetterMessage}, Hands: 4, Longest: notify.Limit, First: time.Minute, Most: time.Hour}
	CallRound     = Round{Kinds: [2]store.LetterKind{store.LetterCall}, Hands: 4, Longest: notify.Limit, First: 10 * time.Second, Most: 30 * time.Minute}
	HookRound     = Round{Kinds: [2]store.LetterKind{store.LetterHook}, Hands: 8, Longest: time.Minute, First: 10 * time.Second, Most: 30 * time.Minute}
)

// Postman sends the letters that are due. A letter whose attempt ended in doubt is
// sent again under the same id.
type Postman struct {
	Letters Letters
	Round   Round
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
		c.about(ctx, 0, "cannot send letters", p.Deliver(ctx))
	})
}

// leaseMargin is how much longer a letter is leased than its attempt may take.
const leaseMargin = 10 * time.Second

// Deliver sends what is due now.
func (p *Postman) Deliver(ctx context.Context) error {
	for {
		now := p.Now()
		due, err := p.Letters.TakeLetters(ctx, store.LetterQuery{Kinds: p.Round.Kinds, Lease: now.Add(p.Round.Longest + leaseMargin), Limit: p.Round.Hands}, now)
		if err != nil {
			return fmt.Errorf("send letters: %w", err)
		}
		errs := make([]error, len(due))
		var hands sync.WaitGroup
		for i, l := range due {
			hands.Go(func() { errs[i] = p.send(ctx, l) })
		}
		hands.Wait()
		if err := errors.Join(errs...); err != nil || len(due) < p.Round.Hands {
			return err
		}
	}
}

func (p *Postman) send(ctx context.Context, l store.Letter) error {
	attempt, cancel := context.WithTimeout(ctx, p.Round.Longest)
	defer cancel()
	a := p.Send(attempt, l)
	// What came of it is kept even while the server stops.
	ctx = context.WithoutCancel(ctx)
	if a.Outcome == notify.Accepted {
		return p.Letters.LetterTried(ctx, l, a, time.Time{}, p.Now())
	}
	next := p.Now().Add(max(min(a.After, p.Round.Most), p.Round.wait(l.Tries)))
	if a.Outcome == notify.Refused || l.Tries+1 >= letterTries {
		next = time.Time{}
	}
	p.Log.LogAttrs(ctx, slog.LevelWarn, "letter not sent", slog.Int64("letter", l.ID), slog.Int64("attempt", l.Tries+1), slog.String("outcome", string(a.Outcome)), slog.Bool("last", next.IsZero()))
	return p.Letters.LetterTried(ctx, l, a, next, p.Now())
}

// wait is the pause after a failed attempt, of which there were tries before.
func (r Round) wait(tries int64) time.Duration {
	return min(r.First<<min(tries, 20), r.Most)
}
