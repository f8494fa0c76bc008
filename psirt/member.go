package psirt

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Role is what a member may do.
type Role string

// The roles.
const (
	Lead     Role = "lead"     // everything, members and seal included
	Worker   Role = "member"   // work on the case
	Observer Role = "observer" // read; an outside party may answer for itself
)

// Member is who may read a case, up to which label.
type Member struct {
	Principal string `json:"principal"`
	Role      Role   `json:"role"`
	UpTo      TLP    `json:"up_to"` // reads facts up to this label
}

// outside tells whether the member is a vendor or a tenant.
func (m Member) outside() bool { return !strings.HasPrefix(m.Principal, "operator:") }

// engineOnly are the kinds that are measured or decided, never typed in.
var engineOnly = []Kind{"fix.deployed", "affected.frozen", "rung.opened", "notice.wave", "page.escalated", "correction.checked", "lane.asked"}

// leadOnly are the kinds that change who may know.
var leadOnly = []Kind{"member.added", "member.removed", "case.sealed", "case.unsealed", "case.closed", "case.reopened", "ladder.set", "ladder.override"}

// May refuses what a member may not write. A party outside may only answer for
// itself.
func (m Member) May(b Body) error {
	kind := b.Kind()
	switch {
	case slices.Contains(engineOnly, kind):
		return fmt.Errorf("fact %s: is measured or decided by the server, not written by hand: %w", kind, ErrForbidden)
	case m.outside():
		if own, ok := b.(interface{ by() string }); ok && m.Principal == own.by() {
			return nil
		}
		return fmt.Errorf("fact %s: %s may only answer for itself: %w", kind, m.Principal, ErrForbidden)
	case m.Role == Observer:
		return fmt.Errorf("fact %s: %s is an observer: %w", kind, m.Principal, ErrForbidden)
	case m.Role != Lead && slices.Contains(leadOnly, kind):
		return fmt.Errorf("fact %s: takes a lead of the case: %w", kind, ErrForbidden)
	}
	return nil
}

// MemberAdded puts a principal on the case's list, or changes its role or label.
type MemberAdded struct {
	Principal string `json:"principal"`
	Role      Role   `json:"role"`
	UpTo      TLP    `json:"up_to"` // reads facts up to this label
}

// Kind implements Body.
func (*MemberAdded) Kind() Kind { return "member.added" }

func (b *MemberAdded) check() error {
	if b.UpTo.Rank() < 0 {
		return invalid("up_to: label %q", b.UpTo)
	}
	err := first(CheckPrincipal(b.Principal), oneOf("role", b.Role, Lead, Worker, Observer))
	if err == nil && b.Role == Lead && (Member{Principal: b.Principal}).outside() {
		err = invalid("role: %s is outside and cannot lead", b.Principal)
	}
	return err
}

func (b *MemberAdded) apply(c *Case, _ Fact) error {
	m := Member(*b)
	i := c.member(b.Principal)
	if i < 0 {
		if len(c.Members) >= MaxList {
			return illegal("%d members already", MaxList)
		}
		c.Members = append(c.Members, m)
		return nil
	}
	if b.Role != Lead && c.lastLead(b.Principal) {
		return illegal("%s is the only lead", b.Principal)
	}
	c.Members[i] = m
	return nil
}

func (c *Case) member(principal string) int {
	return slices.IndexFunc(c.Members, func(m Member) bool { return m.Principal == principal })
}

// lastLead tells whether principal is the only lead: a case must not become one
// that nobody can open.
func (c *Case) lastLead(principal string) bool {
	leads := 0
	for _, m := range c.Members {
		if m.Role == Lead {
			if m.Principal != principal {
				return false
			}
			leads++
		}
	}
	return leads > 0
}

// MemberRemoved takes a principal off the case's list.
type MemberRemoved struct {
	Principal string `json:"principal"`
}

// Kind implements Body.
func (*MemberRemoved) Kind() Kind { return "member.removed" }

func (b *MemberRemoved) check() error { return CheckPrincipal(b.Principal) }

func (b *MemberRemoved) apply(c *Case, _ Fact) error {
	i := c.member(b.Principal)
	switch {
	case i < 0:
		return illegal("%s is no member", b.Principal)
	case c.lastLead(b.Principal):
		return illegal("%s is the only lead", b.Principal)
	}
	c.Members = slices.Delete(c.Members, i, i+1)
	if c.Owner == b.Principal {
		c.Owner = ""
	}
	return nil
}

// OwnerSet says who must act next.
type OwnerSet struct {
	Owner string `json:"owner"`
}

// Kind implements Body.
func (*OwnerSet) Kind() Kind { return "owner.set" }

func (b *OwnerSet) check() error { return CheckPrincipal(b.Owner) }

func (b *OwnerSet) apply(c *Case, _ Fact) error {
	i := c.member(b.Owner)
	if i < 0 || c.Members[i].Role == Observer || c.Members[i].outside() {
		return illegal("%s is no lead or member of the case", b.Owner)
	}
	c.Owner = b.Owner
	return nil
}

// Page is a call for somebody on duty, until it is acknowledged.
type Page struct {
	To           string    `json:"to"`    // who is called now
	Level        int64     `json:"level"` // how often it climbed
	Why          string    `json:"why"`
	Raised       time.Time `json:"raised"` // the first call
	Called       time.Time `json:"called"` // the call in force
	Acknowledged time.Time `json:"acknowledged,omitzero"`
	By           string    `json:"by,omitempty"`
}

// PageRaised calls somebody on duty.
type PageRaised struct {
	To  string `json:"to"`
	Why string `json:"why"`
}

// Kind implements Body.
func (*PageRaised) Kind() Kind { return "page.raised" }

func (b *PageRaised) check() error { return first(CheckPrincipal(b.To), line("why", b.Why)) }

func (b *PageRaised) apply(c *Case, f Fact) error { return raise(&c.Page, b, f) }

// PageAcknowledged says that somebody heard the call.
type PageAcknowledged struct {
	By string `json:"by"`
}

// Kind implements Body.
func (*PageAcknowledged) Kind() Kind { return "page.acknowledged" }

func (b *PageAcknowledged) check() error { return CheckPrincipal(b.By) }

func (b *PageAcknowledged) apply(c *Case, f Fact) error { return answer(&c.Page, b, f) }

// PageEscalated calls the next on the list, because nobody answered.
type PageEscalated struct {
	To string `json:"to"`
}

// Kind implements Body.
func (*PageEscalated) Kind() Kind { return "page.escalated" }

func (b *PageEscalated) check() error { return CheckPrincipal(b.To) }

func (b *PageEscalated) apply(c *Case, f Fact) error { return climb(&c.Page, b, f) }
