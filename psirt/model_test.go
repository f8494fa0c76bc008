package psirt

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// record makes a placed fact behind c.
func record(tb rapid.TB, c *Case, now time.Time, b Body) Fact {
	tb.Helper()
	f, err := Draft(b, now, "")
	if err != nil {
		tb.Fatalf("draft %s: %v", b.Kind(), err)
	}
	f.ID, f.Seq, f.Recorded, f.Actor = c.Revision+1, c.Revision, now, "operator:ann"
	return f
}

// add applies a body, which must be legal.
func add(tb rapid.TB, c *Case, now time.Time, b Body) {
	tb.Helper()
	next, err := c.Apply(record(tb, c, now, b))
	if err != nil {
		tb.Fatalf("%s in state %s: %v", b.Kind(), c.State, err)
	}
	*c = next
}

func opened(tb rapid.TB) *Case {
	c := &Case{}
	add(tb, c, start, &CaseOpened{Title: "overflow"})
	add(tb, c, start, &MemberAdded{Principal: "operator:ann", Role: Lead, UpTo: Red})
	return c
}

// eventBody is a fact that says that an event happened.
func eventBody(event State) Body {
	return map[State]Body{
		VendorAware: &VendorIsAware{}, FixReady: &FixIsReady{}, FixDeployed: &FixMeasured{Lower: 1, N: 10, Verified: 10},
		Public: &BecamePublic{Where: "x"}, ExploitPublic: &ExploitSeen{Where: "x"}, AttackObserved: &AttackSeen{Where: "x"},
	}[event]
}

func TestThirtyTwoOfSixtyFourStatesAreLegal(t *testing.T) {
	legal := 0
	for s := State(0); s < 64; s++ {
		if s.Legal() {
			legal++
			if got, err := ParseState(s.String()); err != nil || got != s {
				t.Errorf("%s reads back as %s, %v", s, got, err)
			}
		} else if _, err := ParseState(s.String()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s is illegal and reads: %v", s, err)
		}
	}
	if legal != 32 {
		t.Fatalf("%d states are legal, the model has 32", legal)
	}
}

// Every legal state can be reached by facts, no illegal one can, whatever the
// order in which facts are tried.
func TestExactlyTheLegalStatesAreReachable(t *testing.T) {
	reached := map[State]bool{}
	var walk func(c Case, s State)
	walk = func(c Case, s State) {
		if reached[s] {
			return
		}
		reached[s] = true
		for _, event := range Events {
			next, err := c.Apply(record(t, &c, start, eventBody(event)))
			want, legal := s.Next(event)
			if (err == nil) != (legal == nil) {
				t.Fatalf("%s in %s: the case says %v, the model %v", eventNames[event], s, err, legal)
			}
			if err != nil {
				if !errors.Is(err, ErrIllegal) || next.Revision != c.Revision {
					t.Fatalf("%s in %s: %v at revision %d of %d", eventNames[event], s, err, next.Revision, c.Revision)
				}
				continue
			}
			if next.State != want || !next.State.Legal() || !next.State.Has(s) {
				t.Fatalf("%s in %s leads to %s, want %s", eventNames[event], s, next.State, want)
			}
			walk(next, next.State)
		}
	}
	walk(*opened(t), 0)
	for s := State(0); s < 64; s++ {
		if reached[s] != s.Legal() {
			t.Errorf("state %s: reached %v, legal %v", s, reached[s], s.Legal())
		}
	}
}

func TestUnstableStatesSayWhatMustFollow(t *testing.T) {
	for s := State(0); s < 64; s++ {
		if !s.Legal() {
			continue
		}
		want := s.Has(ExploitPublic) && !s.Has(Public) || s.Has(Public) && !s.Has(VendorAware)
		if got := s.Unstable() != ""; got != want {
			t.Errorf("%s: unstable is %v, want %v", s, got, want)
		}
	}
}

