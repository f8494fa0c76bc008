package psirt

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEveryKindOfFactSaysItsOwnName(t *testing.T) {
	for _, k := range Kinds() {
		b := Blank(k)
		if b.Kind() != k {
			t.Errorf("%s makes a body of kind %s", k, b.Kind())
		}
		if ofCase, ofReport := BelongsTo(b); !ofCase && !ofReport {
			t.Errorf("%s changes neither a case nor a report", k)
		}
	}
}

func TestFactsAreReadStrictly(t *testing.T) {
	for body, want := range map[string]string{
		`{"title":"x","more":1}`: "more",
		`{"title":"x"} {}`:       "data after the JSON value",
		`{"title":""}`:           "title",
		`{"title":"a\nb"}`:       "control character",
		`{"title":"` + strings.Repeat("x", 501) + `"}`: "501 bytes",
		`{`: "body",
	} {
		_, err := DecodeBody("case.titled", []byte(body))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v; want it to name %q", body, err, want)
		}
	}
	if _, err := DecodeBody("case.nonsense", []byte(`{}`)); !errors.Is(err, ErrInvalid) {
		t.Errorf("an unknown kind: %v", err)
	}
	if _, err := DecodeBody("case.titled", make([]byte, MaxBody+1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a long body: %v", err)
	}
}

func TestFactIsNotFromTheFutureAndStandsInItsPlace(t *testing.T) {
	c := opened(t)
	for what, spoil := range map[string]func(*Fact){
		"from the future":      func(f *Fact) { f.At = f.Recorded.Add(time.Second) },
		"out of its place":     func(f *Fact) { f.Seq++ },
		"of nobody":            func(f *Fact) { f.Actor = "" },
		"recorded in the past": func(f *Fact) { f.At, f.Recorded = start.Add(-time.Hour), start.Add(-time.Hour) },
		"without a label":      func(f *Fact) { f.TLP = "" },
		"for no principal":     func(f *Fact) { f.Only = []string{"everybody"} },
	} {
		f := record(t, c, start, &CaseTitled{Title: "x"})
		spoil(&f)
		if _, err := c.Apply(f); !errors.Is(err, ErrInvalid) {
			t.Errorf("a fact %s: %v", what, err)
		}
	}
}

// Two facts that differ in anything commit to something else, and the salt hides
// a guessable content.
func TestCommitmentIsOfTheWholeFact(t *testing.T) {
	f := record(t, opened(t), start, &CaseTitled{Title: "x"})
	of := Commit(Salt{1}, f.Canonical())
	if of != Commit(Salt{1}, f.Canonical()) || of == Commit(Salt{2}, f.Canonical()) {
		t.Error("a commitment is not of its salt")
	}
	for what, change := range map[string]func(*Fact){
		"id": func(f *Fact) { f.ID++ }, "seq": func(f *Fact) { f.Seq++ }, "kind": func(f *Fact) { f.Kind = "case.opened" },
		"at": func(f *Fact) { f.At = f.At.Add(time.Microsecond) }, "recorded": func(f *Fact) { f.Recorded = f.Recorded.Add(time.Microsecond) },
		"actor": func(f *Fact) { f.Actor = "operator:bob" }, "tlp": func(f *Fact) { f.TLP = Clear },
		"only": func(f *Fact) { f.Only = []string{"operator:bob"} }, "body": func(f *Fact) { f.Body = []byte(`{"title":"y"}`) },
	} {
		g := f
		change(&g)
		if Commit(Salt{1}, g.Canonical()) == of {
			t.Errorf("another %s has the same commitment", what)
		}
	}
	g := f
	g.At, g.Recorded = f.At.In(time.FixedZone("x", 3600)), f.Recorded.In(time.FixedZone("x", 3600))
	if Commit(Salt{1}, g.Canonical()) != of {
		t.Error("the same instant in another zone has another commitment")
	}
}

// A reader who may read only some facts still gets a case, and none of what is
// kept from her.
func TestViewOfSomeFactsIsACase(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, now := *opened(rt), start
		facts := []Fact{record(rt, &Case{}, start, &CaseOpened{Title: "overflow"})}
		facts = append(facts, record(rt, &Case{Revision: 1}, start, &MemberAdded{Principal: "operator:ann", Role: Lead, UpTo: Red}))
		for range 40 {
			f := record(rt, &c, now, anyBody(rt, now))
			if next, err := c.Apply(f); err == nil {
				c, facts = next, append(facts, f)
			}
		}
		var seen []Fact
		for _, f := range facts {
			if rapid.Bool().Draw(rt, "seen") {
				seen = append(seen, f)
			}
		}
		got, err := View(seen)
		if err != nil {
			rt.Fatalf("view: %v", err)
		}
		if got.State&^c.State != 0 {
			rt.Fatalf("the view is in state %s, the case in %s", got.State, c.State)
		}
		whole, err := View(facts)
		if err != nil || asJSON(rt, whole) != asJSON(rt, c) {
			rt.Fatalf("the view of all facts is not the case: %v", err)
		}
	})
}

