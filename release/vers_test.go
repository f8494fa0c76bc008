package release

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The rows are VERS' own canonical and containment rules (clause 5 and the
// specification's examples), one each.
func TestARangeHoldsWhatVERSSays(t *testing.T) {
	for _, c := range []struct{ text, in, out string }{
		{"vers:semver/>=1.2.0|<1.4.3", "1.2.0 1.3.9 1.4.3-rc.1 1.4.2", "1.1.9 1.4.3 2.0.0 1.2.0-rc.1"},
		{"vers:semver/*", "0.0.1 99.0.0", ""},
		{"vers:semver/1.2.3", "1.2.3 1.2.3+build", "1.2.4 1.2.2"},
		{"vers:npm/1.2.3|>=2.0.0|<5.0.0", "1.2.3 2.0.0 4.9.9", "1.2.4 1.9.9 5.0.0"},
		{"vers:gem/>=2.2.0|!=2.2.1|<2.3.0", "2.2.0 2.2.2", "2.2.1 2.3.0"},
		{"vers:semver/<1.0.0|>=2.0.0|<2.1.0|>3.0.0", "0.1.0 2.0.5 3.0.1", "1.0.0 1.5.0 2.1.0 3.0.0"},
		{"vers:semver/!=0.5.0|<1.0.0", "0.4.0 0.6.0", "0.5.0 1.0.0"},
		{"vers:semver/>1.0.0|!=1.5.0", "1.4.0 2.0.0", "1.0.0 1.5.0"},
		{"vers:semver/>1.0.0|1.5.0", "1.4.0 1.5.0 2.0.0", "1.0.0"},
		{"vers:pypi/>=1.0a1|<1.0", "1.0a1 1.0rc2", "1.0 1.0.post1 0.9"},
		{"vers:maven/>=1.0|<1.0.1", "1.0 1.0.0", "1.0-alpha-1 1.0.1"},
		{"vers:deb/>=1%3A1.0-1|<1%3A1.0-3%2Bdeb12u2", "1:1.0-1 1:1.0-3 1:1.0-3+deb12u1", "1.0-2 1:1.0-3+deb12u2 1:1.0~rc1-1"},
		{"vers:rpm/<3.0.7-18.el9", "3.0.7-16.el9_2 0:3.0.7-17.el9", "3.0.7-18.el9 1:1.0-1"},
		{"vers:golang/<v1.2.3", "v1.2.2 v0.0.0-20200101000000-abcdefabcdef", "v1.2.3"},
	} {
		r, err := ParseRange(c.text)
		if err != nil {
			t.Error(err)
			continue
		}
		check := func(list string, want bool) {
			for _, s := range strings.Fields(list) {
				v, err := r.Scheme.Parse(s)
				if err != nil {
					t.Errorf("%s: %v", c.text, err)
				} else if got := r.Contains(v); got != want {
					t.Errorf("%s contains %s: %v, want %v", c.text, s, got, want)
				}
			}
		}
		check(c.in, true)
		check(c.out, false)
	}
}

