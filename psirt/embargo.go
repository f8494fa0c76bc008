package psirt

import (
	"fmt"
	"slices"
	"time"
)

// MaxEmbargo is how far away an embargo's end may be: none is indefinite.
const MaxEmbargo = 365 * 24 * time.Hour

// EmbargoState is where an embargo stands.
type EmbargoState string

// The states: proposed → active ⇄ revised → ended.
const (
	NoEmbargo EmbargoState = "none"
	Proposed  EmbargoState = "proposed" // no party has accepted it
	Active    EmbargoState = "active"
	Revised   EmbargoState = "revised" // other terms are proposed; those in force hold meanwhile
	Ended     EmbargoState = "ended"
)

// Answer is what a party says to proposed terms. Silence is Unanswered.
type Answer string

// The answers.
const (
	Accepted   Answer = "accepted"
	Declined   Answer = "declined"
	Unanswered Answer = "unknown"
)

// Embargo says until when who keeps quiet. It is one object with one end: an
// instant in UTC.
type Embargo struct {
	Until  time.Time `json:"until"`           // of the terms in force, or proposed if none are
	Next   time.Time `json:"next,omitzero"`   // of the terms that a revision proposes
	Terms  int64     `json:"terms"`           // how often terms were proposed
	Active time.Time `json:"active,omitzero"` // when the first party accepted
	Ended  time.Time `json:"ended,omitzero"`  // when it was ended before its time
	Why    string    `json:"ended_why,omitempty"`
	By     string    `json:"by"` // who proposed it
	// Proposed is when the first terms were.
	Proposed FactTime       `json:"proposed"`
	Answers  []EmbargoReply `json:"answers,omitempty"`
}

// EmbargoReply is a party's newest answer, and to which terms.
type EmbargoReply struct {
	Party  string    `json:"party"`
	Answer Answer    `json:"answer"`
	Terms  int64     `json:"terms"`
	At     time.Time `json:"at"`
}

// State is where the embargo stands at now. Its time may have run out without
// anybody writing that down.
func (e *Embargo) State(now time.Time) EmbargoState {
	switch {
	case !e.Ended.IsZero() || !now.Before(e.Until):
		return Ended
	case e.Active.IsZero():
		return Proposed
	case !e.Next.IsZero():
		return Revised
	}
	return Active
}

// End is when it ends, or ended.
func (e *Embargo) End() time.Time {
	if !e.Ended.IsZero() {
		return e.Ended
	}
	return e.Until
}

// Answer is what a party says to the newest terms: who has not answered these is
// unanswered, whatever it said to earlier ones.
func (e *Embargo) Answer(party string) Answer {
	for _, a := range e.Answers {
		if a.Party == party && a.Terms == e.Terms {
			return a.Answer
		}
	}
	return Unanswered
}

// Embargo is the newest embargo; nil if there was none.
func (c *Case) Embargo() *Embargo {
	if len(c.Embargoes) == 0 {
		return nil
	}
	return &c.Embargoes[len(c.Embargoes)-1]
}

// EmbargoState is where the case's newest embargo stands.
func (c *Case) EmbargoState(now time.Time) EmbargoState {
	if e := c.Embargo(); e != nil {
		return e.State(now)
	}
	return NoEmbargo
}

// live is the embargo that has not ended, or why there is none.
func (c *Case) live(now time.Time) (*Embargo, error) {
	switch c.EmbargoState(now) {
	case NoEmbargo:
		return nil, illegal("there is no embargo")
	case Ended:
		return nil, illegal("the embargo ended at %s and stays ended", stamp(c.Embargo().End()))
	}
	return c.Embargo(), nil
}

