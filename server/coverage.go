package server

import (
	"context"
	"fmt"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// cover chooses who covers the fleet of a product under a policy. The choice
// depends on the fleet, the policy and the release only: a plan made before the
// start says what the start will do, unless the fleet changes in between. fit is
// how many endpoints are there.
func (s *Server) cover(ctx context.Context, product, version string, p rollout.Policy) (r fleet.Reach, fit int64, err error) {
	if p.Budget == nil {
		return r, 0, nil
	}
	since := s.cfg.Now().Add(-2*p.Beacon.Std() - s.decider.Grain() - 2*s.cfg.Beacon.Std())
	all, err := s.store.Eligible(ctx, product, []byte(product+" "+version), since)
	if err != nil {
		return r, 0, fmt.Errorf("choose who covers the fleet: %w", err)
	}
	fit = int64(len(all))
	if want := p.Budget.Coverage(fit); want.Most > 0 || len(p.Budget.Critical) > 0 {
		// Declared combinations are covered even where the fleet is too small for more.
		want.Most = max(want.Most, min(len(p.Budget.Critical), int(p.Budget.Cover)))
		r = fleet.Choose(all, want, p.Budget.CriticalSegments())
	}
	return r, fit, nil
}

// planned is what a start by a policy would do to the fleet as it is now.
func (s *Server) planned(p rollout.Policy, r fleet.Reach, fit int64, of *store.CaseOf) (*headgatev1.RolloutPlan, error) {
	doc, err := p.Document()
	if err != nil {
		return nil, err
	}
	out := &headgatev1.RolloutPlan{Fit: fit, Coverage: coverageOut(r), Policy: p.Name, PolicyJson: string(doc)}
	if of != nil {
		out.Exploited = of.Why
	}
	if b := p.Budget; b != nil && fit > 0 {
		out.Ladder, out.GatesLimit = b.Ladder(fit), b.GatesLimit(fit)
		out.Gates = rollout.Gates(out.Ladder)
	}
	return out, nil
}

func coverageOut(r fleet.Reach) *headgatev1.Coverage {
	if r.Chosen == 0 && r.Cells == 0 && len(r.Uncovered) == 0 {
		return nil
	}
	return &headgatev1.Coverage{
		Chosen: r.Chosen, Cells: r.Cells, Reached: r.Reached, Filled: r.Filled, LowerBound: r.LowerBound, Missed: r.Missed, Uncovered: r.Uncovered,
	}
}
