package rollout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Applied is one revision of a policy that operators put in force: what it says
// never changes.
type Applied struct {
	Name     string
	Revision int64 // from 1
	Policy   Policy
}

// Ref names a policy: by its newest revision, or by a given one.
type Ref struct {
	Name     string
	Revision int64 // 0 is the newest
}

// String is "name", or "name@3".
func (r Ref) String() string {
	if r.Revision == 0 {
		return r.Name
	}
	return r.Name + "@" + strconv.FormatInt(r.Revision, 10)
}

var policyName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckName refuses a name that an applied policy cannot have. The presets' are
// taken: what a name means must not depend on who reads it.
func CheckName(name string) error {
	if !policyName.MatchString(name) {
		return fmt.Errorf("policy name %q: want 1 to 63 of a-z, 0-9 and inner hyphens: %w", name, ErrInvalid)
	}
	for _, preset := range append(Presets(), "ladder") {
		if name == preset || name == preset+"-1" {
			return fmt.Errorf("policy name %q: it is a preset's: choose another: %w", name, ErrInvalid)
		}
	}
	return nil
}

// ParseRef reads "name" or "name@3".
func ParseRef(s string) (Ref, error) {
	name, rev, given := strings.Cut(s, "@")
	r := Ref{Name: name}
	if !policyName.MatchString(name) {
		return r, fmt.Errorf("policy %q: want NAME or NAME@REVISION: %w", s, ErrInvalid)
	}
	if !given {
		return r, nil
	}
	var err error
	if r.Revision, err = strconv.ParseInt(rev, 10, 64); err != nil || r.Revision < 1 {
		return r, fmt.Errorf("policy %q: revision %q: want a number from 1: %w", s, rev, ErrInvalid)
	}
	return r, nil
}

// Document is the policy written out whole, in one form: two policies are the
// same if and only if their documents are.
func (p Policy) Document() ([]byte, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write policy %q: %w", p.Name, err)
	}
	return b, nil
}

// Same tells whether two policies say the same.
func (p Policy) Same(q Policy) bool {
	a, errA := p.Document()
	b, errB := q.Document()
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// unknown finds the keys of a document that no field has, each with its place.
// What Fields does not list does not exist.
func unknown(document []byte) (places []string) {
	var v any
	if json.Unmarshal(document, &v) != nil {
		return nil // the decoder says what is wrong with it
	}
	known, open := map[string]bool{}, map[string]bool{}
	for _, f := range fields {
		known[f.Path] = true
	}
	open["declared.harmed"] = true // its keys are faults, not fields
	var walk func(v any, path, place string)
	walk = func(v any, path, place string) {
		switch v := v.(type) {
		case []any:
			for i, e := range v {
				walk(e, path+"[]", place+"["+strconv.Itoa(i)+"]")
			}
		case map[string]any:
			for key, e := range v {
				p, at := strings.TrimPrefix(path+"."+key, "."), strings.TrimPrefix(place+"."+key, ".")
				switch {
				case !known[p]:
					places = append(places, at)
				case !open[p]:
					walk(e, p, at)
				}
			}
		}
	}
	walk(v, "", "")
	slices.Sort(places)
	return places
}
