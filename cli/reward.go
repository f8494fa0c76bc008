package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

func (a *app) reportReward() *cobra.Command {
	var by string
	var proof, ask bool
	c := &cobra.Command{
		Use: "reward REPORT", Short: "Grant what a table of rewards says", Args: cobra.ExactArgs(1),
		Long: `Decide by a table of rewards what a report is worth, and grant it. The reporter
reads the reward on her page. Without --table it is the one in force ("report rewards
apply"), or while there is none the built-in example, in points. A case that nobody
has scored has no reward yet.

  headgate report reward RP-4TQX4H57JRGSN --table rewards.json --proof --ask`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req := &headgatev1.RewardReportRequest{Report: args[0], Proof: proof, Ask: true}
			if _, errRef := psirt.ParseRewardRef(by); errRef == nil && !isFile(by) {
				req.Table = by
			} else if req.TableJson, _, err = a.rewardTable(by); err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.intake.RewardReport, req)
			if err != nil {
				return err
			}
			if !ask {
				if err := a.confirm("The reporter of %s will be granted %s: %s (row %s of %s).", args[0], amount(res), res.Why, res.Row, tableText(res.Table, res.Revision)); err != nil {
					return err
				}
				req.Ask = false
				if res, err = call(cmd.Context(), c.intake.RewardReport, req); err != nil {
					return err
				}
			}
			return a.result(res, func(t *table) {
				t.field("reward", amount(res))
				t.field("why", res.Why)
				t.field("row", res.Row)
				t.field("table", tableText(res.Table, res.Revision))
				t.field("highest score", scoreText(res.Score))
				t.field("granted", yesNo(res.Recorded))
			})
		},
	}
	c.Flags().StringVar(&by, "table", "", "`table` of rewards: ID, ID@REVISION, or a file")
	c.Flags().BoolVar(&proof, "proof", false, "it came with what shows it")
	c.Flags().BoolVar(&ask, "ask", false, "decide and grant nothing")
	return c
}

// tableText names a table of rewards, and its revision if it is an applied one.
func tableText(name string, revision int64) string {
	if revision == 0 {
		return name
	}
	return fmt.Sprintf("%s, revision %d", name, revision)
}

func isFile(name string) bool {
	_, err := os.Stat(name)
	return name != "" && err == nil
}

func amount(r *headgatev1.RewardReportResponse) string {
	if r.Currency == "" {
		return fmt.Sprintf("%d points", r.Amount)
	}
	return fmt.Sprintf("%d %s", r.Amount, r.Currency)
}

func scoreText(score float64) string {
	if score < 0 {
		return "nobody scored it"
	}
	return fmt.Sprintf("%.1f", score)
}

func (a *app) reportRewards() *cobra.Command {
	return group("rewards", "Tables of rewards: what a report is worth",
		a.rewardsApply(), a.rewardsShow(), a.rewardsList(), a.rewardsCheck())
}

func (a *app) rewardsApply() *cobra.Command {
	return &cobra.Command{
		Use: "apply FILE", Short: "Put a table of rewards in force as its id's next revision", Args: cobra.ExactArgs(1),
		Long: `Put a table of rewards in force as its id's next revision. From then on rewards are
decided by it; those that were granted keep the revision that they were granted by.
Applying what is in force changes nothing.

  headgate report rewards check >rewards.json
  headgate report rewards apply rewards.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, t, err := a.rewardTable(args[0])
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("From now on rewards are decided by %s, of %d rows, effective %s.", t.ID, len(t.Rows), t.Effective); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.intake.ApplyRewardTable, &headgatev1.ApplyRewardTableRequest{Json: b})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("TABLE", "REVISION", "CHANGED")
				t.row(res.Table.GetName(), res.Table.GetRevision(), yesNo(res.Changed))
			})
		},
	}
}

// rewardTable reads and checks a table in a file.
func (a *app) rewardTable(file string) (text string, t psirt.RewardTable, err error) {
	if text, err = a.read(file, psirt.MaxRewardTable); err != nil {
		return "", t, err
	}
	if t, err = psirt.ParseRewardTable([]byte(text)); err != nil {
		return "", t, fmt.Errorf("%s: %w", file, err)
	}
	return text, t, nil
}

func (a *app) rewardsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [ID[@REVISION]]", Short: "Show a table of rewards: the one in force, or another", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			req := &headgatev1.GetRewardTableRequest{}
			if len(args) == 1 {
				req.Table = args[0]
			}
			res, err := call(cmd.Context(), c.intake.GetRewardTable, req)
			if err != nil {
				return err
			}
			x := res.Table
			return a.result(res, func(t *table) {
				t.field("table", x.GetName())
				t.field("revision", x.GetRevision())
				t.field("applied", when(x.GetMadeUs())+" by "+x.GetActor())
				t.field("in force", yesNo(x.GetInForce()))
				t.row(x.GetJson())
			})
		},
	}
}

func (a *app) rewardsList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all revisions of tables of rewards, the last applied first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.intake.ListRewardTables, &headgatev1.ListRewardTablesRequest{})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("TABLE", "REVISION", "APPLIED", "BY", "IN FORCE")
				for _, x := range res.Tables {
					t.row(x.Name, x.Revision, when(x.MadeUs), x.Actor, yesNo(x.InForce))
				}
			})
		},
	}
}

func (a *app) rewardsCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "Check a table of rewards, or print the built-in example", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return writeJSON(a.out, psirt.DefaultRewards())
			}
			_, t, err := a.rewardTable(args[0])
			if err != nil {
				return err
			}
			a.say("%s is a table of rewards: %s", args[0], t.Name())
			return nil
		},
	}
}
