package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/rollout"
)

func (a *app) policyCommand() *cobra.Command {
	return group("policy", "The rules that rollouts move by: presets and files",
		a.policyList(), a.policyShow(), a.policyCheck(), a.policyDiff())
}

func (a *app) policyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the presets", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all := []rollout.Policy{}
			for _, name := range append(rollout.Presets(), "ladder") {
				p, err := readPolicy(name)
				if err != nil {
					return err
				}
				all = append(all, p)
			}
			return a.result(all, func(t *table) {
				t.row("NAME", "WHAT")
				for _, p := range all {
					t.row(strings.TrimSuffix(p.Name, "-1"), policyText(p))
				}
			})
		},
	}
}

func (a *app) policyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show PRESET|FILE", Short: "Show a policy with what each field does", Args: cobra.ExactArgs(1),
		Long: `Show a policy with what each field does. With -o json it is the policy document:
the start of a file of your own.

  headgate policy show standard -o json >mine.json`,
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			values, err := policyValues(p)
			if err != nil {
				return err
			}
			return a.result(p, func(t *table) {
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
		Use: "diff A B", Short: "Compare two policies, presets or files, field by field", Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			var sides [2]map[string]policyValue
			for i, name := range args {
				p, err := readPolicy(name)
				if err != nil {
					return err
				}
				values, err := policyValues(p)
				if err != nil {
					return err
				}
				sides[i] = map[string]policyValue{}
				for _, v := range values {
					sides[i][v.path] = v
				}
			}
			found := differences(sides[0], sides[1])
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
