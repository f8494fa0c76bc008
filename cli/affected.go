package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/release"
)

func (a *app) affectedCommand() *cobra.Command {
	return group("affected", "Whom a case concerns: which endpoints, why, since when, and when each was fixed",
		a.affectedSet(), a.affectedMatch(), a.affectedFreeze(), a.affectedShow(), a.affectedSnapshot(), a.affectedExplain())
}

// parseRanges reads "NAME vers:..." arguments.
func parseRanges(args []string) (*psirt.AffectedSet, error) {
	set := &psirt.AffectedSet{}
	var all []release.Affected
	for _, s := range args {
		name, vers, ok := strings.Cut(strings.TrimSpace(s), " ")
		if !ok {
			return nil, usagef("range %q: want \"NAME vers:TYPE/CONSTRAINTS\", such as \"acme/fw vers:semver/>=1.0.0|<1.4.2\"", s)
		}
		r := release.Affected{Name: name, Range: strings.TrimSpace(vers)}
		all = append(all, r)
		set.Ranges = append(set.Ranges, psirt.AffectedRange(r))
	}
	if _, err := fleet.Compile(all); err != nil {
		return nil, usageError{err}
	}
	return set, nil
}

func (a *app) affectedSet() *cobra.Command {
	var f factFlags
	c := &cobra.Command{
		Use: "set CASE RANGE...", Short: "Say which versions are vulnerable, in the place of what was said before", Args: cobra.MinimumNArgs(2),
		Long: `Say which versions are vulnerable. Each RANGE is a component and a vers range:

  "acme/fw vers:semver/>=1.0.0|<1.4.2"              a product of Headgate's
  "pkg:npm/lodash vers:npm/<4.17.21"                a package, by its PURL
  "cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:* vers:semver/>=3.0.0|<3.0.7"

Packages and CPEs are found in the bills of materials of releases and endpoints.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := parseRanges(args[1:])
			if err != nil {
				return err
			}
			if err := a.sayUnknownProducts(cmd.Context(), set); err != nil {
				return err
			}
			return a.addBody(cmd, args[0], set, f, "affected are %s", strings.Join(args[1:], "; "))
		},
	}
	f.flags(c)
	return c
}

// sayUnknownProducts tells of ranges that match nothing because no product has
// their name: a slip would call safe what is not.
func (a *app) sayUnknownProducts(ctx context.Context, set *psirt.AffectedSet) error {
	c, err := a.conn.connect()
	if err != nil {
		return err
	}
	res, err := call(ctx, c.catalog.ListProducts, &headgatev1.ListProductsRequest{})
	if connect.CodeOf(err) == connect.CodePermissionDenied {
		return nil // whoever may not list products is not helped
	}
	if err != nil {
		return err
	}
	for _, r := range set.Ranges {
		known := slices.ContainsFunc(res.Products, func(p *headgatev1.Product) bool { return p.Name == r.Name })
		if !known && !strings.Contains(r.Name, ":") {
			a.say("There is no product %s here: its range matches nothing (headgate product list).", r.Name)
		}
	}
	return nil
}

func (a *app) affectedMatch() *cobra.Command {
	req := headgatev1.MatchAffectedRequest{}
	c := &cobra.Command{
		Use: "match CASE", Short: "Match the case's ranges against what endpoints have now, and keep nothing", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			req.Case = args[0]
			res, err := call(cmd.Context(), c.affected.MatchAffected, &req)
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				resourceRows(t, res.Resources)
				t.row(fmt.Sprintf("Affected: %d endpoints, %d tenants; unknown: %d endpoints.", res.Tally.GetVulnerable(), res.Tally.GetTenants(), res.Tally.GetUnknown()))
			})
		},
	}
	c.Flags().StringVar(&req.After, "after", "", "only endpoints after this `id`")
	c.Flags().Int32Var(&req.Limit, "limit", 100, "show at most so many; up to 1000")
	return c
}

func resourceRows(t *table, rs []*headgatev1.AffectedResource) {
	t.row("ENDPOINT", "TENANT", "STATE", "SINCE", "FIXED", "EXPOSED", "JOINED", "WHY")
	for _, r := range rs {
		why := ""
		for _, i := range r.Intervals {
			if why == "" || i.UntilUs == 0 {
				why = i.Reason
			}
		}
		t.row(r.Endpoint, r.Tenant, r.State, when(r.SinceUs), when(r.FixedUs), spanText(r.ExposedUs), when(r.JoinedUs), short(why, 90))
	}
}

func (a *app) affectedFreeze() *cobra.Command {
	return &cobra.Command{
		Use: "freeze CASE", Short: "Keep whom the case concerns, as a snapshot with a hash, and follow them from now on", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			now, err := call(cmd.Context(), c.affected.MatchAffected, &headgatev1.MatchAffectedRequest{Case: args[0], Limit: 1})
			if err != nil {
				return err
			}
			if err := a.confirm("To be frozen: affected %d endpoints, %d tenants; unknown %d endpoints. It becomes a fact of %s.", now.Tally.GetVulnerable(), now.Tally.GetTenants(), now.Tally.GetUnknown(), args[0]); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.affected.FreezeAffected, &headgatev1.FreezeAffectedRequest{Case: args[0]})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.field("snapshot", res.Snapshot.GetN())
				t.field("endpoints", res.Snapshot.GetResources())
				t.field("tenants", res.Snapshot.GetTenants())
				t.field("hash", res.Snapshot.GetHash())
			})
		},
	}
}

func (a *app) affectedShow() *cobra.Command {
	req := headgatev1.GetAffectedRequest{}
	c := &cobra.Command{
		Use: "show CASE", Short: "Show how those whom the case concerns stand", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Case = args[0]
			res, err := a.getAffected(cmd, &req)
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				for _, r := range res.Ranges {
					t.field("range", r)
				}
				for _, s := range res.Snapshots {
					t.field("frozen", fmt.Sprintf("%s: %d endpoints of %d tenants, %s", when(s.AtUs), s.Resources, s.Tenants, s.Hash))
				}
				k := res.Tally
				t.field("verified", fmt.Sprintf("%d of %d; at least %.1f %% at 95 %% confidence", k.GetVerified(), k.GetResources(), 100*k.GetLower()))
				t.field("not fixed", fmt.Sprintf("%d vulnerable, %d unknown, %d attested only, %d stale", k.GetVulnerable(), k.GetUnknown(), k.GetAttested(), k.GetStale()))
				t.field("exposed", fmt.Sprintf("%.1f endpoint hours", float64(k.GetExposedUs())/3.6e9))
				resourceRows(t, res.Resources)
			})
		},
	}
	c.Flags().StringVar(&req.After, "after", "", "only endpoints after this `id`")
	c.Flags().Int32Var(&req.Limit, "limit", 100, "show at most so many; up to 1000")
	return c
}

func (a *app) affectedSnapshot() *cobra.Command {
	req := headgatev1.GetAffectedSnapshotRequest{}
	c := &cobra.Command{
		Use: "snapshot CASE", Short: "Print what was frozen, byte for byte", Args: cobra.ExactArgs(1),
		Long: `Print what was frozen, byte for byte: its SHA-256 is the hash in the case's fact.
It is checked before anything is printed. A line is one interval: tenant, endpoint,
product, what runs, component, version, ranges, why unknown, from, basis, until, end;
times are microseconds since 1970.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			req.Case = args[0]
			whole, err := call(cmd.Context(), c.affected.GetAffectedSnapshot, &req)
			if err != nil {
				return err
			}
			for next := whole.NextOffset; next != 0; {
				part, err := call(cmd.Context(), c.affected.GetAffectedSnapshot, &headgatev1.GetAffectedSnapshotRequest{Case: args[0], N: whole.Snapshot.GetN(), Offset: next})
				if err != nil {
					return err
				}
				whole.Text, next = whole.Text+part.Text, part.NextOffset
			}
			whole.NextOffset = 0
			sum := sha256.Sum256([]byte(whole.Text))
			if hash := hex.EncodeToString(sum[:]); hash != whole.Snapshot.GetHash() {
				return fmt.Errorf("snapshot %d was frozen with the hash %s, and its text has %s: it is not what was frozen", whole.Snapshot.GetN(), whole.Snapshot.GetHash(), hash)
			}
			if a.format == "json" {
				return writeJSON(a.out, whole)
			}
			_, err = io.WriteString(a.out, whole.Text)
			return err
		},
	}
	c.Flags().Int64Var(&req.N, "n", 0, "which snapshot, from 1; the newest if 0")
	return c
}