func TestMembersWriteWhatTheirRoleAllows(t *testing.T) {
	lead, worker := Member{"operator:ann", Lead, Red}, Member{"operator:bob", Worker, Red}
	observer, vendor := Member{"operator:eve", Observer, Red}, Member{"vendor:acme", Worker, Red}
	for _, x := range []struct {
		who  Member
		body Body
		may  bool
	}{
		{lead, &CaseTitled{Title: "x"}, true}, {worker, &CaseTitled{Title: "x"}, true}, {observer, &CaseTitled{Title: "x"}, false}, {vendor, &CaseTitled{Title: "x"}, false},
		{lead, &MemberAdded{}, true}, {worker, &MemberAdded{}, false}, {worker, &CaseUnsealed{}, false}, {worker, &LadderOverride{}, false},
		{lead, &FixMeasured{}, false}, {lead, &RungOpened{}, false}, {lead, &AffectedFrozen{}, false}, {lead, &NoticeWave{}, false},
		{vendor, &PartyStatus{Party: "vendor:acme"}, true}, {vendor, &PartyStatus{Party: "vendor:zeta"}, false}, {vendor, &PartyStatus{}, false},
		{vendor, &EmbargoAccepted{Party: "vendor:acme"}, true}, {vendor, &EmbargoEnded{}, false}, {vendor, &PartyAdded{Party: "vendor:acme"}, false},
	} {
		if err := x.who.May(x.body); (err == nil) != x.may || err != nil && !errors.Is(err, ErrForbidden) {
			t.Errorf("%s as %s writes %s: %v; may is %v", x.who.Principal, x.who.Role, x.body.Kind(), err, x.may)
		}
	}
}

func TestClassIsClosedByAControlThatFindsEveryVariant(t *testing.T) {
	c := opened(t)
	add(t, c, start, &VariantSearched{Query: "memcpy(", Corpus: "tree", Total: 40, Reviewed: 30, Found: []string{"a.c:1", "b.c:2"}})
	add(t, c, start, &RootCauseSet{Class: "unchecked-length", CWE: "CWE-787", Text: "length from the wire"})
	good := ControlAdded{Class: "unchecked-length", Check: "lint -len", Before: []ControlRun{{On: "a.c:1"}, {On: "b.c:2"}}, After: ControlRun{On: "tree", Passed: true}}
	if _, err := c.Apply(record(t, c, start, &ControlAdded{Class: good.Class, Check: good.Check, Before: good.Before[:1], After: good.After})); !errors.Is(err, ErrIllegal) {
		t.Errorf("a control that never saw a known variant: %v", err)
	}
	blind := good
	blind.Before = []ControlRun{{On: "a.c:1", Passed: true}, {On: "b.c:2"}}
	if _, err := Draft(&blind, start, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("a control that passes on a variant: %v", err)
	}
	broken := good
	broken.After.Passed = false
	if _, err := Draft(&broken, start, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("a control that fails on the fixed tree: %v", err)
	}
	add(t, c, start, &good)
	if s := c.Work.Searches[0].Share(); s != 0.75 {
		t.Errorf("the share reviewed is %v", s)
	}
}

func TestCorrectionMustGoRedThenGreen(t *testing.T) {
	c := opened(t)
	add(t, c, start, &CorrectionAdded{Text: "check lengths", Check: "go test"})
	add(t, c, start, &CorrectionChecked{Result: "green"})
	if c.Outcome.Corrections[0].Green {
		t.Error("a check that was never red is green")
	}
	add(t, c, start, &CorrectionChecked{Result: "red"})
	add(t, c, start, &CorrectionChecked{Result: "green"})
	if !c.Outcome.Corrections[0].Green {
		t.Error("red, then green, is not green")
	}
}

func TestPhaseFollowsFromFacts(t *testing.T) {
	c := opened(t)
	want := func(p Phase) {
		t.Helper()
		if got, why, _ := c.Phase(); got != p {
			t.Fatalf("phase %s (%s), want %s", got, why, p)
		}
	}
	want(Detect)
	add(t, c, start, &TriageScored{Scheme: "house", Score: 5, Scorer: "ann"})
	want(Mitigate)
	add(t, c, start, &VendorIsAware{})
	add(t, c, start, &FixIsReady{})
	want(Deploy)
	add(t, c, start, &FixMeasured{Lower: 0.9899, N: 1000, Verified: 995})
	want(Deploy)
	add(t, c, start, &FixMeasured{Lower: 0.99, N: 1000, Verified: 998})
	want(Review)
	if c.Outcome.Fixed.Verified != 998 {
		t.Errorf("the measurement in force is %+v", c.Outcome.Fixed)
	}
	add(t, c, start, &FixMeasured{Lower: 0.5, N: 2000, Verified: 998})
	want(Review) // late joiners move the number, not the model's state
}

