package psirt

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Source says by which way a report came in.
type Source string

// The sources.
const (
	FromForm      Source = "form"
	FromMail      Source = "mail"
	FromAPI       Source = "api"
	FromFile      Source = "file"      // a CSAF, OSV or SARIF file
	FromDetection Source = "detection" // Headgate's own detection
	FromRollout   Source = "rollout"   // a health anomaly that halted a rollout
	FromExercise  Source = "exercise"  // a red team's exercise, marked as one
	FromPartner   Source = "partner"
)

// Sources lists all sources.
var Sources = []Source{FromForm, FromMail, FromAPI, FromFile, FromDetection, FromRollout, FromExercise, FromPartner}

// Report is what somebody sent in, as its facts make it.
type Report struct {
	Revision int64     `json:"revision"` // number of facts
	Changed  time.Time `json:"changed"`
	ReportReceived
	Received     FactTime         `json:"received"`
	Acknowledged FactTime         `json:"acknowledged"`
	Case         string           `json:"case,omitempty"` // "C-...", once it belongs to one
	Role         LinkRole         `json:"role,omitempty"`
	Messages     []ReportMessage  `json:"messages,omitempty"`
	Rewards      []ReportRewarded `json:"rewards,omitempty"`
	Closed       string           `json:"closed,omitempty"` // why it leads to no case
	Page         *Page            `json:"page,omitempty"`   // the call of whoever is on duty
}

// Exists tells whether a reader may read what was received.
func (r *Report) Exists() bool { return r.Received.Known() }

// FoldReport makes a report of all its facts in order.
func FoldReport(facts []Fact) (Report, error) {
	var r Report
	for _, f := range facts {
		if err := r.apply(f); err != nil {
			return Report{}, err
		}
	}
	return r, nil
}

// ViewReport makes a report of those facts that a reader may read, as View does.
func ViewReport(facts []Fact) (Report, error) {
	var r Report
	for _, f := range facts {
		r.Revision = f.Seq
		if err := r.apply(f); errors.Is(err, ErrIllegal) {
			r.Revision = f.Seq + 1
		} else if err != nil {
			return Report{}, err
		}
	}
	return r, nil
}

// Apply returns the report with one more fact.
func (r Report) Apply(f Fact) (Report, error) {
	next := r
	next.Messages, next.Rewards = slices.Clone(r.Messages), slices.Clone(r.Rewards)
	if err := next.apply(f); err != nil {
		return r, err
	}
	return next, nil
}

func (r *Report) apply(f Fact) error {
	if err := f.place(r.Revision); err != nil {
		return err
	}
	body, err := f.Decode()
	if err != nil {
		return err
	}
	b, ok := body.(reportBody)
	if !ok {
		return illegal("fact %s: belongs to a case, not to a report", f.Kind)
	}
	if _, receives := body.(*ReportReceived); receives == r.Received.Known() {
		return illegal("fact %s: a report is received once, by its first fact", f.Kind)
	}
	if err := b.applyReport(r, f); err != nil {
		return fmt.Errorf("fact %s: %w", f.Kind, err)
	}
	r.Revision, r.Changed = f.Seq+1, f.Recorded
	return nil
}

// Attachment is a file of a report, kept by its digest.
type Attachment struct {
	Name   string `json:"name"`
	Type   string `json:"type,omitempty"` // as the sender says: never believed
	Digest string `json:"digest"`         // SHA-256, lower-case hex
	Length int64  `json:"length"`         // bytes
}

// ReportReceived is what came in.
type ReportReceived struct {
	Source      Source       `json:"source"`
	Title       string       `json:"title"`
	Text        string       `json:"text,omitempty"` // Markdown, as it was sent
	Product     string       `json:"product,omitempty"`
	Version     string       `json:"version,omitempty"`
	Component   string       `json:"component,omitempty"` // file, module, endpoint of an API
	CWE         string       `json:"cwe,omitempty"`
	CVEs        []string     `json:"cves,omitempty"`
	Vectors     []string     `json:"vectors,omitempty"`    // CVSS vectors that the sender gives
	References  []string     `json:"references,omitempty"` // URLs, never fetched
	Reporter    string       `json:"reporter,omitempty"`   // name for the credit line
	Contact     string       `json:"contact,omitempty"`    // address, if the reporter gave one
	Encrypted   bool         `json:"encrypted,omitempty"`  // it came in an encrypted mail
	Language    string       `json:"language,omitempty"`   // BCP 47, for answers
	Exercise    bool         `json:"exercise,omitempty"`   // a red team's: nobody outside is told
	Attachments []Attachment `json:"attachments,omitempty"`
}