func (a *app) getAffected(cmd *cobra.Command, req *headgatev1.GetAffectedRequest) (*headgatev1.GetAffectedResponse, error) {
	c, err := a.conn.connect()
	if err != nil {
		return nil, err
	}
	return call(cmd.Context(), c.affected.GetAffected, req)
}

func (a *app) affectedExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain CASE ENDPOINT", Short: "Tell why an endpoint is affected, since when, and what ended it", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.getAffected(cmd, &headgatev1.GetAffectedRequest{Case: args[0], Endpoint: args[1]})
			if err != nil {
				return err
			}
			if len(res.Resources) != 1 {
				return fmt.Errorf("%s: was not found affected when the case was frozen or since", args[1])
			}
			r := res.Resources[0]
			return a.result(r, func(t *table) {
				t.field("endpoint", r.Endpoint)
				t.field("tenant", r.Tenant)
				t.field("state", r.State)
				t.field("last seen", since(r.LastSeenUs))
				t.field("exposed", spanText(r.ExposedUs))
				for _, i := range r.Intervals {
					t.field("why", i.Reason)
					t.field("  from", when(i.FromUs)+" ("+i.Basis+")")
					if i.JoinedUs != 0 {
						t.field("  joined", when(i.JoinedUs))
					}
					if i.UntilUs != 0 {
						t.field("  until", when(i.UntilUs)+" ("+i.End+")")
					}
				}
			})
		},
	}
}
