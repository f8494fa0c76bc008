package cli

import (
	"bytes"
	"fmt"
	"html"
	"time"

	"github.com/spf13/cobra"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/release/attest"
)

func (a *app) reviewShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CASE", Short: "Show how long each part of a case took, and what is to be corrected", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.getReview(cmd, args[0])
			if err != nil {
				return err
			}
			return a.showReview(r)
		},
	}
}

func (a *app) getReview(cmd *cobra.Command, id string) (*headgatev1.Review, error) {
	c, err := a.conn.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(cmd.Context(), c.review.GetReview, &headgatev1.GetReviewRequest{Case: id})
	if err != nil {
		return nil, err
	}
	return res.Review, nil
}

func (a *app) showReview(r *headgatev1.Review) error {
	return a.result(r, func(t *table) {
		t.row("MEASURE", "TOOK", "WHAT")
		for _, m := range r.Measures {
			took := (time.Duration(m.TookUs) * time.Microsecond).Round(time.Millisecond).String()
			if m.Unknown != "" {
				took = "unknown: " + m.Unknown
			}
			t.row(m.Code, took, m.Name)
		}
		for _, c := range r.Corrections {
			t.row(fmt.Sprintf("correction %d", c.Number), correctionState(c), fmt.Sprintf("%s (check: %s)", c.Text, c.Check))
		}
		showFeedback(t, r.Feedback)
	})
}

func correctionState(c *headgatev1.Correction) string {
	switch {
	case c.Green:
		return "done"
	case c.Red:
		return "open: its check fails"
	}
	return "open: its check was not seen to fail yet"
}

func (a *app) reviewTimeline() *cobra.Command {
	return &cobra.Command{
		Use: "timeline CASE", Short: "Tell a case's facts in their order", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.getReview(cmd, args[0])
			if err != nil {
				return err
			}
			return a.result(r.Events, func(t *table) {
				t.row("WHEN", "WHO", "WHAT")
				for _, e := range r.Events {
					t.row(when(e.AtUs), e.Actor, e.Text)
				}
			})
		},
	}
}

// reviewPage is the frame of an exported review: it loads nothing.
const reviewPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>%s</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}th{background:#f2f2f2}
table:last-of-type td:first-child{white-space:nowrap}</style>
</head><body>
%s</body></html>
`

func (a *app) reviewExport() *cobra.Command {
	c := &cobra.Command{
		Use: "export CASE FILE", Short: "Write the review of a case as Markdown or HTML", Args: cobra.ExactArgs(2),
		Long: `Write the post-incident review of a case: how long each part took, what was
exposed and harmed, what is corrected, and the timeline. FILE ends in .md or .html;
an HTML file is whole in itself and loads nothing.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			file := args[1]
			asHTML := bytes.HasSuffix([]byte(file), []byte(".html"))
			if !asHTML && !bytes.HasSuffix([]byte(file), []byte(".md")) {
				return usagef("%q: want a name that ends in .md or .html", file)
			}
			r, err := a.getReview(cmd, args[0])
			if err != nil {
				return err
			}
			out := []byte(r.Markdown)
			if asHTML {
				var page bytes.Buffer
				// What people wrote is escaped in the Markdown, and raw HTML is not rendered.
				if err := goldmark.New(goldmark.WithExtensions(extension.Table)).Convert(out, &page); err != nil {
					return fmt.Errorf("write %s: %w", file, err)
				}
				out = fmt.Appendf(nil, reviewPage, html.EscapeString("Review of "+r.Case), page.String())
			}
			if err := atomicfile.Write(file, out, 0o600); err != nil {
				return err
			}
			return a.result(map[string]string{"file": file}, func(t *table) { t.row("Written: " + file) })
		},
	}
	return c
}

func (a *app) reviewCorrect() *cobra.Command {
	var f factFlags
	var check string
	c := &cobra.Command{
		Use: "correct CASE TEXT", Short: "Record a corrective action and the kind of evidence that checks it", Args: cobra.ExactArgs(2),
		Long: `Record a corrective action. It carries a check, a kind of evidence: it is done once
a trusted attestor has signed that the check failed, and later that it passed.

  headgate review correct C-… "count the inputs when content is loaded" --check regression`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := attest.CheckKind(check); err != nil {
				return usageError{fmt.Errorf("--check: %w", err)}
			}
			return a.addBody(cmd, args[0], &psirt.CorrectionAdded{Text: args[1], Check: check}, f, "to be corrected: %s (check: %s)", args[1], check)
		},
	}
	c.Flags().StringVar(&check, "check", "", "the kind of evidence that must fail first and then pass")
	f.flags(c)
	return c
}

func (a *app) reviewCheck() *cobra.Command {
	var number int64
	c := &cobra.Command{
		Use: "check CASE FILE", Short: "Record what the check of a corrective action came to, by signed evidence", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			envelope, err := readFile(args[1], attest.MaxEnvelope)
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.review.CheckCorrection, &headgatev1.CheckCorrectionRequest{Case: args[0], Number: number, Envelope: envelope})
			if err != nil {
				return err
			}
			return a.showReview(res.Review)
		},
	}
	c.Flags().Int64Var(&number, "correction", 1, "its `number`")
	return c
}
