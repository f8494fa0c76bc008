package notify

import (
	"slices"
	"strconv"
)

// Cell is one count of a table that others may see.
type Cell struct {
	Name string
	N    int
	// Suppressed: N is not to be shown.
	Suppressed bool
}

// Suppress hides what would let a reader tell who is meant: counts from 1 to
// k-1. If one count alone would be hidden, the next smallest is hidden too,
// because the total gives it away. total is false when the sum must be hidden as
// well. k below 2 hides nothing.
func Suppress(cells []Cell, k int) (out []Cell, total bool) {
	out = slices.Clone(cells)
	hidden, sum := 0, 0
	for i := range out {
		sum += out[i].N
		if out[i].N > 0 && out[i].N < k {
			out[i].Suppressed = true
			hidden++
		}
	}
	if hidden == 1 {
		next := -1
		for i, c := range out {
			if !c.Suppressed && c.N > 0 && (next < 0 || c.N < out[next].N) {
				next = i
			}
		}
		if next < 0 {
			return out, false // the total is the hidden count itself
		}
		out[next].Suppressed = true
	}
	// What the hidden counts sum to is the total less those shown: it must not be
	// small either.
	rest := 0
	for _, c := range out {
		if c.Suppressed {
			rest += c.N
		}
	}
	return out, hidden == 0 || (rest >= k && sum >= k)
}

// Text is the count as it may be shown. Every hidden count reads the same: which
// were hidden for being small must not show.
func (c Cell) Text() string {
	if c.Suppressed {
		return "hidden"
	}
	return strconv.Itoa(c.N)
}
