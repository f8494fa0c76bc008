package notify

import (
	"fmt"
	"slices"
	"time"
)

// Purpose is why a message is sent.
type Purpose string

// The purposes.
const (
	ForNotice     Purpose = "notice"     // a new edition
	ForReminder   Purpose = "reminder"   // steps are open
	ForReopened   Purpose = "reopened"   // a check fails after it held
	ForEscalation Purpose = "escalation" // to the tenant's second contact
)

// Policy says when to remind and when to escalate. It is data with a name, and
// each decision records which one ruled.
type Policy struct {
	Name string `json:"name"`
	// Silent are the times after delivery (or reopening) at which a tenant that did
	// not acknowledge is reminded; Working those at which one that did is.
	Silent  []time.Duration `json:"silent"`
	Working []time.Duration `json:"working"`
	// Escalate is how long an open notice without acknowledgement waits before the
	// tenant's second contact and the case's owner hear of it.
	Escalate time.Duration `json:"escalate"`
	// CheckGrace is how long after an attestation the check may take to pass before
	// the step counts as open again for reminders.
	CheckGrace time.Duration `json:"check_grace"`
}

// DefaultPolicy reminds a silent tenant after 1, 3 and 7 days and weekly to the
// fifth week, and escalates on the third day.
func DefaultPolicy() Policy {
	const day = 24 * time.Hour
	return Policy{
		Name:   "notice-2026-01",
		Silent: []time.Duration{day, 3 * day, 7 * day, 14 * day, 21 * day, 28 * day, 35 * day}, Working: []time.Duration{7 * day, 14 * day, 21 * day, 28 * day, 35 * day},
		Escalate: 3 * day, CheckGrace: day,
	}
}

// DeliveryFact is what deciding needs of a delivery that exists.
type DeliveryFact struct {
	Purpose Purpose
	N       int // which edition, reminder, reopening or escalation of the notice: from 1
	Channel Channel
	State   DeliveryState
}

// PageFact is a page to the case's owner that was raised already.
type PageFact struct {
	Code string
	N    int
}

// Snapshot is everything that the decision about one notice rests on.
type Snapshot struct {
	Policy     Policy
	Edition    int  // the newest, from 1
	Ended      bool // the case was closed, or the tenant left the audience
	Progress   Progress
	ReopenedAt time.Time // when the last reopening was seen; zero: never
	Reopenings int
	Channels   []Channel // that the tenant has, of those that Headgate sends on
	Second     bool      // the tenant has a second contact
	Deliveries []DeliveryFact
	Pages      []PageFact
}

// Act is one thing to do. Acts are named by Purpose, N and Channel (or by Page),
// so that doing one twice is one row of the store.
type Act struct {
	Purpose Purpose `json:"purpose,omitempty"`
	N       int     `json:"n,omitempty"`
	Channel Channel `json:"channel,omitempty"`
	Page    string  `json:"page,omitempty"` // to the case's owner: a reason's code
}

// Reason says why something is done or not: Code is stable, Detail is for people.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// The reasons' codes.
const (
	WhyEdition       = "edition-due"
	WhyClosed        = "closed"
	WhyEnded         = "ended"
	WhyReopened      = "check-fails-again"
	WhyReminder      = "reminder-due"
	WhyEscalation    = "escalation-due"
	WhyNotYet        = "not-yet"
	WhyNoChannel     = "no-channel"
	WhyUndeliverable = "undeliverable"
	WhyUndelivered   = "not-delivered-yet"
	WhyExhausted     = "reminders-exhausted"
)

// Decision is what to do about one notice now, and when to look again.
type Decision struct {
	Acts    []Act
	Reasons []Reason
	Next    time.Time // zero: only when something happens
}

// Decide says what the tenant and the case's owner must be told now. It is
// idempotent: decided again after its acts were recorded, it asks for nothing
// more.
func Decide(s Snapshot, now time.Time) Decision {
	d := decider{s: s, now: now}
	if s.Ended {
		d.because(WhyEnded, "the case no longer asks this tenant for anything")
		return d.Decision
	}
	d.edition()
	if s.Progress.Closed() {
		d.because(WhyClosed, "nothing more is expected of the tenant: %s", s.Progress.State())
		return d.Decision
	}
	d.reach()
	if len(s.Progress.Steps) == 0 {
		return d.Decision
	}
	d.reopened()
	d.remind()
	return d.Decision
}

type decider struct {
	Decision
	s   Snapshot
	now time.Time
}

func (d *decider) because(code, format string, args ...any) {
	d.Reasons = append(d.Reasons, Reason{code, fmt.Sprintf(format, args...)})
}

// look asks for another look at t.
func (d *decider) look(t time.Time) {
	if d.Next.IsZero() || t.Before(d.Next) {
		d.Next = t
	}
}

