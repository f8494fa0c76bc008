package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Finding is one check of the doctor.
type Finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

func (a *app) doctorCommand() *cobra.Command {
	var database string
	c := &cobra.Command{
		Use: "doctor", Short: "Check in a database what must hold at every instant", Args: cobra.NoArgs,
		Long: `Check in a database, or a copy of one, what must hold at every instant: that
exposed = proven + harmed + silent + open for each rollout, that the counters
are the counts of the exposures, and that the ledger holds. The exit status is
1 if a check fails.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if database == "" {
				return usagef("say which --database: a SQLite file, or postgres://…")
			}
			found, err := a.programs.Doctor(cmd.Context(), database)
			if err != nil {
				return err
			}
			bad := 0
			for _, f := range found {
				if !f.OK {
					bad++
				}
			}
			err = a.result(found, func(t *table) {
				t.row("CHECK", "HOLDS", "DETAIL")
				for _, f := range found {
					t.row(f.Check, yesNo(f.OK), f.Detail)
				}
			})
			if err == nil && bad > 0 {
				return fmt.Errorf("%d of %d checks failed", bad, len(found))
			}
			return err
		},
	}
	c.Flags().StringVar(&database, "database", "", "SQLite `file` or postgres:// address")
	return c
}
