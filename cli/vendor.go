package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
)

func (a *app) vendorCommand() *cobra.Command {
	return group("vendor", "Who signs releases of products", a.vendorAdd(), a.vendorList())
}

func (a *app) vendorAdd() *cobra.Command {
	var s signing
	var keyFiles []string
	var threshold int
	var revoke bool
	c := &cobra.Command{
		Use: "add NAME", Short: "Add a vendor, or change its keys: delegate its releases to them", Args: cobra.ExactArgs(1),
		Long: `Add a vendor: delegate its releases to its own keys. The targets.json in force
is fetched and checked, the delegation added, the result signed here with the
operators' keys, and published.

  headgate vendor add acme --vendor-key v1.pub --vendor-key v2.pub --vendor-key v3.pub \
    --threshold 2 --key alice.key --key bob.key

For a vendor that is there already it replaces keys and threshold: that is how its
keys rotate. Give old and new keys first; have the vendor sign its releases with
the new ones (headgate release renew NAME); then give the new keys alone. If its
releases are not signed by enough of the keys you give, the command refuses:
endpoints would refuse them. --revoke does it nevertheless, for keys that leaked:
nothing of the vendor's is installed until it signs afresh, and what runs, runs on.

With --bundle it is written for others to sign and publish (headgate root sign,
headgate root publish); run "vendor add NAME" again without keys when it is
published, to record the vendor.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := release.CheckVendor(args[0]); err != nil {
				return usageError{err}
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if len(keyFiles) > 0 {
				if err := a.delegate(cmd, c, args[0], keyFiles, threshold, revoke, &s); err != nil || s.bundle != "" {
					return err
				}
			}
			res, err := call(cmd.Context(), c.catalog.AddVendor, &headgatev1.AddVendorRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.showVendors(res, res.Vendor)
		},
	}
	c.Flags().StringArrayVar(&keyFiles, "vendor-key", nil, "a public key `file` of the vendor (.pub); repeat it")
	c.Flags().IntVar(&threshold, "threshold", 2, "how many of the vendor's keys must sign a release")
	c.Flags().BoolVar(&revoke, "revoke", false, "even if releases in force are not signed by these keys")
	s.flags(c)
	return c
}

// delegate puts the vendor's delegation in force, or into a bundle.
func (a *app) delegate(cmd *cobra.Command, c *client, name string, keyFiles []string, threshold int, revoke bool, s *signing) error {
	vendor := tuf.Vendor{Name: name, Threshold: threshold}
	var err error
	if vendor.Keys, err = loadPublics(keyFiles); err != nil {
		return err
	}
	keys, err := loadKeys(s.keys)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return usagef("the operators' keys sign the delegation: give --key, as often as the threshold asks")
	}
	t, err := c.trust(cmd.Context())
	if err != nil {
		return err
	}
	if err := t.check(keys); err != nil {
		return err
	}
	d := &document{}
	if d.targets, err = tuf.AddVendor(t.targets, vendor, time.Now().UTC().Add(s.life).Truncate(time.Second)); err != nil {
		return err
	}
	if !revoke {
		if err := c.keepsReleases(cmd.Context(), name, d.targets); err != nil {
			return err
		}
	}
	if err := d.sign(keys); err != nil {
		return err
	}
	if s.bundle != "" {
		return a.finish(cmd.Context(), c, d, s)
	}
	if err := a.confirm("To be published: %s.", d.text()); err != nil {
		return err
	}
	if _, err := call(cmd.Context(), c.repository.PublishTargets, &headgatev1.PublishTargetsRequest{Targets: d.targets}); err != nil {
		return fmt.Errorf("publish targets: %w", err)
	}
	return nil
}

// keepsReleases makes sure that the vendor's releases in force are good under
// these targets too.
func (c *client) keepsReleases(ctx context.Context, name string, targets []byte) error {
	meta, err := c.vendorMeta(ctx, name)
	if err != nil || meta == nil {
		return err
	}
	valid, want, err := tuf.Signed(targets, name, meta)
	if err != nil {
		return fmt.Errorf("the releases of %s in force: %w", name, err)
	}
	if len(valid) < want {
		return fmt.Errorf("the releases of %s in force carry %d of the %d signatures that these keys ask: endpoints would refuse them. "+
			"Give the old keys along, have the vendor sign with headgate release renew %s, then give the new keys alone; "+
			"or, if the old keys leaked, --revoke", name, len(valid), want, name)
	}
	return nil
}

func (a *app) vendorList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the vendors", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.catalog.ListVendors, &headgatev1.ListVendorsRequest{})
			if err != nil {
				return err
			}
			return a.showVendors(res, res.Vendors...)
		},
	}
}

func (a *app) showVendors(msg any, vendors ...*headgatev1.Vendor) error {
	return a.result(msg, func(t *table) {
		t.row("VENDOR", "KEYS", "MUST SIGN")
		for _, v := range vendors {
			t.row(v.Name, v.Keys, v.Threshold)
		}
	})
}
