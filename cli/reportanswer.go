package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/psirt"
)

func (a *app) reportReply() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "reply REPORT [TEXT]", Short: "Write to the reporter", Args: cobra.RangeArgs(1, 2),
		Long: `Write to the reporter. The text, Markdown, stands on the reporter's page; who gave a
mail address gets a letter that there is something, without the text itself.

  headgate report reply RP-4TQX4H57JRGSN "Thank you. Which version was it?"`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			var text string
			switch {
			case len(args) == 2 && file == "":
				text = args[1]
			case len(args) == 1 && file != "":
				if text, err = a.read(file, psirt.MaxText); err != nil {
					return err
				}
			default:
				return usagef("give the text as an argument, or by --text, and not both")
			}
			a.say("The reporter of %s will read:\n%s", args[0], text)
			return a.addReportFact(cmd, args[0], &psirt.ReportMessage{From: "us", Text: text}, "the reporter can read it")
		},
	}
	c.Flags().StringVar(&file, "text", "", "`file` with the text; - is standard input")
	return c
}

func (a *app) reportFile() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "file REPORT DIGEST", Short: "Save an attachment of a report", Args: cobra.ExactArgs(2),
		Long: `Save an attachment of a report, by the SHA-256 that "report show" gives. It is a
stranger's file: look at it where it can do no harm.

  headgate report file RP-4TQX4H57JRGSN 5b2c... --out poc.bin`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.intake.GetReportFile, &headgatev1.GetReportFileRequest{Report: args[0], Digest: args[1]})
			if err != nil {
				return err
			}
			if err := atomicfile.Write(out, res.Content, 0o600); err != nil {
				return err
			}
			a.say("%d bytes, which their sender calls %q (%s), are in %s.", len(res.Content), clean(res.Name), clean(res.Type), out)
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "`file` to write")
	_ = c.MarkFlagRequired("out") // it exists
	return c
}

func (a *app) reportReward() *cobra.Command {
	var file string
	var proof, ask bool
	c := &cobra.Command{
		Use: "reward REPORT", Short: "Grant what a table of rewards says", Args: cobra.ExactArgs(1),
		Long: `Decide by a table of rewards what a report is worth, and grant it. The reporter
reads the reward on her page. Without --table it is the built-in example, in points;
"report rewards" prints it, to be changed. A case that nobody has scored has no
reward yet.

  headgate report reward RP-4TQX4H57JRGSN --table rewards.json --proof --ask`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req := &headgatev1.RewardReportRequest{Report: args[0], Proof: proof, Ask: true}
			if file != "" {
				if req.TableJson, err = a.read(file, psirt.MaxRewardTable); err != nil {
					return err
				}
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
				if err := a.confirm("The reporter of %s will be granted %s: %s (row %s of %s).", args[0], amount(res), res.Why, res.Row, res.Table); err != nil {
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
				t.field("table", res.Table)
				t.field("highest score", scoreText(res.Score))
				t.field("granted", yesNo(res.Recorded))
			})
		},
	}
	c.Flags().StringVar(&file, "table", "", "`file` with the table of rewards, JSON")
	c.Flags().BoolVar(&proof, "proof", false, "it came with what shows it")
	c.Flags().BoolVar(&ask, "ask", false, "decide and grant nothing")
	return c
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
	return &cobra.Command{
		Use: "rewards [FILE]", Short: "Print the built-in table of rewards, or check one of yours", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t := psirt.DefaultRewards()
			if len(args) == 1 {
				b, err := a.read(args[0], psirt.MaxRewardTable)
				if err != nil {
					return err
				}
				if t, err = psirt.ParseRewardTable([]byte(b)); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				a.say("%s is a table of rewards: %s", args[0], t.Name())
			}
			return writeJSON(a.out, t)
		},
	}
}
