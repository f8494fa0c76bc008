package fleet

import (
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// drawIndex makes a fleet with skewed labels, a few tenants and some pairs.
func drawIndex(t *rapid.T) Index {
	n := rapid.IntRange(0, 400).Draw(t, "endpoints")
	ix := Index{Tenant: make([]uint32, n), Domain: make([]uint32, n)}
	for range rapid.IntRange(1, 5).Draw(t, "labels") {
		k := rapid.IntRange(1, 6).Draw(t, "values")
		col := make([]uint16, n)
		for e := range col {
			col[e] = uint16(rapid.IntRange(0, k-1).Draw(t, "value"))
		}
		ix.Values, ix.Cardinality = append(ix.Values, col), append(ix.Cardinality, k)
	}
	for e := range n {
		ix.Tenant[e] = uint32(e % 5)
		ix.Domain[e] = uint32(rapid.IntRange(0, 40).Draw(t, "domain"))
	}
	return ix
}

// TestCoverKeepsItsLimits: never both halves of a failure domain, never more of
// a tenant, never more than allowed; and it does not depend on the run.
func TestCoverKeepsItsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ix := drawIndex(t)
		want := Coverage{
			Most: rapid.IntRange(0, 60).Draw(t, "most"), LeastCell: rapid.IntRange(0, 5).Draw(t, "least"),
			Quota: rapid.IntRange(1, 4).Draw(t, "quota"), PerTenant: rapid.IntRange(0, 8).Draw(t, "per tenant"),
		}
		got := Cover(ix, want)
		if again := Cover(ix, want); !reflect.DeepEqual(got, again) {
			t.Fatalf("chose %v, then %v", got, again)
		}
		domains, tenants, seen := map[uint32]int{}, map[uint32]int{}, map[int]bool{}
		for _, e := range got.Members {
			if seen[e] {
				t.Fatalf("%d twice", e)
			}
			seen[e] = true
			tenants[ix.Tenant[e]]++
			if d := ix.Domain[e]; d != 0 {
				domains[d]++
				if domains[d] > 1 {
					t.Fatalf("both halves of domain %d", d)
				}
			}
			if want.PerTenant > 0 && tenants[ix.Tenant[e]] > want.PerTenant {
				t.Fatalf("%d endpoints of tenant %d", tenants[ix.Tenant[e]], ix.Tenant[e])
			}
		}
		if len(got.Members) > want.Most || got.Filled > got.Reached || got.Reached > got.Cells {
			t.Fatalf("%d of %d members; %+v", len(got.Members), want.Most, got)
		}
	})
}

// TestCoverReachesEveryPairWithRoomEnough, and no choice can with fewer than
// the lower bound.
func TestCoverReachesEveryPairWithRoomEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ix := drawIndex(t)
		ix.Domain, ix.Tenant = nil, nil
		got := Cover(ix, Coverage{Most: 1 << 20, LeastCell: 1, Quota: 1})
		if got.Reached != got.Cells || got.Filled != got.Cells || len(got.Members) < got.LowerBound {
			t.Fatalf("%+v", got)
		}
	})
}

// TestAMemberIsWorthTheHarmItAverts: nothing where chance exposes enough, the
// share of the fleet in all where it exposes none, and never more than the one
// before, so that a greedy choice is near the best.
func TestAMemberIsWorthTheHarmItAverts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share, beside, quota := rapid.Float64Range(0, 1).Draw(t, "share"), rapid.Float64Range(0, 1e6).Draw(t, "beside"), rapid.IntRange(1, 12).Draw(t, "quota")
		w, sum := Worth(share, beside, quota), 0.0
		for i, x := range w {
			sum += x
			if !(x >= 0) || i > 0 && x > w[i-1]*(1+1e-9) {
				t.Fatalf("%v of %v", x, w)
			}
		}
		below, term := 0.0, math.Exp(-share*beside)
		for k := range quota {
			below += term
			term *= share * beside / float64(k+1)
		}
		if math.Abs(sum-share*min(1, below)) > 1e-9 {
			t.Fatalf("%v come to %g; the chance of fewer than %d is %g", w, sum, quota, below)
		}
	})
	if w := Worth(0.0005, 0, 4); w[0] != 0.000125 || w[3] != 0.000125 {
		t.Errorf("without random members all four are worth the same: %v", w)
	}
}

func TestCriticalCombinationsComeFirst(t *testing.T) {
	ix := Index{Values: [][]uint16{{0, 0, 0, 1}, {0, 1, 0, 1}}, Cardinality: []int{2, 2}}
	got := Cover(ix, Coverage{Most: 1, Critical: []Combination{{0: 1, 1: 1}, {0: 1, 1: 0}}})
	if !reflect.DeepEqual(got.Members, []int{3}) || !reflect.DeepEqual(got.Uncovered, []int{1}) {
		t.Errorf("%+v", got)
	}
}
