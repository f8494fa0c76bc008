package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/rollout"
)

func (a *app) policyCommand() *cobra.Command {
	return group("policy", "The rules that rollouts move by: presets and files",
		a.policyList(), a.policyShow(), a.policyCheck(), a.policyDiff(), a.policyApply())
}

// Listed is a policy in a list.
type Listed struct {
	Name     string `json:"name"`
	Revision int64  `json:"revision"`
	// Applied is who applied it when; empty for a preset, which is part of the
	// program.
	Applied string         `json:"applied"`
	Policy  rollout.Policy `json:"policy"`
}

func (a *app) policyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the presets, and the policies that were applied", Args: cobra.NoArgs,
		Long: `List the presets and, if a server is named, the newest revision of each policy that
was applied there.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []Listed{}
			for _, name := range append(rollout.Presets(), "ladder") {
				p, err := readPolicy(name)
				if err != nil {
					return err
				}
				all = append(all, Listed{Name: name, Revision: 1, Policy: p})
			}
			if a.conn.server != "" {
				applied, err := a.listApplied(cmd.Context())
				if err != nil {
					return err
				}
				all = append(all, applied...)
			}
			return a.result(all, func(t *table) {
				t.row("NAME", "REVISION", "APPLIED", "WHAT")
				for _, p := range all {
					t.row(p.Name, p.Revision, cmp.Or(p.Applied, "preset"), policyText(p.Policy))
				}
			})
		},
	}
}

func (a *app) listApplied(ctx context.Context) (out []Listed, err error) {
	c, err := a.conn.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, c.policy.ListPolicies, &headgatev1.ListPoliciesRequest{})
	if err != nil {
		return nil, err
	}
	for _, x := range res.Policies {
		l := Listed{Name: x.Name, Revision: x.Revision, Applied: when(x.AppliedUs) + " by " + x.AppliedBy}
		if err := json.Unmarshal([]byte(x.Json), &l.Policy); err != nil {
			return nil, fmt.Errorf("policy %s@%d as the server has it: %w", x.Name, x.Revision, err)
		}
		out = append(out, l)
	}
	return out, nil
}

func (a *app) policyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show PRESET|FILE|NAME[@REVISION]", Short: "Show a policy with what each field does", Args: cobra.ExactArgs(1),
		Long: `Show a policy with what each field does: a preset, a file, or one that was applied.
With -o json it is the policy document: the start of a file of your own.

  headgate policy show standard -o json >mine.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.findPolicy(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if r := p.ref; r != nil {
				a.say("%s@%d, applied %s by %s", r.Name, r.Revision, when(r.AppliedUs), r.AppliedBy)
			}
			values, err := policyValues(p.Policy)
			if err != nil {
				return err
			}
			return a.result(p.Policy, func(t *table) {
				t.row("FIELD", "VALUE", "WHAT IT DOES")
				for _, v := range values {
					t.row(v.path, v.value, v.field.Text)
				}
			})
		},
	}
}

// Difference is a field that two policies set differently; empty is not set.
type Difference struct {
	Field string `json:"field"`
	A     string `json:"a"`
	B     string `json:"b"`
}

func (a *app) policyDiff() *cobra.Command {
	return &cobra.Command{
		Use: "diff A B", Short: "Compare two policies field by field: presets, files, NAME[@REVISION]", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var sides [2]rollout.Policy
			for i, name := range args {
				p, err := a.findPolicy(cmd.Context(), name)
				if err != nil {
					return err
				}
				sides[i] = p.Policy
			}
			found, err := compare(sides[0], sides[1])
			if err != nil {
				return err
			}
			return a.result(found, func(t *table) {
				t.row("FIELD", args[0], args[1])
				for _, d := range found {
					t.row(d.Field, cmp.Or(d.A, "-"), cmp.Or(d.B, "-"))
				}
			})
		},
	}
}

func differences(a, b map[string]policyValue) []Difference {
	both := maps.Clone(a)
	maps.Copy(both, b)
	out := []Difference{}
	for _, v := range slices.SortedFunc(maps.Values(both), policyValue.compare) {
		if a[v.path].value != b[v.path].value {
			out = append(out, Difference{v.path, a[v.path].value, b[v.path].value})
		}
	}
	return out
}

// policyValue is one field of a policy as it is set; value is empty for what
// only groups others, and for what is left out.
type policyValue struct {
	path  string // with the numbers of elements: budget.horizons[0].age
	value string
	field rollout.Field
	order [3]int // the list it stands in, the element, the field
}

func (v policyValue) compare(o policyValue) int { return slices.Compare(v.order[:], o.order[:]) }

// policyValues are all fields of a policy in the document's order.
func policyValues(p rollout.Policy) ([]policyValue, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write policy: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	fields := rollout.Fields()
	index := map[string]int{}
	for i, f := range fields {
		index[f.Path] = i
	}
	var out []policyValue
	for i, f := range fields {
		list, member, inList := strings.Cut(f.Path, "[].")
		if !inList {
			out = append(out, policyValue{f.Path, text(at(doc, f.Path), fields[min(i+1, len(fields)-1)].Path, f.Path), f, [3]int{i, -1, i}})
			continue
		}
		elements, _ := at(doc, list).([]any)
		for n, e := range elements {
			path := list + "[" + strconv.Itoa(n) + "]." + member
			out = append(out, policyValue{path, text(at(e, member), "", path), f, [3]int{index[list], n, i}})
		}
	}
	slices.SortFunc(out, policyValue.compare)
	return out, nil
}

// at is the value at a path of objects, nil if there is none.
func at(v any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		object, _ := v.(map[string]any)
		v = object[step]
	}
	return v
}

// text is a value for people: nothing for a group, whose members are listed
// next.
func text(v any, next, path string) string {
	group := strings.HasPrefix(next, path+".") || strings.HasPrefix(next, path+"[].")
	if v == nil || group {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic("cli: what was read as JSON cannot be written: " + err.Error())
	}
	return string(b)
}