// anyBody draws a body that is well-formed by itself; whether it is legal depends
// on the case.
func anyBody(rt *rapid.T, now time.Time) Body {
	party := rapid.SampledFrom([]string{"vendor:acme", "vendor:zeta", "cert"}).Draw(rt, "party")
	who := rapid.SampledFrom([]string{"operator:ann", "operator:bob", "vendor:acme"}).Draw(rt, "who")
	until := now.Add(time.Duration(rapid.IntRange(-5, 40).Draw(rt, "days")) * 24 * time.Hour).Format(time.RFC3339)
	fraction := rapid.Float64Range(0, 1).Draw(rt, "fraction")
	bodies := []Body{
		&CaseOpened{Title: "again"}, &CaseTitled{Title: "t"}, &CaseSealed{Why: "w"}, &CaseUnsealed{Why: "w"}, &CaseClosed{Why: "w"},
		&MemberAdded{Principal: who, Role: Observer, UpTo: Amber}, &MemberRemoved{Principal: who}, &OwnerSet{Owner: who},
		&PageRaised{To: who, Why: "w"}, &PageAcknowledged{By: who}, &PageEscalated{To: who},
		&VendorIsAware{}, &FixIsReady{}, &FixBound{Product: "acme/rules", Version: "1"}, &FixMeasured{Lower: fraction, N: 10, Verified: 5, Stale: 1},
		&BecamePublic{Where: "w"}, &ExploitSeen{Where: "w"}, &AttackSeen{Where: "w"}, &KEVListed{Catalogue: "k", CVE: "CVE-1900-0001"},
		&PartyAdded{Party: party, As: "vendor"}, &PartyStatus{Party: party, Status: Affected},
		&EmbargoProposed{Until: until}, &EmbargoAccepted{Party: party}, &EmbargoDeclined{Party: party}, &EmbargoRevised{Until: until, Why: "w"}, &EmbargoEnded{Why: "w"},
		&TriageScored{Scheme: "house", Score: 10 * fraction, Scorer: "ann"}, &RolloutBound{Rollout: 1},
		&RungOpened{Rung: rapid.SampledFrom(Rungs[1:]).Draw(rt, "rung"), Decision: []byte("{}")},
		&VariantSearched{Query: "q", Corpus: "c", Total: 10, Reviewed: 5, Found: []string{party}}, &RootCauseSet{Class: "overflow", Text: "t"},
		&ControlAdded{Class: "overflow", Check: "lint", Before: []ControlRun{{On: party}}, After: ControlRun{On: "tree", Passed: true}},
	}
	return bodies[rapid.IntRange(0, len(bodies)-1).Draw(rt, "body")]
}

// Whatever facts are tried in whatever order: the state is legal, what happened
// stays so, an ended embargo stays ended, never two are live, none lives once it is
// public, none starts once P, X or A, the case has a lead, and the fold of all
// facts is the same case.
func TestIllegalCasesAreUnreachable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, now := *opened(rt), start
		facts := []Fact{record(rt, &Case{}, start, &CaseOpened{Title: "overflow"})}
		facts = append(facts, record(rt, &Case{Revision: 1}, start, &MemberAdded{Principal: "operator:ann", Role: Lead, UpTo: Red}))
		for range rapid.IntRange(1, 60).Draw(rt, "tries") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(rt, "hours")) * time.Hour)
			f := record(rt, &c, now, anyBody(rt, now))
			next, err := c.Apply(f)
			if err != nil {
				if !errors.Is(err, ErrIllegal) {
					rt.Fatalf("%s %s: %v", f.Kind, f.Body, err)
				}
				continue
			}
			checkStep(rt, &c, &next, now, f)
			c, facts = next, append(facts, f)
		}
		again, err := Fold(facts)
		if err != nil || asJSON(rt, again) != asJSON(rt, c) {
			rt.Fatalf("folded at once: %v\n%s\n%s", err, asJSON(rt, again), asJSON(rt, c))
		}
	})
}

