package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/headgate/headgate/store"
)

// Cases is what the follower needs of the store.
type Cases interface {
	FollowedCases(ctx context.Context) ([]int64, error)
	UpdateAffected(ctx context.Context, id int64, now time.Time) (int, error)
}

// Follower keeps up to date whom each open case concerns: who joined late, and
// whose fix is verified. Two servers may follow at once: both come to the same.
type Follower struct {
	Cases Cases
	Every time.Duration
	Now   func() time.Time
	Log   *slog.Logger
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	c := &complaints{log: f.Log}
	every(ctx, f.Every, f.Every, nil, func(ctx context.Context) {
		c.about(ctx, 0, "cannot follow whom the cases concern", f.Follow(ctx))
	})
}

// Follow goes through all cases once. The log gets no case's id: who reads it
// need not know that there is one.
func (f *Follower) Follow(ctx context.Context) error {
	cases, err := f.Cases.FollowedCases(ctx)
	if err != nil {
		return fmt.Errorf("list cases to follow: %w", err)
	}
	var first error
	for _, id := range cases {
		_, err := f.Cases.UpdateAffected(ctx, id, f.Now())
		if err != nil && !errors.Is(err, store.ErrConflict) && first == nil { // the next look decides anew
			first = err
		}
	}
	return first
}
