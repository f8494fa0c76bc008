package psirt

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// embargoed is a case with a fix of acme/rules 2 and an active embargo of ten days.
func embargoed(tb rapid.TB) *Case {
	c := opened(tb)
	for _, b := range []Body{
		&VendorIsAware{}, &PartyAdded{Party: "vendor:acme", As: "vendor"},
		&EmbargoProposed{Until: start.Add(10 * 24 * time.Hour).Format(time.RFC3339)}, &EmbargoAccepted{Party: "vendor:acme"},
		&FixBound{Product: "acme/rules", Version: "2"},
	} {
		add(tb, c, start, b)
	}
	return c
}

func TestAFixUnderEmbargoGoesAsFarAsTheRung(t *testing.T) {
	c := embargoed(t)
	for _, step := range []struct {
		rung Rung
		most Opacity
	}{{Sealed, HostedOpaque}, {Partners, HostedOpaque}, {TenantsRung, CustomerReachable}, {PublicRung, PublicTarget}} {
		if step.rung != Sealed {
			add(t, c, start, &RungOpened{Rung: step.rung, Decision: []byte("{}")})
		}
		w := c.Withheld(start)
		for _, o := range append(slices.Clone(Opacities), "", "new-kind") {
			want := step.rung != PublicRung && !o.Within(step.most)
			if got := w.From(o, start); got != want {
				t.Errorf("on rung %s, from %q: withheld is %v", step.rung, o, got)
			}
		}
		if w.From(PublicTarget, start.Add(11*24*time.Hour)) {
			t.Errorf("on rung %s a fix is withheld after the embargo's end", step.rung)
		}
	}
}

// Nothing is withheld before an embargo is active and after it ended, however.
func TestWithoutAnActiveEmbargoNothingIsWithheld(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, now := opened(rt), start
		for range rapid.IntRange(1, 40).Draw(rt, "tries") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(rt, "hours")) * time.Hour)
			if next, err := c.Apply(record(rt, c, now, anyBody(rt, now))); err == nil {
				*c = next
			}
			w, state := c.Withheld(now), c.EmbargoState(now)
			active := state == Active || state == Revised
			if w.From(PublicTarget, now) != (active && c.Rung.At() < PublicRung.At()) {
				rt.Fatalf("embargo %s on rung %s: withheld %+v", state, c.Rung, w)
			}
		}
	})
}

func TestAReleaseTellsByItsWords(t *testing.T) {
	c := embargoed(t)
	c.Title = "Heap overflow in the rule parser"
	add(t, c, start, &RootCauseSet{Class: "unchecked-length", Text: "t"})
	add(t, c, start, &VariantSearched{Query: "q", Corpus: "c", Total: 1, Reviewed: 1, Found: []string{"loader.c:203"}})
	for text, tells := range map[string]bool{
		"acme/rules/2.0.0/artifact.tar":                 false,
		"acme/rules/2.0.0-security.1/artifact.tar":      true,
		"acme/rules/2.0.0+cve.1900.1/artifact.tar":      true,
		"fixes CVE-1900-0001":                           true,
		"docs/fixParserOverflow.md":                     true,
		"OVERFLOW":                                      true,
		"lib/loader.so":                                 true,
		"checks each length":                            true,
		"faster start; the rules load in half the time": false, // the product's own name is no clue
		"exploitability of coal mines":                  false,
		"cve19000001":                                   true,
		"":                                              false,
	} {
		if got := c.Reveals("acme/rules", []Shown{{"file name", text}}); (len(got) > 0) != tells {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// However a word is written, glued together or hidden, it tells; a word that only
// has a short clue in it does not.
func TestATellingWordIsFoundHoweverItIsWritten(t *testing.T) {
	c := opened(t)
	add(t, c, start, &CaseTitled{Title: "Overflow in the zebra reader"})
	for text, want := range map[string]bool{
		"ＣＶＥ-1900-0001": true, "vulner\u00adability": true, "OVER\u200bFLOW": true, "heapoverflows.txt": true, "Overflow": true,
		"zebras": false, "flow control": false, "readers": false, "faster": false,
	} {
		if got := c.Reveals("acme/rules", []Shown{{"README", text}}); (len(got) > 0) != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
