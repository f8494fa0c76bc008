package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

func (a *app) clockCommand() *cobra.Command {
	return group("clock", "Deadlines of cases, and the rules that made them", a.clockBoard(), a.clockExplain(), a.clockPolicy())
}

func (a *app) board(cmd *cobra.Command, req *headgatev1.GetBoardRequest) (*headgatev1.GetBoardResponse, error) {
	c, err := a.conn.connect()
	if err != nil {
		return nil, err
	}
	return call(cmd.Context(), c.cases.GetBoard, req)
}

func (a *app) clockBoard() *cobra.Command {
	req := headgatev1.GetBoardRequest{}
	c := &cobra.Command{
		Use: "board", Short: "Show the clocks that run in your cases, the first to break first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := a.board(cmd, &req)
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) { showBoard(t, res.Clocks) })
		},
	}
	c.Flags().StringVar(&req.Case, "case", "", "only this case")
	c.Flags().BoolVar(&req.All, "all", false, "cleared ones too")
	return c
}

func showBoard(t *table, clocks []*headgatev1.Clock) {
	now := time.Now()
	t.row("DUE", "LEFT", "BREAKS", "CLOCK", "CASE", "CLEARED BY")
	for _, k := range clocks {
		left, act := away(time.UnixMicro(k.DueUs).Sub(now)), k.Clears
		switch {
		case k.ClearedUs != 0:
			left, act = "cleared", when(k.ClearedUs)
			if k.Broken {
				left = "cleared late"
			}
		case k.Broken:
			left = "BROKEN " + left
		}
		t.row(time.UnixMicro(k.DueUs).UTC().Format("2006-01-02 15:04 UTC"), left, k.Force, k.Name, k.Subject, act)
	}
}

func (a *app) clockExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain CASE", Short: "Say of each clock of a case which rule made it, from when, and what clears it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.board(cmd, &headgatev1.GetBoardRequest{Case: args[0], All: true})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				for _, k := range res.Clocks {
					t.field(k.Name, fmt.Sprintf("%s: %s", k.Force, k.Rule))
					t.field("  started", when(k.StartedUs))
					t.field("  due", instant(k.DueUs, time.Now()))
					t.field("  cleared", when(k.ClearedUs))
					t.field("  broken", yesNo(k.Broken))
					if k.ClearedUs == 0 {
						t.field("  cleared by", k.Clears)
					}
				}
			})
		},
	}
}

func (a *app) clockPolicy() *cobra.Command {
	return &cobra.Command{
		Use: "policy", Short: "Show the rules that this version ships: which event starts and clears which clock", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p := psirt.DefaultClocks()
			return a.result(p, func(t *table) {
				t.field("policy", p.ID+", effective "+p.Effective)
				t.row("CLOCK", "BREAKS", "FROM", "DUE", "CLEARED BY", "RULE")
				for _, r := range p.Rows {
					due := r.After.String()
					if r.BusinessDays > 0 {
						due = fmt.Sprintf("%d business days", r.BusinessDays)
					}
					t.row(r.Name, r.Force, fmt.Sprint(r.From), due, r.ClearedBy, r.Rule)
				}
			})
		},
	}
}
