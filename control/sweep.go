package control

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// sweepBatch is how many exposures one transaction turns to silent.
const sweepBatch = 500

// Silences is what the sweeper needs of the store.
type Silences interface {
	SweepSilent(ctx context.Context, now time.Time, limit int) (int, error)
}

// Sweeper turns open exposures that passed their deadline to silent.
type Sweeper struct {
	Silences Silences
	Every    time.Duration
	Now      func() time.Time
	Log      *slog.Logger
	// Swept, if set, is told how many were turned.
	Swept func(n int)
}

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) {
	c := &complaints{log: s.Log}
	every(ctx, s.Every, s.Every, nil, func(ctx context.Context) {
		c.about(ctx, 0, "cannot sweep", s.Sweep(ctx))
	})
}

// Sweep turns all that is due.
func (s *Sweeper) Sweep(ctx context.Context) error {
	for {
		n, err := s.Silences.SweepSilent(ctx, s.Now(), sweepBatch)
		if err != nil {
			return fmt.Errorf("sweep silent endpoints: %w", err)
		}
		if n > 0 && s.Swept != nil {
			s.Swept(n)
		}
		if n < sweepBatch {
			return nil
		}
	}
}
