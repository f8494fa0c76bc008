package server

import (
	"context"
	"errors"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/review"
	"github.com/headgate/headgate/store"
)

// Bounds of a replay: entries read at once, and differences told in full.
const (
	replayPage = 500
	replayTold = 100
)

// Replayed is what a replay found.
type Replayed struct {
	Entries   int64    // of the ledger
	Decisions int64    // made again
	Same      int64    // bit for bit
	Differ    []string // how the others differ; at most 100
}

// Replay makes every recorded decision of a database again: those on rollouts,
// which stand in the ledger, and those on disclosure, which stand in the cases'
// facts that the ledger commits to.
func Replay(ctx context.Context, s *store.Store) (Replayed, error) {
	r := Replayed{Differ: []string{}}
	if err := r.entries(ctx, s); err != nil {
		return r, err
	}
	err := s.EachFact(ctx, review.RungKind, func(subject string, f psirt.Fact) error {
		r.count(review.ReplayRung(subject, f))
		return nil
	})
	return r, err
}

func (r *Replayed) entries(ctx context.Context, s *store.Store) error {
	for {
		page, err := s.ListEntries(ctx, store.EntryQuery{From: r.Entries, Limit: replayPage})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			r.count(review.Replay(e))
		}
		r.Entries += int64(len(page))
	}
}

// count takes in one entry or fact by what making its decision again gave.
func (r *Replayed) count(err error) {
	switch {
	case errors.Is(err, review.ErrNotDecision):
		return
	case err == nil:
		r.Same++
	case len(r.Differ) < replayTold:
		r.Differ = append(r.Differ, err.Error())
	}
	r.Decisions++
}
