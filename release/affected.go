package release

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/knqyf263/go-cpe/common"
	"github.com/knqyf263/go-cpe/matching"
	"github.com/knqyf263/go-cpe/naming"
	purl "github.com/package-url/packageurl-go"
)

// MaxComponentName is the longest product name, PURL or CPE in bytes.
const MaxComponentName = 1024

// Name names a component: a product of Headgate's ("acme/fw"), a package by its
// PURL ("pkg:npm/lodash"), or a platform by its CPE 2.3 formatted string. The
// zero value names nothing.
type Name struct {
	// Key is the same for all names that may mean the same: the product; the PURL's
	// type, namespace and name; "cpe:" with the CPE's part, vendor and product.
	Key string
	// Version is the one in the PURL or CPE, if any.
	Version string

	scheme     Scheme // of the PURL's type; empty if unknown
	qualifiers map[string]string
	cpe        common.WellFormedName // without its version
}

// ParseName reads a product, a PURL or a CPE.
func ParseName(text string) (Name, error) {
	if len(text) > MaxComponentName {
		return Name{}, fmt.Errorf("component name of %d bytes, limit %d: %w", len(text), MaxComponentName, ErrInvalid)
	}
	switch {
	case strings.HasPrefix(text, "pkg:"):
		return parsePURL(text)
	case strings.HasPrefix(text, "cpe:"):
		return parseCPE(text)
	}
	if _, _, err := SplitProduct(text); err != nil {
		return Name{}, err
	}
	return Name{Key: text, scheme: SchemeOwn}, nil
}

func parsePURL(text string) (Name, error) {
	p, err := purl.FromString(text)
	if err != nil {
		return Name{}, fmt.Errorf("PURL %q: %w: %w", text, err, ErrInvalid)
	}
	n := Name{Version: p.Version, qualifiers: p.Qualifiers.Map()}
	n.scheme, _ = schemeOf(p.Type)
	p.Version, p.Qualifiers, p.Subpath = "", nil, ""
	n.Key = p.ToString()
	return n, nil
}

func parseCPE(text string) (Name, error) {
	bad := func(why any) (Name, error) {
		return Name{}, fmt.Errorf("CPE %q: %v: want a CPE 2.3 formatted string that names part, vendor and product: %w", text, why, ErrInvalid)
	}
	if !strings.HasPrefix(text, "cpe:2.3:") {
		return bad("no CPE 2.3")
	}
	w, err := naming.UnbindFS(text)
	if err != nil {
		return bad(err)
	}
	key := "cpe"
	for _, attr := range []string{common.AttributePart, common.AttributeVendor, common.AttributeProduct} {
		s, ok := w.Get(attr).(string)
		if !ok || strings.ContainsAny(strings.ReplaceAll(strings.ReplaceAll(s, `\*`, ""), `\?`, ""), "*?") {
			return bad(attr + " is a wildcard")
		}
		key += ":" + s
	}
	n := Name{Key: key, cpe: w}
	if v, ok := w.Get(common.AttributeVersion).(string); ok {
		n.Version = unquoteCPE(v)
	}
	delete(w, common.AttributeVersion) // which is for ranges to judge
	return n, nil
}

// unquoteCPE drops the backslashes that quote a CPE attribute's punctuation.
func unquoteCPE(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Covers tells whether a component is one of those that n names: the same
// product; the same package, with every qualifier that n has; or a CPE that n's
// is a superset of (NISTIR 7696).
func (n Name) Covers(c Name) bool {
	if n.Key != c.Key || n.Key == "" {
		return false
	}
	if n.cpe != nil {
		return c.cpe != nil && matching.IsSuperset(n.cpe, c.cpe)
	}
	for k, v := range n.qualifiers {
		if c.qualifiers[k] != v {
			return false
		}
	}
	return true
}

// Affected says that some versions of a component have a vulnerability.
type Affected struct {
	Name  string `json:"name"`  // product, PURL or CPE, without a version
	Range string `json:"range"` // vers
}

// Parse reads both parts and refuses what can match nothing: a name with a
// version beside the range, a range in another scheme than the package's.
func (a Affected) Parse() (Name, Range, error) {
	n, err := ParseName(a.Name)
	if err != nil {
		return Name{}, Range{}, err
	}
	r, err := ParseRange(a.Range)
	switch {
	case err != nil:
		return Name{}, Range{}, fmt.Errorf("%s: %w", a.Name, err)
	case n.Version != "":
		return Name{}, Range{}, fmt.Errorf("%s: the version %s belongs into the range: %w", a.Name, n.Version, ErrInvalid)
	case n.scheme != "" && n.scheme != r.Scheme:
		return Name{}, Range{}, fmt.Errorf("%s: its versions are ordered by %s, the range's by %s: %w", a.Name, n.scheme, r.Scheme, ErrInvalid)
	}
	return n, r, nil
}

// String is the form that people read and type: "NAME RANGE".
func (a Affected) String() string { return a.Name + " " + a.Range }

// Qualifiers lists a PURL's qualifiers as "key=value", sorted.
func (n Name) Qualifiers() []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(n.qualifiers)) {
		out = append(out, k+"="+n.qualifiers[k])
	}
	return out
}
