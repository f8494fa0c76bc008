package psirt

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Opacity says how much of a release whoever runs it can see: a patch is a
// disclosure to those who hold it.
type Opacity string

// The opacities, from closed to open.
const (
	HostedOpaque      Opacity = "hosted-opaque"      // run by the provider itself: nobody outside sees what runs
	CustomerReachable Opacity = "customer-reachable" // on a customer's machines
	PublicTarget      Opacity = "public"             // where anybody may look
)

// Opacities lists them in order.
var Opacities = []Opacity{HostedOpaque, CustomerReachable, PublicTarget}

// ParseOpacity reads an opacity.
func ParseOpacity(s string) (Opacity, error) {
	o := Opacity(s)
	return o, oneOf("opacity", o, Opacities...)
}

// Within tells whether o is at most as open as most. What is unknown is as open
// as can be.
func (o Opacity) Within(most Opacity) bool {
	at := slices.Index(Opacities, o)
	return at >= 0 && at <= slices.Index(Opacities, most)
}

// Opacity is the most open kind of target that the rung lets a fix go to while an
// embargo is active.
func (r Rung) Opacity() Opacity {
	switch {
	case r.At() >= PublicRung.At():
		return PublicTarget
	case r.At() >= TenantsRung.At():
		return CustomerReachable
	}
	return HostedOpaque
}

// Withheld says that until an instant a fix goes only to targets that are opaque
// enough.
type Withheld struct {
	Until time.Time `json:"until"`
	Most  Opacity   `json:"most"` // the most open kind that it goes to
}

// From tells whether a fix is withheld from targets of an opacity at now.
func (w Withheld) From(o Opacity, now time.Time) bool {
	return now.Before(w.Until) && !o.Within(w.Most)
}

// Withheld is what the case's embargo allows of its fixes; the zero value, which
// withholds nothing, if none is active.
func (c *Case) Withheld(now time.Time) Withheld {
	e := c.Embargo()
	if e == nil || e.Active.IsZero() || e.State(now) == Ended || c.Rung.Opacity() == PublicTarget {
		return Withheld{}
	}
	return Withheld{Until: e.End(), Most: c.Rung.Opacity()}
}

// FixOpaque says that people looked at what a bound fix shows of itself, and that
// it does not give the case away, whatever words stand in it.
type FixOpaque struct {
	Product string `json:"product"`
	Version string `json:"version"`
	Why     string `json:"why"`
}

// Kind implements Body.
func (*FixOpaque) Kind() Kind { return "fix.opaque" }

func (b *FixOpaque) check() error {
	return first(line("product", b.Product), line("version", b.Version), line("why", b.Why))
}

func (b *FixOpaque) apply(c *Case, _ Fact) error {
	fix := FixBound{b.Product, b.Version}
	if !slices.Contains(c.Work.Fixes, fix) {
		return illegal("%s %s is no fix of the case", b.Product, b.Version)
	}
	if !slices.Contains(c.Work.Opaque, fix) {
		c.Work.Opaque = append(c.Work.Opaque, fix)
	}
	return nil
}

// Shown is a text that whoever can fetch a release can read of it, and where.
type Shown struct {
	Place string `json:"place"` // "target path", "file name", "README.md, line 3"
	Text  string `json:"text"`
}

// Revealed is a text that gives a case away, and the clue by which.
type Revealed struct {
	Shown
	Clue string `json:"clue"`
}

// telling are words that say of any release that it mends a vulnerability.
var telling = []string{
	"0day", "advisory", "cve", "cwe", "embargo", "embargoed", "exploit", "exploitable", "exploited", "exploits", "ghsa", "psirt",
	"rce", "security", "securityfix", "sqli", "ssrf", "uaf", "vuln", "vulnerabilities", "vulnerability", "vulnerable", "xss", "xxe", "zeroday",
}

// plain are words that a case's title has and that give nothing away.
var plain = []string{
	"about", "after", "again", "allow", "allows", "before", "below", "cannot", "could", "every", "first", "issue", "large", "other", "problem",
	"release", "report", "service", "should", "since", "small", "their", "there", "through", "under", "until", "update", "version", "where", "which", "while", "within", "without",
}

// shortestClue is the shortest word of a title that is looked for.
const shortestClue = 5

// clues are the words that give the case away in texts about a product.
func (c *Case) clues(product string) []string {
	own := words(product)
	out := slices.Clone(telling)
	say := []string{c.Title}
	if c.Work.Cause != nil {
		say = append(say, c.Work.Cause.Class)
	}
	say = append(say, c.Work.Variants()...)
	for _, text := range say {
		for _, w := range words(text) {
			if len(w) >= shortestClue && !slices.Contains(plain, w) {
				out = append(out, w)
			}
		}
	}
	for _, r := range c.Reports {
		out = append(out, words(r.Report)[1:]...)
	}
	return slices.DeleteFunc(out, func(w string) bool { return slices.Contains(own, w) })
}

// Reveals lists the texts of a release of a product that give the case away: by
// words that tell of a vulnerability, or by the case's own. It compares words and
// understands none: what it does not find may still tell.
func (c *Case) Reveals(product string, shown []Shown) (out []Revealed) {
	clues := c.clues(product)
	for _, s := range shown {
		for _, w := range words(s.Text) {
			if slices.Contains(clues, w) || slices.Contains(telling, strings.TrimRight(w, "0123456789")) || within(clues, w) { // cve19000001
				out = append(out, Revealed{s, w})
				break
			}
		}
	}
	return out
}

// shortestPart is the shortest clue of the case's own that is looked for within words.
const shortestPart = 7

// within tells whether a clue of the case's own stands within a word: "heapoverflows".
func within(clues []string, w string) bool {
	return slices.ContainsFunc(clues, func(c string) bool {
		return len(c) >= shortestPart && strings.Contains(w, c) && !slices.Contains(telling, c)
	})
}

// words parts a text into lower-case words, at case changes too: "fixParserCVE"
// is fix, parser and cve. Forms of one letter are one (NFKC: a full-width C is a C), and
// what is not seen, such as a soft hyphen, parts nothing.
func words(text string) (out []string) {
	var word []rune
	end := func() {
		if len(word) > 0 {
			out, word = append(out, strings.ToLower(string(word))), word[:0]
		}
	}
	before := ' '
	for _, r := range norm.NFKC.String(text) {
		if unicode.Is(unicode.Cf, r) {
			continue
		}
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			end()
		} else {
			if unicode.IsUpper(r) && unicode.IsLower(before) {
				end()
			}
			word = append(word, r)
		}
		before = r
	}
	end()
	return out
}