// A range that is refused names the place; none is mended by guessing.
func TestAnInvalidRangeIsRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "want vers:TYPE"},
		{"semver/>=1.0.0", "want vers:TYPE"},
		{"vers:gentoo/1.0", `version scheme "gentoo"`},
		{"vers:invalid/1.0", `version scheme "invalid"`},
		{"vers:SEMVER/1.0.0", `version scheme "SEMVER"`},
		{"vers:semver/", "constraint 1"},
		{"vers:npm/>=1.0.0| <2.0.0", "byte 17"},
		{"vers:npm/|>=1.0.0|<2.0.0", "constraint 1"},
		{"vers:npm/>=1.0.0|<2.0.0|", "constraint 3"},
		{"vers:npm/>=1.0.0||<2.0.0", "constraint 2"},
		{"vers:npm/>=2.0.0|<1.0.0", "2.0.0 stands before 1.0.0"},
		{"vers:npm/1.0%2G0", "constraint 1"},
		{"vers:npm/=1.0.0", "means equal"},
		{"vers:npm/*|1.0.0", "* stands alone"},
		{"vers:npm/>=1.0.0|!=1.0.0|<2.0.0", "1.0.0 comes twice"},
		{"vers:semver/1.0.0|1.0.0+b", "comes twice"},
		{"vers:npm/>=1.0.0|>2.0.0", "by turns"},
		{"vers:npm/<1.0.0|<2.0.0", "by turns"},
		{"vers:npm/1.0.0|<2.0.0", "holds it already"},
		{"vers:npm/!=1.0.0", "only != constraints"},
		{"vers:semver/>=1.2", `semver version "1.2"`},
		{"vers:semver/" + strings.Repeat("1.0.0|", MaxConstraints) + "1.0.0", "501 constraints"},
		{"vers:semver/" + strings.Repeat("1", MaxVers), "limit"},
		{"vers:semver/1.0.0-" + strings.Repeat("a", MaxVersion), "want 1 to 200"},
	} {
		_, err := ParseRange(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v; want %q in it", c.text, err, c.want)
		}
	}
}

// contains is the specification's own algorithm, word for word, on the text: the
// naive way that spans are compared with.
func contains(t interface{ Fatal(...any) }, text, version string) bool {
	kind, list, _ := strings.Cut(strings.TrimPrefix(text, "vers:"), "/")
	s := Scheme(kind)
	at, err := s.Parse(version)
	if err != nil {
		t.Fatal(err)
	}
	if list == "*" {
		return true
	}
	var ops []string
	var versions []Version
	for p := range strings.SplitSeq(list, "|") {
		v := strings.TrimLeft(p, "<>=!")
		op := strings.TrimSuffix(p, v)
		parsed, err := s.Parse(strings.ReplaceAll(v, "%2B", "+"))
		if err != nil {
			t.Fatal(err)
		}
		equal := parsed.Compare(at) == 0
		if equal && (op == "" || op == "<=" || op == ">=") {
			return true
		}
		if equal && op == "!=" {
			return false
		}
		if op != "" && op != "!=" {
			ops, versions = append(ops, op[:1]), append(versions, parsed)
		}
	}
	for i := range ops {
		if i == 0 && ops[0] == "<" && at.Compare(versions[0]) < 0 {
			return true
		}
		if i == len(ops)-1 {
			return ops[i] == ">" && at.Compare(versions[i]) > 0
		}
		if ops[i] == ">" && at.Compare(versions[i]) > 0 && at.Compare(versions[i+1]) < 0 {
			return true
		}
	}
	return false
}

// semvers draws versions that lie close together.
var semvers = rapid.Custom(func(t *rapid.T) string {
	v := fmt.Sprintf("%d.%d.%d", rapid.IntRange(0, 2).Draw(t, "major"), rapid.IntRange(0, 3).Draw(t, "minor"), rapid.IntRange(0, 2).Draw(t, "patch"))
	return v + rapid.SampledFrom([]string{"", "", "", "-rc.1", "-rc.2", "-alpha"}).Draw(t, "pre")
})

// drawRange draws any range that VERS allows.
func drawRange(t *rapid.T) string {
	versions := rapid.SliceOfNDistinct(semvers, 1, 8, rapid.ID).Draw(t, "versions")
	slices.SortFunc(versions, func(a, b string) int {
		va, _ := SchemeOwn.Parse(a)
		vb, _ := SchemeOwn.Parse(b)
		return va.Compare(vb)
	})
	var parts []string
	last, lastPair := "", rapid.SampledFrom([]string{"<", ">"}).Draw(t, "first")
	for _, v := range versions {
		next := map[string]string{"<": ">", ">": "<"}[lastPair]
		ops := []string{"!=", next, next + "="}
		if last != "" || next != "<" {
			ops = append(ops, "")
		}
		if last == "=" && next == "<" {
			ops = []string{"!=", ""}
		}
		op := rapid.SampledFrom(ops).Draw(t, "op")
		if op == "" && next == "<" && last != "=" { // it would have to be followed by >
			op = "!="
		}
		switch op {
		case "":
			last = "="
		case "!=":
		default:
			last, lastPair = op, next
		}
		parts = append(parts, op+v)
	}
	return "vers:semver/" + strings.Join(parts, "|")
}

