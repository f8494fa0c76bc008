package fleet

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sort"
)

// Member is an endpoint that may be chosen for coverage.
type Member struct {
	ID     int64
	Rank   uint64 // its place in line for the choice
	Labels Labels
	Tenant string
	Domain string // failure domain in the tenant; empty is none
}

// Reach is who was chosen for coverage, and how far a fleet is covered by them.
type Reach struct {
	Members []int64 `json:"-"` // ids, in the order of choice
	Chosen  int64   `json:"chosen"`
	// Cells are the label values and pairs of them that chance covers too thinly;
	// Reached have a chosen member, Filled as many as they lack. LowerBound is how
	// many members any choice needs for one in each pair.
	Cells      int64 `json:"cells"`
	Reached    int64 `json:"reached"`
	Filled     int64 `json:"filled"`
	LowerBound int64 `json:"lower_bound"`
	// Missed are the largest cells without a chosen member, and Uncovered the
	// declared combinations that no eligible endpoint has.
	Missed    []string `json:"missed,omitempty"`
	Uncovered []string `json:"uncovered,omitempty"`
}

// Limits of the columns that endpoints are looked at by.
const (
	maxColumns   = 16      // labels: those with the fewest values
	maxColumn    = 1000    // values of a label; with more it is a name, not a kind
	maxPairCells = 1 << 23 // pairs of values in all
	maxMissed    = 20
)

// Choose chooses endpoints for coverage among all, whose order it changes.
func Choose(all []Member, want Coverage, critical []Labels) Reach {
	sort.Slice(all, func(i, j int) bool {
		return all[i].Rank < all[j].Rank || all[i].Rank == all[j].Rank && all[i].ID < all[j].ID
	})
	ix, columns := columnsOf(all)
	var declared []int // of critical, those that some endpoint has
	var out Reach
	for i, l := range critical {
		if c, ok := columns.combination(l); ok {
			want.Critical = append(want.Critical, c)
			declared = append(declared, i)
		} else {
			out.Uncovered = append(out.Uncovered, l.String())
		}
	}
	if len(all) == 0 {
		return out
	}
	got := Cover(ix, want)
	for _, e := range got.Members {
		out.Members = append(out.Members, all[e].ID)
	}
	for _, i := range got.Uncovered {
		out.Uncovered = append(out.Uncovered, critical[declared[i]].String())
	}
	for _, c := range got.Missed {
		out.Missed = append(out.Missed, columns.name(c))
	}
	out.Chosen, out.Cells, out.Reached = int64(len(got.Members)), int64(got.Cells), int64(got.Reached)
	out.Filled, out.LowerBound = int64(got.Filled), int64(got.LowerBound)
	return out
}

// columns are labels as an Index has them: keys, and values by number.
type columns struct {
	keys   []string
	values [][]string
	number []map[string]uint16
}

// columnsOf puts a fleet's labels into columns. A label with very many values is a
// name: no two endpoints are alike in it, and it is left out; so are the labels
// with the most values, where there are too many.
func columnsOf(all []Member) (Index, columns) {
	seen := map[string]map[string]bool{}
	for _, m := range all {
		for k, v := range m.Labels {
			if seen[k] == nil {
				seen[k] = map[string]bool{}
			}
			if len(seen[k]) <= maxColumn {
				seen[k][v] = true
			}
		}
	}
	keys := slices.SortedFunc(maps.Keys(seen), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(seen[a]), len(seen[b])), cmp.Compare(a, b))
	})
	var c columns
	pairs, values := 0, 0
	for _, k := range keys {
		n := len(seen[k]) + 1
		if len(c.keys) == maxColumns || n > maxColumn || pairs+n*values > maxPairCells {
			break
		}
		pairs, values = pairs+n*values, values+n
		names := append([]string{""}, slices.Sorted(maps.Keys(seen[k]))...) // 0 is to have no such label
		number := make(map[string]uint16, n)
		for i, v := range names[1:] {
			number[v] = uint16(i + 1)
		}
		c.keys, c.values, c.number = append(c.keys, k), append(c.values, names), append(c.number, number)
	}
	ix := Index{Tenant: make([]uint32, len(all)), Domain: make([]uint32, len(all))}
	for l, k := range c.keys {
		column := make([]uint16, len(all))
		for e, m := range all {
			column[e] = c.number[l][m.Labels[k]] // absent is 0, and so is empty
		}
		ix.Values, ix.Cardinality = append(ix.Values, column), append(ix.Cardinality, len(c.values[l]))
	}
	tenants, domains := map[string]uint32{}, map[[2]string]uint32{}
	for e, m := range all {
		ix.Tenant[e] = numbered(tenants, m.Tenant)
		if m.Domain != "" {
			ix.Domain[e] = numbered(domains, [2]string{m.Tenant, m.Domain})
		}
	}
	return ix, c
}

// numbered gives each name a number from 1.
func numbered[K comparable](m map[K]uint32, name K) uint32 {
	if m[name] == 0 {
		m[name] = uint32(min(len(m)+1, math.MaxUint32))
	}
	return m[name]
}

// combination is labels by number; false if no endpoint has one of the values.
func (c columns) combination(l Labels) (Combination, bool) {
	out := Combination{}
	for k, v := range l {
		i := slices.Index(c.keys, k)
		if i < 0 || c.number[i][v] == 0 {
			return nil, false
		}
		out[i] = c.number[i][v]
	}
	return out, len(out) > 0
}

// name is a combination as people write it.
func (c columns) name(x Combination) string {
	out := Labels{}
	for l, v := range x {
		out[c.keys[l]] = c.values[l][v]
	}
	return out.String()
}
