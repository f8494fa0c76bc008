package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/internal/cputime"
	"github.com/headgate/headgate/release"
)

// product draws one of few products, version one of few versions, so that much
// matches and much does not.
var (
	products = rapid.SampledFrom([]string{"acme/fw", "acme/agent", "zen/db", "pkg:npm/lodash", "pkg:npm/%40acme/ui", "pkg:generic/openssl?os=linux", "pkg:generic/openssl"})
	versions = rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%d.%d.%d", rapid.IntRange(0, 2).Draw(t, "a"), rapid.IntRange(0, 3).Draw(t, "b"), rapid.IntRange(0, 2).Draw(t, "c"))
	})
)

// drawAffected draws a range of two ends at most, with what is left out.
func drawAffected(t *rapid.T) release.Affected {
	name := products.Draw(t, "product")
	scheme := "semver"
	if strings.HasPrefix(name, "pkg:npm") {
		scheme = "npm"
	}
	vs := rapid.SliceOfNDistinct(versions, 3, 3, rapid.ID).Draw(t, "ends")
	slices.SortFunc(vs, func(a, b string) int { return mustParse(scheme, a).Compare(mustParse(scheme, b)) })
	shape := rapid.SampledFrom([]string{"*", ">=A|!=B|<C", "A|>B|<=C", "<=A|>C", "B"}).Draw(t, "shape")
	return release.Affected{Name: name, Range: "vers:" + scheme + "/" + strings.NewReplacer("A", vs[0], "B", vs[1], "C", vs[2]).Replace(shape)}
}

func mustParse(scheme, v string) release.Version {
	out, err := release.Scheme(scheme).Parse(v)
	if err != nil {
		panic(err)
	}
	return out
}

// naive judges without an index, a memo or spans: each range's text by itself.
func naive(affected []release.Affected, c Component) (out []int) {
	base, qualifier, _ := strings.Cut(c.Name, "?")
	base, at, _ := strings.Cut(base, "@")
	if at == "" {
		at = c.Version
	}
	for i, a := range affected {
		want, q, _ := strings.Cut(a.Name, "?")
		if want != base || q != "" && q != qualifier {
			continue
		}
		scheme, list, _ := strings.Cut(strings.TrimPrefix(a.Range, "vers:"), "/")
		if list == "*" || naiveHolds(scheme, strings.Split(list, "|"), at) {
			out = append(out, i)
		}
	}
	return out
}

// naiveHolds: every version of the shapes above is held by an equality, or lies
// between the two ends that it must.
func naiveHolds(scheme string, list []string, version string) bool {
	v := mustParse(scheme, version)
	low, high := true, true // is v above the last lower end; below the last upper end
	open := false           // has there been any end
	for i, c := range list {
		op := strings.TrimRight(c, "0123456789.")
		n := v.Compare(mustParse(scheme, strings.TrimPrefix(c, op)))
		switch op {
		case "":
			if n == 0 {
				return true
			}
		case "!=":
			if n == 0 {
				return false
			}
		case "<", "<=":
			high = n < 0 || n == 0 && op == "<="
			if i == 0 && high {
				return true // "<=A|>C": two ranges
			}
			if i > 0 {
				return low && high
			}
		case ">", ">=":
			low, open = n > 0 || n == 0 && op == ">=", true
			if i == len(list)-1 {
				return low
			}
		}
	}
	return open && low && high
}

func TestTheMatcherFindsExactlyWhatEachRangeHolds(t *testing.T) {
	affected, safe := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		ranges := rapid.SliceOfN(rapid.Custom(drawAffected), 1, 12).Draw(t, "ranges")
		m, err := Compile(ranges)
		if err != nil {
			t.Fatal(err)
		}
		memo := m.Memo()
		for range 30 {
			c := Component{Name: products.Draw(t, "name"), Version: versions.Draw(t, "version")}
			if strings.HasPrefix(c.Name, "pkg:npm") && rapid.Bool().Draw(t, "within") {
				c = Component{Name: c.Name + "@" + c.Version}
			}
			want := naive(ranges, c)
			if got := m.Match(c); !slices.Equal(got.Ranges, want) || got.Unknown != "" {
				t.Fatalf("%v is held by %v, want %v of %v", c, got, want, ranges)
			}
			for range 2 { // learnt, and remembered
				got := memo.Match(c)
				if (got == nil) != (len(want) == 0) || got != nil && !slices.Equal(got.Ranges, want) {
					t.Fatalf("the memo says %v of %v, want %v", got, c, want)
				}
			}
			if len(want) > 0 {
				affected++
			} else {
				safe++
			}
		}
	})
	if affected == 0 || safe == 0 {
		t.Errorf("%d affected, %d safe: want some of each", affected, safe)
	}
}

