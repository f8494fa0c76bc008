package fleet

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Index holds the labels of a fleet by column, as numbers: two bytes per label
// and endpoint. Endpoints stand in order of rank, so that its beginning is a
// random sample.
type Index struct {
	// Values[l][e] is endpoint e's value of label l; Cardinality[l] is how many
	// values there are. A label that an endpoint does not have is a value too.
	Values      [][]uint16
	Cardinality []int
	// Tenant and Domain are numbers as well, 0 for none; either may be nil.
	Tenant, Domain []uint32
}

// Coverage is what to cover and within which limits.
type Coverage struct {
	Most int // endpoints
	// LeastCell is how many endpoints a cell must have to be worth a member; Quota
	// is how many members each should have, random ones included: as many deaths as
	// it takes to tell a bad segment from chance.
	LeastCell, Quota int
	// Beside is how many endpoints the random cohort has that goes at the same time:
	// what it can be expected to cover needs no member.
	Beside    int
	PerTenant int // endpoints of one tenant at most; 0 is no limit
	// Critical are combinations of label values that must be covered whatever
	// their size.
	Critical []Combination
	// MaxCandidates bounds how many endpoints are looked at in each pass.
	MaxCandidates int
}

// Combination is a set of label values: label number to value.
type Combination map[int]uint16

// Covered says who was chosen and how far the fleet is covered.
type Covered struct {
	Members []int // of the index, in the order of choice
	// Cells are single values and pairs with LeastCell endpoints or more of which
	// fewer than Quota can be expected to be drawn at random; Reached of them have a
	// chosen member, Filled as many as they lack.
	Cells, Reached, Filled int
	// LowerBound is how many members any choice needs for one in each pair: the
	// product of the two largest numbers of values that occur together.
	LowerBound int
	// Uncovered lists the critical combinations that no eligible endpoint has.
	Uncovered []int
	// Missed are the largest cells that have no chosen member.
	Missed []Combination
}

// cellIndex numbers single values and pairs.
type cellIndex struct {
	ix     Index
	single []int
	pair   [][]int
	n      int
}

func newCellIndex(ix Index) *cellIndex {
	c := &cellIndex{ix: ix}
	for _, k := range ix.Cardinality {
		c.single = append(c.single, c.n)
		c.n += k
	}
	for a := range ix.Cardinality {
		c.pair = append(c.pair, make([]int, len(ix.Cardinality)))
		for b := a + 1; b < len(ix.Cardinality); b++ {
			c.pair[a][b] = c.n
			c.n += ix.Cardinality[a] * ix.Cardinality[b]
		}
	}
	return c
}

// of appends the cells of endpoint e.
func (c *cellIndex) of(e int, out []int) []int {
	for a := range c.ix.Values {
		va := int(c.ix.Values[a][e])
		out = append(out, c.single[a]+va)
		for b := a + 1; b < len(c.ix.Values); b++ {
			out = append(out, c.pair[a][b]+va*c.ix.Cardinality[b]+int(c.ix.Values[b][e]))
		}
	}
	return out
}

// sizes counts the endpoints of every cell, one pair of columns at a time.
func (c *cellIndex) sizes() []int32 {
	n := make([]int32, c.n)
	for a, va := range c.ix.Values {
		for _, v := range va {
			n[c.single[a]+int(v)]++
		}
		for b := a + 1; b < len(c.ix.Values); b++ {
			cells, kb := n[c.pair[a][b]:], c.ix.Cardinality[b]
			vb := c.ix.Values[b]
			for e, v := range va {
				cells[int(v)*kb+int(vb[e])]++
			}
		}
	}
	return n
}

// Cover chooses the endpoints that together avert most harm by Worth, in rank
// order, the gain asked for falling from pass to pass (threshold greedy for
// submodular cover, Badanidiyuru and Vondrák 2014). Never two endpoints of a
// failure domain, never more than PerTenant of a tenant.
func Cover(ix Index, want Coverage) Covered {
	c := newCellIndex(ix)
	size := c.sizes()
	want.Quota = max(1, want.Quota)
	var out Covered
	p := picker{c: c, want: want, worth: make([][]float64, c.n), has: make([]int32, c.n), tenants: map[uint32]int{}, domains: map[uint32]bool{}, chosen: map[int]bool{}, out: &out}
	lack := make([]int32, c.n)
	for i, n := range size {
		if int(n) < max(1, want.LeastCell) {
			continue
		}
		share := float64(n) / float64(len(ix.Values[0]))
		p.worth[i] = Worth(share, float64(want.Beside), want.Quota)
		lack[i] = int32(max(0, math.Ceil(float64(want.Quota)-share*float64(want.Beside))))
	}
	p.critical()
	p.greedy()
	var missed []int
	for i, n := range lack {
		if n > 0 {
			out.Cells++
		}
		if n > 0 && p.has[i] == 0 {
			missed = append(missed, i)
		}
		if n > 0 && p.has[i] > 0 {
			out.Reached++
		}
		if n > 0 && p.has[i] >= n {
			out.Filled++
		}
	}
	out.LowerBound = c.lowerBound(size, want.LeastCell)
	slices.SortFunc(missed, func(a, b int) int { return cmp.Or(cmp.Compare(size[b], size[a]), cmp.Compare(a, b)) })
	for _, i := range missed[:min(len(missed), maxMissed)] {
		out.Missed = append(out.Missed, c.combination(i))
	}
	return out
}

