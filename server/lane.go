package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// presetPolicies are all presets.
func presetPolicies() (out []rollout.Policy, err error) {
	for _, name := range rollout.Presets() {
		p, err := rollout.Preset(name)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// lanePolicy is the policy that an emergency's lane names: a preset, or an applied
// one.
func (s *Server) lanePolicy(ctx context.Context, name string) (p rollout.Policy, revision int64, err error) {
	if preset := strings.TrimSuffix(name, "@1"); slices.Contains(rollout.Presets(), preset) {
		p, err = rollout.Preset(preset)
		return p, 0, err
	}
	return s.appliedPolicy(ctx, name)
}

// startLane is the policy that a rollout starts by and, in an emergency, the choice
// that is recorded with it.
func (s *Server) startLane(ctx context.Context, m *headgatev1.StartRolloutRequest, of *store.CaseOf) (p rollout.Policy, revision int64, choice *rollout.Choice, err error) {
	if p, revision, err = s.startPolicy(ctx, m); err != nil {
		return p, 0, nil, err
	}
	named, by, why := p, "", laneWords(m.Exploited || of != nil && of.Why != "")
	if why != "" {
		// Without a case that says so the policy that nobody asked for names no lane.
		asked := of == nil || m.Policy != "" || m.PolicyJson != ""
		if p, revision, by, err = s.emergencyLane(ctx, p, revision, asked); err != nil {
			return p, 0, nil, err
		}
	}
	if m.Trade == nil && by == "" {
		return p, revision, nil, nil
	}
	trade, whose := tradeIn(m.Trade), ""
	if m.Trade == nil {
		trade, whose = rollout.TradeOf(named, p)
	}
	got, err := s.choose(ctx, m.Product, trade, p)
	if m.Trade == nil && errors.Is(err, rollout.ErrNoPlan) {
		// The fix does not wait for a price that nobody asked for.
		got, err = rollout.Choice{Taken: rollout.Cost{Lane: p.Name}, Signed: []string{from(ctx).Name}}, nil
	}
	got.By, got.Why, got.TradeOf = by, why, whose
	return p, revision, &got, err
}

// choose weighs a policy against the presets for a product's fleet.
func (s *Server) choose(ctx context.Context, product string, t rollout.Trade, p rollout.Policy) (rollout.Choice, error) {
	n, err := s.fleetOf(ctx, product)
	if err != nil {
		return rollout.Choice{}, err
	}
	presets, err := presetPolicies()
	if err != nil {
		return rollout.Choice{}, err
	}
	return rollout.Take(n, t, p, presets, from(ctx).Name)
}

// fleetOf is for how many endpoints of a product lanes are compared; a lane to
// nobody has no plan.
func (s *Server) fleetOf(ctx context.Context, product string) (int64, error) {
	n, err := s.store.CountProduct(ctx, product)
	return max(n, minLaneFleet), err
}

// minLaneFleet is the smallest fleet that lanes are compared for: with less no plan
// of gates can be made.
const minLaneFleet = 1000

func tradeIn(t *headgatev1.Trade) rollout.Trade {
	return rollout.Trade{Hazard: t.GetHazardPerHour(), Bad: t.GetBad(), CostCompromised: t.GetCostCompromised(), CostHarmed: t.GetCostHarmed()}.Priced()
}

// WeighLanes implements RolloutService.
func (s rolloutService) WeighLanes(ctx context.Context, req *connect.Request[headgatev1.WeighLanesRequest]) (*connect.Response[headgatev1.WeighLanesResponse], error) {
	m := req.Msg
	if _, _, err := release.SplitProduct(m.Product); err != nil {
		return nil, err
	}
	policies, err := presetPolicies()
	if err != nil {
		return nil, err
	}
	if m.Policy != "" || m.PolicyJson != "" {
		p, _, err := s.startPolicy(ctx, &headgatev1.StartRolloutRequest{Policy: m.Policy, PolicyJson: m.PolicyJson})
		if err != nil {
			return nil, err
		}
		policies = append([]rollout.Policy{p}, policies...)
	}
	n := m.Endpoints
	if n == 0 {
		if n, err = s.fleetOf(ctx, m.Product); err != nil {
			return nil, err
		}
	}
	if n < minLaneFleet || n > maxLaneFleet {
		return nil, invalid(fmt.Errorf("endpoints: %d; want %d to %d", n, minLaneFleet, int64(maxLaneFleet)))
	}
	out, err := weighed(n, tradeIn(m.Trade), policies)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

const maxLaneFleet = 1e9

func weighed(n int64, t rollout.Trade, policies []rollout.Policy) (*headgatev1.WeighLanesResponse, error) {
	lanes, costs, err := rollout.Weigh(n, t, policies)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.WeighLanesResponse{Endpoints: n}
	takeable := map[string]bool{}
	for _, p := range policies {
		takeable[p.Name] = p.CheckLane() == nil
	}
	for i, l := range lanes {
		out.Lanes = append(out.Lanes, &headgatev1.Lane{
			Policy: l.Name, To_99Us: l.Until(0.99).Microseconds(), Harm: l.Harm,
			Compromised: costs[i].Compromised, Harmed: costs[i].Harmed, Total: costs[i].Total, Lane: takeable[l.Name],
		})
	}
	cheapest := func(costs []rollout.Cost) (name string) {
		best := -1
		for i, c := range costs {
			if takeable[c.Lane] && (best < 0 || c.Total < costs[best].Total) {
				best, name = i, c.Lane
			}
		}
		return name
	}
	out.Cheapest = cheapest(costs)
	curve, _ := rollout.Curve(lanes, t.Hazards(), t)
	for i, h := range t.Hazards() {
		at := &headgatev1.LanesAt{HazardPerHour: h, Cheapest: cheapest(curve[i])}
		for _, c := range curve[i] {
			at.Totals = append(at.Totals, c.Total)
		}
		out.Curve = append(out.Curve, at)
	}
	return out, nil
}

// SwitchLane implements RolloutService.
func (s rolloutService) SwitchLane(ctx context.Context, req *connect.Request[headgatev1.SwitchLaneRequest]) (*connect.Response[headgatev1.SwitchLaneResponse], error) {
	m := req.Msg
	if len(m.Why) > maxWhy {
		return nil, invalid(fmt.Errorf("why: %d bytes, limit %d", len(m.Why), maxWhy))
	}
	if m.Trade == nil {
		return nil, invalid(fmt.Errorf("trade: an emergency is weighed: hazard_per_hour and bad are missing"))
	}
	now, err := s.store.Rollout(ctx, m.Id)
	if err != nil {
		return nil, fmt.Errorf("rollout R-%d: %w", m.Id, err)
	}
	p, revision, err := s.startPolicy(ctx, &headgatev1.StartRolloutRequest{Policy: m.Policy, PolicyJson: m.PolicyJson})
	if err != nil {
		return nil, err
	}
	choice, err := s.choose(ctx, now.Product, tradeIn(m.Trade), p)
	if err != nil {
		return nil, err
	}
	of, err := s.ofCase(ctx, m.Case, now.Product, now.Version)
	if err != nil {
		return nil, err
	}
	if of != nil && of.Why == "" {
		return nil, fmt.Errorf("%s: it says of no attack and no listing as exploited: %w", m.Case, store.ErrState)
	}
	w := store.LaneSwitch{Rollout: m.Id, Policy: p, PolicyRevision: revision, Choice: choice, Operator: from(ctx).Name, Why: m.Why, For: of}
	if w.Exploited, err = s.namesLane(ctx, now.Policy, p); err != nil {
		return nil, err
	}
	exploited := m.Exploited || of != nil
	w.Choice.Why = laneWords(exploited)
	if w.Exploited = w.Exploited && exploited; w.Exploited {
		w.Choice.By = now.Policy.Name
	}
	r, done, err := s.store.SwitchLane(ctx, w, s.cfg.Now().UTC().Truncate(time.Microsecond), s.jobs.EnqueuePublish)
	if err != nil {
		return nil, err
	}
	s.decider.Wake()
	return connect.NewResponse(&headgatev1.SwitchLaneResponse{Rollout: s.out(r), Switched: done}), nil
}

// namesLane tells whether the policy in force names another as its lane.
func (s *Server) namesLane(ctx context.Context, inForce, p rollout.Policy) (bool, error) {
	if inForce.Emergency == nil || inForce.Emergency.Lane == "" {
		return false, nil
	}
	lane, _, err := s.lanePolicy(ctx, inForce.Emergency.Lane)
	return err == nil && lane.Same(p), err
}

// laneJSON is a choice as the ledger has it; empty if there is none.
func laneJSON(c *rollout.Choice) string {
	if c == nil {
		return ""
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic("server: a choice that was stored as JSON is none: " + err.Error())
	}
	return string(b)
}
