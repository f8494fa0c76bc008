package rollout

import (
	"cmp"
	"maps"
	"slices"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
)

// Group counts the endpoints that have the same labels.
type Group struct {
	Labels  fleet.Labels
	Fit     int64 // endpoints of the product
	Exposed int64 // of those, granted
	Heard   int64 // not granted, and heard from
	// First of Exposed were granted with the first cohort.
	First int64
	// Early are the controls among them that failed before anybody could be seen to
	// fail: anybody at all, and anybody who was granted after the first cohort. 0 is
	// not known.
	Early [2]int64
}

// Failures counts the first failures of endpoints that have the same labels.
type Failures struct {
	Labels           fleet.Labels
	Treated, Control int64
}

// Limits of what is watched by segment.
const (
	// MaxCells bounds the segments that a look lists, those with the most failures:
	// each takes half a kilobyte of the ledger's entry.
	MaxCells = 600
	// maxValues is how many label values fit a segment's id.
	maxValues = 1<<16 - 1
	// maxCommon is how many label values are looked at in pairs, the most common.
	maxCommon = 1000
)

// EarlyPart is up to which part of the fleet, one in so many, who failed early is
// counted apart (Group.Early).
const EarlyPart = 8

// LeastCell is how many endpoints a segment of a fleet of n must have to be
// watched by itself: 500 of millions, a thousandth below, and never fewer than 5.
func LeastCell(n int64) int64 { return min(500, max(5, n/1000)) }

// Segment fills in what segments show: single label values and pairs of them,
// cut from groups that were counted at one instant, perhaps some time before the
// snapshot. Who was exposed since may be anybody whom the snapshot's counts by
// single values allow, so that the treated at risk are rounded up and the controls
// down.
func (s *Snapshot) Segment(groups []Group) {
	o, b := s.Observed, *s.Policy.Budget
	c := cut{o: o, b: b, cells: map[uint32]*cell{}, ids: map[[2]string]uint32{}, since: s.Counts.Exposed, sinceOf: map[string]int64{}}
	for name, n := range s.Segments {
		c.sinceOf[name] = n.Exposed
	}
	for _, g := range groups {
		c.fit += g.Fit
		c.since -= g.Exposed
		for _, name := range g.Labels.Segments() {
			c.sinceOf[name] -= g.Exposed
		}
	}
	for _, h := range o.Halted {
		c.halted = append(c.halted, h.Labels)
	}
	out := int64(0)
	for _, g := range groups {
		if g.Labels.MatchAny(c.halted) {
			out += g.Fit
			// Its controls are no controls of the rest.
			o.Control.AtLeast = max(0, o.Control.AtLeast-(g.Fit-g.Exposed))
		}
	}
	o.HaltedShare = float64(out) / float64(max(1, c.fit))
	o.CellsTested = tested(groups, c.fit, b.MaxSegment)
	c.count(o.Failures)
	for _, g := range groups {
		c.size(g)
	}
	o.Cells = c.looks()
}

// cut is a fleet being cut into the segments that failed.
type cut struct {
	o      *Observed
	b      Budget
	halted []fleet.Labels
	cells  map[uint32]*cell
	ids    map[[2]string]uint32 // of label values, in the order of their first failure
	fit    int64
	// since is how many were exposed after the groups were counted; sinceOf of each
	// single value, less than 0 where a segment has no counts.
	since   int64
	sinceOf map[string]int64
}

// cell is a segment being counted.
type cell struct {
	look                health.CellLook
	fit, exposed, heard int64
	first               int64
	early               [2]int64
}

// each calls f for every segment that labels belong to and whose values failed
// before. The id is the same for the rollout's life: failures are told in the
// order in which their labels first failed.
func (c *cut) each(l fleet.Labels, f func(id uint32, segment func() fleet.Labels)) {
	var have []uint32
	names := map[uint32][2]string{}
	for k, v := range l {
		if id := c.ids[[2]string{k, v}]; id != 0 {
			have = append(have, id)
			names[id] = [2]string{k, v}
		}
	}
	slices.Sort(have)
	for i, a := range have {
		na := names[a]
		f(a, func() fleet.Labels { return fleet.Labels{na[0]: na[1]} })
		for _, b := range have[i+1:] {
			nb := names[b]
			f(a<<16|b, func() fleet.Labels { return fleet.Labels{na[0]: na[1], nb[0]: nb[1]} })
		}
	}
}

