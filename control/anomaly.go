package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// Anomalies is what the watch for anomalies needs of the store.
type Anomalies interface {
	OpenRollouts(ctx context.Context) ([]store.Rollout, error)
	Submit(ctx context.Context, s store.Submission, now time.Time) (store.Report, bool, error)
}

// Watchman files a report, once, for each time that the engine halted a rollout, whole
// or in a segment: what hurts endpoints may be a vulnerability, and is for people to
// look at. A later stop of the same rollout names the report of the first.
type Watchman struct {
	Anomalies Anomalies
	Every     time.Duration
	Now       func() time.Time
	Log       *slog.Logger

	filed map[string]bool // stops, by this server; the store knows all
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
	if w.filed == nil {
		w.filed = map[string]bool{}
	}
	var errs []error
	for _, r := range open {
		if err := w.look(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("report halted rollout R-%d: %w", r.ID, err))
		}
	}
	return errors.Join(errs...)
}

// look files the stops of one rollout. The first report is of all that was stopped when
// it was filed.
func (w *Watchman) look(ctx context.Context, r store.Rollout) error {
	var first store.Report
	for _, s := range stops(r) {
		if w.filed[s.key] {
			continue
		}
		if first.ID == 0 {
			var fresh bool
			var err error
			if first, fresh, err = w.Anomalies.Submit(ctx, anomaly(r, fmt.Sprintf("rollout/%d", r.ID), ""), w.Now()); err != nil {
				return err
			}
			w.say(ctx, r, fresh)
		}
		if !s.in(first) {
			_, fresh, err := w.Anomalies.Submit(ctx, anomaly(r, s.key, ids.Format("RP", first.ID)), w.Now())
			if err != nil {
				return err
			}
			w.say(ctx, r, fresh)
		}
		w.filed[s.key] = true
	}
	return nil
}

func (w *Watchman) say(ctx context.Context, r store.Rollout, fresh bool) {
	if fresh {
		w.Log.LogAttrs(ctx, slog.LevelInfo, "halted rollout reported", slog.Int64("rollout", r.ID))
	}
}

// stop is one time that the engine stopped a rollout.
type stop struct {
	key  string
	at   time.Time // of the whole; zero for a segment
	line string    // of a segment: how a report names it
}

// in tells whether a report is of this stop already.
func (s stop) in(r store.Report) bool {
	if s.line != "" {
		return strings.Contains(r.Text, s.line)
	}
	return !s.at.After(r.Received.At)
}

// stops are the times that the engine, and not a person, stopped a rollout.
func stops(r store.Rollout) (out []stop) {
	if !r.Stopped.IsZero() {
		out = append(out, stop{key: fmt.Sprintf("rollout/%d/%d", r.ID, r.Stopped.UnixMicro()), at: r.Stopped})
	}
	for _, h := range r.Halted {
		key := fmt.Sprintf("rollout/%d/%s/%d", r.ID, h.Labels, h.Rung)
		if h.AtUS > 0 {
			key += fmt.Sprintf("/%d", h.AtUS) // lifted and halted again at its step is another time
		}
		out = append(out, stop{key: key, line: segmentLine(h)})
	}
	return out
}

func segmentLine(h rollout.HaltedSegment) string {
	when := ""
	if h.AtUS > 0 {
		when = " on " + time.UnixMicro(h.AtUS).UTC().Format("2006-01-02T15:04:05.000000Z")
	}
	return fmt.Sprintf("* segment %s, left out at step %d%s\n", h.Labels, h.Rung, when)
}

// anomaly is the report of a halted rollout. It names no endpoint and no tenant.
func anomaly(r store.Rollout, request, earlier string) store.Submission {
	var b strings.Builder
	fmt.Fprintf(&b, "The engine stopped rollout R-%d of %s %s.\n\n", r.ID, r.Product, r.Version)
	for _, why := range r.StoppedWhy {
		fmt.Fprintf(&b, "* %s: %s\n", why.Code, why.Detail)
	}
	for _, s := range r.Halted {
		b.WriteString(segmentLine(s))
	}
	fmt.Fprintf(&b, "\nOf those that were granted: %d proven, %d harmed, %d silent, %d open.\n\nIt was stopped as it should be. This report asks whether what hurt them is a weakness of the product.\n",
		r.Counts.Proven, r.Counts.Harmed, r.Counts.Silent, r.Counts.Open)
	if earlier != "" {
		fmt.Fprintf(&b, "\nThe same rollout was stopped before: %s. If it is of the same cause, link this one as its duplicate.\n", earlier)
	}
	return store.Submission{
		Received: psirt.ReportReceived{
			Source: psirt.FromRollout, Title: fmt.Sprintf("Rollout R-%d of %s %s was stopped by its endpoints' health", r.ID, r.Product, r.Version),
			Text: b.String(), Product: r.Product, Version: r.Version,
		},
		Request: request,
	}
}
