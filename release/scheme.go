package release

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	eco "deps.dev/util/semver"
	"github.com/Masterminds/semver/v3"
	deb "github.com/knqyf263/go-deb-version"
	rpm "github.com/knqyf263/go-rpm-version"
)

// MaxVersion is the longest version that is read, in bytes: some of the orders
// below compare in time that grows with it.
const MaxVersion = 200

// Scheme is a way to order versions, by the name of its vers type.
type Scheme string

// SchemeOwn orders the versions of Headgate's own products: Semantic Versioning
// 2.0.0 in its strict form, as CheckVersion wants it.
const SchemeOwn Scheme = "semver"

// order reads and compares versions of one scheme. compare is a total order.
type order struct {
	parse   func(string) (any, error)
	compare func(a, b any) int
}

// orders are the schemes known here. vers has more; a range in one of those is
// refused and never guessed at.
var orders = map[Scheme]order{
	SchemeOwn:  {parse: func(s string) (any, error) { return semver.StrictNewVersion(s) }, compare: func(a, b any) int { return a.(*semver.Version).Compare(b.(*semver.Version)) }},
	"npm":      ecosystem(eco.NPM),
	"pypi":     ecosystem(eco.PyPI),
	"maven":    ecosystem(eco.Maven),
	"golang":   ecosystem(eco.Go),
	"cargo":    ecosystem(eco.Cargo),
	"gem":      ecosystem(eco.RubyGems),
	"nuget":    ecosystem(eco.NuGet),
	"composer": ecosystem(eco.Composer),
	"deb":      {parse: parseDeb, compare: func(a, b any) int { return a.(*deb.Version).Compare(*b.(*deb.Version)) }},
	"rpm":      {parse: parseRPM, compare: func(a, b any) int { return a.(rpm.Version).Compare(b.(rpm.Version)) }},
}

func ecosystem(s eco.System) order {
	return order{
		parse:   func(text string) (any, error) { return s.Parse(text) },
		compare: func(a, b any) int { return a.(*eco.Version).Compare(b.(*eco.Version)) },
	}
}

func parseDeb(s string) (any, error) {
	v, err := deb.NewVersion(s)
	return &v, err
}

// rpmVersion is [epoch:]version[-release]; the library reads anything.
var rpmVersion = regexp.MustCompile(`^([0-9]{1,9}:)?[A-Za-z0-9._+~^]+(-[A-Za-z0-9._+~^]+)?$`)

func parseRPM(s string) (any, error) {
	if !rpmVersion.MatchString(s) {
		return nil, fmt.Errorf("want [epoch:]version[-release] of A-Z, a-z, 0-9 and . _ + ~ ^")
	}
	return rpm.NewVersion(s), nil
}

// Schemes lists the schemes known here, sorted.
func Schemes() []string {
	var out []string
	for s := range maps.Keys(orders) {
		out = append(out, string(s))
	}
	slices.Sort(out)
	return out
}

// schemeOf gives the scheme that a vers or purl type names: by convention the
// two have the same names.
func schemeOf(name string) (Scheme, error) {
	s := Scheme(name)
	if _, ok := orders[s]; !ok {
		return "", fmt.Errorf("version scheme %q: known are %s: %w", name, strings.Join(Schemes(), ", "), ErrInvalid)
	}
	return s, nil
}

// Version is a version that was read by a scheme. The zero value is none.
type Version struct {
	scheme Scheme
	text   string
	value  any
}

// String is the version as it was written.
func (v Version) String() string { return v.text }

// Parse reads a version. What cannot be read has no place in the order: whoever
// asks must take that as unknown.
func (s Scheme) Parse(text string) (v Version, err error) {
	o, ok := orders[s]
	if !ok {
		_, err := schemeOf(string(s))
		return Version{}, err
	}
	if text == "" || len(text) > MaxVersion {
		return Version{}, fmt.Errorf("%s version of %d bytes: want 1 to %d: %w", s, len(text), MaxVersion, ErrInvalid)
	}
	value, err := o.parse(text)
	if err != nil {
		return Version{}, fmt.Errorf("%s version %q: %w: %w", s, text, err, ErrInvalid)
	}
	return Version{scheme: s, text: text, value: value}, nil
}

// Compare is -1, 0 or 1 as v comes before, with or after w, of the same scheme.
// Versions of two schemes have no order: to compare them is a bug.
func (v Version) Compare(w Version) int {
	if v.scheme != w.scheme || v.value == nil {
		panic("release: versions of " + string(v.scheme) + " and " + string(w.scheme) + " have no order")
	}
	return cmp.Compare(orders[v.scheme].compare(v.value, w.value), 0)
}