func TestSpansAreTheSpecificationsAlgorithm(t *testing.T) {
	held := 0
	rapid.Check(t, func(t *rapid.T) {
		text := drawRange(t)
		r, err := ParseRange(text)
		if err != nil {
			if !strings.Contains(err.Error(), "only !=") {
				t.Fatal(err)
			}
			return
		}
		for range 10 {
			v := semvers.Draw(t, "version")
			at, err := SchemeOwn.Parse(v)
			if err != nil {
				t.Fatal(err)
			}
			want := contains(t, text, v)
			if got := r.Contains(at); got != want {
				t.Fatalf("%s contains %s: %v, the specification says %v", text, v, got, want)
			}
			if want {
				held++
			}
		}
	})
	if held == 0 {
		t.Error("no range held anything")
	}
}

// Matching sorts versions and searches among them, so that each scheme must be a
// total order.
func TestEachSchemeIsATotalOrder(t *testing.T) {
	shapes := map[Scheme][]string{
		"semver": {"1.0.0", "1.0.0-rc.1", "1.0.0-1", "1.0.0-alpha.beta", "1.10.0", "2.0.0"},
		"npm":    {"1.0.0", "1.0.0-rc.1", "v1.0.1", "1.10.0", "1.9.9-0"},
		"pypi":   {"1.0", "1.0.0", "1.0a1", "1.0.dev1", "1.0.post1", "1!0.1", "1.0+local", "1.0rc1"},
		"maven":  {"1", "1.0", "1-alpha", "1-SNAPSHOT", "1-sp", "1.0.1", "1-foo", "1-1", "1.foo", "1-rc"},
		"golang": {"v1.0.0", "v1.0.0-0.20200101000000-abcdefabcdef", "v1.10.0", "v2.0.0+incompatible"},
		"cargo":  {"1.0.0", "1.0.0-rc.1", "1.10.0"}, "gem": {"1.0", "1.0.a", "1.0.0.1", "1.10", "1.0.pre.1"},
		"nuget": {"1.0", "1.0.0.1", "1.0.0-beta", "1.0.0-BETA.2"}, "composer": {"1.0", "1.0.0-RC1", "v1.0.1", "1.0.0-beta2"},
		"deb": {"1.0", "1.0-1", "1:0.5", "1.0~rc1-1", "1.0-1+deb12u1", "1.0.0", "1.0a", "1.0-1~bpo1"},
		"rpm": {"1.0", "1.0-1", "1:0.5", "1.0~rc1-1", "1.0^git1-1", "1.0-1.el9", "1.0a", "1.0-1.el9_2"},
	}
	for _, name := range Schemes() {
		var vs []Version
		for _, text := range shapes[Scheme(name)] {
			v, err := Scheme(name).Parse(text)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			vs = append(vs, v)
		}
		if len(vs) < 3 {
			t.Errorf("%s: only %d versions to compare", name, len(vs))
		}
		for _, a := range vs {
			for _, b := range vs {
				if a.Compare(b) != -b.Compare(a) {
					t.Errorf("%s: %s and %s have no order", name, a, b)
				}
				for _, c := range vs {
					if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
						t.Errorf("%s: %s ≤ %s ≤ %s, but not %[2]s ≤ %[4]s", name, a, b, c)
					}
				}
			}
		}
	}
}