// What has no place in the order is unknown: not affected, and not safe.
func TestAVersionThatCannotBeReadIsUnknown(t *testing.T) {
	m, err := Compile([]release.Affected{{Name: "acme/fw", Range: "vers:semver/<1.0.0"}, {Name: "pkg:generic/x?os=linux", Range: "vers:deb/<2.0"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		is      Component
		unknown bool
	}{
		{Component{"acme/fw", "latest"}, true},
		{Component{"acme/fw", ""}, true},
		{Component{"zen/fw", "latest"}, false},
		{Component{"pkg:generic/x@~?os=linux", ""}, true},
		{Component{"pkg:generic/x@~?os=bsd", ""}, false},
		{Component{"not a name", "latest"}, false},
	} {
		v := m.Match(c.is)
		if v.Affected() || (v.Unknown != "") != c.unknown {
			t.Errorf("%v: %+v", c.is, v)
		}
		if o := m.Memo().Match(c.is); (o != nil) != c.unknown {
			t.Errorf("the memo says %+v of %v", o, c.is)
		}
	}
}

func TestOneBadRangeFailsAllOfThem(t *testing.T) {
	good := release.Affected{Name: "acme/fw", Range: "vers:semver/<1.0.0"}
	if _, err := Compile([]release.Affected{good, {Name: "acme/fw", Range: "vers:semver/>x"}}); err == nil || !strings.Contains(err.Error(), "affected range 2") {
		t.Errorf("a bad range: %v", err)
	}
	if _, err := Compile(slices.Repeat([]release.Affected{good}, MaxRanges+1)); err == nil {
		t.Error("too many ranges were taken")
	}
}

// benchFleet is a fleet in which each endpoint has all of 20 products, and each
// range is about one of them: nothing can be passed over by its name. 40 versions
// of each product are in use.
type benchFleet struct {
	names    []string
	versions []string
}

func newBenchFleet() *benchFleet {
	f := &benchFleet{}
	for i := range 20 {
		f.names = append(f.names, fmt.Sprintf("vendor%d/product%d", i%5, i))
	}
	for i := range 40 {
		f.versions = append(f.versions, fmt.Sprintf("%d.%d.%d", 1+i/16, i/4%4, i%4))
	}
	return f
}

// endpoint fills in the products of endpoint i.
func (f *benchFleet) endpoint(i int, out []Component) {
	x := uint64(i)*0x9e3779b97f4a7c15 + 1
	for j := range out {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		out[j] = Component{Name: f.names[j], Version: f.versions[x>>32%uint64(len(f.versions))]}
	}
}

// ranges are n affected ranges over as many products as there are, each of some
// of the versions in use.
func (f *benchFleet) ranges(n int) (out []release.Affected) {
	for i := range n {
		out = append(out, release.Affected{Name: f.names[i*7%len(f.names)], Range: fmt.Sprintf("vers:semver/>=1.%d.0|!=1.%d.1|<2.%d.2", i%3, i%3, i%4)})
	}
	return out
}

// BenchmarkMatch is the price of one endpoint of 20 products, strings and all:
// ns/op times a million is a fleet's, and with 50 ranges it is less than 2 s of one
// core's time. It must not grow with the endpoints nor,
// but little, with the ranges.
func BenchmarkMatch(b *testing.B) {
	for _, ranges := range []int{5, 50, 500} {
		for _, endpoints := range []int{10_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("ranges=%d/endpoints=%d", ranges, endpoints), func(b *testing.B) {
				f := newBenchFleet()
				const products, chunk = 20, 1000
				inventory := make([]Component, products*chunk)
				var used time.Duration
				for b.Loop() {
					hits, began := 0, cputime.Used()
					m, err := Compile(f.ranges(ranges))
					if err != nil {
						b.Fatal(err)
					}
					memo := m.Memo()
					for at := 0; at < endpoints; at += chunk {
						b.StopTimer()
						used += cputime.Used() - began
						for i := range chunk {
							f.endpoint(at+i, inventory[i*products:(i+1)*products])
						}
						began = cputime.Used()
						b.StartTimer()
						for _, c := range inventory {
							if v := memo.Match(c); v != nil && v.Affected() {
								hits++
							}
						}
					}
					if used += cputime.Used() - began; hits == 0 {
						b.Fatal("nothing was affected")
					}
				}
				unit := "cpu-s/op"
				if ranges == 50 && endpoints == 1_000_000 {
					unit += "(goal<2)"
				}
				b.ReportMetric(used.Seconds()/float64(b.N), unit)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(endpoints), "ns/endpoint")
			})
		}
	}
}
