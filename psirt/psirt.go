// Package psirt knows reports and cases: what came in, and one vulnerability
// being handled.
//
// A case is its facts. Fold reads them in order and refuses what is illegal, so
// that a case in an illegal state cannot be stored; all else (phase, state,
// embargo, clocks, parties) is derived by pure functions of the case and of now.
// Nobody types a phase in.
//
// Its words: report, case, fact, member, party, embargo, clock, phase. It never
// stores, sends or measures anything, and it does not know who may see what: it
// only says which traffic-light label a fact carries and what a member may write.
package psirt

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The errors that callers tell apart, with errors.Is.
var (
	// ErrInvalid: the fact itself breaks a rule, whatever the case.
	ErrInvalid = errors.New("invalid")
	// ErrIllegal: the fact does not fit the case as it stands.
	ErrIllegal = errors.New("not possible as the case stands")
	// ErrForbidden: this member may not write this.
	ErrForbidden = errors.New("not this member's to write")
)

// Limits of what a fact may hold. They stand here because every decoder keeps
// them, and a form or importer wants to know them before.
const (
	MaxBody  = 256 << 10 // bytes of a fact's body
	MaxText  = 64 << 10  // bytes of a long text
	MaxLine  = 500       // bytes of a title or any other single line
	MaxList  = 1000      // elements of a list in a fact
	MaxFacts = 100_000   // facts of one case or report
)

// TLP is the Traffic Light Protocol 2.0 label of a fact (FIRST, August 2022).
type TLP string

// The labels, from open to closed.
const (
	Clear       TLP = "CLEAR"
	Green       TLP = "GREEN"
	Amber       TLP = "AMBER"
	AmberStrict TLP = "AMBER+STRICT"
	Red         TLP = "RED"
)

// Labels lists them in order.
var Labels = []TLP{Clear, Green, Amber, AmberStrict, Red}

// ParseTLP reads a label, with or without "TLP:", in any case.
func ParseTLP(s string) (TLP, error) {
	t := TLP(strings.TrimPrefix(strings.ToUpper(s), "TLP:"))
	if slices.Contains(Labels, t) {
		return t, nil
	}
	return "", fmt.Errorf("label %q: want CLEAR, GREEN, AMBER, AMBER+STRICT or RED: %w", s, ErrInvalid)
}

// Rank orders the labels: 0 is CLEAR, 4 is RED, -1 is none.
func (t TLP) Rank() int { return slices.Index(Labels, t) }

// RankTLP is the label of a rank.
func RankTLP(rank int) TLP { return Labels[min(max(rank, 0), len(Labels)-1)] }

var (
	reportName = regexp.MustCompile(`^RP-[0-9A-Z]{13}$`)
	caseName   = regexp.MustCompile(`^C-[0-9A-Z]{13}$`)
	// A principal is who may be a member: "operator:alice", "vendor:acme",
	// "tenant:example-corp".
	principalName = regexp.MustCompile(`^(operator|vendor|tenant):[a-z0-9]([a-z0-9._@-]{0,62}[a-z0-9])?$`)
	wordName      = regexp.MustCompile(`^[a-z0-9]([a-z0-9._/@-]{0,98}[a-z0-9])?$`)
	digestName    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	cveName       = regexp.MustCompile(`^CVE-[0-9]{4}-[0-9]{4,19}$`)
	cweName       = regexp.MustCompile(`^CWE-[0-9]{1,5}$`)
)

// CheckPrincipal refuses what is no principal.
func CheckPrincipal(s string) error {
	return match("principal", s, principalName, "operator:NAME, vendor:NAME or tenant:NAME")
}

func match(what, s string, re *regexp.Regexp, want string) error {
	if re.MatchString(s) {
		return nil
	}
	return invalid("%s %q: want %s", what, s, want)
}

func invalid(format string, a ...any) error {
	return fmt.Errorf(format+": %w", append(a, ErrInvalid)...)
}

func illegal(format string, a ...any) error {
	return fmt.Errorf(format+": %w", append(a, ErrIllegal)...)
}

// line checks a text of one line that must be there.
func line(what, s string) error {
	if s == "" {
		return invalid("%s: is empty", what)
	}
	return optionalLine(what, s)
}

func optionalLine(what, s string) error {
	switch {
	case len(s) > MaxLine:
		return invalid("%s: %d bytes; at most %d", what, len(s), MaxLine)
	case !utf8.ValidString(s):
		return invalid("%s: is no UTF-8", what)
	case strings.ContainsFunc(s, unicode.IsControl):
		return invalid("%s: has a control character; want one line", what)
	}
	return nil
}

// text checks a text of many lines that may be empty.
func text(what, s string) error {
	switch {
	case len(s) > MaxText:
		return invalid("%s: %d bytes; at most %d", what, len(s), MaxText)
	case !utf8.ValidString(s):
		return invalid("%s: is no UTF-8", what)
	case strings.ContainsRune(s, 0):
		return invalid("%s: has a NUL character", what)
	}
	return nil
}

// oneOf checks a word against the words that are allowed.
func oneOf[T ~string](what string, s T, want ...T) error {
	if slices.Contains(want, s) {
		return nil
	}
	words := make([]string, len(want))
	for i, w := range want {
		words[i] = string(w)
	}
	return invalid("%s %q: want %s", what, s, strings.Join(words, ", "))
}

// first is the first error of those given.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
