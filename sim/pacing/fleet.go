// Package pacing plays rollouts to millions of endpoints in virtual time, with
// the same rollout.Decide as the server, against faults and beside rival
// policies. Healthy endpoints are counts; every endpoint that fails is drawn
// with its labels. The same seed gives the same history.
//
// It never sleeps, and draws no conclusion: Compare says what happened.
package pacing

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
)

// Labels are seven, of the cardinalities of a large fleet: operating system
// builds, architectures, products' versions, regions, hardware, applications and
// tenants. Pairs are made of the first six.
var cardinality = [7]int{40, 3, 12, regions, 60, 30, 3000}

const (
	technical   = 6
	regionLabel = 3
	regions     = 24
	perProfile  = 7 + technical*(technical-1)/2 // cells of one endpoint
	leastCell   = 500                           // endpoints; smaller cells are not tested
)

// profile is one endpoint's label values.
type profile [7]uint16

// Fleet is the distribution of labels: Zipf-like values, correlated by golden
// images, and a failure rate that differs between hardware models.
type Fleet struct {
	Size     float64
	values   [7]lottery
	images   lottery
	image    []profile
	hazard   []float64 // by hardware, mean about 1
	worst    float64
	single   [7]int
	pair     [technical][technical]int
	index    []int32     // of a cell among the tested ones, -1 if it is too small
	Tested   []float64   // share of the fleet by tested cell
	inverse  []int32     // cell of a tested index
	sample   []profile   // for the size of unions
	regions  []float64   // share of the fleet
	inRegion [][]profile // endpoints of each region, drawn from the fleet
	failing  []drawn     // by baseline hazard
	coverage []cover
}

// drawn is an endpoint and its tested cells.
type drawn struct {
	p     profile
	cells []int32
}

// cover is one choice of coverage endpoints.
type cover struct {
	members []profile
	count   []float64 // by tested cell
}

// in is the part of the chosen that lies in a region.
func (c cover) in(region int) (part float64) {
	for _, p := range c.members {
		if int(p[regionLabel]) == region {
			part += 1 / float64(len(c.members))
		}
	}
	return part
}

// NewFleet makes a fleet of n endpoints; the same n gives the same fleet.
func NewFleet(n int64, coverage int64) *Fleet {
	r := rand.New(rand.NewPCG(7, 11))
	f := &Fleet{Size: float64(n), images: newLottery(zipf(80, 0.8))}
	for a, s := range []float64{1.1, 2.0, 1.3, 0.7, 1.0, 1.2, 0.9} {
		f.values[a] = newLottery(zipf(cardinality[a], s))
	}
	for range 80 {
		var p profile
		for a := range p {
			p[a] = uint16(r.IntN(cardinality[a]))
		}
		f.image = append(f.image, p)
	}
	for range cardinality[4] {
		h := math.Exp(0.6*r.NormFloat64() - 0.18)
		f.hazard = append(f.hazard, h)
		f.worst = max(f.worst, h)
	}
	f.layout()
	f.measure(r)
	f.regions = make([]float64, cardinality[regionLabel])
	for _, p := range f.sample {
		f.regions[p[regionLabel]] += 1 / float64(len(f.sample))
	}
	const pool = 100_000
	cells := make([]int32, 0, pool*perProfile) // in one piece, for they are read at random
	for range pool {
		d, from := drawn{p: f.drawFailing(r)}, len(cells)
		cells = f.cells(d.p, cells)
		d.cells = cells[from:len(cells):len(cells)]
		f.failing = append(f.failing, d)
	}
	for range 4 {
		f.coverage = append(f.coverage, f.cover(int(coverage), r))
	}
	return f
}

func (f *Fleet) layout() {
	n := 0
	for a := range cardinality {
		f.single[a] = n
		n += cardinality[a]
	}
	for a := range technical {
		for b := a + 1; b < technical; b++ {
			f.pair[a][b] = n
			n += cardinality[a] * cardinality[b]
		}
	}
	f.index = make([]int32, n)
}

// measure finds the cells' shares from a large sample.
func (f *Fleet) measure(r *rand.Rand) {
	const sample, regional = 1_000_000, 20_000
	f.inRegion = make([][]profile, cardinality[regionLabel])
	count := make([]float64, len(f.index))
	for i := range sample {
		p := f.draw(r)
		if i < 20_000 {
			f.sample = append(f.sample, p)
		}
		if in := &f.inRegion[p[regionLabel]]; len(*in) < regional {
			*in = append(*in, p)
		}
		for _, c := range f.all(p, make([]int32, 0, perProfile)) {
			count[c]++
		}
	}
	for c, k := range count {
		f.index[c] = -1
		if share := k / sample; share*f.Size >= leastCell {
			f.index[c] = int32(len(f.Tested))
			f.Tested = append(f.Tested, share)
			f.inverse = append(f.inverse, int32(c))
		}
	}
}

