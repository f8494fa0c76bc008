package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/rollout"
)

func (a *app) policyApply() *cobra.Command {
	return &cobra.Command{
		Use: "apply FILE", Short: "Put a policy file in force as its name's next revision", Args: cobra.ExactArgs(1),
		Long: `Put a policy file in force as its name's next revision. What would change is shown
first. Rollouts that run keep the revision that they started by; a rollout started
with --policy NAME takes the newest one. Applying the same file again changes
nothing.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readFile(args[0], rollout.MaxPolicy)
			if err != nil {
				return err
			}
			p, err := rollout.ParsePolicy(b)
			if err == nil {
				err = rollout.CheckName(p.Name)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			return a.applyPolicy(cmd.Context(), c, p)
		},
	}
}

func (a *app) applyPolicy(ctx context.Context, c *client, p rollout.Policy) error {
	base, err := a.showChange(ctx, c, p)
	if err != nil {
		return err
	}
	doc, err := p.Document()
	if err != nil {
		return err
	}
	res, err := call(ctx, c.policy.ApplyPolicy, &headgatev1.ApplyPolicyRequest{Json: string(doc), BaseRevision: base})
	if err != nil {
		return err
	}
	return a.result(res, func(t *table) {
		t.row("POLICY", "REVISION", "CHANGED")
		t.row(res.Policy.GetName(), res.Policy.GetRevision(), yesNo(res.Changed))
	})
}

// showChange shows what applying p changes and asks; it returns the revision in
// force.
func (a *app) showChange(ctx context.Context, c *client, p rollout.Policy) (base int64, err error) {
	got, err := appliedPolicy(ctx, c, rollout.Ref{Name: p.Name})
	if err != nil {
		return 0, err
	}
	if got == nil {
		return 0, a.confirm("Policy %s is new. Revision 1 will be: %s.", p.Name, policyText(p))
	}
	base = got.Revision
	old, err := rollout.ParsePolicy([]byte(got.Json))
	if err != nil {
		return 0, fmt.Errorf("policy %s@%d as the server has it: %w", p.Name, base, err)
	}
	if old.Same(p) {
		a.say("Policy %s@%d says this already.", p.Name, base)
		return base, nil
	}
	found, err := compare(old, p)
	if err != nil {
		return 0, err
	}
	for _, d := range found {
		a.say("  %s: %s → %s", d.Field, orNone(d.A), orNone(d.B))
	}
	return base, a.confirm("Policy %s@%d will be followed by revision %d, with %d fields changed.", p.Name, base, base+1, len(found))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// compare lists the fields that two policies set differently.
func compare(a, b rollout.Policy) ([]Difference, error) {
	var sides [2]map[string]policyValue
	for i, p := range []rollout.Policy{a, b} {
		values, err := policyValues(p)
		if err != nil {
			return nil, err
		}
		sides[i] = map[string]policyValue{}
		for _, v := range values {
			sides[i][v.path] = v
		}
	}
	return differences(sides[0], sides[1]), nil
}

// named is a policy that a command line named, and what kind of name it was.
type named struct {
	rollout.Policy
	ref *headgatev1.Policy // an applied one
}

// findPolicy is a preset by name, a policy file, or an applied policy by NAME or
// NAME@REVISION; what is a file is never looked for on the server.
func (a *app) findPolicy(ctx context.Context, name string) (named, error) {
	_, errFile := os.Stat(name)
	ref, errRef := rollout.ParseRef(name)
	if isPreset(name) || errFile == nil || errRef != nil || !errors.Is(errFile, fs.ErrNotExist) {
		p, err := readPolicy(name)
		return named{Policy: p}, err
	}
	if a.conn.server == "" {
		return named{}, fmt.Errorf("policy %q is no file and no preset (%s, ladder); for an applied one say which --server", name, strings.Join(rollout.Presets(), ", "))
	}
	c, err := a.conn.connect()
	if err != nil {
		return named{}, err
	}
	got, err := appliedPolicy(ctx, c, ref)
	if err != nil {
		return named{}, err
	}
	if got == nil {
		return named{}, fmt.Errorf("policy %q is no file, no preset (%s, ladder), and the server has none of that name", name, strings.Join(rollout.Presets(), ", "))
	}
	p, err := rollout.ParsePolicy([]byte(got.Json))
	return named{Policy: p, ref: got}, err
}

// appliedPolicy finds an applied policy; nil if there is none.
func appliedPolicy(ctx context.Context, c *client, ref rollout.Ref) (*headgatev1.Policy, error) {
	res, err := c.policy.GetPolicy(ctx, connect.NewRequest(&headgatev1.GetPolicyRequest{Name: ref.Name, Revision: ref.Revision}))
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err)
	}
	return res.Msg.Policy, nil
}

// isPreset tells whether name is a preset's, also with its revision: "flash@1".
func isPreset(name string) bool {
	name = strings.TrimSuffix(strings.TrimSuffix(name, "@1"), "-1")
	return name == "ladder" || slices.Contains(rollout.Presets(), name)
}