func asJSON(tb rapid.TB, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func checkStep(rt *rapid.T, before, after *Case, now time.Time, f Fact) {
	bad := func(format string, a ...any) {
		rt.Helper()
		rt.Fatalf("%s %s: %s", f.Kind, f.Body, fmt.Sprintf(format, a...))
	}
	if !after.State.Legal() || !after.State.Has(before.State) {
		bad("state %s follows %s", after.State, before.State)
	}
	if after.Revision != before.Revision+1 {
		bad("revision %d follows %d", after.Revision, before.Revision)
	}
	live := 0
	for i := range after.Embargoes {
		e := &after.Embargoes[i]
		if i < len(before.Embargoes) {
			was := before.Embargoes[i].State(now)
			if is := e.State(now); was == Ended && is != Ended {
				bad("an ended embargo is %s", is)
			}
		} else if before.State&(Public|ExploitPublic|AttackObserved) != 0 {
			bad("an embargo starts in state %s", before.State)
		}
		if e.State(now) != Ended {
			live++
		}
		if e.Until.Sub(now) > MaxEmbargo {
			bad("an embargo until %s at %s", e.Until, now)
		}
	}
	if live > 1 {
		bad("%d embargoes are live", live)
	}
	if live > 0 && after.State&(Public|ExploitPublic) != 0 {
		bad("an embargo lives in state %s", after.State)
	}
	if after.Rung.At() >= PublicRung.At() && !after.State.Has(Public) {
		bad("rung %s in state %s", after.Rung, after.State)
	}
	if !slices.ContainsFunc(after.Members, func(m Member) bool { return m.Role == Lead }) {
		bad("nobody leads it")
	}
	if p, why, _ := after.Phase(); p == "" || why == "" {
		bad("phase %q because %q", p, why)
	}
}

func TestSilentPartyIsUnknownNotUnaffected(t *testing.T) {
	c := opened(t)
	add(t, c, start, &PartyAdded{Party: "vendor:acme", As: "vendor"})
	if s := c.Parties[0].Status(""); s != Unknown {
		t.Fatalf("a silent party is %s", s)
	}
	add(t, c, start, &PartyStatus{Party: "vendor:acme", Status: NotAffected, Product: "acme/rules", Why: "not built in"})
	if s := c.Parties[0].Status("acme/other"); s != Unknown {
		t.Errorf("an answer for one product is one for another: %s", s)
	}
	if s := c.Parties[0].Status("acme/rules"); s != NotAffected {
		t.Errorf("its answer is %s", s)
	}
	if _, err := Draft(&PartyStatus{Party: "vendor:acme", Status: NotAffected}, start, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("not affected without a reason: %v", err)
	}
	add(t, c, start, &EmbargoProposed{Until: "2026-02-01T00:00:00Z"})
	if a := c.Embargo().Answer("vendor:acme"); a != Unanswered {
		t.Errorf("a silent party says %s to the embargo", a)
	}
}

func TestEmbargoRunsFromProposedToEnded(t *testing.T) {
	c := opened(t)
	add(t, c, start, &PartyAdded{Party: "vendor:acme", As: "vendor"})
	add(t, c, start, &EmbargoProposed{Until: "2026-02-01T00:00:00+09:00"})
	step := func(want EmbargoState, until string) {
		t.Helper()
		e := c.Embargo()
		if got := e.State(start); got != want || stamp(e.Until) != until {
			t.Fatalf("%s until %s, want %s until %s", got, stamp(e.Until), want, until)
		}
	}
	step(Proposed, "2026-01-31T15:00:00Z")
	add(t, c, start, &EmbargoAccepted{Party: "vendor:acme"})
	step(Active, "2026-01-31T15:00:00Z")
	add(t, c, start, &EmbargoRevised{Until: "2026-03-01T00:00:00Z", Why: "not ready"})
	step(Revised, "2026-01-31T15:00:00Z")
	if a := c.Embargo().Answer("vendor:acme"); a != Unanswered {
		t.Errorf("its yes to the old terms is %s to the new", a)
	}
	add(t, c, start, &EmbargoAccepted{Party: "vendor:acme"})
	step(Active, "2026-03-01T00:00:00Z")
	if got := c.Embargo().State(c.Embargo().Until); got != Ended {
		t.Errorf("at its end it is %s", got)
	}
	late := c.Embargo().Until.Add(time.Second)
	if _, err := c.Apply(record(t, c, late, &EmbargoRevised{Until: "2026-04-01T00:00:00Z", Why: "w"})); !errors.Is(err, ErrIllegal) {
		t.Errorf("what has ended by its time is revised: %v", err)
	}
	add(t, c, start, &BecamePublic{Where: "a list", Leak: true})
	if got := c.Embargo().State(start); got != Ended {
		t.Errorf("public, and the embargo is %s", got)
	}
}

func TestEmbargoEndIsAnInstant(t *testing.T) {
	for _, bad := range []string{"2026-12-01", "2026-12-01T15:00:00", "tomorrow", "2026-12-01 15:00Z", ""} {
		if _, err := Draft(&EmbargoProposed{Until: bad}, start, ""); !errors.Is(err, ErrInvalid) {
			t.Errorf("until %q: %v", bad, err)
		}
	}
	c := opened(t)
	for _, bad := range []string{"2026-01-02T03:04:05Z", "2027-01-02T03:04:06Z"} {
		if _, err := c.Apply(record(t, c, start, &EmbargoProposed{Until: bad})); !errors.Is(err, ErrIllegal) {
			t.Errorf("until %q: %v", bad, err)
		}
	}
}
