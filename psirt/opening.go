package psirt

import "time"

// CaseOpened is the first fact of every case. A case starts sealed.
type CaseOpened struct {
	Title string `json:"title"`
}

// Kind implements Body.
func (*CaseOpened) Kind() Kind { return "case.opened" }

func (b *CaseOpened) check() error { return line("title", b.Title) }

func (b *CaseOpened) apply(c *Case, f Fact) error {
	c.Title, c.Opened, c.OpenedBy, c.Rung = b.Title, f.Recorded, f.Actor, Sealed
	return nil
}

// CaseTitled gives the case another title.
type CaseTitled struct {
	Title string `json:"title"`
}

// Kind implements Body.
func (*CaseTitled) Kind() Kind { return "case.titled" }

func (b *CaseTitled) check() error { return line("title", b.Title) }

func (b *CaseTitled) apply(c *Case, _ Fact) error {
	c.Title = b.Title
	return nil
}

// CaseSealed shuts the rung of the partners again.
type CaseSealed struct {
	Why string `json:"why"`
}

// Kind implements Body.
func (*CaseSealed) Kind() Kind { return "case.sealed" }

func (b *CaseSealed) check() error { return line("why", b.Why) }

func (b *CaseSealed) apply(c *Case, _ Fact) error {
	if c.Rung.At() > Partners.At() || c.State.Has(Public) {
		return illegal("it is on rung %s in state %s: what tenants or everyone know cannot be sealed", c.Rung, c.State)
	}
	c.Rung = Sealed
	return nil
}

// CaseUnsealed opens the rung of the partners.
type CaseUnsealed struct {
	Why string `json:"why"`
}

// Kind implements Body.
func (*CaseUnsealed) Kind() Kind { return "case.unsealed" }

func (b *CaseUnsealed) check() error { return line("why", b.Why) }

func (b *CaseUnsealed) apply(c *Case, _ Fact) error {
	if c.Rung != Sealed {
		return illegal("it is on rung %s, not sealed", c.Rung)
	}
	c.Rung = Partners
	return nil
}

// CaseClosed says that nothing is left to do. What happens in the world after
// that opens the case again.
type CaseClosed struct {
	Why string `json:"why"`
}

// Kind implements Body.
func (*CaseClosed) Kind() Kind { return "case.closed" }

func (b *CaseClosed) check() error { return line("why", b.Why) }

func (b *CaseClosed) apply(c *Case, f Fact) error {
	if !c.Closed.IsZero() {
		return illegal("it is closed already")
	}
	c.Closed, c.Why = f.At, b.Why
	return nil
}

// CaseReopened says that something is left to do after all.
type CaseReopened struct {
	Why string `json:"why"`
}

// Kind implements Body.
func (*CaseReopened) Kind() Kind { return "case.reopened" }

func (b *CaseReopened) check() error { return line("why", b.Why) }

func (b *CaseReopened) apply(c *Case, _ Fact) error {
	if c.Closed.IsZero() {
		return illegal("it is not closed")
	}
	c.Closed, c.Why = time.Time{}, ""
	return nil
}

// VendorIsAware says that the vendor knows.
type VendorIsAware struct {
	Vendor string `json:"vendor,omitempty"`
}

// Kind implements Body.
func (*VendorIsAware) Kind() Kind { return "vendor.aware" }

func (b *VendorIsAware) check() error { return optionalLine("vendor", b.Vendor) }

func (b *VendorIsAware) apply(c *Case, f Fact) error { return c.event(VendorAware, f) }

// FixIsReady says that a fix exists, whether or not it is bound to a release yet.
type FixIsReady struct {
	What string `json:"what,omitempty"` // the change, release or setting
}

// Kind implements Body.
func (*FixIsReady) Kind() Kind { return "fix.ready" }

func (b *FixIsReady) check() error { return optionalLine("what", b.What) }

func (b *FixIsReady) apply(c *Case, f Fact) error { return c.event(FixReady, f) }

// BecamePublic says that the vulnerability is known to everyone.
type BecamePublic struct {
	Where string `json:"where"`          // an address, or words
	Leak  bool   `json:"leak,omitempty"` // before we meant it to be
}

// Kind implements Body.
func (*BecamePublic) Kind() Kind { return "public" }

func (b *BecamePublic) check() error { return line("where", b.Where) }

func (b *BecamePublic) apply(c *Case, f Fact) error { return c.expose(Public, f) }

// ExploitSeen says that a way to exploit it is known to everyone.
type ExploitSeen struct {
	Where string `json:"where"`
}

// Kind implements Body.
func (*ExploitSeen) Kind() Kind { return "exploit.public" }

func (b *ExploitSeen) check() error { return line("where", b.Where) }

func (b *ExploitSeen) apply(c *Case, f Fact) error { return c.expose(ExploitPublic, f) }

// AttackSeen says that it is exploited.
type AttackSeen struct {
	Where string `json:"where"` // who saw it, where
}

// Kind implements Body.
func (*AttackSeen) Kind() Kind { return "attack.observed" }

func (b *AttackSeen) check() error { return line("where", b.Where) }

// An attack does not end an embargo by itself: those who keep it may still
// protect somebody. The board asks for its end.
func (b *AttackSeen) apply(c *Case, f Fact) error { return c.event(AttackObserved, f) }

// expose sets P or X, which end every embargo at once.
func (c *Case) expose(event State, f Fact) error {
	if err := c.event(event, f); err != nil {
		return err
	}
	c.endEmbargo(f, "it is public")
	return nil
}
