package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
)

func (a *app) endpointCommand() *cobra.Command {
	return group("endpoint", "What runs a product and reports", a.endpointList(), a.endpointShow(), a.endpointWhy(), a.endpointSBOM())
}

func (a *app) endpointList() *cobra.Command {
	var req headgatev1.ListEndpointsRequest
	var roll string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List endpoints", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if roll != "" {
				id, err := parseRollout(roll)
				if err != nil {
					return err
				}
				req.Rollout = id
			}
			if limit < 1 {
				return usagef("--limit %d: want at least 1", limit)
			}
			if req.State != "" && req.Rollout == 0 {
				return usagef("--state is the state of an exposure: say of which --rollout")
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			all, more, err := listEndpoints(cmd.Context(), c, &req, limit)
			if err != nil {
				return err
			}
			if more {
				a.say("There are more than %d: raise --limit, or filter.", limit)
			}
			return a.result(&headgatev1.ListEndpointsResponse{Endpoints: all}, func(t *table) {
				t.row("ENDPOINT", "NAME", "TENANT", "RUNS", "HEALTHY", "SEEN")
				for _, e := range all {
					runs, healthy := installations(e)
					t.row(e.Id, e.Name, e.Tenant, runs, healthy, since(e.LastSeenUs))
				}
			})
		},
	}
	f := c.Flags()
	f.StringVar(&req.Tenant, "tenant", "", "of one tenant only")
	f.StringVar(&roll, "rollout", "", "exposed to this rollout only")
	f.StringVar(&req.State, "state", "", "with --rollout: open, proven, harmed or silent only")
	f.IntVar(&limit, "limit", 100, "show at most so many")
	return c
}

// listEndpoints reads pages until limit endpoints are there; more tells whether
// the server has others.
func listEndpoints(ctx context.Context, c *client, req *headgatev1.ListEndpointsRequest, limit int) (all []*headgatev1.Endpoint, more bool, err error) {
	for {
		req.PageSize = int32(min(limit-len(all), 1000))
		res, err := call(ctx, c.fleet.ListEndpoints, req)
		if err != nil {
			return nil, false, err
		}
		all = append(all, res.Endpoints...)
		req.PageToken = res.NextPageToken
		if req.PageToken == "" || len(all) >= limit {
			return all, req.PageToken != "", nil
		}
	}
}

func installations(e *headgatev1.Endpoint) (runs, healthy string) {
	var r, h []string
	for _, i := range e.Installations {
		version := i.Version
		if version == "" {
			version = "nothing"
		}
		r = append(r, i.Product+" "+version)
		h = append(h, yesNo(i.Healthy))
	}
	return strings.Join(r, ", "), strings.Join(h, ", ")
}

func (a *app) endpointShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ENDPOINT", Short: "Show an endpoint and what it was exposed to", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.fleet.GetEndpoint, &headgatev1.GetEndpointRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) { showEndpoint(t, res.Endpoint) })
		},
	}
}

func showEndpoint(t *table, e *headgatev1.Endpoint) {
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(e.Labels)) {
		labels = append(labels, k+"="+e.Labels[k])
	}
	t.field("endpoint", e.Id)
	t.field("name", e.Name)
	t.field("tenant", e.Tenant)
	t.field("labels", strings.Join(labels, " "))
	t.field("failure domain", e.FailureDomain)
	t.field("enrolled", when(e.EnrolledUs))
	t.field("last seen", since(e.LastSeenUs))
	t.field("agent", e.AgentVersion)
	t.field("sandbox", strings.Join(e.Sandbox, " "))
	if e.Trouble != "" {
		t.field("trouble", e.Trouble)
	}
	if e.RssBytes > 0 {
		t.field("memory", fmt.Sprintf("%.1f MB", float64(e.RssBytes)/1e6))
	}
	for _, i := range e.Installations {
		t.field("runs", fmt.Sprintf("%s %s, healthy: %s, crashes: %d", i.Product, i.Version, yesNo(i.Healthy), i.Crashes))
	}
	if len(e.Exposures) == 0 {
		return
	}
	t.row("")
	t.row("ROLLOUT", "RELEASE", "STATE", "GRANTED", "DOWN FOR", "WHY")
	for _, x := range e.Exposures {
		state := x.State
		if x.Reverted {
			state += ", went back"
		}
		t.row(rolloutID(x.Rollout), x.Product+" "+x.Version, state, when(x.GrantedUs), spanText(x.DownUs), strings.TrimSpace(x.Reason+" "+x.Detail))
	}
}