// send asks for a message on each channel that has none of this name yet; false
// if there was none to ask for.
func (d *decider) send(p Purpose, n int, channels []Channel) bool {
	asked := false
	for _, c := range channels {
		if slices.ContainsFunc(d.s.Deliveries, func(f DeliveryFact) bool { return f.Purpose == p && f.N == n && f.Channel == c }) {
			continue
		}
		d.Acts = append(d.Acts, Act{Purpose: p, N: n, Channel: c})
		asked = true
	}
	return asked
}

// round counts the editions and reopenings: each begins its own count of
// reminders, escalations and pages.
func (d *decider) round() int { return d.s.Edition + d.s.Reopenings }

// page asks the case's owner once in each round for each reason.
func (d *decider) page(code, format string, args ...any) {
	d.because(code, format, args...)
	if !slices.Contains(d.s.Pages, PageFact{code, d.round()}) {
		d.Acts = append(d.Acts, Act{Page: code, N: d.round()})
	}
}

// edition has the newest edition sent on every channel.
func (d *decider) edition() {
	if d.send(ForNotice, d.s.Edition, d.s.Channels) {
		d.because(WhyEdition, "edition %d was not sent on every channel yet", d.s.Edition)
	}
}

// reach pages the owner about a tenant that cannot be told: one without a channel
// that never asked either, or one whose every channel failed for good.
func (d *decider) reach() {
	p := d.s.Progress
	if !p.Delivered.IsZero() || !p.Opened.IsZero() {
		return
	}
	if len(d.s.Channels) == 0 {
		d.page(WhyNoChannel, "the tenant has neither an address nor a webhook, and did not read the notice by itself")
		return
	}
	for _, c := range d.s.Channels {
		if !slices.ContainsFunc(d.s.Deliveries, func(f DeliveryFact) bool {
			return f.Purpose == ForNotice && f.N == d.s.Edition && f.Channel == c && f.State == Failed
		}) {
			d.because(WhyUndelivered, "%s has not taken the notice yet; it is tried for %s", c, giveUp)
			return
		}
	}
	d.page(WhyUndeliverable, "every channel of the tenant refused the notice, or was tried for %s", giveUp)
}

func (d *decider) reopened() {
	if d.s.Progress.Reopened() > 0 && d.send(ForReopened, d.s.Reopenings, d.s.Channels) {
		d.because(WhyReopened, "a step that was verified fails its check again (reopening %d)", d.s.Reopenings)
	}
}

// remind sends what is due of the schedule. Of several that are due at once, as
// after a long stop, the newest alone is sent: nobody is told three times in one
// minute.
func (d *decider) remind() {
	p := d.s.Progress
	base := later(p.Delivered, later(p.Created, d.s.ReopenedAt))
	if p.Delivered.IsZero() && p.Opened.IsZero() {
		return // it is still on its way, or the owner was paged
	}
	// Reminders are numbered apart by round and by schedule.
	schedule, waiting, first := d.s.Policy.Silent, "did not acknowledge", 100*(d.round()-1)
	if !p.Acknowledged.IsZero() && !p.Acknowledged.Before(base) {
		schedule, waiting, first = d.s.Policy.Working, "acknowledged", first+50
	}
	if until := d.graceUntil(); until.After(d.now) {
		d.because(WhyNotYet, "the tenant says that it is done; its check has until %s", stamp(until))
		d.look(until)
		return
	}
	d.escalate(base)
	due := 0
	for due < len(schedule) && !base.Add(schedule[due]).After(d.now) {
		due++
	}
	if due > 0 && d.send(ForReminder, first+due, d.s.Channels) {
		d.because(WhyReminder, "%s after %s the tenant %s and steps are open", schedule[due-1], stamp(base), waiting)
	}
	if due < len(schedule) {
		next := base.Add(schedule[due])
		d.because(WhyNotYet, "the next reminder is due at %s", stamp(next))
		d.look(next)
		return
	}
	d.page(WhyExhausted, "all %d reminders were sent and steps are still open", len(schedule))
}

// graceUntil is when the youngest attestation of a step with a check runs out, if
// every open step is attested.
func (d *decider) graceUntil() (until time.Time) {
	for _, s := range d.s.Progress.Steps {
		switch s.State(d.s.Progress.Resources) {
		case StepOpen, StepReopened:
			return time.Time{}
		case StepDone:
			until = later(until, s.Attested.Add(d.s.Policy.CheckGrace))
		}
	}
	return until
}

func (d *decider) escalate(base time.Time) {
	p := d.s.Progress
	if !p.Acknowledged.IsZero() && !p.Acknowledged.Before(base) {
		return
	}
	at := base.Add(d.s.Policy.Escalate)
	if at.After(d.now) {
		d.look(at)
		return
	}
	if d.s.Second && d.send(ForEscalation, d.round(), []Channel{Email}) {
		d.because(WhyEscalation, "no acknowledgement within %s of %s: the second contact is told", d.s.Policy.Escalate, stamp(base))
	}
	d.page(WhyEscalation, "no acknowledgement within %s of %s", d.s.Policy.Escalate, stamp(base))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }
