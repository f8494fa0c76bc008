package psirt

import (
	"fmt"
	"slices"
)

// Exploited says why the case is an emergency, with the fact that says so; empty if
// it is none that is known of.
func (c *Case) Exploited() string {
	switch {
	case c.Triage.KEV.Known():
		return fmt.Sprintf("it is listed as known to be exploited (fact %d)", c.Triage.KEV.Seq)
	case c.State.Has(AttackObserved):
		return fmt.Sprintf("attacks were observed (fact %d)", c.When(AttackObserved).Seq)
	}
	return ""
}

// Lane is how a rollout of the case's fix came to an emergency's policy, or is asked
// to.
type Lane struct {
	Rollout int64    `json:"rollout"`
	Asked   FactTime `json:"asked,omitzero"` // people were asked to choose
	Taken   string   `json:"taken,omitempty"`
	Why     string   `json:"why"`
}

// AsksLane tells whether people are still to be asked for the emergency lane of a
// rollout: it brings the case's fix, and nobody was asked or took one.
func (w *Work) AsksLane(rollout int64, fix FixBound) bool {
	brings := slices.Contains(w.Rollouts, rollout) || slices.Contains(w.Fixes, fix)
	return brings && !slices.ContainsFunc(w.Lanes, func(l Lane) bool { return l.Rollout == rollout })
}

// lane is the lane of a rollout, made if there is none.
func (w *Work) lane(rollout int64) (*Lane, error) {
	i := slices.IndexFunc(w.Lanes, func(l Lane) bool { return l.Rollout == rollout })
	if i >= 0 {
		return &w.Lanes[i], nil
	}
	if len(w.Lanes) >= MaxList {
		return nil, illegal("%d lanes already", MaxList)
	}
	w.Lanes = append(w.Lanes, Lane{Rollout: rollout})
	return &w.Lanes[len(w.Lanes)-1], nil
}

// LaneAsked says that people were asked to switch a running rollout of the fix to the
// emergency lane. Nothing switches by itself.
type LaneAsked struct {
	Rollout int64  `json:"rollout"`
	Why     string `json:"why"`
}

// Kind implements Body.
func (*LaneAsked) Kind() Kind { return "lane.asked" }

func (b *LaneAsked) check() error {
	if b.Rollout < 1 {
		return invalid("rollout: %d", b.Rollout)
	}
	return line("why", b.Why)
}

func (b *LaneAsked) apply(c *Case, f Fact) error {
	l, err := c.Work.lane(b.Rollout)
	if err != nil {
		return err
	}
	l.Asked.set(f)
	l.Why = b.Why
	return nil
}
