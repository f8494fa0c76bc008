package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

func (a *app) reportCommand() *cobra.Command {
	return group("report", "What researchers, sensors and partners sent in",
		a.reportAdd(), a.reportList(), a.reportShow(), a.reportExplain(), a.reportSimilar(), a.reportLink(), a.reportAcknowledge(), a.reportClose(), a.triagerCommand(),
		a.reportImport(), a.reportReply(), a.reportFile(), a.reportReward(), a.reportRewards())
}

// read reads a text: from a file, or from standard input for "-".
func (a *app) read(path string, limit int64) (string, error) {
	if path != "-" {
		b, err := readFile(path, limit)
		return string(b), err
	}
	b, err := io.ReadAll(io.LimitReader(a.in, limit+1))
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	if int64(len(b)) > limit {
		return "", fmt.Errorf("read standard input: more than %d bytes", limit)
	}
	return string(b), nil
}

func (a *app) reportAdd() *cobra.Command {
	var r headgatev1.Report
	var textFile, tlp, request string
	c := &cobra.Command{
		Use: "add TITLE", Short: "Add a report by hand, or from a program", Args: cobra.ExactArgs(1),
		Long: `Add a report by hand, or from a program. Its text is Markdown in a file, or on
standard input with --text -. Who adds it may read it, as may the triagers.

  headgate report add "Overflow in the parser" --product acme/rules --text report.md`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r.Title = args[0]
			if textFile != "" {
				if r.Text, err = a.read(textFile, psirt.MaxText); err != nil {
					return err
				}
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.report.AddReport, &headgatev1.AddReportRequest{RequestId: request, Report: &r, Tlp: tlp})
			if err != nil {
				return err
			}
			return a.result(res.Report, func(t *table) { t.row(res.Report.GetId()) })
		},
	}
	f := c.Flags()
	f.StringVar(&textFile, "text", "", "`file` with the text; - is standard input")
	f.StringVar(&r.Source, "source", "api", "api, file, detection, rollout, exercise or partner")
	f.StringVar(&r.Product, "product", "", "product that it is about")
	f.StringVar(&r.Version, "version", "", "version that it was seen in")
	f.StringVar(&r.Component, "component", "", "file, module or endpoint of an API")
	f.StringVar(&r.Cwe, "cwe", "", "weakness, such as CWE-787")
	f.StringSliceVar(&r.Cves, "cve", nil, "CVE `id` that it has already; repeat it")
	f.StringVar(&r.Reporter, "reporter", "", "who is to be named for it")
	f.StringVar(&r.Contact, "contact", "", "where the reporter is reached")
	f.StringVar(&tlp, "tlp", "", "label of the report (AMBER+STRICT)")
	f.StringVar(&request, "request-id", "", "idempotency `key`: a repeat returns the first report")
	return c
}

func (a *app) reportList() *cobra.Command {
	req := headgatev1.ListReportsRequest{}
	c := &cobra.Command{
		Use: "list", Short: "List the reports that you may read", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.report.ListReports, &req)
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("REPORT", "RECEIVED", "SOURCE", "PRODUCT", "CASE", "ANSWERED", "TITLE")
				for _, r := range res.Reports {
					t.row(r.Id, when(r.ReceivedUs), r.Source, r.Product, r.Case, yesNo(r.AcknowledgedUs != 0), short(r.Title, 60))
				}
			})
		},
	}
	f := c.Flags()
	f.StringVar(&req.Case, "case", "", "only those of this case")
	f.BoolVar(&req.Free, "free", false, "only those that belong to no case")
	f.StringVar(&req.After, "after", "", "only ids after this `report`")
	f.Int32Var(&req.Limit, "limit", 100, "show at most so many; up to 1000")
	return c
}

func (a *app) reportShow() *cobra.Command {
	return &cobra.Command{
		Use: "show REPORT", Short: "Show a report and what was recorded of it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.report.GetReport, &headgatev1.GetReportRequest{Id: args[0]})
			if err != nil {
				return err
			}
			if err := a.result(res.Report, func(t *table) { showReport(t, res.Report) }); err != nil || a.format == "json" {
				return err
			}
			for line := range strings.Lines(res.Report.GetText()) {
				fmt.Fprintln(a.out, "  "+clean(strings.TrimRight(line, "\n")))
			}
			return nil
		},
	}
}

func showReport(t *table, r *headgatev1.Report) {
	t.field("report", r.Id)
	t.field("title", r.Title)
	t.field("source", r.Source)
	t.field("received", when(r.ReceivedUs))
	t.field("answered", when(r.AcknowledgedUs))
	t.field("product", strings.TrimSpace(r.Product+" "+r.Version))
	t.field("component", r.Component)
	t.field("weakness", r.Cwe)
	t.field("cves", strings.Join(r.Cves, ", "))
	t.field("reporter", r.Reporter)
	t.field("contact", r.Contact)
	t.field("case", strings.TrimSpace(r.Case+" "+r.Role))
	t.field("closed", r.Closed)
	for _, x := range r.Attachments {
		t.field("attached", fmt.Sprintf("%s, %d bytes, sha256 %s", x.Name, x.Length, x.Digest))
	}
	for _, f := range r.Facts[min(1, len(r.Facts)):] {
		t.field("fact", factText(f))
	}
}

