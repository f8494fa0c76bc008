package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
)

// renewOptions are the flags of release renew.
type renewOptions struct {
	keys []string
	file string
	life time.Duration
}

func (a *app) releaseRenew() *cobra.Command {
	var o renewOptions
	c := &cobra.Command{
		Use: "renew VENDOR", Short: "Sign a vendor's list of releases afresh", Args: cobra.ExactArgs(1),
		Long: `Sign a vendor's list of releases afresh, with other keys or for longer. The list
itself stays as it is.

  headgate release renew acme --key v1.key --key v2.key

Where the keys are apart, it goes by a file: each holder signs it, then anyone
publishes it.

  headgate release renew acme --file acme.json --key v1.key
  headgate release renew acme --file acme.json --key v2.key
  headgate release renew acme --file acme.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := release.CheckVendor(args[0]); err != nil {
				return usageError{err}
			}
			if len(o.keys) == 0 && o.file == "" {
				return usagef("want --key FILE to sign with, or --file FILE to publish")
			}
			return a.renew(cmd.Context(), args[0], &o)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.keys, "key", nil, "the vendor's key `file` to sign with; repeat it")
	f.StringVar(&o.file, "file", "", "sign in this `file` instead of publishing; without --key, publish it")
	f.DurationVar(&o.life, "life", defaultLife, "how long the signatures hold")
	return c
}

func (a *app) renew(ctx context.Context, vendor string, o *renewOptions) error {
	keys, err := loadKeys(o.keys)
	if err != nil {
		return err
	}
	meta, err := a.renewal(ctx, vendor, o)
	if err != nil {
		return err
	}
	listed, err := tuf.Releases(meta)
	if err != nil {
		return err
	}
	if len(listed) == 0 {
		return fmt.Errorf("%s lists no release: there is nothing to sign", vendor)
	}
	doing := "You will sign, for %s: %s."
	if len(keys) == 0 {
		doing = "To be published, for %s: %s."
	}
	if err := a.confirm(doing, vendor, listing(meta)); err != nil {
		return err
	}
	if meta, err = signAll(meta, keys); err != nil {
		return err
	}
	if len(keys) > 0 && o.file != "" {
		if err := atomicfile.Write(o.file, meta, 0o644); err != nil {
			return err
		}
		return a.result(map[string]string{"file": o.file}, func(t *table) { t.row("Signed: " + o.file) })
	}
	c, err := a.conn.connect()
	if err != nil {
		return err
	}
	res, err := call(ctx, c.catalog.PublishRelease, &headgatev1.PublishReleaseRequest{Product: listed[0].Product, Version: listed[0].Version, Metadata: meta})
	if err != nil {
		return err
	}
	return a.showReleases(res, res.Release)
}

// renewal is the draft to sign: the file's if there is one, else the next version
// of what is in force.
func (a *app) renewal(ctx context.Context, vendor string, o *renewOptions) ([]byte, error) {
	if o.file != "" {
		b, err := readFile(o.file, tuf.MaxTargets)
		if err == nil || !errors.Is(err, os.ErrNotExist) || len(o.keys) == 0 {
			return b, err
		}
	}
	c, err := a.conn.connect()
	if err != nil {
		return nil, err
	}
	meta, err := c.vendorMeta(ctx, vendor)
	if err != nil {
		return nil, err
	}
	if meta == nil {
		return nil, fmt.Errorf("%s has published no release yet: there is nothing to sign", vendor)
	}
	return tuf.RenewTargets(meta, time.Now().UTC().Add(o.life).Truncate(time.Second))
}
