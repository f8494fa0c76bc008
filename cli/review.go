package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Replayed is what a replay of the recorded decisions found.
type Replayed struct {
	Entries   int64    `json:"entries"`   // of the ledger
	Decisions int64    `json:"decisions"` // made again
	Same      int64    `json:"same"`      // bit for bit
	Differ    []string `json:"differ"`    // how the others differ; at most 100
}

func (a *app) reviewCommand() *cobra.Command {
	c := &cobra.Command{Use: "review", Short: "Look back at a case, and at what was decided"}
	c.AddCommand(a.reviewShow(), a.reviewTimeline(), a.reviewExport(), a.reviewCorrect(), a.reviewCheck(), a.reviewAsk(), a.reviewReplay(), a.reviewWhatif())
	return c
}

func (a *app) reviewReplay() *cobra.Command {
	var database string
	c := &cobra.Command{
		Use: "replay", Short: "Make every recorded decision again", Args: cobra.NoArgs,
		Long: `Make every decision in the ledger of a database, or of a copy of one, again:
from the snapshot that was recorded with it, at the time that was recorded. Each
must come out the same, bit for bit. The exit status is 1 if one does not.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if database == "" {
				return usagef("say which --database: a SQLite file, or postgres://…")
			}
			r, err := a.programs.Replay(cmd.Context(), database)
			if err != nil {
				return err
			}
			err = a.result(r, func(t *table) {
				t.field("entries", r.Entries)
				t.field("decisions", r.Decisions)
				t.field("the same", r.Same)
				for _, d := range r.Differ {
					t.field("differs", d)
				}
			})
			if err == nil && r.Same != r.Decisions {
				return fmt.Errorf("%d of %d decisions came out otherwise", r.Decisions-r.Same, r.Decisions)
			}
			return err
		},
	}
	c.Flags().StringVar(&database, "database", "", "SQLite `file` or postgres:// address")
	return c
}
