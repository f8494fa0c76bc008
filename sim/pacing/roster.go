package pacing

import (
	"math/rand/v2"
	"slices"

	"github.com/headgate/headgate/rollout"
)

// rostered is the largest cohort whose members are drawn with their labels when
// they are granted; of a larger one a segment has its share.
const rostered = 50_000

// roster is who of a cohort has not failed yet, and how many were exposed in each
// tested cell, those who failed since included.
type roster struct {
	large          bool
	members, fated []profile // fated are those in the faulty segment
	failed         int
	lost           [regions]int // of failed, by region
	exposed        []int32
}

// enrol draws the labels of endpoints that are granted: in lie in the faulty
// segment, out do not.
func (c *cells) enrol(w *run, cohort int, in, out float64) {
	r := &c.rosters[cohort]
	if !c.watched || r.large {
		return
	}
	if w.granted[cohort]+in+out > rostered {
		*r = roster{large: true}
		return
	}
	for range int(in) {
		p := w.f.draw(c.r)
		w.doomed.put(&p)
		c.enter(w.f, r, &r.fated, p)
	}
	for range int(out) {
		p := w.f.draw(c.r)
		for tries := 0; tries < 100 && (w.fault.Share > 0 && w.doomed.has(p) || w.isHalted(p)); tries++ {
			p = w.f.draw(c.r)
		}
		c.enter(w.f, r, &r.members, p)
	}
}

// enrolChosen takes the labels of endpoints chosen for coverage as they are.
func (c *cells) enrolChosen(w *run, all []profile) {
	for _, p := range all {
		r := &c.rosters[coverage]
		switch {
		case !c.watched || w.isHalted(p):
		case w.fault.Share > 0 && w.doomed.has(p):
			c.enter(w.f, r, &r.fated, p)
		default:
			c.enter(w.f, r, &r.members, p)
		}
	}
}

func (c *cells) enter(f *Fleet, r *roster, list *[]profile, p profile) {
	*list = append(*list, p)
	r.count(c.of(f, p), len(f.Tested), 1)
}

func (r *roster) count(at []int32, tested int, by int32) {
	if r.exposed == nil {
		r.exposed = make([]int32, tested)
	}
	for _, x := range at {
		r.exposed[x] += by
	}
}

// pick takes a member at random for which ok holds, with a chance of its own that
// ok draws; if there is none to be found, one is drawn and was exposed too.
func (c *cells) pick(w *run, cohort int, fated bool, ok func(profile) bool, draw func() profile) profile {
	r := &c.rosters[cohort]
	list := &r.members
	if fated {
		list = &r.fated
	}
	for tries := 0; tries < 1000 && len(*list) > 0; tries++ {
		i := c.r.IntN(len(*list))
		if p := (*list)[i]; ok(p) {
			last := len(*list) - 1
			(*list)[i] = (*list)[last]
			*list = (*list)[:last]
			r.failed++
			r.lost[p[regionLabel]]++
			return p
		}
	}
	p := draw()
	if !r.large && w.granted[cohort] > 0 {
		r.count(c.of(w.f, p), len(w.f.Tested), 1)
	}
	return p
}

// failedAlready tells whether a failure drawn from all that were granted falls on
// somebody who failed before, which is none.
func (r *roster) failedAlready(from *rand.Rand) bool {
	return r.failed > 0 && from.IntN(len(r.members)+len(r.fated)+r.failed) < r.failed
}

// drop takes n of those of a region off, as if drawn from all that were granted: what
// falls on somebody who failed before is none.
func (r *roster) drop(from *rand.Rand, region, n int) (gone []profile) {
	var alive []int
	for i, p := range r.members {
		if int(p[regionLabel]) == region {
			alive = append(alive, i)
		}
	}
	all, out := len(alive)+r.lost[region], map[int]bool{}
	for range min(n, all) {
		if i := from.IntN(all); i < len(alive) {
			out[alive[i]] = true
			alive[i] = alive[len(alive)-1]
			alive = alive[:len(alive)-1]
		}
	}
	kept := r.members[:0]
	for i, p := range r.members {
		if out[i] {
			gone = append(gone, p)
		} else {
			kept = append(kept, p)
		}
	}
	r.members = kept
	r.failed += len(gone)
	r.lost[region] += len(gone)
	return gone
}

// leave takes who is in halted segments off the rosters.
func (c *cells) leave(w *run) {
	for k := range c.rosters {
		r := &c.rosters[k]
		for _, list := range []*[]profile{&r.members, &r.fated} {
			*list = slices.DeleteFunc(*list, func(p profile) bool {
				out := w.isHalted(p)
				if out {
					r.count(c.of(w.f, p), len(w.f.Tested), -1)
				}
				return out
			})
		}
	}
}

// exposedIn is how many were exposed in a tested cell.
func (c *cells) exposedIn(w *run, cell int32) (n float64) {
	for k := range c.rosters {
		switch r := &c.rosters[k]; {
		case r.large:
			n += w.f.Tested[cell] * w.granted[k]
		case r.exposed != nil:
			n += float64(r.exposed[cell])
		}
	}
	return n
}

// begin notes, in the tick in which the first of a cohort can be seen to fail, how
// many controls had failed before by cell: those of the first cohort begin their own
// cells, the next to come all others (rollout.Group.Early).
func (c *cells) begin(w *run) {
	if !c.watched || c.begun[1] {
		return
	}
	for k := range cohorts {
		step := min(k, 1)
		if c.begun[step] || w.at(k, w.ch.Lag) == 0 {
			continue
		}
		c.begun[step] = true
		for i, n := range c.ctl {
			if own := c.own(int32(i)); own == (step == 0) {
				c.before[i] = n
			}
		}
	}
}

// own tells whether the first cohort has a member in a cell.
func (c *cells) own(cell int32) bool {
	r := &c.rosters[0]
	return r.large || r.exposed != nil && r.exposed[cell] > 0
}

// controlBefore is how many controls in a cell failed before any of its exposed
// endpoints could be seen to.
func (c *cells) controlBefore(w *run, cell int32) int64 {
	if w.exposed()*rollout.EarlyPart > w.f.Size {
		return 0
	}
	step := 1
	if c.own(cell) {
		step = 0
	}
	if !c.begun[step] {
		return int64(c.ctl[cell])
	}
	return int64(c.before[cell])
}
