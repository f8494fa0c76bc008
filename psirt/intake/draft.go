// Package intake reads what others send in, CSAF, OSV and SARIF files, mail and
// OpenPGP, into one plain form, the draft of a report, and makes reporters'
// Markdown safe to show.
//
// It never decides what a report means (psirt does), never stores one and never
// sends anything. What it cannot read is an error that names the place; what it
// passes over it counts. Its words: draft, place, passed over.
package intake

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/headgate/headgate/internal/strict"
)

// Limits of what is read. What is above them is refused, but for a text: its end
// goes, visibly, because the file or message itself is kept beside the report.
const (
	MaxFile    = 16 << 20 // bytes of one imported file
	MaxDrafts  = 2000     // reports of one file
	MaxTitle   = 400      // bytes
	MaxText    = 48 << 10 // bytes of a report's own words
	maxList    = 1000     // entries of any list that a draft takes over
	maxString  = 2048     // bytes of a name, version, link
	maxPlaces  = 50       // code places that a SARIF draft spells out; the rest is counted
	maxBranch  = 64       // depth of a CSAF product tree
	maxProduct = 20000    // products of one CSAF tree
)

// ErrInvalid: the input breaks a rule of its format or a limit; the text names
// the place.
var ErrInvalid = errors.New("invalid")

// Format says how an imported file is written.
type Format string

// The formats.
const (
	CSAF  Format = "csaf"  // CSAF 2.0, one draft a vulnerability
	OSV   Format = "osv"   // OSV schema 1.x, one record or an array of them
	SARIF Format = "sarif" // SARIF 2.1.0, one draft a rule of a run
)

// Draft is what one report says, whoever sent it in whatever form. Texts are
// valid UTF-8 without control characters but for line breaks and tabs; Text is
// Markdown by somebody who is not trusted.
type Draft struct {
	// Ref is the sender's own name for it, such as an advisory's id; it is the
	// same when the same file comes again.
	Ref        string    `json:"ref,omitempty"`
	Title      string    `json:"title"`
	Text       string    `json:"text"`
	Aliases    []string  `json:"aliases,omitempty"` // CVE, GHSA and the like
	Products   []Product `json:"products,omitempty"`
	Scores     []Score   `json:"scores,omitempty"`
	Weaknesses []string  `json:"weaknesses,omitempty"` // "CWE-79"
	Links      []string  `json:"links,omitempty"`
	Credits    []Credit  `json:"credits,omitempty"`
	TLP        string    `json:"tlp,omitempty"` // as the sender marked it; empty if it did not
}

// Product is what a report says of one product. Nothing is concluded from a
// product that is not named.
type Product struct {
	Name     string   `json:"name"`
	PURL     string   `json:"purl,omitempty"`
	CPE      string   `json:"cpe,omitempty"`
	Status   string   `json:"status"` // affected, fixed, not_affected, under_investigation
	Versions []string `json:"versions,omitempty"`
	Ranges   []Range  `json:"ranges,omitempty"`
}

// Range is a run of versions, as OSV has it: from Introduced up to, and without,
// Fixed or Limit, or up to and with LastAffected.
type Range struct {
	Scheme       string `json:"scheme"` // SEMVER, ECOSYSTEM, GIT
	Repo         string `json:"repo,omitempty"`
	Introduced   string `json:"introduced"`
	Fixed        string `json:"fixed,omitempty"`
	LastAffected string `json:"last_affected,omitempty"`
	Limit        string `json:"limit,omitempty"`
}

// Score is a vector as the sender gave it; psirt computes what it is worth.
type Score struct {
	Scheme string `json:"scheme"` // CVSS_V2, CVSS_V3, CVSS_V4
	Vector string `json:"vector"`
}

// Credit names whom to thank.
type Credit struct {
	Name    string   `json:"name"`
	Contact []string `json:"contact,omitempty"`
}

// Import is what a file holds: drafts, and how many of its entries were passed
// over for which reason.
type Import struct {
	Drafts []Draft        `json:"drafts"`
	Passed map[string]int `json:"passed,omitempty"`
}

