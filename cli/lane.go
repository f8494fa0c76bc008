package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/rollout"
)

// tradeFlags are what an emergency weighs.
type tradeFlags struct {
	trade     headgatev1.Trade
	exploited bool
	kase      string
}

func (f *tradeFlags) flags(c *cobra.Command) {
	s := c.Flags()
	s.Float64Var(&f.trade.HazardPerHour, "exploit-hazard", 0, "`probability` that an unprotected endpoint is compromised within an hour")
	s.Float64Var(&f.trade.Bad, "regression-probability", 0, "`probability` that the release is bad")
	s.Float64Var(&f.trade.CostCompromised, "cost-compromised", 1, "cost of one compromised endpoint, in any one unit")
	s.Float64Var(&f.trade.CostHarmed, "cost-harmed", 1, "cost of one harmed endpoint, in the same unit")
	s.StringVar(&f.kase, "case", "", "the `case` that it is a fix of: if that is exploited, the policy's emergency lane is taken, and the case records which and why")
	s.BoolVar(&f.exploited, "exploited", false, "a case says that the hole is exploited: the policy may choose its emergency lane by itself")
}

// given tells whether an emergency is weighed: both probabilities belong to it.
func (f *tradeFlags) given(c *cobra.Command) (bool, error) {
	hazard, bad := c.Flags().Changed("exploit-hazard"), c.Flags().Changed("regression-probability")
	if hazard != bad {
		return false, usagef("--exploit-hazard and --regression-probability go together: waiting is weighed against going")
	}
	return hazard, nil
}

// weigh shows what it costs to wait and to go by each lane.
func (a *app) weigh(ctx context.Context, c *client, product string, f *tradeFlags, doc, ref string) (*headgatev1.WeighLanesResponse, error) {
	res, err := call(ctx, c.rollout.WeighLanes, &headgatev1.WeighLanesRequest{Product: product, Trade: &f.trade, PolicyJson: doc, Policy: ref})
	if err != nil {
		return nil, err
	}
	a.say("What it costs to wait and to go, for %d endpoints, at a hazard of %g an hour and a bad release in %g:", res.Endpoints, f.trade.HazardPerHour, f.trade.Bad)
	a.say("  %-26s %12s %14s %10s %12s", "LANE", "99 % AFTER", "COMPROMISED", "HARMED", "J")
	for _, l := range res.Lanes {
		note := ""
		switch {
		case !l.Lane:
			note = "  compared with only"
		case l.Policy == res.Cheapest:
			note = "  the cheapest"
		}
		a.say("  %-26s %12s %14.4g %10.4g %12.4g%s", l.Policy, spanText(l.To_99Us), l.Compromised, l.Harmed, l.Total, note)
	}
	a.say("J by the hazard:")
	head := fmt.Sprintf("  %-12s", "HAZARD/H")
	for _, l := range res.Lanes {
		head += fmt.Sprintf(" %*s", max(10, len(l.Policy)), l.Policy)
	}
	a.say("%s  CHEAPEST", head)
	for _, at := range res.Curve {
		line := fmt.Sprintf("  %-12g", at.HazardPerHour)
		for i, j := range at.Totals {
			line += fmt.Sprintf(" %*.4g", max(10, len(res.Lanes[i].Policy)), j)
		}
		a.say("%s  %s", line, at.Cheapest)
	}
	return res, nil
}

// signFor asks for the choice of a lane, with its price.
func (a *app) signFor(res *headgatev1.WeighLanesResponse, p rollout.Policy, what string) error {
	for i, l := range res.Lanes {
		if l.Policy != p.Name {
			continue
		}
		slower := "there is no slower lane"
		for _, s := range res.Lanes[i+1:] {
			if s.To_99Us > l.To_99Us {
				slower = fmt.Sprintf("the next slower, %s, J %.4g", s.Policy, s.Total)
				break
			}
		}
		return a.confirm("%s by lane %s: J %.4g; %s. You sign for it in the ledger. Canaries, silence and evidence halt it as ever: %s.", what, p.Name, l.Total, slower, policyText(p))
	}
	return fmt.Errorf("the server did not weigh policy %s", p.Name)
}

