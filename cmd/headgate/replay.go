package main

import (
	"context"
	"errors"

	"github.com/headgate/headgate/cli"
	"github.com/headgate/headgate/review"
	"github.com/headgate/headgate/store"
)

// Bounds of a replay: entries read at once, and differences told in full.
const (
	replayPage = 500
	replayTold = 100
)

// replay makes every recorded decision of a database again.
func replay(ctx context.Context, database string) (r cli.Replayed, err error) {
	s, err := open(ctx, database)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r.Differ = []string{}
	for {
		page, err := s.ListEntries(ctx, store.EntryQuery{From: r.Entries, Limit: replayPage})
		if err != nil || len(page) == 0 {
			return r, err
		}
		for _, e := range page {
			switch err := review.Replay(e); {
			case errors.Is(err, review.ErrNotDecision):
				continue
			case err == nil:
				r.Same++
			case len(r.Differ) < replayTold:
				r.Differ = append(r.Differ, err.Error())
			}
			r.Decisions++
		}
		r.Entries += int64(len(page))
	}
}
