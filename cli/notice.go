package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/strict"
	"github.com/headgate/headgate/psirt"
)

// maxNoticeFile is the largest file that is read for a notice, bytes.
const maxNoticeFile = 4 << 20

func (a *app) noticeCommand() *cobra.Command {
	return group("notice", "What tenants are told of a case, and what came of it",
		a.noticePrepare(), a.noticeTell(), a.noticeCount(), a.noticeList(), a.noticeShow(), a.noticeExplain(), a.noticeLog(),
		a.noticeAcknowledge(), a.noticeAttest(), a.noticeTrace())
}

// readText reads a file of a notice's.
func readText(path string) (string, error) {
	b, err := readFile(path, maxNoticeFile)
	return string(b), err
}

func (a *app) noticePrepare() *cobra.Command {
	return &cobra.Command{
		Use: "prepare CASE FILE", Short: "Keep what a case's notices will say, and show how they read", Args: cobra.ExactArgs(2),
		Long: `Keep what a case's notices will say, and show how they read in each language.
Nobody is told yet. FILE holds the content in JSON; docs/notice.md has its form.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			content, err := readText(args[1])
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.notice.PrepareNotices, &headgatev1.PrepareNoticesRequest{Case: args[0], Content: content})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				for _, p := range res.Previews {
					t.row("== " + p.Language + ": " + p.Subject)
					lines(t, p.Body)
				}
			})
		},
	}
}

// lines writes a text as it is, line by line.
func lines(t *table, text string) {
	for line := range strings.Lines(text) {
		t.row(strings.TrimRight(line, "\n"))
	}
}

// matchFile is one tenant's part of an audience, in the file of notice tell.
type matchFile struct {
	Tenant    string `json:"tenant"`
	Resources []struct {
		ID      string `json:"id"`
		Name    string `json:"name"`
		Product string `json:"product"`
		Version string `json:"version"`
		Reason  string `json:"reason"`
	} `json:"resources"`
}

func (a *app) noticeTell() *cobra.Command {
	var rung, content, audience string
	c := &cobra.Command{
		Use: "tell CASE", Short: "Tell now those of an audience that were not told yet", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &headgatev1.TellAudienceRequest{Case: args[0], Rung: rung}
			var err error
			if content != "" {
				if req.Content, err = readText(content); err != nil {
					return err
				}
			}
			if audience != "" {
				if req.Matches, err = readMatches(audience); err != nil {
					return err
				}
			}
			who := "the case's audience"
			if audience != "" {
				who = fmt.Sprintf("%d tenants of %s", len(req.Matches), audience)
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if rung == "" {
				k, err := a.getCase(cmd, args[0])
				if err != nil {
					return err
				}
				if req.Rung = k.Rung; k.Rung == string(psirt.Sealed) || k.Rung == string(psirt.Partners) {
					req.Rung = string(psirt.TenantsRung) // the server says that it is too early
				}
			}
			if err := a.confirm("To be told of %s at rung %s, each its own part: %s, less those who know.", args[0], req.Rung, who); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.notice.TellAudience, req)
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) { t.row(fmt.Sprintf("Told: %d tenants.", res.Notices)) })
		},
	}
	c.Flags().StringVar(&rung, "rung", "", "tenants, public or details; the case must have got there (the case's own)")
	c.Flags().StringVar(&content, "content", "", "`file` of what is said (what was prepared)")
	c.Flags().StringVar(&audience, "audience", "", "`file` of who is told, as JSON (the case's frozen audience)")
	return c
}

func readMatches(path string) (out []*headgatev1.AudienceMatch, err error) {
	text, err := readText(path)
	if err != nil {
		return nil, err
	}
	var matches []matchFile
	if err := strict.Decode([]byte(text), &matches); err != nil {
		return nil, fmt.Errorf("audience %s: %w", path, err)
	}
	for _, m := range matches {
		x := &headgatev1.AudienceMatch{Tenant: m.Tenant}
		for _, r := range m.Resources {
			x.Resources = append(x.Resources, &headgatev1.NoticeResource{Id: r.ID, Name: r.Name, Product: r.Product, Version: r.Version, Reason: r.Reason})
		}
		out = append(out, x)
	}
	return out, nil
}

func matching(n int) string {
	if n == 1 {
		return "1 of its resources matches"
	}
	return fmt.Sprintf("%d of its resources match", n)
}

func (a *app) noticeCount() *cobra.Command {
	return &cobra.Command{
		Use: "count CASE", Short: "Count a case's notices by state", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.notice.CountNotices, &headgatev1.CountNoticesRequest{Case: args[0]})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("STATE", "NOTICES")
				for _, n := range res.Counts {
					text := fmt.Sprint(n.N)
					if n.Hidden {
						text = "hidden: so few would tell who is meant"
					}
					t.row(n.State, text)
				}
			})
		},
	}
}

func (a *app) noticeList() *cobra.Command {
	req := &headgatev1.ListNoticesRequest{}
	c := &cobra.Command{
		Use: "list", Short: "List notices: a tenant its own, a member those of its cases", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.notice.ListNotices, req)
			if err != nil {
				return err
			}
			return a.showNotices(res, res.Notices...)
		},
	}
	c.Flags().StringVar(&req.Case, "case", "", "of this `case` only")
	c.Flags().BoolVar(&req.Open, "open", false, "only those that something is expected of")
	c.Flags().StringVar(&req.After, "after", "", "only `ids` above this: the last of the page before")
	c.Flags().Int32Var(&req.Limit, "limit", 0, "at most so many (100)")
	return c
}

func (a *app) showNotices(msg any, notices ...*headgatev1.Notice) error {
	return a.result(msg, func(t *table) {
		t.row("NOTICE", "TENANT", "STATE", "CLOSED", "RUNG", "STEPS", "ABOUT")
		for _, n := range notices {
			done := 0
			for _, s := range n.Steps {
				if s.State == "verified" || s.State == "done" {
					done++
				}
			}
			t.row(n.Id, n.Tenant, n.State, yesNo(n.Closed), n.Rung, fmt.Sprintf("%d of %d", done, len(n.Steps)), n.Subject)
		}
	})
}

func (a *app) noticeShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NOTICE", Short: "Show a notice as its tenant reads it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.getNotice(cmd, args[0])
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row(res.Notice.Subject)
				t.row("")
				lines(t, res.Body)
				t.row("")
				noticeFields(t, res.Notice)
			})
		},
	}
}

func (a *app) getNotice(cmd *cobra.Command, id string) (*headgatev1.GetNoticeResponse, error) {
	c, err := a.conn.connect()
	if err != nil {
		return nil, err
	}
	return call(cmd.Context(), c.notice.GetNotice, &headgatev1.GetNoticeRequest{Id: id})
}

func noticeFields(t *table, n *headgatev1.Notice) {
	t.field("notice", n.Id)
	t.field("case", n.Case)
	t.field("tenant", n.Tenant)
	t.field("state", n.State)
	t.field("closed", yesNo(n.Closed))
	t.field("marking", n.Tlp)
	t.field("delivered", when(n.DeliveredUs))
	t.field("opened", when(n.OpenedUs))
	if n.AcknowledgedUs != 0 {
		t.field("acknowledged", when(n.AcknowledgedUs)+" by "+n.AcknowledgedBy)
	}
	for _, s := range n.Steps {
		text := s.State
		if s.Check != "" {
			text += fmt.Sprintf("; its check passed on %d, failed on %d, not heard from %d", s.Passed, s.Failed, s.Unknown)
		}
		if s.AttestedUs != 0 {
			text += fmt.Sprintf("; said to be done %s by %s", when(s.AttestedUs), s.AttestedBy)
		}
		t.field(fmt.Sprintf("step %d", s.N), text)
	}
}

func (a *app) noticeExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain NOTICE", Short: "Say why this tenant hears this, and what happens next", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.getNotice(cmd, args[0])
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				n := res.Notice
				own := map[string]bool{}
				for _, r := range n.Resources {
					own[r.Id] = true
				}
				t.row(fmt.Sprintf("%s hears this because %s:", n.Tenant, matching(len(own))))
				for _, r := range n.Resources {
					t.row("  "+r.Id, r.Product, r.Version, r.Reason)
				}
				t.row("")
				t.row("As last decided:")
				for _, r := range res.Reasons {
					t.row("  "+r.Code, r.Detail)
				}
				if len(res.Reasons) == 0 {
					t.row("  nothing yet", "it waits for its first delivery to end")
				}
				next := "when something happens"
				if res.NextUs != 0 {
					next = when(res.NextUs) + ", or when something happens"
				}
				t.row("Decided again:", next)
				t.row("")
				noticeFields(t, n)
			})
		},
	}
}

func (a *app) noticeLog() *cobra.Command {
	return &cobra.Command{
		Use: "log NOTICE", Short: "Show what was sent, attempt by attempt, and who read it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.getNotice(cmd, args[0])
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("MESSAGE", "CHANNEL", "ATTEMPT", "TO", "BEGAN", "OUTCOME", "ANSWER")
				for _, x := range res.Attempts {
					if x.Attempt == 0 {
						t.row(fmt.Sprintf("%s %d", x.Purpose, x.Number), x.Channel, "none yet", "", "due "+when(x.DueUs), x.State, "")
						continue
					}
					outcome := x.Outcome
					if outcome == "" {
						outcome = "under way"
					}
					t.row(fmt.Sprintf("%s %d", x.Purpose, x.Number), x.Channel, x.Attempt, x.Address, when(x.BeganUs), outcome, x.Detail)
				}
				t.row("")
				t.row("READ", "BY", "VIA")
				for _, r := range res.Reads {
					t.row(when(r.AtUs), r.Actor, r.Via)
				}
			})
		},
	}
}

func (a *app) noticeAcknowledge() *cobra.Command {
	return &cobra.Command{
		Use: "acknowledge NOTICE", Short: "Say, as its tenant, that you have read it and will act", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.notice.AcknowledgeNotice, &headgatev1.AcknowledgeNoticeRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return a.showNotices(res, res.Notice)
		},
	}
}

func (a *app) noticeAttest() *cobra.Command {
	var step int32
	c := &cobra.Command{
		Use: "attest NOTICE --step N", Short: "Say, as its tenant, that a step is done; its check alone verifies it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if step < 1 {
				return usagef("say which step: --step 1")
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("To be recorded, in your name: step %d of %s is done.", step, args[0]); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.notice.AttestStep, &headgatev1.AttestStepRequest{Id: args[0], Step: step})
			if err != nil {
				return err
			}
			return a.showNotices(res, res.Notice)
		},
	}
	c.Flags().Int32Var(&step, "step", 0, "which `step`, from 1")
	return c
}

func (a *app) noticeTrace() *cobra.Command {
	return &cobra.Command{
		Use: "trace CASE FILE", Short: "Name the tenants that a leaked text may come from", Args: cobra.ExactArgs(2),
		Long: `Name the tenants that a leaked text may come from, by the mark that each notice
carries and by its wordings. It accuses nobody: a text may be quoted from another,
and few wordings say little.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readText(args[1])
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.notice.TraceText, &headgatev1.TraceTextRequest{Case: args[0], Text: text})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("TENANT", "ITS MARK IS IN IT", "WORDINGS THAT AGREE", "THAT DIFFER")
				for _, s := range res.Suspects {
					t.row(s.Tenant, yesNo(s.ByCode), s.Agree, s.Differ)
				}
			})
		},
	}
}
