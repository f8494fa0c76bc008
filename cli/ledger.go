package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
)

// LedgerReport is what a full check of a ledger found.
type LedgerReport struct {
	Size int64  `json:"size"` // entries
	Last string `json:"last"` // hash of the last one
	Root string `json:"root"` // of the Merkle tree
	// Checkpoints is how many there are, each of this tree. Signed means that the
	// newest one's signature was checked too.
	Checkpoints int64 `json:"checkpoints"`
	Signed      bool  `json:"signed"`
	// Key is the one in force, to which the given one led; empty if none was given.
	Key string `json:"key,omitempty"`
}

func (a *app) ledgerCommand() *cobra.Command {
	return group("ledger", "The append-only record of every fact and decision",
		a.ledgerLog(), a.ledgerVerify(), a.ledgerCheckpoint(), a.ledgerProve(), a.ledgerRotate())
}

func (a *app) ledgerLog() *cobra.Command {
	req := headgatev1.ListEntriesRequest{}
	var oldest bool
	c := &cobra.Command{
		Use: "log", Short: "Show entries, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			req.Descending = !oldest && !cmd.Flags().Changed("from")
			res, err := call(cmd.Context(), c.ledger.ListEntries, &req)
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("ENTRY", "TIME", "KIND", "SUBJECT", "ACTOR", "BODY")
				for _, e := range res.Entries {
					t.row(e.Seq, when(e.TimeUs), e.Kind, e.Subject, e.Actor, short(e.Body, 100))
				}
			})
		},
	}
	f := c.Flags()
	f.Int64Var(&req.From, "from", 0, "from this entry on, oldest first")
	f.BoolVar(&oldest, "oldest-first", false, "from the beginning")
	f.Int32Var(&req.Limit, "limit", 100, "show at most so many; up to 1000")
	f.StringVar(&req.Subject, "subject", "", "only entries about this, for example R-17")
	return c
}

// short cuts a text for a table cell.
func short(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

func (a *app) ledgerVerify() *cobra.Command {
	var database, key string
	c := &cobra.Command{
		Use: "verify", Short: "Check the whole ledger in a database, or a copy of one", Args: cobra.NoArgs,
		Long: `Check the whole ledger in a database, or a copy of one: every entry follows the
one before, and each checkpoint is of the entries' Merkle tree. It needs the
database alone: no server, no network. With --ledger-key the newest checkpoint's
signature is checked too: by that key, or by the one that it handed over to
(headgate ledger rotate-key), each by the word of the key before it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if database == "" {
				return usagef("say which --database: a SQLite file, or postgres://…")
			}
			r, err := a.programs.VerifyLedger(cmd.Context(), database, key)
			if err != nil {
				return err
			}
			return a.result(r, func(t *table) {
				t.field("ledger", "holds")
				t.field("entries", r.Size)
				t.field("last", r.Last)
				t.field("root", r.Root)
				t.field("checkpoints", fmt.Sprintf("%d, each of this tree; signature checked: %s", r.Checkpoints, yesNo(r.Signed)))
				if r.Key != "" {
					t.field("ledger key", r.Key)
				}
			})
		},
	}
	c.Flags().StringVar(&database, "database", "", "SQLite `file` or postgres:// address")
	c.Flags().StringVar(&key, "ledger-key", "", "the ledger's verifier `key`, name+hash+key")
	return c
}

func (a *app) ledgerCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint", Short: "Show the newest signed checkpoint (a C2SP signed note)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.ledger.GetCheckpoint, &headgatev1.GetCheckpointRequest{})
			if err != nil {
				return err
			}
			if a.format == "json" {
				return writeJSON(a.out, res)
			}
			_, err = fmt.Fprint(a.out, res.Checkpoint) // exact: its signature is over these bytes
			return err
		},
	}
}

func (a *app) ledgerProve() *cobra.Command {
	var ledgerKey string
	c := &cobra.Command{
		Use: "prove ENTRY", Short: "Prove that an entry is under the newest checkpoint (RFC 6962)", Args: cobra.ExactArgs(1),
		Long: `Prove that an entry is under the newest checkpoint (RFC 6962). The proof is
checked here: of the server, only its checkpoint's signature is believed. Give
the ledger's key with --ledger-key if you have it from elsewhere; without it the
server is asked for it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var seq int64
			if _, err := fmt.Sscan(args[0], &seq); err != nil || seq < 0 {
				return usagef("entry %q: want its number, from 0", args[0])
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			p, err := proveInclusion(cmd.Context(), c, seq, ledgerKey)
			if err != nil {
				return err
			}
			return a.result(p, func(t *table) {
				t.field("entry", fmt.Sprintf("%d: %s %s by %s", p.Seq, p.Kind, p.Subject, p.Actor))
				t.field("leaf", p.Leaf)
				t.field("under", fmt.Sprintf("%s, size %d, root %s", p.Origin, p.Size, p.Root))
				t.field("proof", fmt.Sprintf("%d hashes, holds", len(p.Hashes)))
			})
		},
	}
	c.Flags().StringVar(&ledgerKey, "ledger-key", "", "the ledger's verifier `key`, name+hash+key")
	return c
}

// rotatedView is a rotation of the ledger's key as it is shown.
type rotatedView struct {
	Before string `json:"before"`
	Key    string `json:"key"`
}

func (a *app) ledgerRotate() *cobra.Command {
	return &cobra.Command{
		Use: "rotate-key", Short: "Have another key sign the ledger's checkpoints", Args: cobra.NoArgs,
		Long: `Have another key sign the ledger's checkpoints. The server makes it; an entry names
it, and the first checkpoint that covers the entry carries the signatures of both.
Whoever has the old key gets to the new one by headgate ledger verify. Checkpoints
from before stay as they are.

Several servers on one database share their keys: copy keys/ledger.key to the
others afterwards. Until then one of them signs checkpoints, and that is enough.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("Checkpoints of the ledger will be signed with a new key, for good."); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.ledger.RotateKey, &headgatev1.RotateKeyRequest{})
			if err != nil {
				return err
			}
			return a.result(rotatedView{Before: res.Before, Key: res.Key}, func(t *table) {
				t.field("before", res.Before)
				t.field("now", res.Key)
			})
		},
	}
}
