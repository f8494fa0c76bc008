package main

import (
	"context"
	"errors"

	"github.com/headgate/headgate/cli"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/review"
	"github.com/headgate/headgate/store"
)

// Bounds of a replay: entries read at once, and differences told in full.
const (
	replayPage = 500
	replayTold = 100
)

// replay makes every recorded decision of a database again: those on rollouts,
// which stand in the ledger, and those on disclosure, which stand in the cases'
// facts that the ledger commits to.
func replay(ctx context.Context, database string) (r cli.Replayed, err error) {
	s, err := open(ctx, database)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r.Differ = []string{}
	if err := replayEntries(ctx, s, &r); err != nil {
		return r, err
	}
	err = s.EachFact(ctx, review.RungKind, func(subject string, f psirt.Fact) error {
		replayed(&r, review.ReplayRung(subject, f))
		return nil
	})
	return r, err
}

func replayEntries(ctx context.Context, s *store.Store, r *cli.Replayed) error {
	for {
		page, err := s.ListEntries(ctx, store.EntryQuery{From: r.Entries, Limit: replayPage})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			replayed(r, review.Replay(e))
		}
		r.Entries += int64(len(page))
	}
}

// replayed counts one entry or fact by what making its decision again gave.
func replayed(r *cli.Replayed, err error) {
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
