package cli

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

func (a *app) oncallCommand() *cobra.Command {
	return group("oncall", "Who is called about reports and cases, and who answered",
		a.oncallList(), a.oncallAnswer(), a.oncallLog(), a.oncallShow(), a.oncallSet())
}

func (a *app) oncallList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the calls that nobody has answered", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.intake.ListCalls, &headgatev1.ListCallsRequest{})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("ABOUT", "CALLED", "SINCE", "CLIMBED", "WHY")
				for _, x := range res.Calls {
					t.row(x.Subject, x.To, since(x.CalledUs), x.Level, short(x.Why, 60))
				}
			})
		},
	}
}

func (a *app) oncallAnswer() *cobra.Command {
	return &cobra.Command{
		Use: "answer REPORT|CASE", Short: "Say that you heard the call; it stops climbing", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.intake.AnswerCall, &headgatev1.AnswerCallRequest{Subject: args[0]})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) { t.row("You answered the call about " + args[0] + ".") })
		},
	}
}

func (a *app) oncallLog() *cobra.Command {
	return &cobra.Command{
		Use: "log REPORT|CASE", Short: "Show each attempt to call somebody, with its answer", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.intake.ListCallAttempts, &headgatev1.ListCallAttemptsRequest{Subject: args[0]})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("AT", "CALLED", "BY", "ADDRESS", "TRY", "OUTCOME", "CODE", "NEXT", "ANSWER")
				for _, x := range res.Attempts {
					next := "-"
					if x.NextUs > 0 {
						next = when(x.NextUs)
					}
					t.row(when(x.AtUs), x.To, x.Channel, x.Address, x.Attempt, x.Outcome, x.Code, next, short(x.Detail, 120))
				}
			})
		},
	}
}

func rosterFields(t *table, r *headgatev1.Roster) {
	t.field("revision", r.Revision)
	t.field("set", when(r.MadeUs)+" by "+r.Actor)
	for level, who := range r.OnDuty {
		t.field(fmt.Sprintf("on duty now, level %d", level), who)
	}
	for _, who := range r.Unreached {
		t.field("not reached", who+": no webhook, and this server sends no mail")
	}
}

func (a *app) oncallShow() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the roster in force, and who is on duty now", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.intake.GetRoster, &headgatev1.GetRosterRequest{})
			if connect.CodeOf(err) == connect.CodeNotFound {
				return errors.New("no roster is in force, and nobody is called: headgate oncall set FILE")
			}
			if err != nil {
				return err
			}
			return a.result(res.Roster, func(t *table) { rosterFields(t, res.Roster) })
		},
	}
}

func (a *app) oncallSet() *cobra.Command {
	var afresh bool
	c := &cobra.Command{
		Use: "set FILE", Short: "Put a roster in force", Args: cobra.ExactArgs(1),
		Long: `Put a roster in force. It is JSON: levels that are called one after the other, each
with the time that a call waits there and shifts in UTC that cover the whole day, and
the mail addresses and webhooks of those who are called:

  {"id": "acme",
   "levels": [
     {"wait": "15m", "shifts": [{"from": "07:00", "until": "19:00", "who": "operator:ada"},
                                {"from": "19:00", "until": "07:00", "who": "operator:kenji"}]},
     {"wait": "30m", "shifts": [{"from": "00:00", "until": "00:00", "who": "operator:carol"}]}],
   "reach": {"operator:ada": ["ada@acme.example"], "operator:kenji": ["kenji@acme.example"],
             "operator:carol": ["carol@acme.example"]},
   "hooks": {"operator:carol": ["https://pager.acme.example/carol"]}}

A webhook's secret is shown once, when its address is new or with --new-secrets.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.read(args[0], psirt.MaxRoster)
			if err != nil {
				return err
			}
			r, err := psirt.ParseRoster([]byte(b))
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("From now on each new report calls whoever roster %s has on duty, through %d levels.", r.ID, len(r.Levels)); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.intake.SetRoster, &headgatev1.SetRosterRequest{RosterJson: b, NewSecrets: afresh})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				rosterFields(t, res.Roster)
				for _, h := range res.Secrets {
					t.field("secret of "+h.Url, h.Secret+" (shown once)")
				}
			})
		},
	}
	c.Flags().BoolVar(&afresh, "new-secrets", false, "make a new secret for each webhook")
	return c
}
