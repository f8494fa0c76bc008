package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

func (a *app) caseCommand() *cobra.Command {
	return group("case", "A vulnerability being handled: its facts and what follows from them",
		a.caseOpen(), a.caseList(), a.caseShow(), a.caseFact(), a.caseKinds(), a.caseExplain(), a.caseOpacity(), a.caseVariant(), a.caseCause(), a.caseControl(), a.caseVerify(), a.caseScore(), a.caseSSVC(), a.caseTables(), a.caseExploited(), a.caseMember(), a.caseOwner(), a.caseClose())
}

// factFlags are what may be said of any fact.
type factFlags struct {
	at   string
	tlp  string
	only []string
}

func (f *factFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.at, "at", "", "when we learned of it, RFC 3339 with its zone (now)")
	c.Flags().StringVar(&f.tlp, "tlp", "", "label (AMBER+STRICT)")
	c.Flags().StringSliceVar(&f.only, "only", nil, "only these may read it: operator:NAME, vendor:NAME, tenant:NAME; repeat it")
}

// newFact writes a fact for the API.
func newFact(b psirt.Body, f factFlags) (*headgatev1.NewFact, error) {
	body, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return rawFact(string(b.Kind()), string(body), f)
}

func rawFact(kind, body string, f factFlags) (*headgatev1.NewFact, error) {
	out := &headgatev1.NewFact{Kind: kind, Tlp: f.tlp, Only: f.only, Body: body}
	if f.at != "" {
		at, err := time.Parse(time.RFC3339, f.at)
		if err != nil {
			return nil, usagef("--at %q: want date, hour and zone, such as 2026-12-01T15:00:00Z", f.at)
		}
		out.AtUs = at.UnixMicro()
	}
	b, err := psirt.DecodeBody(psirt.Kind(kind), []byte(body))
	if err == nil {
		err = psirt.CheckNew(b)
	}
	if err != nil {
		return nil, usageError{err}
	}
	return out, nil
}

// addFacts shows what will be recorded of a case, asks, and adds it.
func (a *app) addFacts(cmd *cobra.Command, id, words string, facts ...*headgatev1.NewFact) error {
	c, err := a.conn.connect()
	if err != nil {
		return err
	}
	if err := a.confirm("To be recorded of %s, for good: %s.", id, words); err != nil {
		return err
	}
	res, err := call(cmd.Context(), c.cases.AddFacts, &headgatev1.AddFactsRequest{Id: id, Revision: -1, Facts: facts})
	if err != nil {
		return err
	}
	return a.result(res.Case, func(t *table) {
		k := res.Case
		t.row(fmt.Sprintf("Recorded: %s.", words))
		t.row(fmt.Sprintf("%s is in phase %s, state %s, rung %s.", k.GetId(), k.GetPhase(), k.GetState(), k.GetRung()))
	})
}

// addBody is addFacts for one body.
func (a *app) addBody(cmd *cobra.Command, id string, b psirt.Body, f factFlags, format string, words ...any) error {
	fact, err := newFact(b, f)
	if err != nil {
		return err
	}
	return a.addFacts(cmd, id, fmt.Sprintf(format, words...), fact)
}

// parseMember reads PRINCIPAL[=ROLE[:LABEL]].
func parseMember(s string) (*headgatev1.Member, error) {
	who, rest, _ := strings.Cut(s, "=")
	role, label, _ := strings.Cut(rest, ":")
	m := &headgatev1.Member{Principal: who, Role: role, UpTo: label}
	if !strings.Contains(who, ":") {
		m.Principal = "operator:" + who
	}
	outside := !strings.HasPrefix(m.Principal, "operator:")
	if m.Role == "" {
		m.Role = string(psirt.Worker)
		if outside {
			m.Role = string(psirt.Observer)
		}
	}
	if m.UpTo == "" {
		m.UpTo = string(psirt.Red)
		if outside {
			m.UpTo = string(psirt.Amber)
		}
	}
	return m, psirt.CheckPrincipal(m.Principal)
}

