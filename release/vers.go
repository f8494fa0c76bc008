package release

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Limits of a version range.
const (
	MaxVers        = 16 << 10 // bytes of its text
	MaxConstraints = 500      // of one range
)

// Range is a set of versions: a "vers" version range specifier (package-url's
// VERS specification, clause 5), read strictly. The zero value has no version.
type Range struct {
	Scheme Scheme
	text   string
	// spans are sorted and apart from each other.
	spans []Span
}

// Span is a stretch of versions. A bound without a version is open-ended.
type Span struct {
	Low, High Bound
}

// Bound is an end of a span.
type Bound struct {
	Version Version
	In      bool // the version itself belongs to the span
}

// None tells whether the bound is open-ended.
func (b Bound) None() bool { return b.Version.value == nil }

// String is the range as it was written.
func (r Range) String() string { return r.text }

// Spans are the range's stretches in their order. Nobody changes them.
func (r Range) Spans() []Span { return r.spans }

// constraint is one constraint of a range.
type constraint struct {
	op      string // "=", "!=", "<", "<=", ">", ">="
	version Version
}

// ParseRange reads "vers:TYPE/CONSTRAINTS" as the specification has it, with all
// that it makes an error: whitespace, constraints out of order, a version twice,
// comparators that do not alternate. Versions must be ones of the scheme.
func ParseRange(text string) (Range, error) {
	r := Range{text: text}
	fail := func(format string, args ...any) (Range, error) {
		return Range{}, fmt.Errorf("version range %.100q: %w: %w", text, fmt.Errorf(format, args...), ErrInvalid)
	}
	if len(text) > MaxVers {
		return fail("%d bytes, limit %d", len(text), MaxVers)
	}
	scheme, rest, ok := strings.Cut(text, ":")
	kind, list, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 || scheme != "vers" {
		return fail("want vers:TYPE/CONSTRAINTS, such as vers:semver/>=1.2.0|<1.4.3")
	}
	if i := strings.IndexFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f }); i >= 0 {
		return fail("byte %d is no printable ASCII character", i)
	}
	var err error
	if r.Scheme, err = schemeOf(kind); err != nil {
		return Range{}, fmt.Errorf("version range %.100q: %w", text, err)
	}
	if list == "*" {
		r.spans = []Span{{}}
		return r, nil
	}
	parts := strings.Split(list, "|")
	if len(parts) > MaxConstraints {
		return fail("%d constraints, limit %d", len(parts), MaxConstraints)
	}
	var cs []constraint
	for i, p := range parts {
		c, err := r.Scheme.constraint(p)
		if err != nil {
			return fail("constraint %d: %w", i+1, err)
		}
		cs = append(cs, c)
	}
	if err := checkConstraints(cs); err != nil {
		return fail("%w", err)
	}
	r.spans = spansOf(cs)
	return r, nil
}

// constraint reads a comparator and a percent-encoded version.
func (s Scheme) constraint(p string) (c constraint, err error) {
	c.op = "="
	for _, op := range []string{"!=", "<=", ">=", "<", ">"} {
		if rest, ok := strings.CutPrefix(p, op); ok {
			c.op, p = op, rest
			break
		}
	}
	if strings.ContainsAny(p, "<>=!*|") {
		return c, fmt.Errorf("%q: < > = ! * | in a version must be percent-encoded, * stands alone, and a version without a comparator means equal", p)
	}
	version, err := url.PathUnescape(p)
	if err != nil {
		return c, fmt.Errorf("%q: %w", p, err)
	}
	c.version, err = s.Parse(version)
	return c, err
}

// checkConstraints keeps the rules of VERS 5.4, which rule out empty and
// impossible ranges.
func checkConstraints(cs []constraint) error {
	var plain, pairs []constraint
	for i, c := range cs {
		if i > 0 {
			switch n := cs[i-1].version.Compare(c.version); {
			case n == 0:
				return fmt.Errorf("version %s comes twice", c.version)
			case n > 0:
				return fmt.Errorf("%s stands before %s: want the order of the versions", cs[i-1].version, c.version)
			}
		}
		if c.op != "!=" {
			plain = append(plain, c)
			if c.op != "=" {
				pairs = append(pairs, c)
			}
		}
	}
	if len(plain) == 0 {
		return fmt.Errorf("only != constraints: no version is in that range by VERS' own rule, which can hardly be meant")
	}
	for i := 1; i < len(plain); i++ {
		if plain[i-1].op == "=" && plain[i].op[0] == '<' {
			return fmt.Errorf("%s is followed by %s%s, which holds it already", plain[i-1].version, plain[i].op, plain[i].version)
		}
	}
	for i := 1; i < len(pairs); i++ {
		if pairs[i-1].op[0] == pairs[i].op[0] {
			return fmt.Errorf("%s%s is followed by %s%s: want > and < by turns", pairs[i-1].op, pairs[i-1].version, pairs[i].op, pairs[i].version)
		}
	}
	return nil
}

// spansOf makes the spans of constraints that keep the rules.
func spansOf(cs []constraint) []Span {
	var out []Span
	var low *Bound // of the span that is open
	if i := slices.IndexFunc(cs, func(c constraint) bool { return c.op != "=" && c.op != "!=" }); i >= 0 && cs[i].op[0] == '<' {
		low = &Bound{}
	}
	for _, c := range cs {
		at := Bound{c.version, true}
		switch c.op {
		case "=":
			if low == nil { // in an open span it says nothing new
				out = append(out, Span{at, at})
			}
		case "!=":
			if low != nil {
				at.In = false
				out = append(out, Span{*low, at})
				low = &at
			}
		case ">", ">=":
			at.In = c.op == ">="
			low = &at
		case "<", "<=":
			at.In = c.op == "<="
			out = append(out, Span{*low, at})
			low = nil
		}
	}
	if low != nil {
		out = append(out, Span{*low, Bound{}})
	}
	return out
}

// Contains tells whether a version of the range's scheme is in the range.
func (r Range) Contains(v Version) bool {
	// The first span that does not end before v.
	i, _ := slices.BinarySearchFunc(r.spans, v, func(s Span, v Version) int {
		if s.High.None() {
			return 1
		}
		if n := s.High.Version.Compare(v); n != 0 {
			return n
		}
		if s.High.In {
			return 0
		}
		return -1
	})
	if i == len(r.spans) {
		return false
	}
	low := r.spans[i].Low
	if low.None() {
		return true
	}
	n := low.Version.Compare(v)
	return n < 0 || n == 0 && low.In
}