// Read reads a file of a format.
func Read(f Format, b []byte) (Import, error) {
	readers := map[Format]func([]byte) (Import, error){CSAF: ReadCSAF, OSV: ReadOSV, SARIF: ReadSARIF}
	read, ok := readers[f]
	if !ok {
		return Import{}, fmt.Errorf("format %q: want csaf, osv or sarif: %w", f, ErrInvalid)
	}
	if len(b) > MaxFile {
		return Import{}, fmt.Errorf("%s: %d bytes, limit %d: %w", f, len(b), MaxFile, ErrInvalid)
	}
	if at := firstInvalid(b); at >= 0 {
		return Import{}, fmt.Errorf("%s: %s: not UTF-8: %w", f, strict.Line(b, int64(at)), ErrInvalid)
	}
	im, err := read(b)
	if err != nil {
		return Import{}, fmt.Errorf("%s: %w", f, err)
	}
	if len(im.Drafts) > MaxDrafts {
		return Import{}, fmt.Errorf("%s: %d reports, limit %d: %w", f, len(im.Drafts), MaxDrafts, ErrInvalid)
	}
	for i, d := range im.Drafts {
		if im.Drafts[i], err = d.Clean(); err != nil {
			return Import{}, fmt.Errorf("%s: report %d (%s): %w", f, i+1, d.Ref, err)
		}
	}
	return im, nil
}

// textCut stands where a text's end was left out.
const textCut = "\n\n(Cut here: the whole is in the attachment.)"

// Clean removes what cannot be shown, cuts a title or text that is too long,
// and refuses what is missing and lists that are too long.
func (d Draft) Clean() (Draft, error) {
	d.Title, d.Text, d.Ref = cut(Line(d.Title), MaxTitle), Lines(d.Text), Line(d.Ref)
	if d.Title == "" {
		return d, fmt.Errorf("title: empty: %w", ErrInvalid)
	}
	if len(d.Text) > MaxText {
		d.Text = strings.TrimSpace(cut(d.Text, MaxText-len(textCut))) + textCut
	}
	for _, l := range []struct {
		name string
		n    int
	}{{"aliases", len(d.Aliases)}, {"products", len(d.Products)}, {"scores", len(d.Scores)}, {"weaknesses", len(d.Weaknesses)}, {"links", len(d.Links)}, {"credits", len(d.Credits)}} {
		if l.n > maxList {
			return d, fmt.Errorf("%s: %d entries, limit %d: %w", l.name, l.n, maxList, ErrInvalid)
		}
	}
	for _, s := range d.strings() {
		if *s = Line(*s); len(*s) > maxString {
			return d, fmt.Errorf("%.40q...: %d bytes, limit %d: %w", *s, len(*s), maxString, ErrInvalid)
		}
	}
	return d, nil
}

// strings are the draft's single-line texts, to be cleaned in place.
func (d *Draft) strings() (out []*string) {
	list := func(l []string) {
		for i := range l {
			out = append(out, &l[i])
		}
	}
	out = append(out, &d.Ref, &d.TLP)
	list(d.Aliases)
	list(d.Weaknesses)
	list(d.Links)
	for i := range d.Products {
		p := &d.Products[i]
		out = append(out, &p.Name, &p.PURL, &p.CPE, &p.Status)
		list(p.Versions)
		for j := range p.Ranges {
			r := &p.Ranges[j]
			out = append(out, &r.Scheme, &r.Repo, &r.Introduced, &r.Fixed, &r.LastAffected, &r.Limit)
		}
	}
	for i := range d.Scores {
		out = append(out, &d.Scores[i].Scheme, &d.Scores[i].Vector)
	}
	for i := range d.Credits {
		out = append(out, &d.Credits[i].Name)
		list(d.Credits[i].Contact)
	}
	return out
}

// Line is s as one line: no control characters, no bidirectional overrides, runs
// of spaces made one.
func Line(s string) string { return strings.Join(strings.Fields(scrub(s, ' ')), " ") }

// Lines is s with its lines ended by \n and without other control characters
// than the tab.
func Lines(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	return strings.TrimSpace(scrub(s, '\n'))
}

// scrub keeps a sender from moving the cursor or reordering what a triager
// reads. Line breaks become what is given.
func scrub(s string, br rune) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\u2028' || r == '\u2029':
			return br
		case r == '\t':
			return r
		case unicode.IsControl(r):
			return ' '
		case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0xfeff:
			return -1 // bidirectional controls, Unicode TR 36 3.4
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// cut shortens s to n bytes at most, between characters and visibly.
func cut(s string, n int) string {
	const mark = "…"
	if len(s) <= n {
		return s
	}
	end := n - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

func firstInvalid(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// jsonError says where in b a JSON error is.
func jsonError(b []byte, err error) error {
	return fmt.Errorf("%w: %w", strict.Error(b, err), ErrInvalid)
}