// Kind implements Body.
func (*ReportReceived) Kind() Kind { return "report.received" }

// Check tells what is wrong with a report before it is sent.
func (b *ReportReceived) Check() error { return b.check() }

func (b *ReportReceived) check() error {
	err := first(oneOf("source", b.Source, Sources...), line("title", b.Title), text("text", b.Text))
	for what, s := range map[string]string{
		"product": b.Product, "version": b.Version, "component": b.Component,
		"reporter": b.Reporter, "contact": b.Contact, "language": b.Language,
	} {
		err = first(err, optionalLine(what, s))
	}
	if b.CWE != "" {
		err = first(err, match("cwe", b.CWE, cweName, "CWE- and a number"))
	}
	err = first(err, lines("cves", b.CVEs), lines("vectors", b.Vectors), lines("references", b.References))
	if len(b.Attachments) > MaxList {
		err = first(err, invalid("attachments: %d; at most %d", len(b.Attachments), MaxList))
	}
	for i, a := range b.Attachments {
		what := fmt.Sprintf("attachments[%d].", i)
		err = first(err, line(what+"name", a.Name), optionalLine(what+"type", a.Type), match(what+"digest", a.Digest, digestName, "64 hex digits"))
		if a.Length < 0 {
			err = first(err, invalid("%slength: %d", what, a.Length))
		}
	}
	return err
}

// lines checks a list of lines.
func lines(what string, list []string) error {
	if len(list) > MaxList {
		return invalid("%s: %d; at most %d", what, len(list), MaxList)
	}
	for i, s := range list {
		if err := line(fmt.Sprintf("%s[%d]", what, i), s); err != nil {
			return err
		}
	}
	return nil
}

func (b *ReportReceived) applyReport(r *Report, f Fact) error {
	r.ReportReceived, r.Received = *b, FactTime{f.At, f.Seq}
	return nil
}

// ReportAcknowledged says that the reporter was answered: a person, or the
// answer with the tracking id.
type ReportAcknowledged struct {
	Report string `json:"report,omitempty"` // in a case: which one
	How    string `json:"how"`              // "mail", "page", "by hand"
}

// Kind implements Body.
func (*ReportAcknowledged) Kind() Kind { return "report.acknowledged" }

func (b *ReportAcknowledged) check() error {
	if b.Report != "" {
		if err := match("report", b.Report, reportName, "RP- and 13 characters"); err != nil {
			return err
		}
	}
	return line("how", b.How)
}

func (b *ReportAcknowledged) applyReport(r *Report, f Fact) error {
	r.Acknowledged.set(f)
	return nil
}

func (b *ReportAcknowledged) apply(c *Case, f Fact) error {
	c.Heard.set(f)
	return nil
}

// LinkRole says what a report is to its case.
type LinkRole string

// The roles of a report.
const (
	Original  LinkRole = "original"  // the first one
	Duplicate LinkRole = "duplicate" // another report of the same
	Related   LinkRole = "related"   // of a variant, or otherwise of use
)

// ReportLinked ties a report and a case together. It stands in both.
type ReportLinked struct {
	Report   string    `json:"report"` // "RP-..."
	Case     string    `json:"case"`   // "C-..."
	Role     LinkRole  `json:"role"`
	Received time.Time `json:"received"`              // when the report came in
	Heard    time.Time `json:"acknowledged,omitzero"` // when the reporter was answered
}

// Kind implements Body.
func (*ReportLinked) Kind() Kind { return "report.linked" }

func (b *ReportLinked) check() error {
	if b.Received.IsZero() {
		return invalid("received: is missing")
	}
	return first(match("report", b.Report, reportName, "RP- and 13 characters"),
		match("case", b.Case, caseName, "C- and 13 characters"),
		oneOf("role", b.Role, Original, Duplicate, Related))
}

