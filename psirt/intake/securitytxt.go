package intake

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// SecurityTxt is a security.txt (RFC 9116): how to reach who answers for the
// product's security.
type SecurityTxt struct {
	Contact         []string // URIs, the preferred first; at least one
	Encryption      []string // URIs of keys
	Acknowledgments []string
	Canonical       []string // where this file is meant to be found
	Policy          []string
	Hiring          []string
	CSAF            []string // provider-metadata.json, CSAF 2.0 7.1.8
	Languages       []string // BCP 47
	// Life is for how long a copy may be trusted; RFC 9116 2.5.5 advises less
	// than a year.
	Life time.Duration
}

// maxLife is the longest that a file may be good for.
const maxLife = 366 * 24 * time.Hour

// Text is the file, unsigned, and when it expires.
func (s SecurityTxt) Text(now time.Time) ([]byte, time.Time, error) {
	if len(s.Contact) == 0 {
		return nil, time.Time{}, fmt.Errorf("security.txt: contact: none is given; RFC 9116 2.5.3 wants one: %w", ErrInvalid)
	}
	if s.Life <= 0 || s.Life > maxLife {
		return nil, time.Time{}, fmt.Errorf("security.txt: life: %s, want more than 0 and at most %s: %w", s.Life, maxLife, ErrInvalid)
	}
	expires := now.UTC().Add(s.Life).Truncate(time.Second)
	var b strings.Builder
	for _, f := range []struct {
		name string
		uris []string
	}{
		{"Contact", s.Contact}, {"Encryption", s.Encryption}, {"Acknowledgments", s.Acknowledgments},
		{"Canonical", s.Canonical}, {"Policy", s.Policy}, {"Hiring", s.Hiring}, {"CSAF", s.CSAF},
	} {
		for _, u := range f.uris {
			if err := checkURI(u); err != nil {
				return nil, time.Time{}, fmt.Errorf("security.txt: %s: %q: %w: %w", f.name, u, err, ErrInvalid)
			}
			fmt.Fprintf(&b, "%s: %s\n", f.name, u)
		}
	}
	if len(s.Languages) > 0 {
		langs := strings.Join(s.Languages, ", ")
		if Line(langs) != langs {
			return nil, time.Time{}, fmt.Errorf("security.txt: languages: %q: want one line: %w", langs, ErrInvalid)
		}
		fmt.Fprintf(&b, "Preferred-Languages: %s\n", langs)
	}
	fmt.Fprintf(&b, "Expires: %s\n", expires.Format(time.RFC3339))
	return []byte(b.String()), expires, nil
}

// Stale tells whether a file should be made anew: half its life is over.
func (s SecurityTxt) Stale(expires, now time.Time) bool { return expires.Sub(now) < s.Life/2 }

func checkURI(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return err
	case strings.ContainsAny(s, " \t\r\n") || Line(s) != s:
		return fmt.Errorf("has white space")
	case u.Scheme == "http":
		return fmt.Errorf("want https") // RFC 9116 2.5: web URIs MUST begin with https
	case u.Scheme == "" || len(s) > maxString:
		return fmt.Errorf("want a URI such as mailto:security@example.com")
	}
	return nil
}
