package cli

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt/intake"
)

func (a *app) reportImport() *cobra.Command {
	var format string
	var exercise bool
	c := &cobra.Command{
		Use: "import FILE", Short: "Import reports from a CSAF, OSV or SARIF file", Args: cobra.ExactArgs(1),
		Long: `Import reports from a file: a CSAF 2.0 document (a report for each vulnerability),
an OSV record or array of records, or a SARIF 2.1.0 log (a report for each rule that
found something). The file is kept beside each report. The same file imported again
makes nothing twice.

  headgate report import advisory.json --format csaf`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"csaf", "osv", "sarif"}, format) {
				return usagef("--format %q: want csaf, osv or sarif", format)
			}
			b, err := readFile(args[0], intake.MaxFile)
			if err != nil {
				return err
			}
			im, err := intake.Read(intake.Format(format), b)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			a.sayPassed(im.Passed)
			if err := a.confirm("%d reports of %s will be added:%s", len(im.Drafts), args[0], titles(im.Drafts)); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.intake.ImportReports, &headgatev1.ImportReportsRequest{
				Format: format, Content: b, Name: filepath.Base(args[0]), Exercise: exercise})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("REPORT", "NEW", "REFERENCE", "TITLE")
				for _, r := range res.Reports {
					t.row(r.Id, yesNo(r.Fresh), short(r.Ref, 40), short(r.Title, 60))
				}
			})
		},
	}
	c.Flags().StringVar(&format, "format", "", "csaf, osv or sarif")
	c.Flags().BoolVar(&exercise, "exercise", false, "a red team's exercise made it")
	_ = c.MarkFlagRequired("format") // it exists
	return c
}

// shownTitles is how many reports are named before they are added.
const shownTitles = 10

func titles(drafts []intake.Draft) string {
	var b strings.Builder
	for i, d := range drafts {
		if i == shownTitles {
			fmt.Fprintf(&b, "\n  and %d more", len(drafts)-i)
			break
		}
		b.WriteString("\n  " + short(d.Title, 70))
	}
	return b.String()
}

func (a *app) sayPassed(passed map[string]int) {
	for _, why := range slices.Sorted(maps.Keys(passed)) {
		a.say("passed over: %d, %s", passed[why], why)
	}
}
