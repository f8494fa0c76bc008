package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// Lanes is what asking for the emergency lane needs of the store.
type Lanes interface {
	OpenRollouts(ctx context.Context) ([]store.Rollout, error)
	Roster(ctx context.Context) (store.DutyRoster, error)
}

// askLanes are the facts by which people are asked, once for each rollout, to switch
// what brings an exploited case's fix to the emergency lane, and called. It switches
// nothing: a lane is chosen by people, or by the policy that they agreed on.
func askLanes(ctx context.Context, l Lanes, c store.Case, now time.Time) (out []psirt.Fact, err error) {
	if len(c.Work.Fixes) == 0 && len(c.Work.Rollouts) == 0 {
		return nil, nil
	}
	open, err := l.OpenRollouts(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the emergency lane: %w", err)
	}
	why := c.Exploited()
	for _, r := range open {
		if !r.State.Active() || r.Lane != nil || !c.Work.AsksLane(r.ID, psirt.FixBound{Product: r.Product, Version: r.Version}) {
			continue
		}
		f, err := psirt.Draft(&psirt.LaneAsked{Rollout: r.ID, Why: why}, now, "")
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	if len(out) == 0 || c.Page != nil && c.Page.Acknowledged.IsZero() {
		return out, nil
	}
	roster, err := l.Roster(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return out, nil // nobody is on duty: the case says what is to do
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the emergency lane: %w", err)
	}
	f, err := psirt.Draft(&psirt.PageRaised{To: roster.OnDuty(0, now), Why: "a fix under way may need the emergency lane: " + why}, now, "")
	return append(out, f), err
}
