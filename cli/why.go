package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
)

func (a *app) endpointWhy() *cobra.Command {
	var product string
	c := &cobra.Command{
		Use: "why ENDPOINT", Short: "Say who keeps which release from an endpoint, and until when", Args: cobra.ExactArgs(1),
		Long: `Say who keeps which release from an endpoint, and until when: the vendor's floor,
the platform's policy, the tenant's limits, the rollout, the endpoint itself. What
rules comes first. It is asked of the very functions that answer the endpoint.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.fleet.ExplainEndpoint, &headgatev1.ExplainEndpointRequest{Id: args[0], Product: product})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) { showStandings(t, res.Standings) })
		},
	}
	c.Flags().StringVar(&product, "product", "", "one `product` only")
	return c
}

func showStandings(t *table, all []*headgatev1.EndpointStanding) {
	if len(all) == 0 {
		t.row("It runs no product.")
		return
	}
	t.row("ROLLOUT", "RELEASE", "STATE", "BY", "CODE", "UNTIL", "WHY")
	for _, s := range all {
		id, release, state := "-", s.Product, "-"
		if s.Rollout > 0 {
			id, release, state = rolloutID(s.Rollout), s.Product+" "+s.Version, s.State
		}
		switch {
		case s.Has:
			t.row(id, release, state, "", "has-it", "", "the endpoint runs it")
		case len(s.Delays) == 0:
			t.row(id, release, state, "", "free", "", "it will be granted when it asks")
		}
		for _, d := range s.Delays {
			t.row(id, release, state, d.By, d.Code, untilText(d.UntilUs), d.Detail)
		}
		for _, d := range s.Overridden {
			t.row(id, release, state, d.By, "overridden: "+d.Code, untilText(d.UntilUs), d.Detail)
		}
	}
}

// untilText is an instant to come, with how long that is; "?" if nobody knows.
func untilText(us int64) string {
	if us == 0 {
		return "?"
	}
	return fmt.Sprintf("%s (in %s)", when(us), time.Until(time.UnixMicro(us)).Round(time.Second))
}
