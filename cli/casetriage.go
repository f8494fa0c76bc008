package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/psirt"
)

func (a *app) caseScore() *cobra.Command {
	var f factFlags
	var scorer string
	c := &cobra.Command{
		Use: "score CASE VECTOR", Short: "Record a CVSS score, computed from its vector", Args: cobra.ExactArgs(2),
		Long: `Record a CVSS score (version 2.0 to 4.0), computed from its vector. Scorers are
kept apart: another scorer's vector stands beside yours, not in its place.

  headgate case score C-… CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N --scorer alice`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if scorer == "" {
				return usagef("want --scorer: who says so")
			}
			b, err := psirt.Scored(args[1], scorer)
			if err != nil {
				return usageError{err}
			}
			return a.addBody(cmd, args[0], b, f, "%s scores it %.1f by %s, %s", scorer, b.Score, b.Scheme, b.Vector)
		},
	}
	c.Flags().StringVar(&scorer, "scorer", "", "who scores it")
	f.flags(c)
	return c
}

func (a *app) caseSSVC() *cobra.Command {
	var f factFlags
	c := &cobra.Command{
		Use: "ssvc CASE TABLE [INPUT=VALUE...]", Short: "Record what an SSVC decision table says", Args: cobra.MinimumNArgs(2),
		Long: `Record what a decision table of SSVC (CERT/CC, CISA) says to your answers, with
its path, and what would change it. The tables: ` + tableNames() + `.
headgate case tables TABLE lists a table's inputs and their values.

  headgate case ssvc C-… deployer exploitation=active system-exposure=open automatable=yes human-impact=high`,
		RunE: func(cmd *cobra.Command, args []string) error {
			answers := map[string]string{}
			for _, s := range args[2:] {
				k, v, ok := strings.Cut(s, "=")
				if _, twice := answers[k]; !ok || twice {
					return usagef("%q: want INPUT=VALUE, each input once", s)
				}
				answers[k] = v
			}
			b, err := psirt.Categorize(args[1], answers)
			if err != nil {
				return usageError{err}
			}
			table, err := psirt.SSVCTable(b.Table)
			if err != nil {
				return err
			}
			decided, err := table.Decide(answers)
			if err != nil {
				return err
			}
			for _, x := range decided.Changes {
				a.say("it would be %s with %s: %s", x.Outcome, x.Input, x.Value)
			}
			return a.addBody(cmd, args[0], b, f, "%s: %s (row %d: %s)", b.Table, b.Outcome, decided.Row, strings.Join(b.Path, ", "))
		},
	}
	f.flags(c)
	return c
}

func tableNames() string {
	var names []string
	for _, t := range psirt.SSVCTables() {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

func (a *app) caseTables() *cobra.Command {
	return &cobra.Command{
		Use: "tables [TABLE]", Short: "List the decision tables, or the inputs of one", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				x, err := psirt.SSVCTable(args[0])
				if err != nil {
					return usageError{err}
				}
				return a.result(x, func(t *table) { showTable(t, x) })
			}
			all := psirt.SSVCTables()
			return a.result(all, func(t *table) {
				t.row("TABLE", "VERSION", "ROWS", "TITLE", "SOURCE")
				for _, x := range all {
					t.row(x.Name, x.Version, len(x.Rows), x.Title, x.Source)
				}
			})
		},
	}
}

func showTable(t *table, x psirt.Table) {
	t.row("INPUT", "VALUES")
	for _, p := range append(x.Inputs, x.Outcome) {
		var values []string
		for _, v := range p.Values {
			values = append(values, fmt.Sprintf("%s (%s)", v.Key, v.Title))
		}
		name := p.Name
		if p.ID == x.Outcome.ID {
			name = "outcome"
		}
		t.row(name, strings.Join(values, ", "))
	}
}
