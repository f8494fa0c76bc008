package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/review"
)

func (a *app) reviewAsk() *cobra.Command {
	var about string
	var notified bool
	c := &cobra.Command{
		Use: "ask CASE [WHO...]", Short: "Ask customers and partners what they think, by a form behind a secret link", Args: cobra.MinimumNArgs(1),
		Long: `Ask customers and partners what they think. WHO is a party of the case, or
tenant:NAME; --notified asks each tenant that got a notice. Each gets a form of its own
behind a secret link, which you send on; asked again, it keeps the link. The form shows
what --about says, and nothing else of the case.

  headgate review ask C-… vendor:acme tenant:example-corp --about "our update of November"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			req := &headgatev1.AskFeedbackRequest{Case: args[0], From: args[1:], About: about}
			if notified {
				if err := eachNotice(cmd.Context(), c, args[0], func(n *headgatev1.Notice) { req.From = append(req.From, "tenant:"+n.Tenant) }); err != nil {
					return err
				}
			}
			if len(req.From) == 0 {
				return usagef("say whom: a party, tenant:NAME, or --notified")
			}
			if err := a.confirm("%s will be asked about %q, recorded in %s.", strings.Join(req.From, ", "), about, args[0]); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.review.AskFeedback, req)
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("WHO", "LINK")
				for _, l := range res.Links {
					t.row(l.From, l.Url)
				}
			})
		},
	}
	c.Flags().StringVar(&about, "about", "how we handled a recent security update", "what the form says that it is about")
	c.Flags().BoolVar(&notified, "notified", false, "each tenant that got a notice")
	return c
}

// showFeedback shows what customers and partners think.
func showFeedback(t *table, all []*headgatev1.Feedback) {
	for _, f := range all {
		if len(f.Answers) == 0 {
			t.row("feedback "+f.From, "unknown: has not answered", "asked "+when(f.AskedUs))
		}
		for _, x := range f.Answers {
			t.row("feedback "+f.From, fmt.Sprintf("told in time: %s, knew what to do: %s, solved: %s", review.Mark(x.Told), review.Mark(x.Clear), review.Mark(x.Solved)), short(x.Text, 200))
		}
	}
}

// eachNotice goes through a case's notices.
func eachNotice(ctx context.Context, c *client, kase string, f func(*headgatev1.Notice)) error {
	const page = 1000
	for req := (&headgatev1.ListNoticesRequest{Case: kase, Limit: page}); ; {
		res, err := call(ctx, c.notice.ListNotices, req)
		if err != nil {
			return err
		}
		for _, n := range res.Notices {
			f(n)
			req.After = n.Id
		}
		if len(res.Notices) < page {
			return nil
		}
	}
}
