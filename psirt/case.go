package psirt

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Rung is a level of disclosure.
type Rung string

// The rungs, from closed to open.
const (
	Sealed      Rung = "sealed"   // those on the case's list only
	Partners    Rung = "partners" // the parties that must prepare
	TenantsRung Rung = "tenants"  // the affected tenants, steps only
	PublicRung  Rung = "public"   // an advisory for everyone
	Details     Rung = "details"  // the technical detail
)

// Rungs lists the rungs in order.
var Rungs = []Rung{Sealed, Partners, TenantsRung, PublicRung, Details}

// At is the rung's place, from 0; -1 if there is no such rung.
func (r Rung) At() int { return slices.Index(Rungs, r) }

// Case is what its facts make of it. Only Fold and Apply change one.
type Case struct {
	Revision int64     `json:"revision"` // number of facts
	Title    string    `json:"title"`
	OpenedBy string    `json:"opened_by"`
	Opened   time.Time `json:"opened"`
	Closed   time.Time `json:"closed,omitzero"`
	Why      string    `json:"closed_why,omitempty"`
	Changed  time.Time `json:"changed"` // when the last fact was recorded
	Rung     Rung      `json:"rung"`
	Owner    string    `json:"owner,omitempty"`

	State State       `json:"state"`
	Since [6]FactTime `json:"since"` // when each of Events was learned of

	Members   []Member   `json:"members,omitempty"`
	Reports   []Linked   `json:"reports,omitempty"`
	Page      *Page      `json:"page,omitempty"`
	Triage    Triage     `json:"triage"`
	Parties   []Party    `json:"parties,omitempty"`
	Embargoes []Embargo  `json:"embargoes,omitempty"`
	Work      Work       `json:"work"`
	Outcome   Outcome    `json:"outcome"`
	Reported  FactTime   `json:"reported"`              // when its first report came in
	Heard     FactTime   `json:"acknowledged"`          // when the reporter was answered
	Records   []Recorded `json:"records,omitempty"`     // published CVE records and advisories
	Told      []Notified `json:"authorities,omitempty"` // legal notifications that were made
	Messages  int64      `json:"messages"`              // to and from the reporter
}

// FactTime is when something was learned, and the fact that says so. The zero
// value means never.
type FactTime struct {
	At  time.Time `json:"at,omitzero"`
	Seq int64     `json:"seq"`
}

// Known tells whether it ever happened.
func (t FactTime) Known() bool { return !t.At.IsZero() }

func (t *FactTime) set(f Fact) {
	if !t.Known() {
		*t = FactTime{f.At, f.Seq}
	}
}

// Exists tells whether the case was opened: a reader who may read none of its
// facts sees one that was not.
func (c *Case) Exists() bool { return c.Revision > 0 }

// Apply returns the case with one more fact; c itself stays as it is. ErrInvalid
// if the fact breaks a rule by itself, ErrIllegal if it does not fit the case.
func (c Case) Apply(f Fact) (Case, error) {
	next := c.clone()
	if err := next.apply(f); err != nil {
		return c, err
	}
	return next, nil
}

// Fold makes a case of all its facts in order.
func Fold(facts []Fact) (Case, error) {
	var c Case
	for _, f := range facts {
		if err := c.apply(f); err != nil {
			return Case{}, err
		}
	}
	return c, nil
}

// View makes a case of those facts that a reader may read. What makes no sense
// without one that is kept from the reader is left out: it was checked when it
// was written.
func View(facts []Fact) (Case, error) {
	var c Case
	for _, f := range facts {
		c.Revision = f.Seq
		err := c.apply(f)
		if errors.Is(err, ErrIllegal) {
			c.Revision = f.Seq + 1
			continue
		}
		if err != nil {
			return Case{}, err
		}
	}
	return c, nil
}

// apply changes c in place, or errs and leaves it.
func (c *Case) apply(f Fact) error {
	if err := f.place(c.Revision); err != nil {
		return err
	}
	body, err := f.Decode()
	if err != nil {
		return err
	}
	b, ok := body.(caseBody)
	if !ok {
		return illegal("fact %s: belongs to a report, not to a case", f.Kind)
	}
	_, opens := body.(*CaseOpened)
	switch {
	case opens == c.open():
		return illegal("fact %s: a case is opened once, by its first fact", f.Kind)
	case f.Recorded.Before(c.Changed):
		return invalid("fact %s: recorded before the fact that it follows", f.Kind)
	}
	if err := b.apply(c, f); err != nil {
		return fmt.Errorf("fact %s: %w", f.Kind, err)
	}
	c.Revision, c.Changed = f.Seq+1, f.Recorded
	return nil
}

func (c *Case) open() bool { return !c.Opened.IsZero() }

// event sets one bit of the state.
func (c *Case) event(event State, f Fact) error {
	next, err := c.State.Next(event)
	if err != nil {
		return err
	}
	if next != c.State {
		c.Closed, c.Why = time.Time{}, "" // the world goes on: so does the case
	}
	c.State = next
	c.Since[slices.Index(Events, event)].set(f)
	return nil
}

// When tells when an event was learned of.
func (c *Case) When(event State) FactTime { return c.Since[slices.Index(Events, event)] }

// clone copies what apply may change.
func (c Case) clone() Case {
	c.Members = slices.Clone(c.Members)
	c.Reports = slices.Clone(c.Reports)
	c.Parties = slices.Clone(c.Parties)
	for i := range c.Parties {
		c.Parties[i].Statuses = slices.Clone(c.Parties[i].Statuses)
	}
	c.Embargoes = slices.Clone(c.Embargoes)
	for i := range c.Embargoes {
		c.Embargoes[i].Answers = slices.Clone(c.Embargoes[i].Answers)
	}
	if c.Page != nil {
		page := *c.Page
		c.Page = &page
	}
	c.Triage, c.Work, c.Outcome = c.Triage.clone(), c.Work.clone(), c.Outcome.clone()
	c.Records, c.Told = slices.Clone(c.Records), slices.Clone(c.Told)
	return c
}
