package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/psirt"
)

// feedbackActor writes what comes in by a form.
const feedbackActor = "feedback"

// AskFeedback records that somebody is asked what she thinks of how a case was handled,
// and opens her form behind a secret; asked again, she keeps the form.
func (s *Store) AskFeedback(ctx context.Context, v Viewer, id int64, asked []psirt.FeedbackAsked, secret func(from string) Hash, now time.Time) (out Case, err error) {
	var facts []psirt.Fact
	for i := range asked {
		f, err := psirt.Draft(&asked[i], time.Time{}, "")
		if err != nil {
			return out, err
		}
		facts = append(facts, f)
	}
	err = s.inWrite(ctx, "ask for feedback", func(c conn) error {
		if out, err = c.commitFacts(ctx, v, id, AnyRevision, facts, now); err != nil {
			return err
		}
		for _, a := range asked {
			hash := secret(a.From)
			if _, err := c.exec(ctx, `INSERT INTO feedback_form (hash, case_id, asked) VALUES ($1, $2, $3) ON CONFLICT (hash) DO NOTHING`, hash[:], id, a.From); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// FeedbackForm is the form behind a secret: whose it is, what it is about, and what she
// said so far. Nothing else of the case is shown there. ErrNotFound.
func (s *Store) FeedbackForm(ctx context.Context, secret Hash) (out psirt.Feedback, err error) {
	err = s.inRead(ctx, "read feedback form", func(c conn) error {
		_, out, err = c.feedbackForm(ctx, secret)
		return err
	})
	return out, err
}

func (c conn) feedbackForm(ctx context.Context, secret Hash) (id int64, out psirt.Feedback, err error) {
	var from string
	if err := c.row(ctx, `SELECT case_id, asked FROM feedback_form WHERE hash = $1`, secret[:]).Scan(&id, &from); err != nil {
		return 0, out, found(err)
	}
	kase, err := c.caseOf(ctx, id)
	if err != nil {
		return 0, out, err
	}
	i := slices.IndexFunc(kase.Outcome.Feedback, func(f psirt.Feedback) bool { return f.From == from })
	if i < 0 {
		return 0, out, fmt.Errorf("a form of nobody who was asked: %w", ErrNotFound)
	}
	return id, kase.Outcome.Feedback[i], nil
}

// AddFeedback keeps what came in by a form; the same twice is kept once. ErrNotFound.
func (s *Store) AddFeedback(ctx context.Context, secret Hash, b psirt.FeedbackReceived, now time.Time) error {
	return s.inWrite(ctx, "add feedback", func(c conn) error {
		id, form, err := c.feedbackForm(ctx, secret)
		if err != nil {
			return err
		}
		b.From = form.From
		if slices.Contains(form.Answers, b) {
			return nil
		}
		f, err := psirt.Draft(&b, time.Time{}, "")
		if err != nil {
			return err
		}
		_, err = c.commitFacts(ctx, Engine(feedbackActor), id, AnyRevision, []psirt.Fact{f}, now)
		return err
	})
}
