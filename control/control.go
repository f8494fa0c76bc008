// Package control runs the loops of a server: it collects requests into
// batches, has rollouts decided, marks silence, publishes plans and signs
// checkpoints. Each loop is snapshot → pure decision → commit → act.
//
// It never decides by itself (rollout, health and ledger do), never speaks SQL
// (store does) and never answers HTTP (server does). Any number of servers may
// run it on one database at once: each commit is a compare-and-swap, each act
// may be repeated.
//
// Its words: batch, tick, sweep, job.
package control

import (
	"context"
	"log/slog"
	"time"
)

// every calls f now, after each period, and when woken, but never sooner than
// gap after it returned, until ctx ends.
func every(ctx context.Context, period, gap time.Duration, wake <-chan struct{}, f func(context.Context)) {
	for ctx.Err() == nil {
		f(ctx)
		if !pause(ctx, gap, nil) || !pause(ctx, period-gap, wake) {
			return
		}
	}
}

// pause waits for d or a wake-up; it is false when ctx has ended.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-wake:
	}
	return true
}

// poke wakes a loop that waits, and never waits itself: a wake-up that is due
// already is enough.
func poke(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// complaints logs an error once, and again when it changes or comes back: a
// loop that fails each tick must not fill the log.
type complaints struct {
	log  *slog.Logger
	last map[int64]string
}

func (c *complaints) about(ctx context.Context, id int64, msg string, err error) {
	if err == nil || ctx.Err() != nil {
		delete(c.last, id)
		return
	}
	if c.last == nil {
		c.last = map[int64]string{}
	}
	if c.last[id] != err.Error() {
		c.last[id] = err.Error()
		c.log.LogAttrs(ctx, slog.LevelError, msg, //nolint:sloglint // each caller passes a constant
			slog.Int64("rollout", id), slog.Any("err", err))
	}
}
