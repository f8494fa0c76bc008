package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// Ann, Bob and Acme are viewers of the suite.
var (
	Ann  = store.Viewer{Actor: "operator:ann", Scope: store.ScopeOperator}
	Bob  = store.Viewer{Actor: "operator:bob", Scope: store.ScopeOperator}
	Acme = store.Viewer{Actor: "vendor:bot", Scope: store.ScopeVendor, Of: "acme"}
)

// Draft makes a fact.
func Draft(tb testing.TB, b psirt.Body) psirt.Fact {
	tb.Helper()
	f, err := psirt.Draft(b, time.Time{}, "")
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// AddReport adds a report as v.
func AddReport(tb testing.TB, s *store.Store, v store.Viewer, title string) store.Report {
	tb.Helper()
	r, _, err := s.AddReport(tb.Context(), v, psirt.ReportReceived{Source: psirt.FromAPI, Title: title, Text: "see there", Product: Product}, "", "", Start, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// caseLine is the whole way of a report into a case that is worked on.
func caseLine(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	if err := s.AddTriager(ctx, Ann, "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	form := store.Engine("form")
	r := AddReport(t, s, form, "overflow")
	list, err := s.ListReports(ctx, Ann, store.ReportQuery{Free: true}, Start)
	if err != nil || len(list) != 1 || list[0].Title != "overflow" {
		t.Fatalf("a triager sees %+v, %v", list, err)
	}
	if list, err := s.ListReports(ctx, Bob, store.ReportQuery{}, Start); err != nil || len(list) != 0 {
		t.Fatalf("who is no triager sees %d reports, %v", len(list), err)
	}
	kase, err := s.OpenCase(ctx, Ann, store.Opening{Title: "overflow in the parser", Reports: []int64{r.ID}}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	if kase.Rung != psirt.Sealed || len(kase.Reports) != 1 || kase.Members[0].Role != psirt.Lead {
		t.Fatalf("opened as %+v", kase)
	}
	now := Start.Add(time.Minute)
	kase, err = s.CommitFacts(ctx, Ann, kase.ID, kase.Revision, []psirt.Fact{
		Draft(t, &psirt.VendorIsAware{}), Draft(t, &psirt.FixIsReady{What: "patch"}),
	}, now, nil)
	if err != nil || kase.State.String() != "VFdpxa" {
		t.Fatalf("state %s, %v", kase.State, err)
	}
	if _, err := s.CommitFacts(ctx, Ann, kase.ID, 1, []psirt.Fact{Draft(t, &psirt.CaseTitled{Title: "x"})}, now, nil); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an old revision: %v", err)
	}
	got, err := s.ReadCase(ctx, Ann, kase.ID, now)
	if err != nil || got.Revision != kase.Revision || got.State != kase.State || len(got.Facts) != int(kase.Revision) {
		t.Fatalf("read %+v, %v", got, err)
	}
	rep, err := s.ReadReport(ctx, Ann, r.ID, now)
	if err != nil || rep.Case != store.CaseID(kase.ID) || rep.Role != psirt.Original {
		t.Fatalf("its report is %+v, %v", rep, err)
	}
	noTrace(t, s, store.CaseID(kase.ID), "overflow", store.ReportID(r.ID), "parser")
	Healthy(t, s)
}

// noTrace fails the test if an entry of the ledger about reports and cases says
// anything of what it commits to.
func noTrace(t *testing.T, s *store.Store, words ...string) {
	t.Helper()
	entries, err := s.ListEntries(t.Context(), store.EntryQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		text := e.Subject + e.Actor + string(e.Body)
		for _, w := range words {
			if strings.Contains(text, w) {
				t.Errorf("ledger entry %d says %q: %s", e.Seq, w, text)
			}
		}
		if e.Kind == "case.fact" || e.Kind == "sealed" {
			n++
			if e.Subject != "" || e.Actor != "server" {
				t.Errorf("ledger entry %d of kind %s is of %q by %q", e.Seq, e.Kind, e.Subject, e.Actor)
			}
		}
	}
	if n == 0 {
		t.Error("nothing was recorded")
	}
}

// caseStrangers: what a viewer may not read is not there.
func caseStrangers(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	kase, err := s.OpenCase(ctx, Ann, store.Opening{Title: "secret"}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	never := kase.ID ^ 1
	for _, v := range []store.Viewer{Bob, Acme, {Actor: "tenant:bot", Scope: store.ScopeTenant, Of: "north"}} {
		for _, id := range []int64{kase.ID, never} {
			_, err1 := s.ReadCase(ctx, v, id, Start)
			_, err2 := s.CommitFacts(ctx, v, id, store.AnyRevision, []psirt.Fact{Draft(t, &psirt.CaseTitled{Title: "x"})}, Start, nil)
			_, err3 := s.VerifyCase(ctx, v, id, Start)
			for _, err := range []error{err1, err2, err3} {
				if !errors.Is(err, store.ErrNotFound) {
					t.Errorf("%s gets %v", v.Actor, err)
				}
			}
		}
		list, err := s.ListCases(ctx, v, store.CaseQuery{}, Start)
		if err != nil || len(list) != 0 {
			t.Errorf("%s lists %d cases, %v", v.Actor, len(list), err)
		}
	}
	_, err = s.CommitFacts(ctx, Ann, kase.ID, kase.Revision, []psirt.Fact{
		Draft(t, &psirt.MemberAdded{Principal: "vendor:acme", Role: psirt.Observer, UpTo: psirt.Amber}),
		Draft(t, &psirt.PartyAdded{Party: "vendor:acme", As: "vendor"}),
		{Kind: "case.titled", TLP: psirt.Amber, Body: []byte(`{"title":"for partners"}`)},
		{Kind: "case.titled", TLP: psirt.Clear, Only: []string{"operator:ann"}, Body: []byte(`{"title":"mine"}`)},
	}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.ReadCase(ctx, Acme, kase.ID, Start)
	if err != nil || len(got.Facts) != 1 || strings.Contains(string(got.Facts[0].Body), "mine") {
		t.Fatalf("acme reads %+v, %v", got.Facts, err)
	}
	if _, err := s.CommitFacts(ctx, Acme, kase.ID, store.AnyRevision, []psirt.Fact{Draft(t, &psirt.PartyStatus{Party: "vendor:acme", Status: psirt.Affected})}, Start, nil); err != nil {
		t.Errorf("a party answers for itself: %v", err)
	}
	if _, err := s.CommitFacts(ctx, Acme, kase.ID, store.AnyRevision, []psirt.Fact{Draft(t, &psirt.CaseTitled{Title: "x"})}, Start, nil); !errors.Is(err, psirt.ErrForbidden) {
		t.Errorf("a party titles the case: %v", err)
	}
	Healthy(t, s)
}
