package rollout

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// MaxEvidence is how many kinds of evidence a policy may ask for.
const MaxEvidence = 16

var evidenceKind = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Attested is one attestor's statement of how a release did in tests of a kind.
type Attested struct {
	Kind     string // "compatibility", "data-integrity", "regression"
	Attestor string
	Passed   bool // with warnings or without
	At       time.Time
}

// Lacking tells what evidence of a policy's kinds is lacking, in words; nil means
// that all is there. Of each attestor the last statement counts; one that failed
// is not outvoted by others that passed.
func (p Policy) Lacking(have []Attested) (out []string) {
	have = slices.Clone(have)
	slices.SortStableFunc(have, func(a, b Attested) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Attestor, b.Attestor)) })
	for _, kind := range p.Evidence {
		last := map[string]bool{}
		for _, a := range have {
			if a.Kind == kind {
				last[a.Attestor] = a.Passed
			}
		}
		var failed []string
		for attestor, passed := range last {
			if !passed {
				failed = append(failed, attestor)
			}
		}
		slices.Sort(failed)
		switch {
		case len(failed) > 0:
			out = append(out, fmt.Sprintf("%s: failed by %s", kind, strings.Join(failed, ", ")))
		case len(last) == 0:
			out = append(out, kind+": nobody attests it")
		}
	}
	return out
}

// checkEvidence refuses what cannot name evidence.
func (p Policy) checkEvidence() error {
	if len(p.Evidence) > MaxEvidence {
		return fmt.Errorf("%d kinds; limit %d", len(p.Evidence), MaxEvidence)
	}
	for i, kind := range p.Evidence {
		if !evidenceKind.MatchString(kind) {
			return fmt.Errorf("%.50q; want 1 to 40 of a-z, 0-9 and inner hyphens", kind)
		}
		if slices.Contains(p.Evidence[:i], kind) {
			return fmt.Errorf("%s is named twice", kind)
		}
	}
	return nil
}
