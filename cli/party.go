package cli

import (
	"cmp"
	"context"
	"slices"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

// allCases lists all open cases, page by page.
func allCases(ctx context.Context, c *client) (out []*headgatev1.Case, err error) {
	const page = 1000
	for after := ""; ; {
		res, err := call(ctx, c.cases.ListCases, &headgatev1.ListCasesRequest{After: after, Limit: page})
		if err != nil {
			return nil, err
		}
		out = append(out, res.Cases...)
		if len(res.Cases) < page {
			return out, nil
		}
		after = res.Cases[page-1].Id
	}
}

// embargoed are the cases that have an embargo, the first to end first.
func embargoed(all []*headgatev1.Case) (out []*headgatev1.Case) {
	for _, k := range all {
		if k.Embargo != nil {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b *headgatev1.Case) int {
		return cmp.Or(cmp.Compare(a.Embargo.UntilUs, b.Embargo.UntilUs), cmp.Compare(a.Id, b.Id))
	})
	return out
}

func (a *app) partyCommand() *cobra.Command {
	return group("party", "Who must know, act or agree, and what they say", a.partyAdd(), a.partyStatus(), a.partyList(), a.partyExplain())
}

func (a *app) partyAdd() *cobra.Command {
	var as string
	c := &cobra.Command{
		Use: "add CASE PARTY", Short: "Name a party of a case", Args: cobra.ExactArgs(2),
		Long: `Name a party of a case: vendor:acme, tenant:example-corp, or any lower-case word
for somebody who has no token here. A party reads nothing by that: whoever is to
read is a member too (headgate case member add). It is unknown until it says
something.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addBody(cmd, args[0], &psirt.PartyAdded{Party: args[1], As: as}, factFlags{}, "%s is a party, as %s", args[1], as)
		},
	}
	c.Flags().StringVar(&as, "as", "vendor", "vendor, coordinator, deployer, reporter or tenant")
	return c
}

func (a *app) partyStatus() *cobra.Command {
	var b psirt.PartyStatus
	c := &cobra.Command{
		Use: "status CASE PARTY STATUS", Short: "Record what a party says of itself", Args: cobra.ExactArgs(3),
		Long: `Record what a party says of itself: affected, not_affected (with --why), fixed,
under_investigation, or unknown to take it back. A party that holds a vendor's or
tenant's token and is a member may say it itself.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			b.Party, b.Status = args[1], psirt.Status(args[2])
			of := ""
			if b.Product != "" {
				of = " of " + b.Product
			}
			return a.addBody(cmd, args[0], &b, factFlags{}, "%s says %s%s", b.Party, b.Status, of)
		},
	}
	c.Flags().StringVar(&b.Product, "product", "", "only for this product")
	c.Flags().StringVar(&b.Why, "why", "", "its reason")
	return c
}

func (a *app) partyList() *cobra.Command {
	return &cobra.Command{
		Use: "list CASE", Short: "List a case's parties and what they said", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.getCase(cmd, args[0])
			if err != nil {
				return err
			}
			k.Facts = nil // the rest of the case stays: an empty field would read as unknown
			return a.result(k, func(t *table) { showParties(t, k.Parties) })
		},
	}
}

func showParties(t *table, parties []*headgatev1.Party) {
	t.row("PARTY", "AS", "PRODUCT", "STATUS", "EMBARGO", "SAID", "WHY")
	for _, p := range parties {
		if len(p.Statuses) == 0 {
			t.row(p.Name, p.As, "all", p.Status, p.Embargo, "never", "silence is no answer")
		}
		for _, s := range p.Statuses {
			t.row(p.Name, p.As, cmp.Or(s.Product, "all"), s.Status, p.Embargo, when(s.AtUs), s.Why)
		}
	}
}
