package fleet

import (
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
	// is how many members a cell of LargeCell endpoints gets. A smaller one gets 1.
	LeastCell, LargeCell, Quota int
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
	// Cells are single values and pairs with LeastCell endpoints or more that need
	// members; Reached of them have one, Filled as many as they should.
	Cells, Reached, Filled int
	// LowerBound is how many members any choice needs for one in each pair: the
	// product of the two largest numbers of values that occur together.
	LowerBound int
	// Uncovered lists the critical combinations that no eligible endpoint has.
	Uncovered []int
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

// Cover chooses endpoints so that every pair of label values that is common
// enough has members, rare needs first: one pass in rank order per threshold of
// "how many needy cells would it help", the threshold falling (threshold greedy
// for submodular cover, Badanidiyuru and Vondrák 2014). Never two endpoints of a
// failure domain, never more than PerTenant of a tenant.
func Cover(ix Index, want Coverage) Covered {
	c := newCellIndex(ix)
	size := c.sizes()
	need := make([]int16, c.n)
	var out Covered
	for i, n := range size {
		if int(n) < max(1, want.LeastCell) {
			continue
		}
		need[i] = 1
		if int(n) >= want.LargeCell {
			expected := float64(n) / float64(len(ix.Values[0])) * float64(want.Beside)
			need[i] = int16(max(0, math.Ceil(float64(max(1, want.Quota))-expected)))
		}
	}
	full := slices.Clone(need)
	p := picker{c: c, want: want, need: need, tenants: map[uint32]int{}, domains: map[uint32]bool{}, chosen: map[int]bool{}, out: &out}
	p.critical()
	p.greedy()
	for i, n := range full {
		if n > 0 {
			out.Cells++
		}
		if n > 0 && need[i] < n {
			out.Reached++
		}
		if n > 0 && need[i] == 0 {
			out.Filled++
		}
	}
	out.LowerBound = c.lowerBound(size, want.LeastCell)
	return out
}

// picker is a choice in the making.
type picker struct {
	c       *cellIndex
	want    Coverage
	need    []int16
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
		p.need[x] = max(0, p.need[x]-1)
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

// greedy takes those that help at least threshold needy cells, the threshold
// falling by one; only the last pass looks at everybody it may.
func (p *picker) greedy() {
	if len(p.c.ix.Values) == 0 {
		return
	}
	labels, all := len(p.c.ix.Values), len(p.c.ix.Values[0])
	perPass := all
	if p.want.MaxCandidates > 0 {
		perPass = min(all, p.want.MaxCandidates)
	}
	buf := make([]int, 0, labels*(labels+1)/2)
	for threshold := cap(buf); threshold >= 1 && len(p.out.Members) < p.want.Most; threshold-- {
		last := perPass
		if threshold > 1 {
			last = min(perPass, 60_000)
		}
		for e := range last {
			cells, gain := p.c.of(e, buf[:0]), 0
			for _, x := range cells {
				if p.need[x] > 0 {
					gain++
				}
			}
			if gain >= threshold && p.eligible(e) {
				p.choose(e, cells)
			}
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
