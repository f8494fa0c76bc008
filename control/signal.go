package control

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// Querier answers a signal's query with its samples from one instant to another;
// one instant only if they are the same.
type Querier interface {
	Query(ctx context.Context, query string, from, to time.Time, step time.Duration) ([]rollout.Series, error)
}

// signalTimeout is how long one query may take: an answer that is later is none.
const signalTimeout = 5 * time.Second

// Signals reads what policies look at outside, again and again, beside the decider:
// a slow Prometheus never delays a halt for other reasons. What it could not read is
// a reading too, with the error.
type Signals struct {
	Rollouts interface {
		OpenRollouts(ctx context.Context) ([]store.Rollout, error)
	}
	Querier Querier // nil: none is configured
	Every   time.Duration
	Now     func() time.Time
	Log     *slog.Logger
	// Read, if set, is told after each round that read anything.
	Read func()

	mu   sync.Mutex // guards what follows
	kept map[int64][]rollout.Reading
}

// Run reads until ctx ends.
func (s *Signals) Run(ctx context.Context) {
	c := &complaints{log: s.Log}
	every(ctx, s.Every, s.Every/5, nil, func(ctx context.Context) {
		c.about(ctx, 0, "cannot read signals", s.Round(ctx))
	})
}

// Round reads the signals of all rollouts that they may still move, once.
func (s *Signals) Round(ctx context.Context) error {
	open, err := s.Rollouts.OpenRollouts(ctx)
	if err != nil {
		return fmt.Errorf("list rollouts: %w", err)
	}
	kept := map[int64][]rollout.Reading{}
	for _, r := range open {
		if len(r.Policy.Signals) > 0 && (r.State.Active() || r.State == rollout.Finished) {
			kept[r.ID] = s.read(ctx, r)
		}
	}
	s.mu.Lock()
	s.kept = kept
	s.mu.Unlock()
	if len(kept) > 0 && s.Read != nil {
		s.Read()
	}
	return ctx.Err()
}

// read reads a rollout's signals at once: one that hangs does not make the others
// old.
func (s *Signals) read(ctx context.Context, r store.Rollout) []rollout.Reading {
	out := make([]rollout.Reading, len(r.Policy.Signals))
	subject := rollout.Subject{Rollout: r.ID, Product: r.Product, Version: r.Version}
	var wg sync.WaitGroup
	for i, sig := range r.Policy.Signals {
		wg.Go(func() { out[i] = s.readOne(ctx, sig, subject) })
	}
	wg.Wait()
	return out
}

func (s *Signals) readOne(ctx context.Context, sig rollout.Signal, of rollout.Subject) rollout.Reading {
	ctx, cancel := context.WithTimeout(ctx, signalTimeout)
	defer cancel()
	// To a second: a range begins and ends on its steps.
	r := rollout.Reading{Name: sig.Name, At: s.Now().UTC().Truncate(time.Second)}
	if s.Querier == nil {
		r.Error = "this server has no Prometheus configured"
		return r
	}
	query, step := sig.Ask(of)
	var err error
	r.Series, err = s.Querier.Query(ctx, query, r.At.Add(-sig.For.Std().Truncate(step)), r.At, step)
	switch {
	case err != nil:
		r.Error, r.Series = err.Error(), nil
	case len(r.Series) > rollout.MaxSignalSeries:
		r.Error, r.Series = fmt.Sprintf("the query has %d series; at most %d", len(r.Series), rollout.MaxSignalSeries), nil
	}
	return r
}

// Kept are the newest readings of a rollout's signals.
func (s *Signals) Kept(id int64) []rollout.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[id]
}
