package keeper

import (
	"cmp"
	"slices"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/release"
)

// meter measures how one version does here, from its first start in this keeper's
// life on; a start after a crash begins nothing anew. The zero meter has seen
// nothing.
type meter struct {
	spans   []time.Duration // of counts
	digest  string
	begun   time.Time
	start   time.Duration // until it was ready; 0 is not known
	crashes *counter
	counts  map[string]*counter // by what the check command says
	values  map[string]float64
}

// runs notes that a version is started.
func (m *meter) runs(digest string, now time.Time) {
	if m.digest != digest {
		*m = meter{spans: m.spans, digest: digest, begun: now, crashes: newCounter(m.spans, now)}
	}
}

// ready notes that the version is ready, the first time.
func (m *meter) ready(now time.Time) {
	if m.start == 0 && m.crashes.total == 0 { // what crashed before says nothing of a start
		m.start = max(1, now.Sub(m.begun))
	}
}

// take notes what the check command said. What it says no longer is not known.
func (m *meter) take(said []release.Said, now time.Time) {
	counts, values := map[string]*counter{}, map[string]float64{}
	for _, s := range said {
		if !s.Count {
			values[s.Name] = s.Value
			continue
		}
		c := m.counts[s.Name]
		if c == nil {
			c = newCounter(m.spans, now)
			c.last = s.Value // what was before is not this version's
		}
		c.reads(s.Value)
		counts[s.Name] = c
	}
	m.counts, m.values = counts, values
}

// said is all that is known, by rising name.
func (m *meter) said(now time.Time) (out []ipc.Measure) {
	if m.digest == "" {
		return nil
	}
	out = append(out, ipc.Measure{Name: release.MeasureCrashes, Lately: m.crashes.lately(now)})
	if m.start > 0 {
		out = append(out, ipc.Measure{Name: release.MeasureStart, Value: m.start.Seconds()})
	}
	for name, c := range m.counts {
		out = append(out, ipc.Measure{Name: name, Lately: c.lately(now)})
	}
	for name, v := range m.values {
		out = append(out, ipc.Measure{Name: name, Value: v})
	}
	slices.SortFunc(out, func(a, b ipc.Measure) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// counter knows how much a count grew over each span.
type counter struct {
	last  float64 // as it was read
	total int64   // by how much it grew in all
	spans []time.Duration
	// points are for each span what the total was, from the span's begin on.
	points [][]point
}

func newCounter(spans []time.Duration, now time.Time) *counter {
	c := &counter{spans: spans, points: make([][]point, len(spans))}
	c.keep(now)
	return c
}

// point is what a counter's total was.
type point struct {
	at    time.Time
	total int64
}

// grain is how many points a span has, so that it is at most a twelfth too long.
const grain = 12

// reads takes a count so far: one that is less than before has begun anew.
func (c *counter) reads(v float64) {
	grown := v - c.last
	if grown < 0 {
		grown = v
	}
	c.last = v
	c.total += int64(grown)
}

// keep notes the total for each span where its last note is old enough, and forgets
// what is older than the span needs.
func (c *counter) keep(now time.Time) {
	for i, span := range c.spans {
		p := c.points[i]
		if n := len(p); n == 0 || now.Sub(p[n-1].at) >= span/grain {
			p = append(p, point{now, c.total})
		}
		for len(p) > 1 && now.Sub(p[1].at) >= span {
			p = p[1:]
		}
		c.points[i] = p
	}
}

// lately is how much it grew over each span; -1 where it was not watched so long.
func (c *counter) lately(now time.Time) []int64 {
	c.keep(now)
	out := make([]int64, len(c.points))
	for i, p := range c.points {
		out[i] = -1
		if now.Sub(p[0].at) >= c.spans[i] {
			out[i] = c.total - p[0].total
		}
	}
	return out
}
