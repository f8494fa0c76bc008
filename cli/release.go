package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/agent/detect"
	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
)

func (a *app) releaseCommand() *cobra.Command {
	return group("release", "A version of a product: pack it, sign it, publish it",
		a.releaseInit(), a.releaseSign(), a.releasePublish(), a.releaseRenew(), a.releaseList(), a.releaseSBOM())
}

// sampleManifest is a product whose four commands do nothing yet.
const sampleManifest = `{
  "schema": "headgate.manifest/1",
  "preflight": {"run": ["/bin/sh", "{slot}/preflight.sh"], "timeout": "30s"},
  "activate": {"run": ["/bin/sh", "{slot}/activate.sh"], "timeout": "30s"},
  "check": {"run": ["/bin/sh", "{slot}/check.sh"], "timeout": "30s", "interval": "10s"},
  "stop": {"run": ["/bin/sh", "{slot}/stop.sh"], "timeout": "30s"}
}
`

// sampleScripts say what each command is for.
var sampleScripts = map[string]string{
	"preflight.sh": "# Load the new files in what will run them. Exit status 0 is a pass.\n# Nothing is active yet: a failure here costs nothing.\nexit 0\n",
	"activate.sh":  "# Put this version to work: {slot} is the folder of this script.\nexit 0\n",
	"check.sh":     "# Is it up and does it do its work? Any other status than 0 takes it back.\nexit 0\n",
	"stop.sh":      "# Stop this version: another one follows.\nexit 0\n",
}

func (a *app) releaseInit() *cobra.Command {
	var demo string
	c := &cobra.Command{
		Use: "init DIR", Short: "Write a sample product folder", Args: cobra.ExactArgs(1),
		Long: `Write a sample product folder: a manifest (headgate.json) and its four commands,
to be filled in. With --demo VERSION, the folder of the demo product instead:
1.0.0 is good, 2.0.0 crashes on the first live event, 3.0.0 is repaired.`,
		RunE: func(_ *cobra.Command, args []string) error {
			dir := args[0]
			if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
				return fmt.Errorf("%s is not empty: a product folder is not written over another", dir)
			}
			if demo != "" {
				if err := detect.DemoContent(demo, dir); err != nil {
					return err
				}
			} else if err := writeSample(dir); err != nil {
				return err
			}
			return a.result(map[string]string{"dir": dir}, func(t *table) { t.row("Written: " + filepath.Join(dir, release.ManifestName)) })
		},
	}
	c.Flags().StringVar(&demo, "demo", "", "write this `version` of the demo product")
	return c
}

func writeSample(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range sampleScripts {
		if err := atomicfile.Write(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	return atomicfile.Write(filepath.Join(dir, release.ManifestName), []byte(sampleManifest), 0o644)
}

// signOptions are the flags of release sign.
type signOptions struct {
	dir, product, version, bundle, previous string
	first                                   bool
	keys                                    []string
	floor, life                             time.Duration
	keep                                    int
}

func (a *app) releaseSign() *cobra.Command {
	var o signOptions
	c := &cobra.Command{
		Use: "sign", Short: "Pack and sign a release, or add a signature to one", Args: cobra.NoArgs,
		Long: `Pack and sign a release, offline:

  headgate release sign --dir DIR --product acme/rules --version 1.2.0 \
    --key v1.key --bundle B --previous acme.json     (or --first)

The vendor's metadata in force comes from --previous, or from the server if one
is given; --first says that there is none. The bundle is a folder with
artifact.tar, metadata.json and release.json. A second person adds a signature:

  headgate release sign --bundle B --key v2.key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.bundle == "" || len(o.keys) == 0 {
				return usagef("want --bundle FOLDER and --key FILE")
			}
			keys, err := loadKeys(o.keys)
			if err != nil {
				return err
			}
			if o.dir == "" {
				return a.cosign(&o, keys)
			}
			return a.signNew(cmd.Context(), &o, keys)
		},
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "", "the product `folder`")
	f.StringVar(&o.product, "product", "", "vendor/product")
	f.StringVar(&o.version, "version", "", "Semantic Versioning, such as 1.2.0")
	f.StringVar(&o.bundle, "bundle", "", "the `folder` of the signed release")
	f.StringArrayVar(&o.keys, "key", nil, "the vendor's key `file` to sign with; repeat it")
	f.StringVar(&o.previous, "previous", "", "the vendor's metadata in force, as a `file`")
	f.BoolVar(&o.first, "first", false, "the vendor has no metadata yet")
	f.DurationVar(&o.floor, "floor", 0, "the fastest it may ever spread: from start until everyone may have it")
	f.DurationVar(&o.life, "life", defaultLife, "how long the signatures hold")
	f.IntVar(&o.keep, "keep", 10, "how many releases of the product stay listed")
	return c
}

func (a *app) releasePublish() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "publish", Short: "Upload a signed release", Args: cobra.NoArgs,
		Long: `Upload a signed release. Nothing is rolled out by this: it can be, from then on.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usagef("want --bundle FOLDER")
			}
			b, err := readBundle(dir)
			if err != nil {
				return err
			}
			info, err := tuf.Inspect(b.metadata)
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("To be published: %s %s, %d bytes, sha256 %s, signed by %d keys.", b.release.Product, b.release.Version, b.release.Length, b.release.Digest, len(info.Signatures)); err != nil {
				return err
			}
			if err := c.upload(cmd.Context(), b); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.catalog.PublishRelease, &headgatev1.PublishReleaseRequest{
				Product: b.release.Product, Version: b.release.Version, Metadata: b.metadata})
			if err != nil {
				return err
			}
			a.say("Roll it out with: headgate rollout start %s %s", b.release.Product, b.release.Version)
			return a.showReleases(res, res.Release)
		},
	}
	c.Flags().StringVar(&dir, "bundle", "", "the `folder` of the signed release")
	return c
}

func (a *app) releaseList() *cobra.Command {
	var product string
	c := &cobra.Command{
		Use: "list", Short: "List releases, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.catalog.ListReleases, &headgatev1.ListReleasesRequest{Product: product})
			if err != nil {
				return err
			}
			return a.showReleases(res, res.Releases...)
		},
	}
	c.Flags().StringVar(&product, "product", "", "of one product only")
	return c
}

func (a *app) showReleases(msg any, releases ...*headgatev1.Release) error {
	return a.result(msg, func(t *table) {
		t.row("PRODUCT", "VERSION", "BYTES", "PUBLISHED", "FLOOR", "LISTED", "SHA-256")
		for _, r := range releases {
			t.row(r.Product, r.Version, r.Length, when(r.PublishedUs), spanText(r.FloorUs), yesNo(r.Listed), r.Digest)
		}
	})
}
