package fleet_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/fleet"
)

// TestTheChoiceKeepsItsLimits: never two of a failure domain, never more of a
// tenant than allowed, never more than there is room for; the same fleet in any
// order gives the same choice; and what is declared critical is chosen or named.
func TestTheChoiceKeepsItsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 120).Draw(t, "endpoints")
		all := make([]fleet.Member, n)
		for i := range all {
			l := fleet.Labels{"arch": rapid.SampledFrom([]string{"amd64", "arm64"}).Draw(t, "arch"), "host": fmt.Sprint(i)}
			if d := rapid.SampledFrom([]string{"", "X", "Y", "Z"}).Draw(t, "driver"); d != "" {
				l["driver"] = d
			}
			all[i] = fleet.Member{ID: int64(i + 1), Rank: rapid.Uint64Range(0, 50).Draw(t, "rank"), Labels: l,
				Tenant: rapid.SampledFrom([]string{"north", "south"}).Draw(t, "tenant"), Domain: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "domain")}
		}
		byID := slices.Clone(all)
		want := fleet.Coverage{Most: rapid.IntRange(0, 12).Draw(t, "most"), LeastCell: 2, Quota: 2, PerTenant: rapid.IntRange(0, 4).Draw(t, "per tenant")}
		critical := []fleet.Labels{{"arch": "arm64", "driver": "X"}, {"driver": "none"}}
		got := fleet.Choose(all, want, critical)
		rapid.Permutation(all).Draw(t, "order")
		slices.Reverse(all)
		if again := fleet.Choose(all, want, critical); !slices.Equal(got.Members, again.Members) {
			t.Fatalf("%v, and in another order %v", got.Members, again.Members)
		}
		tenants, domains, covered := map[string]int{}, map[string]bool{}, false
		for _, id := range got.Members {
			m := byID[id-1]
			if tenants[m.Tenant]++; want.PerTenant > 0 && tenants[m.Tenant] > want.PerTenant {
				t.Fatalf("%d of tenant %s", tenants[m.Tenant], m.Tenant)
			}
			if key := m.Tenant + m.Domain; m.Domain != "" && domains[key] {
				t.Fatalf("two of domain %s", m.Domain)
			} else {
				domains[key] = true
			}
			covered = covered || m.Labels.Match(critical[0])
		}
		if len(got.Members) > want.Most || got.Chosen != int64(len(got.Members)) || got.Reached > got.Cells || got.Filled > got.Reached {
			t.Fatalf("%+v", got)
		}
		if n > 0 && covered == slices.Contains(got.Uncovered, critical[0].String()) || !slices.Contains(got.Uncovered, critical[1].String()) {
			t.Fatalf("critical: covered %v, and not covered: %v", covered, got.Uncovered)
		}
	})
}

// TestWhatIsNotCoveredIsNamed.
func TestWhatIsNotCoveredIsNamed(t *testing.T) {
	var all []fleet.Member
	for i := range 40 {
		all = append(all, fleet.Member{ID: int64(i), Rank: uint64(i), Labels: fleet.Labels{"arch": []string{"amd64", "arm64"}[i%2], "driver": []string{"X", "Y"}[i/2%2]}})
	}
	got := fleet.Choose(all, fleet.Coverage{Most: 1, LeastCell: 1, Quota: 1}, nil)
	if got.Chosen != 1 || got.Cells != 8 || got.Reached != 3 || len(got.Missed) != 5 || !slices.Contains(got.Missed, "arch=arm64 & driver=Y") && !slices.Contains(got.Missed, "arch=amd64 & driver=X") {
		t.Errorf("%+v", got)
	}
}
