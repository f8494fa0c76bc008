package psirt

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/internal/strict"
)

// MaxLadder is the largest ladder document in bytes.
const MaxLadder = 64 << 10

// Ladder is the rules by which a case is disclosed: versioned data, recorded in
// every decision that was made by it.
type Ladder struct {
	ID     string `json:"id"` // "standard-1"
	Source string `json:"source,omitempty"`
	// Steps are the conditions of the rungs above sealed, from the bottom.
	Steps []LadderStep `json:"steps"`
	// Confidence is that of the lower bound of the verified-fixed fraction
	// (Clopper-Pearson, one-sided): the inventory is a sample of all that runs the
	// product. 0 takes the inventory for all there is, and the fraction as it is.
	Confidence float64 `json:"confidence"`
	// Fresh is how old a measurement may be to open anything.
	Fresh span.Duration `json:"fresh"`
}

// LadderStep is when a rung opens: as soon as its floor and its protection are
// reached, and at its ceiling in any case.
type LadderStep struct {
	Rung Rung `json:"rung"`
	// Protection is the least verified-fixed fraction, 0 to 1; 0 asks for none.
	Protection float64 `json:"protection"`
	// Floor and Ceiling are times since the case was opened.
	Floor   span.Duration `json:"floor"`
	Ceiling span.Duration `json:"ceiling"`
}

// DefaultLadder leaves a day to those on the list, then tells partners, affected
// tenants when half of what is known is fixed, everybody at nine tenths and the
// details at 99 %; its last ceiling is the usual 90 days and a month.
func DefaultLadder() Ladder {
	day := func(n int) span.Duration { return span.Duration(time.Duration(n) * 24 * time.Hour) }
	return Ladder{
		ID: "standard-1", Source: "Headgate's default", Confidence: 0.95, Fresh: span.Duration(15 * time.Minute),
		Steps: []LadderStep{
			{Rung: Partners, Floor: day(1), Ceiling: day(7)},
			{Rung: TenantsRung, Protection: 0.5, Floor: day(1), Ceiling: day(30)},
			{Rung: PublicRung, Protection: 0.9, Floor: day(3), Ceiling: day(90)},
			{Rung: Details, Protection: 0.99, Floor: day(7), Ceiling: day(120)},
		},
	}
}

// ParseLadder reads a ladder; an unknown key is an error.
func ParseLadder(b []byte) (Ladder, error) {
	var l Ladder
	if len(b) > MaxLadder {
		return l, fmt.Errorf("ladder: %d bytes, limit %d: %w", len(b), MaxLadder, ErrInvalid)
	}
	if err := strict.Decode(b, &l); err != nil {
		return l, fmt.Errorf("ladder: %w: %w", err, ErrInvalid)
	}
	return l, l.Check()
}

// Check refuses a ladder that cannot be climbed: each rung once and in order, no
// floor above its ceiling, no rung due before the one beneath it.
func (l Ladder) Check() error {
	bad := func(field, format string, a ...any) error {
		return fmt.Errorf("ladder %q: %s: %s: %w", l.ID, field, fmt.Sprintf(format, a...), ErrInvalid)
	}
	if l.ID == "" || len(l.ID) > 100 {
		return bad("id", "want 1 to 100 bytes")
	}
	if len(l.Steps) != len(Rungs)-1 {
		return bad("steps", "%d of them; want one for each of %v", len(l.Steps), Rungs[1:])
	}
	if !(l.Confidence >= 0 && l.Confidence < 1) {
		return bad("confidence", "%v; want 0 up to, and not, 1", l.Confidence)
	}
	if l.Fresh <= 0 {
		return bad("fresh", "%s; want more than 0", l.Fresh)
	}
	for i, s := range l.Steps {
		at := fmt.Sprintf("steps[%d]", i)
		switch {
		case s.Rung != Rungs[i+1]:
			return bad(at, "rung %q where %q should be", s.Rung, Rungs[i+1])
		case !(s.Protection >= 0 && s.Protection <= 1):
			return bad(at, "protection %v; want 0 to 1", s.Protection)
		case s.Floor < 0 || s.Ceiling < s.Floor || s.Ceiling.Std() > 10*365*24*time.Hour:
			return bad(at, "floor %s, ceiling %s; want 0 <= floor <= ceiling <= 10 years", s.Floor, s.Ceiling)
		case i > 0 && (s.Ceiling < l.Steps[i-1].Ceiling || s.Floor < l.Steps[i-1].Floor || s.Protection < l.Steps[i-1].Protection):
			return bad(at, "%s would be due before %s", s.Rung, l.Steps[i-1].Rung)
		}
	}
	return nil
}

// LadderSet says by which ladder the case is disclosed from now on; without it,
// by DefaultLadder.
type LadderSet struct {
	Ladder Ladder `json:"ladder"`
}

// Kind implements Body.
func (*LadderSet) Kind() Kind { return "ladder.set" }

func (b *LadderSet) check() error { return b.Ladder.Check() }

func (b *LadderSet) apply(c *Case, _ Fact) error {
	l := b.Ladder
	c.Outcome.Ladder = &l
	return nil
}

// Ladder is the one in force.
func (c *Case) Ladder() Ladder {
	if c.Outcome.Ladder != nil {
		return *c.Outcome.Ladder
	}
	return DefaultLadder()
}
