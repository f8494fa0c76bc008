package psirt

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// embargoBody is a fact that has to do with embargoes; ends lie hours away, so that
// many pass.
func embargoBody(rt *rapid.T, now time.Time) Body {
	party := rapid.SampledFrom([]string{"vendor:acme", "vendor:zeta"}).Draw(rt, "party")
	until := now.Add(time.Duration(rapid.IntRange(-1, 30).Draw(rt, "until")) * time.Hour).Format(time.RFC3339)
	bodies := []Body{
		&EmbargoProposed{Until: until}, &EmbargoAccepted{Party: party}, &EmbargoDeclined{Party: party}, &EmbargoRevised{Until: until, Why: "w"},
		&EmbargoProposed{Until: until}, &EmbargoAccepted{Party: party}, &EmbargoRevised{Until: until, Why: "w"},
		&EmbargoEnded{Why: "w"}, &PartyAdded{Party: party, As: "vendor"}, &CaseUnsealed{Why: "w"},
	}
	if rapid.IntRange(0, 7).Draw(rt, "event") == 0 {
		bodies = []Body{&BecamePublic{Where: "w"}, &ExploitSeen{Where: "w"}, &AttackSeen{Where: "w"}}
	}
	return rapid.SampledFrom(bodies).Draw(rt, "body")
}

// An embargo that has ended stays ended: by its hour, by a fact, or since it is
// public. Nothing is said about it any more, not a letter of it changes, and another
// one begins only when it has ended and nothing is known outside. Whether one has
// ended is kept here, from what was seen, and not asked of the case.
func TestAnEndedEmbargoStaysEnded(t *testing.T) {
	passed, renewed := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		c, now := *opened(rt), start
		for _, p := range []string{"vendor:acme", "vendor:zeta"} {
			add(rt, &c, now, &PartyAdded{Party: p, As: "vendor"})
		}
		var over []string // of each embargo, as it was when it ended; empty while it lives
		look := func() {
			for i, e := range c.Embargoes {
				if i == len(over) {
					over = append(over, "")
				}
				if over[i] == "" && (!e.Ended.IsZero() || !now.Before(e.Until)) {
					over[i] = asJSON(rt, e)
					passed++
				}
			}
		}
		for range rapid.IntRange(1, 60).Draw(rt, "tries") {
			now = now.Add(time.Duration(rapid.IntRange(0, 12).Draw(rt, "hours")) * time.Hour)
			look()
			f := record(rt, &c, now, embargoBody(rt, now))
			next, err := c.Apply(f)
			if err != nil {
				if !errors.Is(err, ErrIllegal) {
					rt.Fatalf("%s %s: %v", f.Kind, f.Body, err)
				}
				continue
			}
			n := len(over)
			lives := n > 0 && over[n-1] == ""
			proposed := f.Kind == (&EmbargoProposed{}).Kind()
			switch {
			case proposed && lives:
				rt.Fatalf("a second embargo began while one lives: %s", over)
			case proposed && c.State&(Public|ExploitPublic|AttackObserved) != 0:
				rt.Fatalf("an embargo began in state %s", c.State)
			case strings.HasPrefix(string(f.Kind), "embargo.") && !proposed && !lives:
				rt.Fatalf("%s %s was taken, and no embargo lives", f.Kind, f.Body)
			case proposed && n > 0:
				renewed++
			}
			c = next
			look()
			for i, was := range over {
				if was == "" {
					continue
				}
				if is := asJSON(rt, c.Embargoes[i]); is != was || c.Embargoes[i].State(now) != Ended {
					rt.Fatalf("%s changed the embargo that had ended; it is %s\n%s\n%s", f.Kind, c.Embargoes[i].State(now), was, is)
				}
			}
			if c.State&(Public|ExploitPublic) != 0 && len(over) > 0 && over[len(over)-1] == "" {
				rt.Fatalf("an embargo lives in state %s", c.State)
			}
		}
	})
	if passed == 0 || renewed == 0 {
		t.Errorf("%d embargoes ended, %d began after another: the test tries nothing", passed, renewed)
	}
}
