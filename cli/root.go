package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/release/tuf"
)

// defaultLife is how long operators' and vendors' signatures hold.
const defaultLife = 365 * 24 * time.Hour

func (a *app) rootCommand() *cobra.Command {
	return group("root", "The root of trust, signed offline by the operators' keys",
		a.rootNew(), a.rootRotate(), a.rootOnlineKeys(), a.rootSign(), a.rootPublish(), a.rootShow())
}

// signing is what the commands that sign with operators' keys share.
type signing struct {
	keys   []string
	bundle string
	life   time.Duration
}

func (s *signing) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&s.keys, "key", nil, "an operator's key `file` to sign with; repeat it")
	f.StringVar(&s.bundle, "bundle", "", "write to this `folder` instead of publishing, for others to sign")
	f.DurationVar(&s.life, "life", defaultLife, "how long the signatures hold")
}

// document is a signed-in-part root.json or targets.json.
type document struct{ root, targets []byte }

const (
	rootFile    = "root.json"
	targetsFile = "targets.json"
)

func (d *document) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	for name, b := range map[string][]byte{rootFile: d.root, targetsFile: d.targets} {
		if b == nil {
			continue
		}
		if err := atomicfile.Write(filepath.Join(dir, name), b, 0o644); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
	}
	return nil
}

func readDocument(dir string) (*document, error) {
	d := &document{}
	for name, b := range map[string]*[]byte{rootFile: &d.root, targetsFile: &d.targets} {
		var err error
		*b, err = readFile(filepath.Join(dir, name), tuf.MaxTargets)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read bundle: %w", err)
		}
	}
	if d.root == nil && d.targets == nil {
		return nil, fmt.Errorf("read bundle %s: it has neither %s nor %s", dir, rootFile, targetsFile)
	}
	return d, nil
}

// sign signs all there is. What a key may not sign is left out of account by
// the threshold, so that one call serves both files.
func (d *document) sign(keys []*tuf.Key) (err error) {
	for _, b := range []*[]byte{&d.root, &d.targets} {
		if *b == nil {
			continue
		}
		if *b, err = signAll(*b, keys); err != nil {
			return err
		}
	}
	return nil
}

// text says what the document would put in force.
func (d *document) text() string {
	var s []string
	if d.root != nil {
		info, err := tuf.Inspect(d.root)
		if err != nil {
			return err.Error()
		}
		s = append(s, fmt.Sprintf("root version %d, until %s, signed by %d keys", info.Version, info.Expires.Format(time.DateOnly), len(info.Signatures)))
	}
	if d.targets != nil {
		info, err := tuf.Inspect(d.targets)
		if err != nil {
			return err.Error()
		}
		s = append(s, fmt.Sprintf("targets version %d, until %s, signed by %d keys, with %s", info.Version, info.Expires.Format(time.DateOnly), len(info.Signatures), vendorsText(d.targets)))
	}
	return strings.Join(s, "; ")
}

// finish writes the bundle, or publishes.
func (a *app) finish(ctx context.Context, c *client, d *document, s *signing) error {
	if s.bundle != "" {
		if err := d.write(s.bundle); err != nil {
			return err
		}
		a.say("Written to %s, not published: %s.", s.bundle, d.text())
		a.say("Others sign it with: headgate root sign --bundle %s --key FILE", s.bundle)
		a.say("Then:                headgate root publish --bundle %s", s.bundle)
		return nil
	}
	if err := a.confirm("To be published: %s.", d.text()); err != nil {
		return err
	}
	return a.publish(ctx, c, d)
}

// publish uploads signed metadata: root and targets in one step, so that
// endpoints never meet a root whose targets they must refuse.
func (a *app) publish(ctx context.Context, c *client, d *document) error {
	done := map[string]int64{}
	if d.root != nil {
		res, err := call(ctx, c.repository.PublishRoot, &headgatev1.PublishRootRequest{Root: d.root, Targets: d.targets})
		if err != nil {
			return fmt.Errorf("publish root: %w", err)
		}
		done[tuf.Root] = res.Version
		if d.targets != nil {
			done[tuf.Targets] = res.TargetsVersion
		}
	} else {
		res, err := call(ctx, c.repository.PublishTargets, &headgatev1.PublishTargetsRequest{Targets: d.targets})
		if err != nil {
			return fmt.Errorf("publish targets: %w", err)
		}
		done[tuf.Targets] = res.Version
	}
	return a.result(done, func(t *table) {
		t.row("ROLE", "VERSION")
		for _, role := range []string{tuf.Root, tuf.Targets} {
			if v, ok := done[role]; ok {
				t.row(role, v)
			}
		}
	})
}

