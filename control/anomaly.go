package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// Anomalies is what the watch for anomalies needs of the store.
type Anomalies interface {
	OpenRollouts(ctx context.Context) ([]store.Rollout, error)
	Submit(ctx context.Context, s store.Submission, now time.Time) (store.Report, bool, error)
}

// Watchman files a report, once, for each rollout that the engine halted, whole or
// in a segment: what hurts endpoints may be a vulnerability, and is for people to
// look at.
type Watchman struct {
	Anomalies Anomalies
	Every     time.Duration
	Now       func() time.Time
	Log       *slog.Logger

	filed map[int64]bool // by this server; the store knows all
}

// Run watches until ctx ends.
func (w *Watchman) Run(ctx context.Context) {
	c := &complaints{log: w.Log}
	every(ctx, w.Every, w.Every, nil, func(ctx context.Context) {
		c.about(ctx, 0, "cannot report halted rollouts", w.Look(ctx))
	})
}

// Look files what is not filed yet. It looks at the state and not at the event, so
// that a crash between halt and report loses nothing.
func (w *Watchman) Look(ctx context.Context) error {
	open, err := w.Anomalies.OpenRollouts(ctx)
	if err != nil {
		return fmt.Errorf("report halted rollouts: %w", err)
	}
	var errs []error
	for _, r := range open {
		if w.filed[r.ID] || !halted(r) {
			continue
		}
		_, fresh, err := w.Anomalies.Submit(ctx, anomaly(r), w.Now())
		if err != nil {
			errs = append(errs, fmt.Errorf("report halted rollout R-%d: %w", r.ID, err))
			continue
		}
		if w.filed == nil {
			w.filed = map[int64]bool{}
		}
		if w.filed[r.ID] = true; fresh {
			w.Log.LogAttrs(ctx, slog.LevelInfo, "halted rollout reported", slog.Int64("rollout", r.ID))
		}
	}
	return errors.Join(errs...)
}

// halted tells whether the engine, and not a person, stopped something.
func halted(r store.Rollout) bool {
	return len(r.Halted) > 0 || r.State == rollout.Halted && r.HeldBy == Actor
}

// anomaly is the report of a halted rollout. It names no endpoint and no tenant.
func anomaly(r store.Rollout) store.Submission {
	var b strings.Builder
	fmt.Fprintf(&b, "The engine stopped rollout R-%d of %s %s.\n\n", r.ID, r.Product, r.Version)
	for _, why := range r.Reasons {
		fmt.Fprintf(&b, "* %s: %s\n", why.Code, why.Detail)
	}
	for _, s := range r.Halted {
		fmt.Fprintf(&b, "* segment %v, left out\n", s.Labels)
	}
	fmt.Fprintf(&b, "\nOf those that were granted: %d proven, %d harmed, %d silent, %d open.\n\nIt was stopped as it should be. This report asks whether what hurt them is a weakness of the product.\n",
		r.Counts.Proven, r.Counts.Harmed, r.Counts.Silent, r.Counts.Open)
	return store.Submission{
		Received: psirt.ReportReceived{
			Source: psirt.FromRollout, Title: fmt.Sprintf("Rollout R-%d of %s %s was stopped by its endpoints' health", r.ID, r.Product, r.Version),
			Text: b.String(), Product: r.Product, Version: r.Version,
		},
		Request: fmt.Sprintf("rollout/%d", r.ID),
	}
}