func (b *ReportLinked) applyReport(r *Report, _ Fact) error {
	switch {
	case r.Case != "" && r.Case != b.Case:
		return illegal("it belongs to another case already")
	case r.Closed != "":
		return illegal("it is closed")
	}
	r.Case, r.Role = b.Case, b.Role
	return nil
}

// Linked is a report of a case.
type Linked struct {
	Report string   `json:"report"`
	Role   LinkRole `json:"role"`
}

func (b *ReportLinked) apply(c *Case, f Fact) error {
	i := slices.IndexFunc(c.Reports, func(l Linked) bool { return l.Report == b.Report })
	switch {
	case i >= 0:
		c.Reports[i].Role = b.Role
		return nil
	case len(c.Reports) >= MaxList:
		return illegal("%d reports already", MaxList)
	}
	c.Reports = append(c.Reports, Linked{b.Report, b.Role})
	if !c.Reported.Known() || b.Received.Before(c.Reported.At) {
		c.Reported = FactTime{b.Received, f.Seq}
	}
	if !b.Heard.IsZero() && !c.Heard.Known() {
		c.Heard = FactTime{b.Heard, f.Seq}
	}
	return nil
}

// ReportMessage is one message to or from the reporter.
type ReportMessage struct {
	From string `json:"from"` // "reporter" or a principal
	Text string `json:"text"`
}

// Kind implements Body.
func (*ReportMessage) Kind() Kind { return "report.message" }

func (b *ReportMessage) check() error {
	if b.Text == "" {
		return invalid("text: is empty")
	}
	return first(line("from", b.From), text("text", b.Text))
}

func (b *ReportMessage) applyReport(r *Report, _ Fact) error {
	if len(r.Messages) >= MaxList {
		return illegal("%d messages already", MaxList)
	}
	r.Messages = append(r.Messages, *b)
	return nil
}

func (b *ReportMessage) apply(c *Case, _ Fact) error {
	c.Messages++
	return nil
}

// ReportCredited sets the line by which the reporter wants to be named.
type ReportCredited struct {
	Credit string `json:"credit"` // empty: not at all
}

// Kind implements Body.
func (*ReportCredited) Kind() Kind { return "report.credited" }

func (b *ReportCredited) check() error { return optionalLine("credit", b.Credit) }

func (b *ReportCredited) applyReport(r *Report, _ Fact) error {
	r.Reporter = b.Credit
	return nil
}

// ReportRewarded is what the reporter gets, and the row of the table that says so.
type ReportRewarded struct {
	Table    string `json:"table"`
	Revision int64  `json:"revision,omitempty"` // of the applied table; 0 for one that was none
	Row      string `json:"row"`
	Amount   int64  `json:"amount"`   // whole units
	Currency string `json:"currency"` // ISO 4217; empty for points or a gift
	Why      string `json:"why"`
}

// Kind implements Body.
func (*ReportRewarded) Kind() Kind { return "report.rewarded" }

func (b *ReportRewarded) check() error {
	if b.Amount < 0 || b.Revision < 0 {
		return invalid("amount: %d, revision: %d", b.Amount, b.Revision)
	}
	return first(line("table", b.Table), line("row", b.Row), optionalLine("currency", b.Currency), line("why", b.Why))
}

func (b *ReportRewarded) applyReport(r *Report, _ Fact) error {
	if len(r.Rewards) >= MaxList {
		return illegal("%d rewards already", MaxList)
	}
	r.Rewards = append(r.Rewards, *b)
	return nil
}

// ReportClosed says why a report leads to no case.
type ReportClosed struct {
	Why string `json:"why"`
}

// Kind implements Body.
func (*ReportClosed) Kind() Kind { return "report.closed" }

func (b *ReportClosed) check() error { return line("why", b.Why) }

func (b *ReportClosed) applyReport(r *Report, _ Fact) error {
	if r.Case != "" {
		return illegal("it belongs to a case: close that")
	}
	r.Closed = b.Why
	return nil
}
