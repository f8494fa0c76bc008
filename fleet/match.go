package fleet

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/headgate/headgate/release"
)

// Limits of what one matcher is made of.
const (
	MaxRanges = 1000   // ranges
	MaxBounds = 20_000 // ends of their spans, together
)

// Component is a part that an endpoint has: a product that it runs, or a part
// that a bill of materials lists.
type Component struct {
	Name    string // product, PURL or CPE
	Version string // empty: the one in the PURL or CPE
}

// Verdict is what a matcher says of a component. The zero value is "not
// affected".
type Verdict struct {
	// Ranges are the places of the ranges that hold it, ascending.
	Ranges []int
	// Unknown says why nobody can tell: it is one of the components meant, but its
	// version has no place in their order. Unknown is neither affected nor safe.
	Unknown string
}

// Affected tells whether some range holds the component.
func (v Verdict) Affected() bool { return len(v.Ranges) > 0 }

// Matcher tells which of its ranges hold a component. It is compiled once and
// never changes: any number may ask it at once.
type Matcher struct {
	affected []release.Affected
	byKey    map[string][]*index
}

// index has all ranges of one component in one scheme. The ends of their spans
// cut the order of versions into slots: slot 2i+1 is the version bounds[i], and
// slot 2i all that lies before it and after the one before. One binary search
// gives all ranges that hold a version, however many there are.
type index struct {
	scheme release.Scheme
	bounds []release.Version
	slots  [][]uint16 // places in names
	names  []release.Name
	places []int // of each of names, in Matcher.affected
	ranges []release.Range
}

// Compile makes a matcher. A range that is not understood fails all of it: to
// leave it out would call safe what is not.
func Compile(affected []release.Affected) (*Matcher, error) {
	if len(affected) > MaxRanges {
		return nil, fmt.Errorf("%d affected ranges, limit %d: %w", len(affected), MaxRanges, ErrInvalid)
	}
	m := &Matcher{affected: slices.Clone(affected), byKey: map[string][]*index{}}
	ends := 0
	for i, a := range affected {
		name, r, err := a.Parse()
		if err != nil {
			return nil, fmt.Errorf("affected range %d: %w", i+1, err)
		}
		if ends += 2 * len(r.Spans()); ends > MaxBounds {
			return nil, fmt.Errorf("affected ranges with more than %d ends of spans: %w", MaxBounds, ErrInvalid)
		}
		x := m.index(name.Key, r.Scheme)
		x.names, x.places, x.ranges = append(x.names, name), append(x.places, i), append(x.ranges, r)
	}
	for _, xs := range m.byKey {
		for _, x := range xs {
			x.compile()
		}
	}
	return m, nil
}

// Affected are the ranges that the matcher was made of. Nobody changes them.
func (m *Matcher) Affected() []release.Affected { return m.affected }

// Keys lists the keys (release.Name.Key) of the components that any range is
// about, sorted: all others are not affected.
func (m *Matcher) Keys() []string {
	var out []string
	for k := range m.byKey {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (m *Matcher) index(key string, s release.Scheme) *index {
	for _, x := range m.byKey[key] {
		if x.scheme == s {
			return x
		}
	}
	x := &index{scheme: s}
	m.byKey[key] = append(m.byKey[key], x)
	return x
}

// compile fills in bounds and slots.
func (x *index) compile() {
	for _, r := range x.ranges {
		for _, s := range r.Spans() {
			for _, b := range []release.Bound{s.Low, s.High} {
				if !b.None() {
					x.bounds = append(x.bounds, b.Version)
				}
			}
		}
	}
	slices.SortFunc(x.bounds, release.Version.Compare)
	x.bounds = slices.CompactFunc(x.bounds, func(a, b release.Version) bool { return a.Compare(b) == 0 })
	x.slots = make([][]uint16, 2*len(x.bounds)+1)
	for i, r := range x.ranges {
		for _, s := range r.Spans() {
			from, to := 0, len(x.slots)-1
			if !s.Low.None() {
				from = x.slot(s.Low.Version)
				if !s.Low.In {
					from++
				}
			}
			if !s.High.None() {
				to = x.slot(s.High.Version)
				if !s.High.In {
					to--
				}
			}
			for at := from; at <= to; at++ {
				x.slots[at] = append(x.slots[at], uint16(i))
			}
		}
	}
}

// slot finds the slot of a version.
func (x *index) slot(v release.Version) int {
	i, found := slices.BinarySearchFunc(x.bounds, v, release.Version.Compare)
	if found {
		return 2*i + 1
	}
	return 2 * i
}

// Match judges one component. A name that cannot be read is nobody's.
func (m *Matcher) Match(c Component) Verdict {
	name, err := release.ParseName(c.Name)
	if err != nil {
		return Verdict{}
	}
	return m.match(name, cmp.Or(c.Version, name.Version))
}

func (m *Matcher) match(name release.Name, version string) (v Verdict) {
	for _, x := range m.byKey[name.Key] {
		at, err := x.scheme.Parse(version)
		if err != nil {
			if slices.ContainsFunc(x.names, func(n release.Name) bool { return n.Covers(name) }) {
				v.Unknown = err.Error()
			}
			continue
		}
		for _, i := range x.slots[x.slot(at)] {
			if x.names[i].Covers(name) {
				v.Ranges = append(v.Ranges, x.places[i])
			}
		}
	}
	slices.Sort(v.Ranges)
	return v
}

// memoLimit is how many components a memo remembers: a fleet has far fewer
// different ones than endpoints.
const memoLimit = 1 << 20

// Memo remembers a matcher's verdicts, for whoever asks about a whole fleet. It
// is for one caller at a time.
type Memo struct {
	m     *Matcher
	names map[string]*memory
	held  int
}

// memory is what a memo knows of one name; nil means that no range is about it.
type memory struct {
	name     release.Name
	verdicts map[string]*Verdict
}

// Memo makes an empty memo.
func (m *Matcher) Memo() *Memo { return &Memo{m: m, names: map[string]*memory{}} }

// Match judges one component as Matcher.Match does; nil is "not affected".
// Nobody changes what it returns.
func (o *Memo) Match(c Component) *Verdict {
	n, known := o.names[c.Name]
	if known && n == nil {
		return nil
	}
	if known {
		if v, ok := n.verdicts[c.Version]; ok {
			return v
		}
	}
	return o.learn(c, n)
}

// learn is for what is asked for the first time.
func (o *Memo) learn(c Component, n *memory) *Verdict {
	if o.held++; o.held > memoLimit {
		clear(o.names)
		o.held, n = 1, nil
	}
	if n == nil {
		name, err := release.ParseName(c.Name)
		if err != nil || len(o.m.byKey[name.Key]) == 0 {
			o.names[c.Name] = nil
			return nil
		}
		n = &memory{name: name, verdicts: map[string]*Verdict{}}
		o.names[c.Name] = n
	}
	v := o.m.match(n.name, cmp.Or(c.Version, n.name.Version))
	var out *Verdict
	if v.Affected() || v.Unknown != "" {
		out = &v
	}
	n.verdicts[c.Version] = out
	return out
}