func (a *app) caseOpen() *cobra.Command {
	req := headgatev1.OpenCaseRequest{}
	var members []string
	c := &cobra.Command{
		Use: "open TITLE", Short: "Open a case; it starts sealed", Args: cobra.ExactArgs(1),
		Long: `Open a case; it starts sealed, and you lead it. The triagers and the senders of
its reports are members too, unless --restricted.

  headgate case open "Overflow in the parser" --report RP-… --member bob --member vendor:acme=observer:AMBER`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Title = args[0]
			for _, s := range members {
				m, err := parseMember(s)
				if err != nil {
					return usagef("--member %q: %v", s, err)
				}
				req.Members = append(req.Members, m)
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.cases.OpenCase, &req)
			if err != nil {
				return err
			}
			return a.result(res.Case, func(t *table) { t.row(res.Case.GetId()) })
		},
	}
	f := c.Flags()
	f.StringSliceVar(&req.Reports, "report", nil, "a `report` that it is about; the first is the original; repeat it")
	f.StringArrayVar(&members, "member", nil, "WHO[=ROLE[:LABEL]]; repeat it")
	f.BoolVar(&req.Restricted, "restricted", false, "nobody but you and the members named here")
	f.StringVar(&req.Tlp, "tlp", "", "label of what it opens with (AMBER+STRICT)")
	return c
}

func (a *app) caseList() *cobra.Command {
	req := headgatev1.ListCasesRequest{}
	c := &cobra.Command{
		Use: "list", Short: "List the cases that you are a member of", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.cases.ListCases, &req)
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("CASE", "OPENED", "PHASE", "STATE", "RUNG", "SEVERITY", "OWNER", "FIRST DUE", "TITLE")
				for _, k := range res.Cases {
					t.row(k.Id, when(k.OpenedUs), k.Phase, k.State, k.Rung, k.Severity, k.Owner, firstDue(k.Clocks), short(k.Title, 60))
				}
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&req.Closed, "closed", false, "closed ones too")
	f.StringVar(&req.After, "after", "", "only ids after this `case`")
	f.Int32Var(&req.Limit, "limit", 100, "show at most so many; up to 1000")
	return c
}

// firstDue is the first clock to break.
func firstDue(clocks []*headgatev1.Clock) string {
	for _, k := range clocks {
		if k.ClearedUs == 0 {
			return k.Name + " " + when(k.DueUs)
		}
	}
	return ""
}

func (a *app) getCase(cmd *cobra.Command, id string) (*headgatev1.Case, error) {
	c, err := a.conn.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(cmd.Context(), c.cases.GetCase, &headgatev1.GetCaseRequest{Id: id})
	if err != nil {
		return nil, err
	}
	return res.Case, nil
}

func (a *app) caseShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CASE", Short: "Show a case: its facts, and what follows from them", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.getCase(cmd, args[0])
			if err != nil {
				return err
			}
			return a.result(k, func(t *table) { showCase(t, k) })
		},
	}
}

func showCase(t *table, k *headgatev1.Case) {
	t.field("case", k.Id)
	t.field("title", k.Title)
	t.field("phase", fmt.Sprintf("%s: %s (fact %d)", k.Phase, k.PhaseReason, k.PhaseFact))
	t.field("state", k.State)
	t.field("to do", k.Due)
	t.field("rung", k.Rung)
	t.field("owner", k.Owner)
	t.field("severity", k.Severity)
	t.field("opened", when(k.OpenedUs))
	t.field("closed", when(k.ClosedUs))
	for _, s := range k.Scores {
		t.field("score", fmt.Sprintf("%s %.1f by %s %s", s.Scheme, s.Score, s.Scorer, s.Vector))
	}
	for _, m := range k.Members {
		t.field("member", fmt.Sprintf("%s, %s, up to %s", m.Principal, m.Role, m.UpTo))
	}
	for _, r := range k.Reports {
		t.field("report", r.Report+" "+r.Role)
	}
	showWork(t, k)
	if e := k.Embargo; e != nil {
		t.field("embargo", embargoText(e))
	}
	for _, p := range k.Parties {
		t.field("party", fmt.Sprintf("%s (%s): %s", p.Name, p.As, p.Status))
	}
	for _, c := range k.Clocks {
		t.field("clock", clockText(c))
	}
	for _, f := range k.Facts {
		t.field("fact", factText(f))
	}
}

func embargoText(e *headgatev1.Embargo) string {
	s := e.State + " until " + when(e.UntilUs)
	if e.NextUs != 0 {
		s += ", proposed now until " + when(e.NextUs)
	}
	if e.EndedUs != 0 {
		s = "ended " + when(e.EndedUs) + ": " + e.EndedWhy
	}
	return s
}

