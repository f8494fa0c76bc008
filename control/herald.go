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

// Notices is what a herald needs of the store.
type Notices interface {
	NoticesToLookAt(ctx context.Context, now time.Time, limit int) ([]int64, error)
	PreparedCases(ctx context.Context) ([]store.Prepared, error)
	Audience(ctx context.Context, v store.Viewer, caseID int64, now time.Time) (notify.Audience, error)
	CasesToEnd(ctx context.Context) ([]int64, error)
	EndNotices(ctx context.Context, v store.Viewer, caseID int64, stay notify.Audience, now time.Time) (int, error)
	QueueWave(ctx context.Context, v store.Viewer, d store.WaveDraft, now time.Time) (store.Wave, error)
	DecideNotice(ctx context.Context, id int64, policy notify.Policy, l store.Letterhead, now time.Time) (notify.Decision, error)
}

// tellEach is how many looks at notices go before one at the audiences, which cost
// more.
const tellEach = 10

// heraldBatch is how many notices are decided about before looking again.
const heraldBatch = 200

// Herald decides about notices as they come due: what is told again, what is
// escalated, what is closed. It also tells the audience of each case whose notices
// are prepared, at each rung that opens, late joiners included.
type Herald struct {
	Notices    Notices
	Policy     notify.Policy
	Letterhead store.Letterhead
	// As is on whose behalf waves are queued.
	As    store.Viewer
	Every time.Duration
	Now   func() time.Time
	Log   *slog.Logger
	// Queued is told when there is something to send.
	Queued func()
}

// Run decides until ctx ends.
func (h *Herald) Run(ctx context.Context) {
	looks, waves := &complaints{log: h.Log}, &complaints{log: h.Log}
	round := 0
	every(ctx, h.Every, h.Every, nil, func(ctx context.Context) {
		if round%tellEach == 0 {
			waves.about(ctx, 0, "cannot tell tenants", h.Tell(ctx))
		}
		round++
		looks.about(ctx, 0, "cannot decide about notices", h.Look(ctx))
	})
}

// Look decides about every notice that is due.
func (h *Herald) Look(ctx context.Context) error {
	for {
		due, err := h.Notices.NoticesToLookAt(ctx, h.Now(), heraldBatch)
		if err != nil {
			return err
		}
		var failed error
		acted := false
		for _, id := range due {
			d, err := h.Notices.DecideNotice(ctx, id, h.Policy, h.Letterhead, h.Now())
			failed = errors.Join(failed, err) // one that fails must not keep the others from being told
			acted = acted || len(d.Acts) > 0
		}
		if acted {
			h.Queued()
		}
		if failed != nil || len(due) < heraldBatch {
			return failed
		}
	}
}

// Tell tells the audiences of prepared cases what was not told yet.
func (h *Herald) Tell(ctx context.Context) error {
	cases, err := h.Notices.PreparedCases(ctx)
	if err != nil {
		return err
	}
	failed := h.end(ctx)
	for _, p := range cases {
		if err := h.tell(ctx, p); err != nil {
			// A row's id, and nothing that the case holds.
			failed = errors.Join(failed, fmt.Errorf("case in row %d: %w", p.Case, err))
		}
	}
	return failed
}

// end ends the notices of cases that were closed.
func (h *Herald) end(ctx context.Context) error {
	closed, err := h.Notices.CasesToEnd(ctx)
	for _, id := range closed {
		_, e := h.Notices.EndNotices(ctx, h.As, id, notify.Audience{}, h.Now())
		err = errors.Join(err, e)
	}
	return err
}

func (h *Herald) tell(ctx context.Context, p store.Prepared) error {
	audience, err := h.Notices.Audience(ctx, h.As, p.Case, h.Now())
	if errors.Is(err, store.ErrState) {
		return nil // nobody has said yet which versions are affected
	}
	if err != nil {
		return err
	}
	for {
		w, err := h.Notices.QueueWave(ctx, h.As, store.WaveDraft{Case: p.Case, Rung: p.Rung, Content: p.Content, Audience: audience, Letterhead: h.Letterhead}, h.Now())
		if err != nil {
			return err
		}
		if w.Notices > 0 {
			h.Queued()
		}
		if !w.More {
			return nil
		}
	}
}