func (c *Case) endEmbargo(f Fact, why string) {
	if e, err := c.live(f.Recorded); err == nil {
		// Not before it began, though what ended it may be older than that.
		e.Ended, e.Why = f.Recorded, why
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// checkUntil refuses an end that is not after now, or too far away.
func checkUntil(until, now time.Time) error {
	if !until.After(now) {
		return illegal("until: %s is not after now, %s", stamp(until), stamp(now))
	}
	if until.Sub(now) > MaxEmbargo {
		return illegal("until: %s is more than %d days away: no embargo is indefinite", stamp(until), int(MaxEmbargo.Hours()/24))
	}
	return nil
}

// ParseUntil reads an embargo's end: RFC 3339 with its zone. A bare date has no
// hour, and an hour without a zone is somebody's own.
func ParseUntil(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, invalid("until %q: want date, hour and zone, such as 2026-12-01T15:00:00Z or 2026-12-01T15:00:00+09:00", s)
	}
	return t.UTC(), nil
}

// EmbargoProposed proposes an embargo.
type EmbargoProposed struct {
	Until string `json:"until"` // RFC 3339 with its zone
}

// Kind implements Body.
func (*EmbargoProposed) Kind() Kind { return "embargo.proposed" }

func (b *EmbargoProposed) check() error {
	_, err := ParseUntil(b.Until)
	return err
}

func (b *EmbargoProposed) apply(c *Case, f Fact) error {
	if err := c.mayEmbargo(); err != nil {
		return err
	}
	if s := c.EmbargoState(f.Recorded); s != NoEmbargo && s != Ended {
		return illegal("there is one already, %s until %s", s, stamp(c.Embargo().Until))
	}
	if len(c.Embargoes) >= MaxList {
		return illegal("%d embargoes already", MaxList)
	}
	until, err := ParseUntil(b.Until)
	if err != nil {
		return err
	}
	if err := checkUntil(until, f.Recorded); err != nil {
		return err
	}
	c.Embargoes = append(c.Embargoes, Embargo{Until: until, Terms: 1, By: f.Actor, Proposed: FactTime{f.At, f.Seq}})
	return nil
}

// mayEmbargo refuses an embargo's start when silence protects nobody any more.
func (c *Case) mayEmbargo() error {
	for _, event := range []State{Public, ExploitPublic, AttackObserved} {
		if c.State.Has(event) {
			return illegal("no embargo may start in state %s: %s", c.State, eventNames[event])
		}
	}
	return nil
}

// EmbargoRevised proposes other terms. Those in force hold until a party accepts
// the new ones.
type EmbargoRevised struct {
	Until string `json:"until"`
	Why   string `json:"why"`
}

// Kind implements Body.
func (*EmbargoRevised) Kind() Kind { return "embargo.revised" }

func (b *EmbargoRevised) check() error {
	_, err := ParseUntil(b.Until)
	return first(err, line("why", b.Why))
}

func (b *EmbargoRevised) apply(c *Case, f Fact) error {
	e, err := c.live(f.Recorded)
	if err != nil {
		return err
	}
	until, err := ParseUntil(b.Until)
	if err != nil {
		return err
	}
	if err := checkUntil(until, f.Recorded); err != nil {
		return err
	}
	if e.Active.IsZero() {
		e.Until = until // nobody has agreed to the old terms
	} else {
		e.Next = until
	}
	e.Terms++
	return nil
}

// EmbargoAccepted is a party's yes to the newest terms.
type EmbargoAccepted struct {
	Party string `json:"party"`
}

// Kind implements Body.
func (*EmbargoAccepted) Kind() Kind { return "embargo.accepted" }

func (b *EmbargoAccepted) by() string { return b.Party }

func (b *EmbargoAccepted) check() error { return checkParty(b.Party) }

func (b *EmbargoAccepted) apply(c *Case, f Fact) error {
	if e := c.Embargo(); e != nil && e.Active.IsZero() {
		if err := c.mayEmbargo(); err != nil {
			return err
		}
	}
	e, err := c.reply(b.Party, Accepted, f)
	if err != nil {
		return err
	}
	if e.Active.IsZero() {
		e.Active = f.Recorded
	}
	if !e.Next.IsZero() {
		e.Until, e.Next = e.Next, time.Time{}
	}
	return nil
}

// EmbargoDeclined is a party's no to the newest terms.
type EmbargoDeclined struct {
	Party string `json:"party"`
	Why   string `json:"why,omitempty"`
}

// Kind implements Body.
func (*EmbargoDeclined) Kind() Kind { return "embargo.declined" }

func (b *EmbargoDeclined) by() string { return b.Party }

func (b *EmbargoDeclined) check() error {
	return first(checkParty(b.Party), optionalLine("why", b.Why))
}

func (b *EmbargoDeclined) apply(c *Case, f Fact) error {
	_, err := c.reply(b.Party, Declined, f)
	return err
}

// reply keeps a party's newest answer.
func (c *Case) reply(party string, a Answer, f Fact) (*Embargo, error) {
	e, err := c.live(f.Recorded)
	if err != nil {
		return nil, err
	}
	if c.party(party) < 0 {
		return nil, illegal("%s is no party of the case", party)
	}
	r := EmbargoReply{Party: party, Answer: a, Terms: e.Terms, At: f.At}
	i := slices.IndexFunc(e.Answers, func(r EmbargoReply) bool { return r.Party == party })
	if i >= 0 {
		e.Answers[i] = r
		return e, nil
	}
	e.Answers = append(e.Answers, r)
	return e, nil
}

// EmbargoEnded ends the embargo before its time.
type EmbargoEnded struct {
	Why string `json:"why"`
}

// Kind implements Body.
func (*EmbargoEnded) Kind() Kind { return "embargo.ended" }

func (b *EmbargoEnded) check() error { return line("why", b.Why) }

func (b *EmbargoEnded) apply(c *Case, f Fact) error {
	e, err := c.live(f.Recorded)
	if err != nil {
		return fmt.Errorf("end it: %w", err)
	}
	e.Ended, e.Why = f.Recorded, b.Why
	return nil
}