// startEmergency shows the lanes and asks, before an emergency's start.
func (a *app) startEmergency(ctx context.Context, c *client, f *tradeFlags, req *headgatev1.StartRolloutRequest, p rollout.Policy) error {
	req.Trade = &f.trade
	doc, ref := req.PolicyJson, req.Policy
	if req.Case != "" || req.Exploited { // the policy may name another
		planned, err := a.plan(ctx, c, req)
		if err != nil {
			return err
		}
		if p, err = rollout.ParsePolicy([]byte(planned.GetPolicyJson())); err != nil {
			return err
		}
		doc, ref = planned.GetPolicyJson(), ""
		if planned.GetExploited() != "" {
			a.say("%s is an emergency: %s.", req.Case, planned.GetExploited())
		}
	}
	res, err := a.weigh(ctx, c, req.Product, f, doc, ref)
	if err != nil {
		return err
	}
	return a.signFor(res, p, req.Product+" "+req.Version+" will go out")
}

func (a *app) rolloutEmergency() *cobra.Command {
	var f tradeFlags
	var policy, why string
	c := &cobra.Command{
		Use: "emergency ROLLOUT", Short: "Switch a running rollout to an emergency's policy; it takes two operators", Args: cobra.ExactArgs(1),
		Long: `Switch a running rollout to an emergency's policy. What it costs to wait and to go
is shown for each lane, and recorded with who signed. It takes a second, other operator
who asks for the same, unless the policy in force says that one is enough. What was
observed stays evidence, so that the rollout must go by a budget already.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseRollout(args[0])
			if err != nil {
				return err
			}
			given, err := f.given(cmd)
			if err != nil {
				return err
			}
			if !given {
				return usagef("say what is weighed: --exploit-hazard and --regression-probability")
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			now, err := call(cmd.Context(), c.rollout.GetRollout, &headgatev1.GetRolloutRequest{Id: id})
			if err != nil {
				return err
			}
			start := &headgatev1.StartRolloutRequest{}
			p, err := a.startPolicy(cmd.Context(), policy, start)
			if err != nil {
				return err
			}
			res, err := a.weigh(cmd.Context(), c, now.Rollout.GetProduct(), &f, start.PolicyJson, start.Policy)
			if err != nil {
				return err
			}
			if err := a.signFor(res, p, rolloutID(id)+" will go on"); err != nil {
				return err
			}
			return a.switchLane(cmd.Context(), c, &headgatev1.SwitchLaneRequest{Id: id, PolicyJson: start.PolicyJson, Policy: start.Policy, Trade: &f.trade, Why: why, Exploited: f.exploited, Case: f.kase})
		},
	}
	c.Flags().StringVar(&policy, "policy", "emergency", "a preset, an applied `policy` as NAME or NAME@REVISION, or a JSON file")
	c.Flags().StringVar(&why, "why", "", "the reason, for the ledger")
	f.flags(c)
	return c
}

func (a *app) switchLane(ctx context.Context, c *client, req *headgatev1.SwitchLaneRequest) error {
	res, err := call(ctx, c.rollout.SwitchLane, req)
	if err != nil {
		return err
	}
	if !res.Switched {
		a.say("Recorded: %s asks for it. It takes a second, other operator who asks for the same: headgate rollout emergency %s", res.Rollout.GetLaneAskedBy(), rolloutID(req.Id))
	}
	return a.result(res, func(t *table) { showRollouts(t, res.Rollout) })
}

// laneText is a recorded choice in a reader's words.
func laneText(c rollout.Choice) string {
	text := fmt.Sprintf("%s, signed by %s", c.Taken.Lane, strings.Join(c.Signed, " and "))
	if c.By != "" {
		text += ", chosen by policy " + c.By
	}
	if c.Why != "" {
		text += ": " + c.Why
	}
	if c.Fleet > 0 {
		text += fmt.Sprintf("; J %.4g at a hazard of %g an hour and a bad release in %g", c.Taken.Total, c.Trade.Hazard, c.Trade.Bad)
		switch c.TradeOf {
		case rollout.TradeOfPolicy:
			text += ", by the policy's trade"
		case rollout.TradeAssumed:
			text += ", assumed: nobody entered a trade"
		}
	}
	if c.Slower != nil {
		text += fmt.Sprintf("; the next slower, %s, J %.4g", c.Slower.Lane, c.Slower.Total)
	}
	return text
}
