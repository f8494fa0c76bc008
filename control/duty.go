package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/headgate/headgate/store"
)

// Calls is what the duty loop needs of the store.
type Calls interface {
	OpenCalls(ctx context.Context) ([]store.OpenCall, error)
	Roster(ctx context.Context) (store.DutyRoster, error)
	Climb(ctx context.Context, call store.OpenCall, to string, now time.Time) error
}

// Duty has calls climb that nobody answers, around the clock.
type Duty struct {
	Calls Calls
	Every time.Duration
	Now   func() time.Time
	Log   *slog.Logger
	// Climbed, if set, is told of each call that climbed.
	Climbed func()
}

// Run looks at open calls until ctx ends.
func (d *Duty) Run(ctx context.Context) {
	c := &complaints{log: d.Log}
	every(ctx, d.Every, d.Every, nil, func(ctx context.Context) {
		c.about(ctx, 0, "cannot look at open calls", d.Look(ctx))
	})
}

// Look decides about each open call once. A call that changed meanwhile is left
// for the next look.
func (d *Duty) Look(ctx context.Context) error {
	open, err := d.Calls.OpenCalls(ctx)
	if err != nil {
		return fmt.Errorf("look at open calls: %w", err)
	}
	if len(open) == 0 {
		return nil
	}
	roster, err := d.Calls.Roster(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return nil // called by hand: nobody is next
	}
	if err != nil {
		return fmt.Errorf("look at open calls: %w", err)
	}
	now := d.Now().UTC().Truncate(time.Microsecond)
	var errs []error
	for _, call := range open {
		climb := roster.Climbs(call.Page, now)
		if !climb.Call {
			continue
		}
		err := d.Calls.Climb(ctx, call, climb.To, now)
		switch {
		case errors.Is(err, store.ErrConflict):
		case err != nil:
			errs = append(errs, err)
		default:
			d.Log.LogAttrs(ctx, slog.LevelWarn, "call climbed", slog.Int64("level", call.Level+1), slog.String("to", climb.To))
			if d.Climbed != nil {
				d.Climbed()
			}
		}
	}
	return errors.Join(errs...)
}
