package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/rollout"
)

// showPlan is what a start would come to, for people.
func showPlan(t *table, p *headgatev1.RolloutPlan) {
	t.field("fleet", fmt.Sprintf("%d endpoints are heard from", p.GetFit()))
	if len(p.GetLadder()) > 0 {
		t.field("cohorts", strings.Trim(fmt.Sprint(p.GetLadder()), "[]")+" exposed in all after each")
	}
	if p.GetGatesLimit() > 0 {
		t.field("gates", fmt.Sprintf("%d planned / %d any policy needs", p.GetGates(), p.GetGatesLimit()))
	}
	c := p.GetCoverage()
	if c == nil {
		return
	}
	t.field("coverage", coverageText(c))
	for _, x := range c.GetMissed() {
		t.field("not covered", x)
	}
	for _, x := range c.GetUncovered() {
		t.field("critical, and nobody has it", x)
	}
}

// planText is the same in a sentence or two, before a question.
func planText(p *headgatev1.RolloutPlan) string {
	if p.GetFit() == 0 { // nobody is there, or the policy has no budget to plan by
		return ""
	}
	text := fmt.Sprintf(" %d endpoints are heard from.", p.GetFit())
	if len(p.GetLadder()) > 0 {
		text += fmt.Sprintf(" Exposed in all after each cohort: %s; %d gates, any policy needs %d.", strings.Trim(fmt.Sprint(p.GetLadder()), "[]"), p.GetGates(), p.GetGatesLimit())
	}
	if c := p.GetCoverage(); c != nil {
		text += " Coverage: " + coverageText(c) + "."
		if n := len(c.GetMissed()); n > 0 {
			text += fmt.Sprintf(" Not covered: %s%s.", strings.Join(c.GetMissed()[:min(n, 3)], "; "), more(c.GetCells()-c.GetReached()-int64(min(n, 3))))
		}
		if len(c.GetUncovered()) > 0 {
			text += " Critical, and nobody has it: " + strings.Join(c.GetUncovered(), "; ") + "."
		}
	}
	return text
}

// more says how many are not named.
func more(n int64) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

func coverageText(c *headgatev1.Coverage) string {
	if c.GetCells() == 0 {
		return fmt.Sprintf("%d chosen; every label value and pair is common enough to be met by chance", c.GetChosen())
	}
	return fmt.Sprintf("%d chosen for the %d label values and pairs that chance covers too thinly: %d have a member, %d have enough; any choice needs %d for one in each pair",
		c.GetChosen(), c.GetCells(), c.GetReached(), c.GetFilled(), c.GetLowerBound())
}

// plan asks what a start would come to.
func (a *app) plan(ctx context.Context, c *client, req *headgatev1.StartRolloutRequest) (*headgatev1.RolloutPlan, error) {
	dry, ok := proto.Clone(req).(*headgatev1.StartRolloutRequest)
	if !ok {
		panic("cli: a clone is of another kind")
	}
	dry.DryRun = true
	res, err := call(ctx, c.rollout.StartRollout, dry)
	if err != nil {
		return nil, err
	}
	return res.GetPlan(), nil
}

// confirmStart shows what the start will do, and asks.
func (a *app) confirmStart(ctx context.Context, c *client, req *headgatev1.StartRolloutRequest, p rollout.Policy) error {
	planned, err := a.plan(ctx, c, req)
	if err != nil {
		return err
	}
	name, lane := cmp.Or(req.Policy, p.Name), ""
	if planned.GetExploited() != "" {
		lane = fmt.Sprintf(" %s is an emergency: %s.", req.Case, planned.GetExploited())
		if planned.GetPolicy() == p.Name {
			lane += fmt.Sprintf(" Policy %q names no lane for one, and is taken as it is; with --exploit-hazard and --regression-probability the lanes are weighed.", p.Name)
		} else if p, err = rollout.ParsePolicy([]byte(planned.GetPolicyJson())); err != nil {
			return err
		} else {
			name = p.Name
		}
	}
	return a.confirm("%s %s will go out by policy %q: %s.%s%s", req.Product, req.Version, name, policyText(p), lane, planText(planned))
}
