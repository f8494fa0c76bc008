package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

func (a *app) embargoCommand() *cobra.Command {
	return group("embargo", "Until when who keeps quiet about a case",
		a.embargoPropose(), a.embargoAccept(), a.embargoDecline(), a.embargoRevise(), a.embargoEnd(), a.embargoShow(), a.embargoExplain(), a.embargoList())
}

// instant is an instant in UTC and as the reader's own clock shows it, with how
// far away it is: an hour without a zone is somebody else's.
func instant(us int64, now time.Time) string {
	if us == 0 {
		return ""
	}
	t := time.UnixMicro(us)
	s := t.UTC().Format("2006-01-02 15:04:05 UTC")
	if _, offset := t.Local().Zone(); offset != 0 {
		s += t.Local().Format(" (here 2006-01-02 15:04 -07:00)")
	}
	return s + ", " + away(t.Sub(now))
}

// away is how far an instant is from now.
func away(d time.Duration) string {
	past := d < 0
	if past {
		d = -d
	}
	s := d.Round(time.Second).String()
	if d >= 48*time.Hour {
		s = fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
	if past {
		return s + " ago"
	}
	return "in " + s
}

// untilArg reads an embargo's end and says it back without doubt.
func untilArg(s string) (string, error) {
	t, err := psirt.ParseUntil(s)
	if err != nil {
		return "", usageError{err}
	}
	return instant(t.UnixMicro(), time.Now()), nil
}

func (a *app) embargoPropose() *cobra.Command {
	return &cobra.Command{
		Use: "propose CASE UNTIL", Short: "Propose an embargo until an instant", Args: cobra.ExactArgs(2),
		Long: `Propose an embargo. UNTIL has date, hour and zone, and is at most a year away:

  headgate embargo propose C-… 2026-12-01T15:00:00Z
  headgate embargo propose C-… 2026-12-02T00:00:00+09:00

It is active once a party accepts it (headgate party add, headgate embargo accept).
None may start once the vulnerability or an exploit is public or attacks were seen.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			words, err := untilArg(args[1])
			if err != nil {
				return err
			}
			return a.addBody(cmd, args[0], &psirt.EmbargoProposed{Until: args[1]}, factFlags{}, "an embargo until %s is proposed", words)
		},
	}
}

func (a *app) embargoRevise() *cobra.Command {
	return &cobra.Command{
		Use: "revise CASE UNTIL WHY", Short: "Propose another end; the one in force holds until a party accepts", Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			words, err := untilArg(args[1])
			if err != nil {
				return err
			}
			return a.addBody(cmd, args[0], &psirt.EmbargoRevised{Until: args[1], Why: args[2]}, factFlags{}, "the embargo is to end %s instead: %s", words, args[2])
		},
	}
}

func (a *app) embargoAccept() *cobra.Command {
	return &cobra.Command{
		Use: "accept CASE PARTY", Short: "Record that a party accepts the newest terms", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addBody(cmd, args[0], &psirt.EmbargoAccepted{Party: args[1]}, factFlags{}, "%s accepts the embargo's newest terms", args[1])
		},
	}
}

func (a *app) embargoDecline() *cobra.Command {
	var why string
	c := &cobra.Command{
		Use: "decline CASE PARTY", Short: "Record that a party declines the newest terms", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addBody(cmd, args[0], &psirt.EmbargoDeclined{Party: args[1], Why: why}, factFlags{}, "%s declines the embargo's newest terms", args[1])
		},
	}
	c.Flags().StringVar(&why, "why", "", "its reason")
	return c
}

func (a *app) embargoEnd() *cobra.Command {
	return &cobra.Command{
		Use: "end CASE WHY", Short: "End an embargo now and for good", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addBody(cmd, args[0], &psirt.EmbargoEnded{Why: args[1]}, factFlags{}, "the embargo ends now: %s", args[1])
		},
	}
}

func (a *app) embargoShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CASE", Short: "Show an embargo, its end, and each party's answer", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.getCase(cmd, args[0])
			if err != nil {
				return err
			}
			if k.Embargo == nil {
				return fmt.Errorf("case %s has no embargo", k.Id)
			}
			k.Facts = nil // the rest of the case stays: an empty field would read as unknown
			return a.result(k, func(t *table) { showEmbargo(t, k) })
		},
	}
}

func showEmbargo(t *table, k *headgatev1.Case) {
	e, now := k.Embargo, time.Now()
	t.field("case", k.Id+" "+k.Title)
	t.field("state", e.State)
	t.field("until", instant(e.UntilUs, now))
	t.field("proposed until", instant(e.NextUs, now))
	t.field("ended", instant(e.EndedUs, now))
	t.field("because", e.EndedWhy)
	t.field("proposed by", e.ProposedBy)
	for _, p := range k.Parties {
		t.field("party", fmt.Sprintf("%s (%s): %s", p.Name, p.As, p.Embargo))
	}
	if len(k.Parties) == 0 {
		t.field("party", "none yet: headgate party add "+k.Id+" NAME")
	}
}

func (a *app) embargoList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the embargoes of your open cases, the first to end first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			all, err := allCases(cmd.Context(), c)
			if err != nil {
				return err
			}
			res := &headgatev1.ListCasesResponse{Cases: embargoed(all)}
			return a.result(res, func(t *table) {
				t.row("CASE", "STATE", "UNTIL", "TITLE")
				for _, k := range res.Cases {
					t.row(k.Id, k.Embargo.State, instant(k.Embargo.UntilUs, time.Now()), short(k.Title, 60))
				}
			})
		},
	}
}