func TestANameCoversOnlyWhatItNames(t *testing.T) {
	for _, c := range []struct {
		name, component string
		want            bool
	}{
		{"acme/fw", "acme/fw", true},
		{"acme/fw", "acme/fw2", false},
		{"pkg:npm/lodash", "pkg:npm/lodash@4.17.20", true},
		{"pkg:npm/%40acme/lodash", "pkg:npm/lodash@4.17.20", false},
		{"pkg:pypi/Django", "pkg:pypi/django@3.0", true},
		{"pkg:deb/debian/openssl?distro=bookworm", "pkg:deb/debian/openssl@3.0.11-1?arch=amd64&distro=bookworm", true},
		{"pkg:deb/debian/openssl?distro=bookworm", "pkg:deb/debian/openssl@3.0.11-1?distro=trixie", false},
		{"pkg:deb/debian/openssl?distro=bookworm", "pkg:deb/debian/openssl@3.0.11-1", false},
		{"pkg:golang/golang.org/x/net", "pkg:golang/golang.org/x/net@v0.1.0#html", true},
		{"cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:*", `cpe:2.3:a:openssl:openssl:1.1.1k:*:*:*:*:*:*:*`, true},
		{"cpe:2.3:a:acme:fw:*:*:*:*:pro:*:*:*", `cpe:2.3:a:acme:fw:1.0:*:*:*:lite:*:*:*`, false},
		{"cpe:2.3:a:acme:fw:*:*:*:*:*:*:*:*", `cpe:2.3:o:acme:fw:1.0:*:*:*:*:*:*:*`, false},
	} {
		n, err := ParseName(c.name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseName(c.component)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Covers(m); got != c.want {
			t.Errorf("%s covers %s: %v, want %v", c.name, c.component, got, c.want)
		}
	}
	if n, err := ParseName(`cpe:2.3:a:acme:fw\-x:1.0\-2:*:*:*:*:*:*:*`); err != nil || n.Version != "1.0-2" {
		t.Errorf("a CPE's version: %q, %v", n.Version, err)
	}
}

func TestAnAffectedRangeThatCanMatchNothingIsRefused(t *testing.T) {
	for _, a := range []Affected{
		{"pkg:npm/lodash@1.0.0", "vers:npm/1.0.0"}, {"pkg:npm/lodash", "vers:pypi/1.0"}, {"acme/fw", "vers:npm/1.0.0"},
		{"fw", "vers:semver/*"}, {"cpe:2.3:a:*:fw:*:*:*:*:*:*:*:*", "vers:semver/*"}, {"cpe:/a:acme:fw", "vers:semver/*"},
		{"pkg:npm/lodash", "npm/1.0.0"}, {"pkg:", "vers:npm/1.0.0"}, {"", "vers:npm/1.0.0"},
	} {
		if _, _, err := a.Parse(); err == nil {
			t.Errorf("%s was taken", a)
		}
	}
	if _, _, err := (Affected{"pkg:generic/openssl", "vers:semver/<3.0.0"}).Parse(); err != nil {
		t.Errorf("a package whose type has no order of its own: %v", err)
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"vers:semver/>=1.2.0|<1.4.3", "vers:maven/>=1-alpha|!=1-x|<2.0-rc-1", "vers:deb/1%3A1.0-1", "vers:pypi/*", "vers:rpm/<1.0^a"} {
		f.Add(s, "1.2.3")
	}
	f.Fuzz(func(t *testing.T, text, version string) {
		r, err := ParseRange(text)
		if err != nil {
			return
		}
		for _, s := range r.Spans() {
			if !s.Low.None() && !s.High.None() && s.Low.Version.Compare(s.High.Version) > 0 {
				t.Fatalf("%q has a span from %s to %s", text, s.Low.Version, s.High.Version)
			}
		}
		if v, err := r.Scheme.Parse(version); err == nil {
			r.Contains(v)
		}
	})
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"acme/fw", "pkg:npm/%40a/b@1?x=y#z", `cpe:2.3:a:acme:fw\-x:1.0\-2:*:*:*:*:*:*:*`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseName(text)
		if err != nil || strings.HasPrefix(n.Key, "cpe:") { // wildcards have no relation to each other
			return
		}
		if !n.Covers(n) {
			t.Fatalf("%q does not cover itself", text)
		}
	})
}
