package pacing

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

const (
	cellTicks = 180  // segments are looked at every tick for so long, then every sixth
	few       = 5    // baseline failures of a cohort in one tick that are kept however late
	profiled  = 1000 // failures of one kind in one tick that are drawn with labels
)

// cells are failures by tested segment. Labels are drawn from a source of their
// own, and not at all for a policy that asks for none, so that a history does not
// depend on who looks.
type cells struct {
	watched     bool
	r           *rand.Rand
	failed, ctl []int32
	before      []int32 // of ctl, before any treated could be seen to fail
	begun       [2]bool // the first cohort's before are known, and all others'
	rosters     [cohorts]roster
	again       []int32 // of failed: nobody's in a roster, so that they could fail again
	least       int32   // failures that the last look's list asked for
	buffer      []int32
	keys        []int64
}

func newCells(f *Fleet, watched bool, seed uint64) cells {
	c := cells{watched: watched}
	if watched {
		c.r = rand.New(rand.NewPCG(seed, 199))
		c.failed, c.ctl, c.before, c.again = make([]int32, len(f.Tested)), make([]int32, len(f.Tested)), make([]int32, len(f.Tested)), make([]int32, len(f.Tested))
	}
	return c
}

// add counts failures; again, of a cohort without a roster.
func (c *cells) add(at []int32, by int32, again bool) {
	for _, x := range at {
		c.failed[x] += by
		if again {
			c.again[x] += by
		}
	}
}

// of are the tested cells of an endpoint, until the next call.
func (c *cells) of(f *Fleet, p profile) []int32 {
	c.buffer = f.cells(p, c.buffer[:0])
	return c.buffer
}

// controls draws the labels of control failures.
func (c *cells) controls(w *run, n float64) {
	if !c.watched {
		return
	}
	for range int(n) {
		for _, x := range w.f.failing[c.r.IntN(len(w.f.failing))].cells {
			c.ctl[x]++
		}
	}
}

// treated draws the labels of treated failures: the baseline's by hazard, the
// fault's from its segment or from everywhere. What the baseline does late and in
// large cohorts is counted and not kept.
func (c *cells) treated(w *run, cohort, channel int, base, in, elsewhere float64) {
	if !c.watched {
		return
	}
	if w.t >= cellTicks && base > few {
		for range int(base) {
			c.add(w.f.failing[c.r.IntN(len(w.f.failing))].cells, 1, true)
		}
		base = 0
	}
	any := func(profile) bool { return true }
	for range int(min(base, profiled)) {
		if c.rosters[cohort].failedAlready(c.r) {
			continue
		}
		p := c.pick(w, cohort, false, func(p profile) bool { return c.r.Float64()*w.f.worst < w.f.hazard[p[4]] }, func() profile {
			return w.f.failing[c.r.IntN(len(w.f.failing))].p
		})
		c.keep(w, cohort, channel, p, c.of(w.f, p))
	}
	for kind, n := range [2]float64{in, elsewhere} {
		fated := kind == 0 && w.fault.Share > 0
		for range int(min(n, profiled)) {
			p := c.pick(w, cohort, fated, any, func() profile {
				p := w.f.draw(c.r)
				if fated {
					w.doomed.put(&p)
				}
				return p
			})
			c.keep(w, cohort, channel, p, c.of(w.f, p))
		}
	}
}

// keep counts a treated failure, and remembers it for the time that its segment
// is halted; a baseline failure in a halted one is nobody's evidence already.
func (c *cells) keep(w *run, cohort, channel int, p profile, at []int32) {
	if w.isHalted(p) {
		return
	}
	w.events = append(w.events, event{t: w.t, cohort: cohort, channel: channel, p: p})
	c.add(at, 1, c.rosters[cohort].large)
}

// dropped draws the labels of endpoints of one region that fell silent: controls
// if cohort is negative.
func (c *cells) dropped(w *run, cohort int, n float64, region int) {
	if !c.watched {
		return
	}
	if cohort >= 0 && !c.rosters[cohort].large {
		for _, p := range c.rosters[cohort].drop(c.r, region, int(n)) {
			c.keep(w, cohort, 1, p, c.of(w.f, p))
		}
		return
	}
	for i := range int(n) {
		p := w.f.inRegion[region][c.r.IntN(len(w.f.inRegion[region]))]
		switch {
		case cohort < 0:
			for _, x := range c.of(w.f, p) {
				c.ctl[x]++
			}
		case i < profiled:
			c.keep(w, cohort, 1, p, c.of(w.f, p))
		case !w.isHalted(p):
			c.add(c.of(w.f, p), 1, true)
		}
	}
}

// looks lists what the server lists (rollout.Segment): the cells small enough to
// be halted in which treated endpoints failed, and of those the ones with the most
// failures. After half an hour they are looked at once a minute.
func (c *cells) looks(w *run, b rollout.Budget, last []health.CellLook) []health.CellLook {
	if w.t > cellTicks && w.t%6 != 0 {
		return last
	}
	controls := w.controls()
	listed := c.mostFailed(w.f.Tested, b.MaxSegment)
	out := make([]health.CellLook, 0, len(listed))
	for _, i := range listed {
		share, failed := w.f.Tested[i], int64(c.failed[i])
		n := max(failed, int64(math.Ceil(c.exposedIn(w, i))))
		out = append(out, health.CellLook{
			ID: uint32(i), Failed: failed, ControlFailed: int64(c.ctl[i]), ControlBefore: c.controlBefore(w, i), Share: share,
			AtRisk: n + int64(c.again[i]), ControlAtRisk: int64(share * controls), Exposed: n,
		})
	}
	return out
}

// mostFailed are the cells of a look, by rising number. Failures hardly ever
// become fewer, so that the last look's threshold spares most of the sorting.
func (c *cells) mostFailed(shares []float64, most float64) (at []int32) {
	const number = 1<<32 - 1
	keys := c.keys[:0] // by falling failures, then by rising number
	for i, n := range c.failed {
		if n >= max(1, c.least) && shares[i] <= most {
			keys = append(keys, -int64(n)<<32|int64(i))
		}
	}
	c.keys = keys
	if len(keys) < rollout.MaxCells && c.least > 1 {
		c.least = 0
		return c.mostFailed(shares, most)
	}
	if len(keys) > rollout.MaxCells {
		slices.Sort(keys)
		keys = keys[:rollout.MaxCells]
		c.least = c.failed[keys[len(keys)-1]&number]
	}
	for _, k := range keys {
		at = append(at, int32(k&number))
	}
	slices.Sort(at)
	return at
}

// tested is how many cells are small enough to be halted.
func (f *Fleet) tested(most float64) (n int64) {
	for _, share := range f.Tested {
		if share <= most {
			n++
		}
	}
	return n
}