func TestSimilarReportsAreSuggestedAndOthersAreNot(t *testing.T) {
	of := ReportReceived{Title: "Heap overflow in the rule parser", Text: "A rule of 300 bytes overflows the buffer of parse_rule", Product: "acme/rules", Component: "parser"}
	among := []ReportReceived{
		{Title: "Login page leaks session cookie", Text: "The cookie lacks the Secure attribute", Product: "acme/web", Component: "login"},
		{Title: "Crash: long rule overflows buffer in parser", Text: "parse_rule copies 300 bytes into a heap buffer", Product: "acme/rules", Component: "parser"},
		{Title: "Something else", CVEs: []string{"CVE-1900-0001"}},
	}
	got := Suggest(&of, among, 10)
	if len(got) != 1 || got[0].Index != 1 || len(got[0].Reasons) < 3 {
		t.Fatalf("suggested %+v", got)
	}
	of.CVEs = []string{"CVE-1900-0001"}
	if got = Suggest(&of, among, 10); len(got) != 2 || got[0].Index != 2 || got[0].Score != 1 {
		t.Fatalf("with the same CVE id: %+v", got)
	}
	rapid.Check(t, func(rt *rapid.T) {
		a := ReportReceived{Title: rapid.String().Draw(rt, "a"), Text: rapid.String().Draw(rt, "at"), Component: rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "ac")}
		b := ReportReceived{Title: rapid.String().Draw(rt, "b"), Text: rapid.String().Draw(rt, "bt"), Component: rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "bc")}
		ab, _ := Similarity(&a, &b)
		ba, _ := Similarity(&b, &a)
		if d := ab - ba; d > 1e-9 || d < -1e-9 || ab < 0 || ab > 1+1e-9 {
			rt.Fatalf("similarity %v one way, %v the other", ab, ba)
		}
	})
}

func FuzzDecodeFact(f *testing.F) {
	f.Add("case.opened", []byte(`{"title":"x"}`))
	f.Add("control.added", []byte(`{"class":"c","check":"k","before":[{"on":"v","passed":false}],"after":{"on":"t","passed":true}}`))
	f.Add("triage.ssvc", []byte(`{"table":"t","inputs":{"a":"b"},"outcome":"o"}`))
	f.Add("report.received", []byte(`{"source":"form","title":"t","attachments":[{"name":"n","digest":"","length":-1}]}`))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		b, err := DecodeBody(Kind(kind), body)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%s: %v", kind, err)
			}
			return
		}
		again, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeBody(Kind(kind), again); err != nil && len(again) <= MaxBody {
			t.Fatalf("what was read does not read again: %v\n%s", err, again)
		}
		c := opened(t)
		if ofCase, _ := BelongsTo(b); ofCase {
			fact := Fact{ID: 1, Seq: c.Revision, Kind: Kind(kind), At: start, Recorded: start, Actor: "x", TLP: Red, Body: again}
			if next, err := c.Apply(fact); err == nil && !next.State.Legal() {
				t.Fatalf("state %s", next.State)
			}
		}
	})
}

func FuzzParseClockPolicy(f *testing.F) {
	f.Add(defaultClocks)
	f.Add([]byte(`{"id":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseClockPolicy(b, tokyo)
		if err != nil {
			return
		}
		c := opened(t)
		add(t, c, start, &ReportLinked{Report: "RP-0000000000001", Case: "C-0000000000001", Role: Original, Received: start})
		for _, k := range c.Clocks(&p, start) {
			if k.Due.Before(k.Started) {
				t.Fatalf("%+v is due before it starts", k)
			}
		}
	})
}

func FuzzParseWords(f *testing.F) {
	for _, s := range []string{"VFdpxa", "TLP:RED", "2026-12-01T15:00:00Z", "vendor:acme"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := ParseState(s); err == nil && got.String() != s {
			t.Errorf("state %q reads as %s", s, got)
		}
		if got, err := ParseTLP(s); err == nil && got.Rank() < 0 {
			t.Errorf("label %q reads as %s", s, got)
		}
		if got, err := ParseUntil(s); err == nil && got.Location() != time.UTC {
			t.Errorf("until %q is %s", s, got)
		}
		if err := CheckPrincipal(s); err == nil && !strings.Contains(s, ":") {
			t.Errorf("principal %q", s)
		}
	})
}