func clockText(c *headgatev1.Clock) string {
	s := fmt.Sprintf("%s due %s (%s: %s)", c.Name, when(c.DueUs), c.Force, c.Rule)
	if c.ClearedUs != 0 {
		s += ", cleared " + when(c.ClearedUs)
	}
	if c.Broken {
		s += ", BROKEN"
	}
	return s
}

func (a *app) caseFact() *cobra.Command {
	var f factFlags
	c := &cobra.Command{
		Use: "fact CASE KIND [JSON]", Short: "Record a fact; headgate case kinds lists the kinds", Args: cobra.RangeArgs(2, 3),
		Long: `Record a fact. What is illegal as the case stands is refused, and a fact stays
for good: another one corrects it. JSON may be - for standard input.

  headgate case fact C-… vendor.aware
  headgate case fact C-… fix.bound '{"product":"acme/rules","version":"1.2.4"}'`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			body := "{}"
			if len(args) == 3 {
				body = args[2]
			}
			if body == "-" {
				if body, err = a.read("-", psirt.MaxBody); err != nil {
					return err
				}
			}
			fact, err := rawFact(args[1], body, f)
			if err != nil {
				return err
			}
			return a.addFacts(cmd, args[0], args[1]+" "+short(body, 200), fact)
		},
	}
	f.flags(c)
	return c
}

func (a *app) caseExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain CASE", Short: "Say why a case is in its phase, state and rung, and what is due", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.getCase(cmd, args[0])
			if err != nil {
				return err
			}
			e, err := explainCase(k)
			if err != nil {
				return err
			}
			return a.explained(e)
		},
	}
}

func (a *app) caseVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify CASE", Short: "Compare a case with what the ledger commits to", Args: cobra.ExactArgs(1),
		Long: `Compare each fact that you may read, and each recorded read, with its commitment
in the ledger. The ledger says nothing of a case to anybody else. The exit status
is 1 if something does not hold.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.cases.VerifyCase, &headgatev1.VerifyCaseRequest{Id: args[0]})
			if err != nil {
				return err
			}
			err = a.result(res, func(t *table) {
				t.field("facts", res.Facts)
				t.field("recorded reads", res.Readings)
				for _, b := range res.Broken {
					t.field("broken", b)
				}
			})
			if err == nil && len(res.Broken) > 0 {
				return fmt.Errorf("%d of %d do not hold", len(res.Broken), res.Facts+res.Readings)
			}
			return err
		},
	}
}

func (a *app) caseMember() *cobra.Command {
	add := &cobra.Command{
		Use: "add CASE WHO[=ROLE[:LABEL]]", Short: "Let somebody read a case, or change how", Args: cobra.ExactArgs(2),
		Long: `Let somebody read a case, or change how. WHO is operator:NAME (or just NAME),
vendor:NAME or tenant:NAME; ROLE is lead, member or observer; LABEL is the most
closed label that he or she reads. Operators are members up to RED by default,
parties outside observers up to AMBER.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := parseMember(args[1])
			if err != nil {
				return usageError{err}
			}
			return a.addBody(cmd, args[0], &psirt.MemberAdded{Principal: m.Principal, Role: psirt.Role(m.Role), UpTo: psirt.TLP(m.UpTo)}, factFlags{},
				"%s is %s and reads up to %s", m.Principal, m.Role, m.UpTo)
		},
	}
	remove := &cobra.Command{
		Use: "remove CASE WHO", Short: "Take somebody off a case's list", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := parseMember(args[1])
			if err != nil {
				return usageError{err}
			}
			return a.addBody(cmd, args[0], &psirt.MemberRemoved{Principal: m.Principal}, factFlags{}, "%s is no member any more", m.Principal)
		},
	}
	return group("member", "Who may read a case", add, remove)
}

func (a *app) caseOwner() *cobra.Command {
	return &cobra.Command{
		Use: "owner CASE WHO", Short: "Say who must act next", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := parseMember(args[1])
			if err != nil {
				return usageError{err}
			}
			return a.addBody(cmd, args[0], &psirt.OwnerSet{Owner: m.Principal}, factFlags{}, "%s must act next", m.Principal)
		},
	}
}

func (a *app) caseClose() *cobra.Command {
	return &cobra.Command{
		Use: "close CASE WHY", Short: "Record that nothing is left to do", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addBody(cmd, args[0], &psirt.CaseClosed{Why: args[1]}, factFlags{}, "it is closed: %s", args[1])
		},
	}
}
