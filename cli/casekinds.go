package cli

import (
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/psirt"
)

// Described is a kind of fact for people.
type Described struct {
	Kind   psirt.Kind `json:"kind"`
	Of     []string   `json:"of"`      // "case", "report"
	Fields []string   `json:"fields"`  // with a "?" behind those that may be left out
	ByHand bool       `json:"by_hand"` // false: measured or decided by the server
}

// describe lists the kinds of facts with their fields, by name.
func describe() (out []Described) {
	for _, k := range psirt.Kinds() {
		b := psirt.Blank(k)
		d := Described{Kind: k, ByHand: psirt.ByHand(k)}
		ofCase, ofReport := psirt.BelongsTo(b)
		if ofCase {
			d.Of = append(d.Of, "case")
		}
		if ofReport {
			d.Of = append(d.Of, "report")
		}
		t := reflect.TypeOf(b).Elem()
		for i := range t.NumField() {
			name, opts, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if opts != "" {
				name += "?"
			}
			d.Fields = append(d.Fields, name)
		}
		out = append(out, d)
	}
	return out
}

func (a *app) caseKinds() *cobra.Command {
	return &cobra.Command{
		Use: "kinds", Short: "List the kinds of facts and their fields", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all := describe()
			return a.result(all, func(t *table) {
				t.row("KIND", "OF", "BY HAND", "FIELDS")
				for _, k := range all {
					t.row(k.Kind, strings.Join(k.Of, ", "), yesNo(k.ByHand), strings.Join(k.Fields, " "))
				}
			})
		},
	}
}