func (f *Fleet) draw(r *rand.Rand) (p profile) {
	z := f.images.draw(r)
	for a := range p {
		if r.Float64() < 0.35 {
			p[a] = f.image[z][a]
			continue
		}
		p[a] = uint16(f.values[a].draw(r))
	}
	return p
}

// drawFailing draws an endpoint in proportion to its baseline hazard.
func (f *Fleet) drawFailing(r *rand.Rand) profile {
	for {
		if p := f.draw(r); r.Float64()*f.worst < f.hazard[p[4]] {
			return p
		}
	}
}

// all appends every cell of an endpoint, tested or not.
func (f *Fleet) all(p profile, out []int32) []int32 {
	for a := range p {
		out = append(out, int32(f.single[a]+int(p[a])))
	}
	for a := range technical {
		for b := a + 1; b < technical; b++ {
			out = append(out, int32(f.pair[a][b]+int(p[a])*cardinality[b]+int(p[b])))
		}
	}
	return out
}

// cells appends the tested cells of an endpoint.
func (f *Fleet) cells(p profile, out []int32) []int32 {
	var all [perProfile]int32
	for _, c := range f.all(p, all[:0]) {
		if i := f.index[c]; i >= 0 {
			out = append(out, i)
		}
	}
	return out
}

// key is a cell as label values; b is -1 for a single label.
type key struct{ a, b, va, vb int }

func (k key) has(p profile) bool {
	return int(p[k.a]) == k.va && (k.b < 0 || int(p[k.b]) == k.vb)
}

// put gives an endpoint the key's values.
func (k key) put(p *profile) {
	p[k.a] = uint16(k.va)
	if k.b >= 0 {
		p[k.b] = uint16(k.vb)
	}
}

// within tells whether every endpoint of k is one of o's.
func (k key) within(o key) bool {
	return k == o || o.b < 0 && (o.a == k.a && o.va == k.va || o.a == k.b && o.va == k.vb)
}

// key is what a tested cell means.
func (f *Fleet) key(tested int32) key {
	c := int(f.inverse[tested])
	for a := range technical {
		for b := a + 1; b < technical; b++ {
			if o := c - f.pair[a][b]; o >= 0 && o < cardinality[a]*cardinality[b] {
				return key{a, b, o / cardinality[b], o % cardinality[b]}
			}
		}
	}
	for a := 6; a > 0; a-- {
		if c >= f.single[a] {
			return key{a, -1, c - f.single[a], 0}
		}
	}
	return key{0, -1, c, 0}
}

// near returns a random pair cell whose share is close to want.
func (f *Fleet) near(want float64, r *rand.Rand) int32 {
	for tolerance := 0.1; ; tolerance += 0.1 {
		var found []int32
		for i, share := range f.Tested {
			if int(f.inverse[i]) >= f.pair[0][1] && math.Abs(share/want-1) < tolerance {
				found = append(found, int32(i))
			}
		}
		if len(found) > 0 {
			return found[r.IntN(len(found))]
		}
	}
}

// regionOf is the region whose share is closest to want.
func (f *Fleet) regionOf(want float64) (best int) {
	for i, share := range f.regions {
		if math.Abs(share-want) < math.Abs(f.regions[best]-want) {
			best = i
		}
	}
	return best
}

// union is the share of the fleet that lies in any of the segments.
func (f *Fleet) union(ks []key) float64 {
	n := 0.0
	for _, p := range f.sample {
		if slices.ContainsFunc(ks, func(k key) bool { return k.has(p) }) {
			n++
		}
	}
	return n / float64(len(f.sample))
}

// beside is the size of the random cohort that coverage joins: what it covers by
// itself needs no coverage.
const beside = 4200

// cover chooses n endpoints as they check in, those first that avert most harm:
// fleet.Cover's rule on draws instead of a list.
func (f *Fleet) cover(n int, r *rand.Rand) cover {
	worth := make([][]float64, len(f.Tested))
	for i, share := range f.Tested {
		worth[i] = fleet.Worth(share, beside, health.Enough)
	}
	c := cover{count: make([]float64, len(f.Tested))}
	has := make([]int, len(f.Tested))
	buf := make([]int32, 0, perProfile)
	gain := func(p profile) (g float64) {
		for _, x := range f.cells(p, buf[:0]) {
			if k := has[x]; k < len(worth[x]) {
				g += worth[x][k]
			}
		}
		return g
	}
	best := 0.0
	for range 20_000 {
		best = max(best, gain(f.draw(r)))
	}
	for threshold := best; threshold > best/1e4 && len(c.members) < n; threshold *= 0.85 {
		for i := 0; i < 60_000 && len(c.members) < n; i++ {
			p := f.draw(r)
			if gain(p) < threshold {
				continue
			}
			c.members = append(c.members, p)
			for _, x := range f.cells(p, buf[:0]) {
				has[x]++
			}
		}
	}
	for x, n := range has {
		c.count[x] = float64(n)
	}
	return c
}
