package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/sim/pacing"
)

// Promise is one declared limit and what the simulation came to.
type Promise struct {
	Policy    string   `json:"policy"`
	Fault     string   `json:"fault"`
	What      string   `json:"what"` // "harmed" or "minutes_to_99"
	Declared  float64  `json:"declared"`
	Simulated *float64 `json:"simulated"` // null is never
	Holds     bool     `json:"holds"`
}

// declaredFlags override what the policy file declares.
type declaredFlags struct {
	simulate bool
	harmed   float64
	minutes  float64
}

func (a *app) policyCheck() *cobra.Command {
	var s simulation
	var d declaredFlags
	c := &cobra.Command{
		Use: "check FILE...", Short: "Check policy files; with --simulate, what they declare", Args: cobra.MinimumNArgs(1),
		Long: `Check policy files: unknown fields, values that cannot be meant. With --simulate
play them, and compare with what the file declares, or the flags: the exit status
is 1 if in 95 of 100 rollouts more endpoints would be harmed, or everyone would
wait longer. Use it in CI, where policies are kept.

  headgate policy check mine.json
  headgate policy check mine.json --simulate --max-harmed 50 --max-minutes 7`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.check(); err != nil {
				return err
			}
			var policies []rollout.Policy
			for _, name := range args {
				p, err := readPolicy(name)
				if err != nil {
					return err
				}
				if p.Budget == nil && d.simulate {
					return fmt.Errorf("policy %s has no budget: only policies with one are simulated", name)
				}
				policies = append(policies, p)
			}
			if !d.simulate {
				return a.checked(args, policies)
			}
			return a.checkDeclared(cmd.Context(), s, d, policies)
		},
	}
	s.flags(c, 20)
	f := c.Flags()
	f.BoolVar(&d.simulate, "simulate", false, "play the policy, and compare with what is declared")
	f.Float64Var(&d.harmed, "max-harmed", -1, "how many endpoints each --fault may harm; over the file's own")
	f.StringVar(&s.faults, "fault", "kill-all", "the `faults` for --max-harmed, comma separated")
	f.Float64Var(&d.minutes, "max-minutes", 0, "in how many minutes a good release must protect 99 %; over the file's own")
	return c
}

func (a *app) checked(names []string, policies []rollout.Policy) error {
	type line struct {
		File   string `json:"file"`
		Policy string `json:"policy"`
	}
	all := []line{}
	for i, p := range policies {
		all = append(all, line{names[i], p.Name})
	}
	return a.result(all, func(t *table) {
		for i, l := range all {
			t.row(l.File+":", "good,", l.Policy+":", policyText(policies[i]))
		}
	})
}

func (a *app) checkDeclared(ctx context.Context, s simulation, d declaredFlags, policies []rollout.Policy) error {
	all := []Promise{}
	for _, p := range policies {
		limits, err := a.declared(p, d, s)
		if err != nil {
			return err
		}
		found, err := a.simulated(ctx, s, p, limits)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	err := a.result(all, func(t *table) {
		t.row("POLICY", "FAULT", "WHAT", "DECLARED", "IN 95 OF 100", "HOLDS")
		for _, x := range all {
			t.row(x.Policy, x.Fault, x.What, x.Declared, number(x.Simulated), map[bool]string{true: "yes", false: "no"}[x.Holds])
		}
	})
	if err == nil && slices.ContainsFunc(all, func(x Promise) bool { return !x.Holds }) {
		return statusError(exitError)
	}
	return err
}

// number is never for nil.
func number(v *float64) string {
	if v == nil {
		return "never"
	}
	return fmt.Sprintf("%.4g", *v)
}

// declared are the limits to hold a policy to: the file's, and the flags' over
// them.
func (a *app) declared(p rollout.Policy, d declaredFlags, s simulation) (l rollout.Declared, err error) {
	if p.Declared != nil {
		l = *p.Declared
	}
	harmed := map[string]float64{}
	for name, n := range l.Harmed {
		x, err := a.pickFaults(name, s.endpoints)
		if err != nil {
			return l, fmt.Errorf("policy %q: declared.harmed: %w", p.Name, err)
		}
		harmed[x[0].Name] = n
	}
	if d.harmed >= 0 {
		faults, err := a.pickFaults(s.faults, s.endpoints)
		if err != nil {
			return l, err
		}
		for _, x := range faults {
			harmed[x.Name] = d.harmed
		}
	}
	l.Harmed = harmed
	l.MinutesTo99 = cmp.Or(d.minutes, l.MinutesTo99)
	if len(harmed) == 0 && l.MinutesTo99 == 0 {
		return l, usagef("policy %q declares nothing to compare with: set declared in the file, or --max-harmed and --max-minutes", p.Name)
	}
	return l, nil
}

// simulated plays what the limits speak of.
func (a *app) simulated(ctx context.Context, s simulation, p rollout.Policy, l rollout.Declared) ([]Promise, error) {
	names := slices.Sorted(maps.Keys(l.Harmed))
	if l.MinutesTo99 > 0 && !slices.Contains(names, "good") {
		names = append([]string{"good"}, names...)
	}
	faults, err := a.pickFaults(strings.Join(names, ","), s.endpoints)
	if err != nil {
		return nil, err
	}
	p.Signals = nil // a simulation has no outside
	_, rows, err := a.play(ctx, s, []pacing.Policy{pacing.Ours(p)}, faults)
	if err != nil {
		return nil, err
	}
	var out []Promise
	hold := func(r pacing.Row, what string, declared float64, get func(pacing.Result) float64) {
		x := Promise{Policy: p.Name, Fault: r.Fault, What: what, Declared: declared}
		if v := r.Quantile(0.95, get, false); !math.IsInf(v, 1) {
			x.Simulated, x.Holds = &v, v <= declared
		}
		out = append(out, x)
	}
	for _, r := range rows {
		if r.Fault == "good" && l.MinutesTo99 > 0 {
			hold(r, "minutes_to_99", l.MinutesTo99, func(x pacing.Result) float64 { return cmp.Or(x.T99, math.Inf(1)) })
		}
		if most, ok := l.Harmed[r.Fault]; ok {
			hold(r, "harmed", most, func(x pacing.Result) float64 { return x.Harmed })
		}
	}
	return out, nil
}
