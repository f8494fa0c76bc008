package psirt

import (
	"slices"
	"strings"
	"time"
)

// Status is what a party says of itself and the vulnerability. A party that said
// nothing is Unknown, never not affected.
type Status string

// The statuses (VEX, with its under_investigation; unknown is silence).
const (
	Affected      Status = "affected"
	NotAffected   Status = "not_affected"
	Fixed         Status = "fixed"
	Investigating Status = "under_investigation"
	Unknown       Status = "unknown"
)

// Party is somebody who must know, act or agree: a vendor, a coordinator, a
// cloud's deployer. It need not be a member: it may have no token here.
type Party struct {
	Name     string        `json:"name"` // "vendor:acme", or any word
	As       string        `json:"as"`   // "vendor", "coordinator", "deployer", "reporter", "tenant"
	Added    time.Time     `json:"added"`
	Statuses []PartyAnswer `json:"statuses,omitempty"` // by product; the newest of each
}

// PartyAnswer is a party's status for one product, or for all.
type PartyAnswer struct {
	Product string    `json:"product,omitempty"` // empty: all
	Status  Status    `json:"status"`
	Why     string    `json:"why,omitempty"`
	At      time.Time `json:"at"`
	By      string    `json:"by"` // who wrote it down
}

// Status is the party's answer for a product: for just that one, or else for
// all; Unknown if there is none.
func (p *Party) Status(product string) Status {
	out := Unknown
	for _, a := range p.Statuses {
		switch a.Product {
		case product:
			return a.Status
		case "":
			out = a.Status
		}
	}
	return out
}

var partyRoles = []string{"vendor", "coordinator", "deployer", "reporter", "tenant"}

// PartyAdded names a party.
type PartyAdded struct {
	Party string `json:"party"`
	As    string `json:"as"`
}

// Kind implements Body.
func (*PartyAdded) Kind() Kind { return "party.added" }

func (b *PartyAdded) check() error {
	return first(checkParty(b.Party), oneOf("as", b.As, partyRoles...))
}

func checkParty(name string) error {
	if strings.Contains(name, ":") {
		return CheckPrincipal(name)
	}
	return match("party", name, wordName, "a principal such as vendor:acme, or a lower-case word")
}

func (b *PartyAdded) apply(c *Case, f Fact) error {
	switch {
	case c.party(b.Party) >= 0:
		return illegal("%s is a party already", b.Party)
	case len(c.Parties) >= MaxList:
		return illegal("%d parties already", MaxList)
	}
	c.Parties = append(c.Parties, Party{Name: b.Party, As: b.As, Added: f.At})
	return nil
}

func (c *Case) party(name string) int {
	return slices.IndexFunc(c.Parties, func(p Party) bool { return p.Name == name })
}

// PartyStatus is a party's answer.
type PartyStatus struct {
	Party   string `json:"party"`
	Status  Status `json:"status"`
	Product string `json:"product,omitempty"` // empty: all
	Why     string `json:"why,omitempty"`
}

// Kind implements Body.
func (*PartyStatus) Kind() Kind { return "party.status" }

func (b *PartyStatus) by() string { return b.Party }

func (b *PartyStatus) check() error {
	err := first(checkParty(b.Party), oneOf("status", b.Status, Affected, NotAffected, Fixed, Investigating, Unknown),
		optionalLine("product", b.Product), optionalLine("why", b.Why))
	if err == nil && b.Status == NotAffected && b.Why == "" {
		err = invalid("why: is empty; not_affected needs its reason")
	}
	return err
}

func (b *PartyStatus) apply(c *Case, f Fact) error {
	i := c.party(b.Party)
	if i < 0 {
		return illegal("%s is no party of the case", b.Party)
	}
	p := &c.Parties[i]
	a := PartyAnswer{Product: b.Product, Status: b.Status, Why: b.Why, At: f.At, By: f.Actor}
	at := slices.IndexFunc(p.Statuses, func(a PartyAnswer) bool { return a.Product == b.Product })
	switch {
	case at >= 0:
		p.Statuses[at] = a
	case len(p.Statuses) >= MaxList:
		return illegal("%s answered for %d products already", b.Party, MaxList)
	default:
		p.Statuses = append(p.Statuses, a)
	}
	return nil
}
