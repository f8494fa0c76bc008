package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

// explained shows what follows from facts, and which fact makes each so.
func (a *app) explained(all []Derived) error {
	return a.result(all, func(t *table) {
		for _, d := range all {
			t.row(d.What, d.Is, d.Because)
		}
	})
}

// by says who wrote a fact down, and when.
func by(f *headgatev1.Fact, why string) string {
	s := fmt.Sprintf("written down by %s %s (fact %d)", f.Actor, when(f.RecordedUs), f.Seq)
	if why != "" {
		s += ": " + why
	}
	return s
}

func (a *app) embargoExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain CASE", Short: "Say why an embargo is in its state, and what each party answered and why", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.getCase(cmd, args[0])
			if err != nil {
				return err
			}
			out, err := explainEmbargo(k)
			if err != nil {
				return err
			}
			return a.explained(out)
		},
	}
}

func explainEmbargo(k *headgatev1.Case) ([]Derived, error) {
	var c psirt.Case
	if err := json.Unmarshal([]byte(k.DerivedJson), &c); err != nil {
		return nil, fmt.Errorf("read the case: %w", err)
	}
	out := []Derived{{"embargo", string(c.EmbargoState(time.Now())), embargoBecause(c)}}
	for _, f := range k.Facts {
		body, err := psirt.DecodeBody(psirt.Kind(f.Kind), []byte(f.Body))
		if err != nil {
			continue // of a server that is newer than this command
		}
		switch b := body.(type) {
		case *psirt.EmbargoProposed:
			out = append(out, Derived{"terms", "until " + b.Until, by(f, "")})
		case *psirt.EmbargoRevised:
			out = append(out, Derived{"other terms", "until " + b.Until, by(f, b.Why)})
		case *psirt.EmbargoAccepted:
			out = append(out, Derived{"party " + b.Party, "accepted", by(f, "")})
		case *psirt.EmbargoDeclined:
			out = append(out, Derived{"party " + b.Party, "declined", by(f, b.Why)})
		case *psirt.EmbargoEnded:
			out = append(out, Derived{"end", "ended", by(f, b.Why)})
		}
	}
	for _, p := range k.Parties {
		if k.Embargo != nil && p.Embargo == string(psirt.Unanswered) {
			out = append(out, Derived{"party " + p.Name, p.Embargo, "it has not answered the newest terms, which is no yes"})
		}
	}
	return out, nil
}

// embargoBecause says what made the newest embargo's state so.
func embargoBecause(c psirt.Case) string {
	e := c.Embargo()
	if e == nil {
		return "no fact proposes one"
	}
	switch c.EmbargoState(time.Now()) {
	case psirt.Proposed:
		return "no party has accepted it; it binds nobody"
	case psirt.Active:
		return "a party accepted it first " + when(e.Active.UnixMicro()) + "; it ends by itself at its end, or at once when it is public"
	case psirt.Revised:
		return "other terms are proposed; those in force hold until a party accepts the new ones"
	}
	if e.Ended.IsZero() {
		return "its time ran out " + when(e.Until.UnixMicro())
	}
	return "it was ended " + when(e.Ended.UnixMicro()) + ": " + e.Why + "; an ended one stays ended"
}

func (a *app) partyExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain CASE", Short: "Say which fact makes each party's status so", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.getCase(cmd, args[0])
			if err != nil {
				return err
			}
			var out []Derived
			for _, p := range k.Parties {
				out = append(out, explainParty(k, p)...)
			}
			return a.explained(out)
		},
	}
}

func explainParty(k *headgatev1.Case, p *headgatev1.Party) []Derived {
	out := []Derived{{"party " + p.Name, p.Status, "as " + p.As + ", for all of its products"}}
	for _, f := range k.Facts {
		body, err := psirt.DecodeBody(psirt.Kind(f.Kind), []byte(f.Body))
		if err != nil {
			continue // of a server that is newer than this command
		}
		switch b := body.(type) {
		case *psirt.PartyAdded:
			if b.Party == p.Name {
				out = append(out, Derived{"", "named", by(f, "")})
			}
		case *psirt.PartyStatus:
			if b.Party == p.Name {
				of := ""
				if b.Product != "" {
					of = " for " + b.Product
				}
				out = append(out, Derived{"", "says " + string(b.Status) + of, by(f, b.Why)})
			}
		}
	}
	if len(p.Statuses) == 0 {
		out = append(out, Derived{"", "silent", "it has said nothing, which is not the same as not affected"})
	}
	return out
}

func (a *app) reportExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain REPORT", Short: "Say where a report stands, and which fact makes it so", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.report.GetReport, &headgatev1.GetReportRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return a.explained(explainReport(res.Report))
		},
	}
}

func explainReport(r *headgatev1.Report) (out []Derived) {
	for _, f := range r.Facts {
		body, err := psirt.DecodeBody(psirt.Kind(f.Kind), []byte(f.Body))
		if err != nil {
			continue // of a server that is newer than this command
		}
		switch b := body.(type) {
		case *psirt.ReportReceived:
			out = append(out, Derived{"received", "by " + string(b.Source), by(f, "")})
		case *psirt.ReportAcknowledged:
			out = append(out, Derived{"acknowledged", "yes", by(f, b.How)})
		case *psirt.ReportLinked:
			out = append(out, Derived{"case", b.Case + ", as its " + string(b.Role), by(f, "")})
		case *psirt.ReportRewarded:
			out = append(out, Derived{"reward", fmt.Sprintf("%d %s", b.Amount, b.Currency), by(f, fmt.Sprintf("row %s of %s: %s", b.Row, tableText(b.Table, b.Revision), b.Why))})
		case *psirt.ReportClosed:
			out = append(out, Derived{"closed", "yes", by(f, b.Why)})
		}
	}
	if r.AcknowledgedUs == 0 {
		out = append(out, Derived{"acknowledged", "no", "its reporter was not answered: headgate report acknowledge " + r.Id})
	}
	if r.Case == "" && r.Closed == "" {
		out = append(out, Derived{"case", "none", "triagers read it until it belongs to one: headgate report similar, link, or headgate case open"})
	}
	return out
}
