package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // windows are checked here as the server checks them

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/rollout"
)

func (a *app) tenantLimits() *cobra.Command {
	return group("limits", "What a tenant asks of rollouts: defer, pin, N-1, windows, opt-out",
		a.limitsSet(), a.limitsShow(), a.limitsClear())
}

// limitFlags are one rule as flags say it.
type limitFlags struct {
	rule    rollout.Limit
	wait    time.Duration
	windows []string
	file    string
}

func (f *limitFlags) flags(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.rule.Product, "product", "", "the rule is for this `product` only, content included; without it for every product")
	s.BoolVar(&f.rule.OptOut, "opt-out", false, "take no release")
	s.StringVar(&f.rule.Pin, "pin", "", "take no `version` newer than this one")
	s.BoolVar(&f.rule.Previous, "previous", false, "stay one version behind (N-1): take a release once a newer one has finished elsewhere")
	s.DurationVar(&f.wait, "defer", 0, "wait so long after a rollout's start")
	s.Float64Var(&f.rule.Proven, "proven", 0, "wait until this `share` (0 to 1) of the endpoints elsewhere is proven")
	s.StringArrayVar(&f.windows, "window", nil, "a maintenance `window` as \"ZONE DAYS FROM-TO\", such as \"Europe/Berlin sat,sun 22:00-04:00\"; DAYS may be left out; repeat it")
	s.StringVar(&f.rule.Emergency, "emergency", "", "follow or ignore: whether an emergency's policy may override defer, proven and window")
	s.StringVar(&f.file, "file", "", "take all rules from this JSON `file` instead")
}

// document is the limits that the flags ask for: one rule among those in force, or
// a file in place of all of them.
func (f *limitFlags) document(inForce string) ([]byte, error) {
	if f.file != "" {
		return readFile(f.file, rollout.MaxLimits)
	}
	f.rule.Defer = span.Duration(f.wait)
	for _, text := range f.windows {
		w, err := parseWindow(text)
		if err != nil {
			return nil, err
		}
		f.rule.Windows = append(f.rule.Windows, w)
	}
	l, err := rollout.ParseLimits([]byte(inForce), time.LoadLocation)
	if err != nil {
		return nil, fmt.Errorf("the limits in force: %w", err)
	}
	i := slices.IndexFunc(l.Rules, func(r rollout.Limit) bool { return r.Product == f.rule.Product })
	if i < 0 {
		l.Rules = append(l.Rules, f.rule)
	} else {
		l.Rules[i] = f.rule
	}
	return json.Marshal(l)
}

// parseWindow reads "Europe/Berlin mon,tue 22:00-04:00"; the days may be left out.
func parseWindow(text string) (w rollout.Window, err error) {
	parts := strings.Fields(text)
	if len(parts) != 2 && len(parts) != 3 {
		return w, usagef("--window %q: want \"ZONE DAYS FROM-TO\" or \"ZONE FROM-TO\"", text)
	}
	from, to, ok := strings.Cut(parts[len(parts)-1], "-")
	if !ok {
		return w, usagef("--window %q: want the times as FROM-TO, such as 22:00-04:00", text)
	}
	w = rollout.Window{Zone: parts[0], From: from, To: to}
	if len(parts) == 3 {
		w.Days = strings.Split(parts[1], ",")
	}
	return w, nil
}

func (a *app) limitsSet() *cobra.Command {
	var f limitFlags
	c := &cobra.Command{
		Use: "set TENANT", Short: "Set one rule of a tenant's limits, or all of them from a file", Args: cobra.ExactArgs(1),
		Long: `Set the rule of a tenant for one product, or for every product; the rule that it
replaces is shown. All rules that match a product hold together, and they only ever
delay or withhold: the strictest of the vendor's floor, the platform's policy and
the tenant's limits wins. The tenant's own token may do this, and operators.

  headgate tenant limits set acme-corp --defer 24h \
    --window "Europe/Berlin sat,sun 22:00-04:00"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			now, err := getLimits(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			doc, err := f.document(now.Json)
			if err != nil {
				return err
			}
			l, err := rollout.ParseLimits(doc, time.LoadLocation)
			if err != nil {
				return err
			}
			for _, line := range limitsText(l) {
				a.say("  %s", line)
			}
			if err := a.confirm("Rollouts to the endpoints of tenant %s will be limited like that.", args[0]); err != nil {
				return err
			}
			return a.putLimits(cmd.Context(), c, args[0], string(doc), now.Revision)
		},
	}
	f.flags(c)
	return c
}

func (a *app) limitsClear() *cobra.Command {
	return &cobra.Command{
		Use: "clear TENANT", Short: "End all limits of a tenant", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			now, err := getLimits(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if err := a.confirm("Rollouts to the endpoints of tenant %s will be limited by the vendor and the platform only.", args[0]); err != nil {
				return err
			}
			return a.putLimits(cmd.Context(), c, args[0], "", now.Revision)
		},
	}
}

func getLimits(ctx context.Context, c *client, tenant string) (*headgatev1.TenantLimits, error) {
	res, err := call(ctx, c.account.GetTenantLimits, &headgatev1.GetTenantLimitsRequest{Tenant: tenant})
	if err != nil {
		return nil, err
	}
	return res.Limits, nil
}

func (a *app) putLimits(ctx context.Context, c *client, tenant, doc string, base int64) error {
	res, err := call(ctx, c.account.SetTenantLimits, &headgatev1.SetTenantLimitsRequest{Tenant: tenant, Json: doc, BaseRevision: base})
	if err != nil {
		return err
	}
	return a.showLimits(res.Limits)
}

func (a *app) limitsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show TENANT", Short: "Show a tenant's limits", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			l, err := getLimits(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return a.showLimits(l)
		},
	}
}

func (a *app) showLimits(l *headgatev1.TenantLimits) error {
	parsed, err := rollout.ParseLimits([]byte(l.Json), time.LoadLocation)
	if err != nil {
		return fmt.Errorf("limits of tenant %s as the server has them: %w", l.Tenant, err)
	}
	return a.result(l, func(t *table) {
		t.row("TENANT", "REVISION", "LIMITS")
		for _, line := range limitsText(parsed) {
			t.row(l.Tenant, l.Revision, line)
		}
	})
}

// limitsText is limits in a reader's words, a line for each rule.
func limitsText(l *rollout.Limits) (out []string) {
	for _, r := range l.Rules {
		out = append(out, ruleText(r))
	}
	if len(out) == 0 {
		return []string{"none"}
	}
	return out
}

func ruleText(r rollout.Limit) string {
	var s []string
	say := func(holds bool, format string, args ...any) {
		if holds {
			s = append(s, fmt.Sprintf(format, args...))
		}
	}
	say(r.OptOut, "no release at all")
	say(r.Pin != "", "nothing newer than %s", r.Pin)
	say(r.Previous, "one version behind")
	say(r.Defer > 0, "not before %s after the start", r.Defer)
	say(r.Proven > 0, "not before %s %% are proven elsewhere", strconv.FormatFloat(100*r.Proven, 'g', 4, 64))
	for _, w := range r.Windows {
		days := strings.Join(w.Days, ",")
		if days == "" {
			days = "every day"
		}
		s = append(s, fmt.Sprintf("only %s %s-%s %s", days, w.From, w.To, w.Zone))
	}
	say(r.Emergency == rollout.EmergencyFollow, "follows emergencies")
	say(len(s) == 0, "nothing is limited")
	what := "every product"
	if r.Product != "" {
		what = r.Product
	}
	return what + ": " + strings.Join(s, "; ")
}