// operators are the people whose keys sign root and targets.
type operators struct {
	files     []string
	threshold int
}

func (o *operators) flags(c *cobra.Command, need string) {
	c.Flags().StringArrayVar(&o.files, "operator", nil, "an operator's public key `file` (.pub); repeat it"+need)
	c.Flags().IntVar(&o.threshold, "threshold", 2, "how many operators must sign")
}

// spec is the next root by these operators, with the server's online keys.
func (o *operators) spec(online *headgatev1.GetOnlineKeysResponse, life time.Duration) (tuf.RootSpec, error) {
	spec := tuf.RootSpec{Threshold: o.threshold, Expires: time.Now().UTC().Add(life).Truncate(time.Second)}
	var err error
	if spec.Operators, err = loadPublics(o.files); err != nil {
		return spec, err
	}
	if spec.Snapshot, err = tuf.ParsePublic(online.SnapshotKey); err != nil {
		return spec, fmt.Errorf("the server's snapshot key: %w", err)
	}
	if spec.Timestamp, err = tuf.ParsePublic(online.TimestampKey); err != nil {
		return spec, fmt.Errorf("the server's timestamp key: %w", err)
	}
	return spec, nil
}

func (a *app) rootNew() *cobra.Command {
	var s signing
	var o operators
	c := &cobra.Command{
		Use: "new", Short: "Make the root of trust of an empty repository", Args: cobra.NoArgs,
		Long: `Make the root of trust of an empty repository: root.json and targets.json,
version 1. The server's public keys are fetched; building and signing happen
here; only signed metadata is sent.

  headgate root new --operator alice.pub --operator bob.pub \
    --key alice.key --key bob.key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.files) == 0 {
				return usagef("say who the operators are: --operator alice.pub --operator bob.pub")
			}
			keys, err := loadKeys(s.keys)
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			online, err := call(cmd.Context(), c.repository.GetOnlineKeys, &headgatev1.GetOnlineKeysRequest{})
			if err != nil {
				return err
			}
			if online.RootVersion > 0 {
				return fmt.Errorf("the repository has root version %d already; to change it: headgate root rotate", online.RootVersion)
			}
			d, err := firstDocument(&o, online, s.life)
			if err != nil {
				return err
			}
			if err := d.sign(keys); err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, d, &s)
		},
	}
	o.flags(c, "")
	s.flags(c)
	return c
}

// firstDocument is the unsigned version 1 of root and targets.
func firstDocument(o *operators, online *headgatev1.GetOnlineKeysResponse, life time.Duration) (*document, error) {
	spec, err := o.spec(online, life)
	if err != nil {
		return nil, err
	}
	rolloutKey, err := tuf.ParsePublic(online.RolloutKey)
	if err != nil {
		return nil, fmt.Errorf("the server's rollout key: %w", err)
	}
	d := &document{}
	if d.root, err = tuf.NewRoot(spec); err != nil {
		return nil, err
	}
	if d.targets, err = tuf.NewTargets(rolloutKey, spec.Expires); err != nil {
		return nil, err
	}
	return d, nil
}

func (a *app) rootSign() *cobra.Command {
	var keyFiles []string
	var bundle string
	c := &cobra.Command{
		Use: "sign", Short: "Add signatures to a bundle", Args: cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			if bundle == "" || len(keyFiles) == 0 {
				return usagef("want --bundle FOLDER and --key FILE")
			}
			d, err := readDocument(bundle)
			if err != nil {
				return err
			}
			keys, err := loadKeys(keyFiles)
			if err != nil {
				return err
			}
			if err := a.confirm("You will sign: %s.", d.text()); err != nil {
				return err
			}
			if err := d.sign(keys); err != nil {
				return err
			}
			if err := d.write(bundle); err != nil {
				return err
			}
			return a.result(map[string]string{"bundle": bundle, "signed": d.text()}, func(t *table) { t.row("Signed: " + d.text() + ".") })
		},
	}
	c.Flags().StringArrayVar(&keyFiles, "key", nil, "key `file` to sign with; repeat it")
	c.Flags().StringVar(&bundle, "bundle", "", "the `folder`")
	return c
}

func (a *app) rootPublish() *cobra.Command {
	var bundle string
	c := &cobra.Command{
		Use: "publish", Short: "Publish a bundle that is signed by enough operators", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if bundle == "" {
				return usagef("want --bundle FOLDER")
			}
			d, err := readDocument(bundle)
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, d, &signing{})
		},
	}
	c.Flags().StringVar(&bundle, "bundle", "", "the `folder`")
	return c
}
