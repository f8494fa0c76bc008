package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release/tuf"
)

func (a *app) rootRotate() *cobra.Command {
	var s signing
	var o operators
	var online bool
	c := &cobra.Command{
		Use: "rotate", Short: "Make the next root: other operators, other online keys, a later end", Args: cobra.NoArgs,
		Long: `Make the next root: other operators, another threshold, other online keys of the
server, a later end. What is not given stays. Root takes the signatures of enough
of the old operators and of enough of the new ones; targets is signed afresh with
it, by the new ones. Both are published in one step, and endpoints follow by
themselves.

  headgate root rotate --operator alice.pub --operator carol.pub \
    --key alice.key --key bob.key --key carol.key

  headgate root online-keys
  headgate root rotate --online-keys --key alice.key --key bob.key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := loadKeys(s.keys)
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			t, err := c.trust(cmd.Context())
			if err != nil {
				return err
			}
			if err := t.check(keys); err != nil {
				return err
			}
			if online {
				if t.online, err = withNext(t.online); err != nil {
					return err
				}
			}
			spec, err := o.spec(t.online, s.life)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("threshold") {
				spec.Threshold = 0 // as it is
			}
			d, err := nextDocument(t, spec)
			if err != nil {
				return err
			}
			if err := d.sign(keys); err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, d, &s)
		},
	}
	o.flags(c, "; none: as they are")
	c.Flags().BoolVar(&online, "online-keys", false, "take the online keys that wait on the server (headgate root online-keys)")
	s.flags(c)
	return c
}

// nextDocument is the unsigned next version of root and targets.
func nextDocument(t *trust, spec tuf.RootSpec) (*document, error) {
	rolloutKey, err := tuf.ParsePublic(t.online.RolloutKey)
	if err != nil {
		return nil, fmt.Errorf("the server's rollout key: %w", err)
	}
	d := &document{}
	if d.root, err = tuf.RotateRoot(t.root, spec); err != nil {
		return nil, err
	}
	if d.targets, err = tuf.RotateRollout(t.targets, rolloutKey, spec.Expires); err != nil {
		return nil, err
	}
	return d, nil
}

// withNext is the server's online keys with those that wait in their places.
func withNext(o *headgatev1.GetOnlineKeysResponse) (*headgatev1.GetOnlineKeysResponse, error) {
	next := &headgatev1.GetOnlineKeysResponse{
		TimestampKey: o.NextTimestampKey, SnapshotKey: o.NextSnapshotKey, RolloutKey: o.NextRolloutKey,
		LedgerKey: o.LedgerKey, RootVersion: o.RootVersion, TargetsVersion: o.TargetsVersion,
	}
	if len(next.TimestampKey) == 0 || len(next.SnapshotKey) == 0 || len(next.RolloutKey) == 0 {
		return nil, errors.New("no online keys wait on the server: have it make some with headgate root online-keys")
	}
	return next, nil
}

// onlineView is the server's next online keys as they are shown.
type onlineView struct {
	Timestamp tuf.PublicKey `json:"timestamp"`
	Snapshot  tuf.PublicKey `json:"snapshot"`
	Rollout   tuf.PublicKey `json:"rollout"`
}

func (a *app) rootOnlineKeys() *cobra.Command {
	return &cobra.Command{
		Use: "online-keys", Short: "Have the server make its next online keys", Args: cobra.NoArgs,
		Long: `Have the server make its next online keys, for timestamp, snapshot and rollout.
They wait in keys/next of its data folder, unused, until headgate root rotate
--online-keys signs for them; asked again meanwhile, it shows the same.

Several servers on one database share their keys: copy keys/next to each of them
before you sign. They need no restart.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.repository.NewOnlineKeys, &headgatev1.NewOnlineKeysRequest{})
			if err != nil {
				return err
			}
			var v onlineView
			for _, k := range []struct {
				from []byte
				to   *tuf.PublicKey
			}{{res.TimestampKey, &v.Timestamp}, {res.SnapshotKey, &v.Snapshot}, {res.RolloutKey, &v.Rollout}} {
				if *k.to, err = tuf.ParsePublic(k.from); err != nil {
					return fmt.Errorf("the server's next keys: %w", err)
				}
			}
			a.say("Nothing is signed with them yet. Put them to use with: headgate root rotate --online-keys --key FILE")
			return a.result(v, func(t *table) {
				t.row("ROLE", "NEXT KEY")
				t.row(tuf.Timestamp, v.Timestamp.ID())
				t.row(tuf.Snapshot, v.Snapshot.ID())
				t.row(tuf.Rollout, v.Rollout.ID())
			})
		},
	}
}

// rootView is a root as it is shown.
type rootView struct {
	Version   int64           `json:"version"`
	Expires   time.Time       `json:"expires"`
	Threshold int             `json:"threshold"`
	Operators []tuf.PublicKey `json:"operators"`
	SignedBy  []string        `json:"signed_by"`
	Snapshot  tuf.PublicKey   `json:"snapshot"`
	Timestamp tuf.PublicKey   `json:"timestamp"`
	Targets   int64           `json:"targets_version"`
	LedgerKey string          `json:"ledger_key"`
}

func (a *app) rootShow() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the root in force, and whose signatures it carries", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			t, err := c.trust(cmd.Context())
			if err != nil {
				return err
			}
			if t.root == nil {
				return fmt.Errorf("the repository is empty: make its root of trust with headgate root new")
			}
			v, err := viewRoot(t.root, t.online)
			if err != nil {
				return err
			}
			return a.result(v, func(tb *table) {
				tb.field("root", fmt.Sprintf("version %d, until %s", v.Version, v.Expires.Format(time.DateOnly)))
				tb.field("targets", fmt.Sprintf("version %d", v.Targets))
				tb.field("must sign", fmt.Sprintf("%d of %d operators", v.Threshold, len(v.Operators)))
				for _, k := range v.Operators {
					tb.field("operator", k.ID())
				}
				for _, id := range v.SignedBy {
					tb.field("signed by", id)
				}
				tb.field("online snapshot", v.Snapshot.ID())
				tb.field("online timestamp", v.Timestamp.ID())
				tb.field("ledger key", v.LedgerKey)
			})
		},
	}
}

func viewRoot(root []byte, online *headgatev1.GetOnlineKeysResponse) (*rootView, error) {
	info, err := tuf.Inspect(root)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	spec, err := tuf.ReadRoot(root)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	valid, _, err := tuf.Signed(root, tuf.Root, root)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	return &rootView{Version: info.Version, Expires: info.Expires, Threshold: spec.Threshold, Operators: spec.Operators,
		SignedBy: valid, Snapshot: spec.Snapshot, Timestamp: spec.Timestamp, Targets: online.TargetsVersion, LedgerKey: online.LedgerKey}, nil
}
