package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/psirt"
)

func (a *app) caseVariant() *cobra.Command {
	return group("variant", "The search for a vulnerability's kin, as bounded work", a.variantPut("add"), a.variantPut("update"), a.variantList())
}

// getWork reads what was done about a case, as it is derived from its facts.
func (a *app) getWork(cmd *cobra.Command, kase string) (psirt.Work, error) {
	k, err := a.getCase(cmd, kase)
	if err != nil {
		return psirt.Work{}, err
	}
	var c psirt.Case
	if err := json.Unmarshal([]byte(k.DerivedJson), &c); err != nil {
		return psirt.Work{}, fmt.Errorf("read the case: %w", err)
	}
	return c.Work, nil
}

// variantPut records a search: a first one, or how an earlier one stands now.
func (a *app) variantPut(verb string) *cobra.Command {
	var f factFlags
	var b psirt.VariantSearched
	short := "Record a search: what was asked of what, how much was looked at, what was found"
	if verb == "update" {
		short = "Record how a search stands now; what is not said stays, and FOUND is added to it"
	}
	c := &cobra.Command{
		Use: verb + " CASE [FOUND...]", Short: short, Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if b.Query == "" || b.Corpus == "" {
				return usagef("say which search: --query and --corpus")
			}
			w, err := a.getWork(cmd, args[0])
			if err != nil {
				return err
			}
			next, err := nextSearch(w, b, args[1:], verb == "update", cmd.Flags().Changed)
			if err != nil {
				return err
			}
			return a.addBody(cmd, args[0], &next, f, "%s", searchText(next))
		},
	}
	s := c.Flags()
	s.StringVar(&b.Query, "query", "", "what was asked")
	s.StringVar(&b.Corpus, "corpus", "", "of what: a tree with its revision, an inventory")
	s.Int64Var(&b.Total, "total", 0, "how many results there are")
	s.Int64Var(&b.Reviewed, "reviewed", 0, "how many of them were looked at")
	f.flags(c)
	return c
}

// nextSearch is a search with what is new of it.
func nextSearch(w psirt.Work, b psirt.VariantSearched, found []string, update bool, said func(flag string) bool) (psirt.VariantSearched, error) {
	i := slices.IndexFunc(w.Searches, func(s psirt.VariantSearched) bool { return s.Query == b.Query && s.Corpus == b.Corpus })
	switch {
	case !update && i >= 0:
		return b, usagef("this search is recorded already: headgate case variant update says how it stands now")
	case update && i < 0:
		return b, usagef("there is no search for %q in %q: headgate case variant add records one", b.Query, b.Corpus)
	case update:
		was := w.Searches[i]
		if !said("total") {
			b.Total = was.Total
		}
		if !said("reviewed") {
			b.Reviewed = was.Reviewed
		}
		b.Found = slices.Clone(was.Found)
	}
	for _, v := range found {
		if !slices.Contains(b.Found, v) {
			b.Found = append(b.Found, v)
		}
	}
	return b, nil
}

func searchText(s psirt.VariantSearched) string {
	text := fmt.Sprintf("%q in %s: %d of %d reviewed (%.0f %%)", s.Query, s.Corpus, s.Reviewed, s.Total, 100*s.Share())
	if len(s.Found) == 0 {
		return text + ", none found"
	}
	return text + ", found: " + strings.Join(s.Found, ", ")
}

func (a *app) variantList() *cobra.Command {
	return &cobra.Command{
		Use: "list CASE", Short: "List a case's searches, and what they found", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := a.getWork(cmd, args[0])
			if err != nil {
				return err
			}
			return a.result(w.Searches, func(t *table) {
				t.row("QUERY", "CORPUS", "REVIEWED", "SHARE", "FOUND")
				for _, s := range w.Searches {
					t.row(s.Query, s.Corpus, fmt.Sprintf("%d of %d", s.Reviewed, s.Total), fmt.Sprintf("%.0f %%", 100*s.Share()), strings.Join(s.Found, ", "))
				}
			})
		},
	}
}

func (a *app) caseCause() *cobra.Command {
	var f factFlags
	var cwe string
	c := &cobra.Command{
		Use: "cause CASE CLASS TEXT", Short: "Name the root cause, and the class that it belongs to", Args: cobra.ExactArgs(3),
		Long: `Name the root cause, and the class that it belongs to. The newest is in force.

  headgate case cause C-… unchecked-length "a length from the wire is believed" --cwe CWE-787`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addBody(cmd, args[0], &psirt.RootCauseSet{Class: args[1], CWE: cwe, Text: args[2]}, f, "its cause, of class %s: %s", args[1], args[2])
		},
	}
	c.Flags().StringVar(&cwe, "cwe", "", "the weakness, CWE-NUMBER")
	f.flags(c)
	return c
}