// factText is a fact on one line.
func factText(f *headgatev1.Fact) string {
	s := fmt.Sprintf("%d %s %s %s by %s: %s", f.Seq, when(f.AtUs), f.Tlp, f.Kind, f.Actor, short(f.Body, 120))
	if len(f.Only) > 0 {
		s += " (only " + strings.Join(f.Only, ", ") + ")"
	}
	return s
}

func (a *app) reportSimilar() *cobra.Command {
	return &cobra.Command{
		Use: "similar REPORT", Short: "Suggest reports of the same vulnerability", Args: cobra.ExactArgs(1),
		Long: `Suggest reports that may be of the same vulnerability, among those that you may
read, by their words, product, component and weakness. It only suggests:
headgate report link makes it so.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.report.ListSimilar, &headgatev1.ListSimilarRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("REPORT", "CASE", "SCORE", "WHY", "TITLE")
				for _, x := range res.Similar {
					t.row(x.Report, x.Case, fmt.Sprintf("%.2f", x.Score), strings.Join(x.Reasons, ", "), short(x.Title, 60))
				}
			})
		},
	}
}

func (a *app) reportLink() *cobra.Command {
	var role string
	c := &cobra.Command{
		Use: "link REPORT CASE", Short: "Tie a report to a case", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("Report %s will belong to case %s as %s; the case's members will read it.", args[0], args[1], role); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.report.LinkReport, &headgatev1.LinkReportRequest{Report: args[0], Case: args[1], Role: role})
			if err != nil {
				return err
			}
			return a.result(res.Case, func(t *table) { t.row("Linked " + args[0] + " to " + args[1] + ".") })
		},
	}
	c.Flags().StringVar(&role, "as", "duplicate", "original, duplicate or related")
	return c
}

// addReportFact adds one fact to a report.
func (a *app) addReportFact(cmd *cobra.Command, id string, b psirt.Body, words string) error {
	fact, err := newFact(b, factFlags{})
	if err != nil {
		return err
	}
	c, err := a.conn.connect()
	if err != nil {
		return err
	}
	if err := a.confirm("To be recorded of %s: %s.", id, words); err != nil {
		return err
	}
	res, err := call(cmd.Context(), c.report.AddReportFacts, &headgatev1.AddReportFactsRequest{Id: id, Revision: -1, Facts: []*headgatev1.NewFact{fact}})
	if err != nil {
		return err
	}
	return a.result(res.Report, func(t *table) { t.row(fmt.Sprintf("Recorded of %s: %s.", id, words)) })
}

func (a *app) reportAcknowledge() *cobra.Command {
	var how string
	c := &cobra.Command{
		Use: "acknowledge REPORT", Short: "Record that the reporter was answered", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addReportFact(cmd, args[0], &psirt.ReportAcknowledged{How: how}, "the reporter was answered ("+how+")")
		},
	}
	c.Flags().StringVar(&how, "how", "by hand", "by which way")
	return c
}

func (a *app) reportClose() *cobra.Command {
	return &cobra.Command{
		Use: "close REPORT WHY", Short: "Record why a report leads to no case", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addReportFact(cmd, args[0], &psirt.ReportClosed{Why: args[1]}, "it leads to no case: "+args[1])
		},
	}
}

func (a *app) triagerCommand() *cobra.Command {
	change := func(use, short, words string, do func(cmd *cobra.Command, c *client, who string) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " OPERATOR", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				who := args[0]
				if !strings.Contains(who, ":") {
					who = "operator:" + who
				}
				c, err := a.conn.connect()
				if err != nil {
					return err
				}
				if err := a.confirm("%s %s", who, words); err != nil {
					return err
				}
				if err := do(cmd, c, who); err != nil {
					return err
				}
				return a.result(map[string]string{"triager": who}, func(t *table) { t.row(who + " " + words) })
			},
		}
	}
	add := change("add", "Let an operator read new reports", "reads reports that belong to no case yet, and is a member of new cases.", func(cmd *cobra.Command, c *client, who string) error {
		_, err := call(cmd.Context(), c.report.AddTriager, &headgatev1.AddTriagerRequest{Principal: who})
		return err
	})
	remove := change("remove", "End that", "no longer reads new reports; the cases that he or she is in stay so.", func(cmd *cobra.Command, c *client, who string) error {
		_, err := call(cmd.Context(), c.report.RemoveTriager, &headgatev1.RemoveTriagerRequest{Principal: who})
		return err
	})
	list := &cobra.Command{
		Use: "list", Short: "List the triagers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.report.ListTriagers, &headgatev1.ListTriagersRequest{})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("TRIAGER")
				for _, p := range res.Principals {
					t.row(p)
				}
			})
		},
	}
	return group("triager", "Who reads reports that belong to no case yet", add, remove, list)
}