// count counts failures by segment. Controls count where treated failed: else
// there is nothing that they could speak for.
func (c *cut) count(all []Failures) {
	for _, f := range all {
		for _, k := range slices.Sorted(maps.Keys(f.Labels)) {
			if name := [2]string{k, f.Labels[k]}; c.ids[name] == 0 && len(c.ids) < maxValues {
				c.ids[name] = uint32(len(c.ids) + 1)
			}
		}
	}
	for _, treated := range []bool{true, false} {
		for _, f := range all {
			if f.Labels.MatchAny(c.halted) || treated && f.Treated == 0 || !treated && f.Control == 0 {
				continue
			}
			c.each(f.Labels, func(id uint32, segment func() fleet.Labels) {
				x := c.cells[id]
				switch {
				case x == nil && treated:
					c.cells[id] = &cell{look: health.CellLook{ID: id, Labels: segment(), Failed: f.Treated}}
				case x != nil && treated:
					x.look.Failed += f.Treated
				case x != nil:
					x.look.ControlFailed += f.Control
				}
			})
		}
	}
}

// size counts a group into the segments that failed.
func (c *cut) size(g Group) {
	out := g.Labels.MatchAny(c.halted)
	c.each(g.Labels, func(id uint32, _ func() fleet.Labels) {
		x := c.cells[id]
		if x == nil {
			return
		}
		x.fit += g.Fit
		if !out {
			x.exposed += g.Exposed
			x.heard += g.Heard
			x.first += g.First
			x.early[0], x.early[1] = x.early[0]+g.Early[0], x.early[1]+g.Early[1]
		}
	})
}

// later is how many of a segment may have been exposed since it was counted.
func (c *cut) later(x *cell) int64 {
	n := min(c.since, x.fit-x.exposed)
	for _, name := range x.look.Labels.Segments() {
		if m, ok := c.sinceOf[name]; ok && m >= 0 {
			n = min(n, m)
		}
	}
	return max(0, n)
}

// before is how many controls failed before any of the segment's exposed endpoints
// could be seen to: those few whom the first cohort has begin earlier than the rest.
func (x *cell) before() int64 {
	if x.first > 0 {
		return min(x.early[0], x.look.ControlFailed)
	}
	return min(x.early[1], x.look.ControlFailed)
}

// looks lists the segments that could be halted.
func (c *cut) looks() []health.CellLook {
	var out []health.CellLook
	for _, x := range c.cells {
		l := x.look
		l.Share = float64(x.fit) / float64(max(1, c.fit))
		if x.fit < LeastCell(c.fit) || l.Share > c.b.MaxSegment {
			continue
		}
		// Those who failed were at risk when they did.
		later := c.later(x)
		l.Exposed = max(x.exposed+later, l.Failed)
		l.ControlBefore = x.before()
		l.AtRisk, l.ControlAtRisk = l.Exposed, max(0, x.heard-later-l.ControlFailed)
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b health.CellLook) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), cmp.Compare(a.ID, b.ID))
	})
	out = out[:min(len(out), MaxCells)]
	slices.SortFunc(out, func(a, b health.CellLook) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// tested counts the segments that could be halted if they failed: values and
// pairs of values with enough endpoints, and not too many.
func tested(groups []Group, fit int64, maxShare float64) int64 {
	least := LeastCell(fit)
	single := map[[2]string]int64{}
	for _, g := range groups {
		for k, v := range g.Labels {
			single[[2]string{k, v}] += g.Fit
		}
	}
	maps.DeleteFunc(single, func(_ [2]string, n int64) bool { return n < least })
	common := slices.SortedFunc(maps.Keys(single), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(single[b], single[a]), cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	common = common[:min(len(common), maxCommon)]
	number := make(map[[2]string]int, len(common))
	for i, name := range common {
		number[name] = i
	}
	pairs := make([]int64, len(common)*len(common))
	for _, g := range groups {
		var have []int
		for k, v := range g.Labels {
			if i, ok := number[[2]string{k, v}]; ok {
				have = append(have, i)
			}
		}
		for i, a := range have {
			for _, b := range have[i+1:] {
				pairs[min(a, b)*len(common)+max(a, b)] += g.Fit
			}
		}
	}
	n := int64(0)
	for _, k := range single {
		n += within(k, least, maxShare*float64(fit))
	}
	for _, k := range pairs {
		n += within(k, least, maxShare*float64(fit))
	}
	return n
}

// within is 1 if k lies between the two, else 0.
func within(k, least int64, most float64) int64 {
	if k >= least && float64(k) <= most {
		return 1
	}
	return 0
}

// simplest drops suspects that another suspect contains: fewer labels that cover
// the same endpoints, or more, are the name that people can work with, and what
// is halted stays the same.
func simplest(all []health.Suspect) []health.Suspect {
	return slices.DeleteFunc(slices.Clone(all), func(x health.Suspect) bool {
		return slices.ContainsFunc(all, func(y health.Suspect) bool {
			return len(y.Look.Labels) < len(x.Look.Labels) && x.Look.Labels.Match(y.Look.Labels)
		})
	})
}
