package cli

import (
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