// combination is the label values of a cell.
func (c *cellIndex) combination(cell int) Combination {
	for a, k := range c.ix.Cardinality {
		if v := cell - c.single[a]; v >= 0 && v < k {
			return Combination{a: uint16(v)}
		}
		for b := a + 1; b < len(c.ix.Cardinality); b++ {
			if v := cell - c.pair[a][b]; v >= 0 && v < k*c.ix.Cardinality[b] {
				return Combination{a: uint16(v / c.ix.Cardinality[b]), b: uint16(v % c.ix.Cardinality[b])}
			}
		}
	}
	panic(fmt.Sprintf("fleet: cell %d of %d is none", cell, c.n))
}

// Worth is what each further chosen member of a cell is worth, from the first to
// the quota-th: by how much it raises the chance that quota of its endpoints are
// exposed, times the cell's share of the fleet, which is what the next step would
// harm if the cell were bad and not seen. Beside are endpoints drawn at random.
//
// The chance is not concave in the members (one is worth little without the
// others), so that its least concave majorant is taken: the sum over cells is
// then submodular, and a greedy choice is near the best.
func Worth(share, beside float64, quota int) []float64 {
	seen := make([]float64, quota+1) // by members
	seen[quota] = 1
	term, below := math.Exp(-share*beside), 0.0
	for k := range quota {
		below += term // P(Poisson <= k)
		seen[quota-1-k] = max(0, 1-below)
		term *= share * beside / float64(k+1)
	}
	out := make([]float64, 0, quota)
	for len(out) < quota {
		from, to, best := len(out), len(out)+1, -1.0
		for d := from + 1; d <= quota; d++ {
			if slope := (seen[d] - seen[from]) / float64(d-from); slope > best {
				best, to = slope, d
			}
		}
		for range to - from {
			out = append(out, share*best)
		}
	}
	return out
}

// picker is a choice in the making.
type picker struct {
	c       *cellIndex
	want    Coverage
	worth   [][]float64 // by cell and members it has; none for cells too small
	has     []int32
	tenants map[uint32]int
	domains map[uint32]bool
	chosen  map[int]bool
	out     *Covered
}

// eligible tells whether an endpoint may be chosen besides those that are.
func (p *picker) eligible(e int) bool {
	if p.chosen[e] || len(p.out.Members) >= p.want.Most {
		return false
	}
	if d := p.c.ix.Domain; d != nil && d[e] != 0 && p.domains[d[e]] {
		return false
	}
	t := p.c.ix.Tenant
	return t == nil || p.want.PerTenant == 0 || p.tenants[t[e]] < p.want.PerTenant
}

func (p *picker) choose(e int, cells []int) {
	p.out.Members = append(p.out.Members, e)
	p.chosen[e] = true
	if d := p.c.ix.Domain; d != nil && d[e] != 0 {
		p.domains[d[e]] = true
	}
	if t := p.c.ix.Tenant; t != nil {
		p.tenants[t[e]]++
	}
	for _, x := range cells {
		p.has[x]++
	}
}

// critical takes one endpoint of each declared combination.
func (p *picker) critical() {
	for i, combination := range p.want.Critical {
		if !p.first(combination) {
			p.out.Uncovered = append(p.out.Uncovered, i)
		}
	}
}

func (p *picker) first(combination Combination) bool {
	if len(p.c.ix.Values) == 0 {
		return false
	}
	for e := range p.c.ix.Values[0] {
		has := true
		for l, v := range combination {
			has = has && l >= 0 && l < len(p.c.ix.Values) && p.c.ix.Values[l][e] == v
		}
		if has && p.chosen[e] {
			return true
		}
		if has && p.eligible(e) {
			p.choose(e, p.c.of(e, nil))
			return true
		}
	}
	return false
}

// falling is how far the gain asked for falls from pass to pass, and leastGain
// the part of the largest at which the last pass takes whoever helps at all.
const (
	falling   = 0.85
	leastGain = 1e-3
	firstLook = 60_000 // endpoints that all passes but the last look at
)

// gain is what an endpoint with these cells would add.
func (p *picker) gain(cells []int) (g float64) {
	for _, x := range cells {
		if w, k := p.worth[x], int(p.has[x]); k < len(w) {
			g += w[k]
		}
	}
	return g
}

// greedy takes those that add at least a threshold, the threshold falling; only
// the last pass looks at everybody it may, and takes whoever adds anything.
func (p *picker) greedy() {
	if len(p.c.ix.Values) == 0 {
		return
	}
	labels, all := len(p.c.ix.Values), len(p.c.ix.Values[0])
	if p.want.MaxCandidates > 0 {
		all = min(all, p.want.MaxCandidates)
	}
	buf := make([]int, 0, labels*(labels+1)/2)
	best := 0.0
	for e := range min(all, firstLook) {
		best = max(best, p.gain(p.c.of(e, buf[:0])))
	}
	for threshold := best; len(p.out.Members) < p.want.Most; threshold *= falling {
		last := threshold <= leastGain*best
		look := min(all, firstLook)
		if last {
			look, threshold = all, 0
		}
		for e := range look {
			cells := p.c.of(e, buf[:0])
			if g := p.gain(cells); g > 0 && g >= threshold && p.eligible(e) {
				p.choose(e, cells)
			}
		}
		if last {
			return
		}
	}
}

// lowerBound is the largest number of cells of one pair of labels: one endpoint
// covers only one of them.
func (c *cellIndex) lowerBound(size []int32, least int) int {
	most := 0
	for a := range c.ix.Values {
		for b := a + 1; b < len(c.ix.Values); b++ {
			n := 0
			for _, k := range size[c.pair[a][b] : c.pair[a][b]+c.ix.Cardinality[a]*c.ix.Cardinality[b]] {
				if int(k) >= max(1, least) {
					n++
				}
			}
			most = max(most, n)
		}
	}
	return most
}
