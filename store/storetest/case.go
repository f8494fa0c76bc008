package storetest

import (
	"database/sql"
	"errors"
	"strings"
	"sync"
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
	if _, err := s.CommitReport(ctx, Ann, r.ID, rep.Revision, []psirt.Fact{Draft(t, &psirt.ReportAcknowledged{How: "mail"})}, now, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := s.ReadCase(ctx, Ann, kase.ID, now); err != nil || !got.Heard.At.Equal(now) || got.Revision != kase.Revision+1 {
		t.Fatalf("the reporter was answered, the case knows %+v, %v", got.Heard, err)
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

// caseTampered: a fact that is changed, added or left out behind the store's back
// is found by whoever may read the case, and by the doctor.
func caseTampered(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	kase, err := s.OpenCase(ctx, Ann, store.Opening{Title: "overflow"}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string][2]string{
		"a title":  {`UPDATE psirt_fact SET body = '{"title":"underflow"}' WHERE kind = 'case.opened'`, `UPDATE psirt_fact SET body = '{"title":"overflow"}' WHERE kind = 'case.opened'`},
		"an actor": {`UPDATE psirt_fact SET actor = 'operator:bob'`, `UPDATE psirt_fact SET actor = 'operator:ann'`},
		"a label":  {`UPDATE psirt_fact SET tlp = 0`, `UPDATE psirt_fact SET tlp = 3`},
	} {
		if _, err := s.DB().ExecContext(ctx, text[0]); err != nil {
			t.Fatal(err)
		}
		got, err := s.VerifyCase(ctx, Ann, kase.ID, Start)
		if err != nil || len(got.Broken) == 0 {
			t.Errorf("%s was changed: %+v, %v", what, got, err)
		}
		problems, err := s.Doctor(ctx)
		if err != nil || len(problems) == 0 || problems[0].Code != "commitment" {
			t.Errorf("%s was changed, the doctor says %+v, %v", what, problems, err)
		}
		if _, err := s.DB().ExecContext(ctx, text[1]); err != nil {
			t.Fatal(err)
		}
	}
	Healthy(t, s)
	if _, err := s.DB().ExecContext(ctx, `DELETE FROM opening`); err != nil {
		t.Fatal(err)
	}
	if problems, err := s.Doctor(ctx); err != nil || len(problems) == 0 {
		t.Errorf("recorded reads were removed, the doctor says %+v, %v", problems, err)
	}
}

// caseTwoWriters: of two who read the same revision one commits.
func caseTwoWriters(t *testing.T, newDSN func(testing.TB) string) {
	dsn := newDSN(t)
	stores := []*store.Store{Open(t, dsn), Open(t, dsn)}
	kase, err := stores[0].OpenCase(t.Context(), Ann, store.Opening{Title: "overflow", Members: []psirt.Member{{Principal: "operator:bob", Role: psirt.Worker, UpTo: psirt.Red}}}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, v := range []store.Viewer{Ann, Bob} {
		wg.Go(func() {
			f := psirt.Fact{Kind: "case.titled", TLP: psirt.Red, Body: []byte(`{"title":"x"}`)}
			_, errs[i] = stores[i].CommitFacts(t.Context(), v, kase.ID, kase.Revision, []psirt.Fact{f}, Start, nil)
		})
	}
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), store.ErrConflict) {
		t.Fatalf("two writers at one revision: %v, %v", errs[0], errs[1])
	}
	got, err := stores[0].ReadCase(t.Context(), Ann, kase.ID, Start)
	if err != nil || got.Revision != kase.Revision+1 {
		t.Fatalf("revision %d, %v", got.Revision, err)
	}
	// A job that fails takes the facts with it.
	failed := errors.New("no job")
	_, err = stores[0].CommitFacts(t.Context(), Ann, kase.ID, store.AnyRevision, []psirt.Fact{Draft(t, &psirt.CaseTitled{Title: "y"})}, Start, func(*sql.Tx) error { return failed })
	if again, err2 := stores[0].ReadCase(t.Context(), Ann, kase.ID, Start); !errors.Is(err, failed) || err2 != nil || again.Revision != got.Revision {
		t.Fatalf("a failed job: %v, then revision %d, %v", err, again.Revision, err2)
	}
	Healthy(t, stores[0])
}

// reportOnce: a report sent twice is one, and a stranger's key is another.
func reportOnce(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	send := func(v store.Viewer) (store.Report, bool) {
		t.Helper()
		r, fresh, err := s.AddReport(ctx, v, psirt.ReportReceived{Source: psirt.FromAPI, Title: "overflow"}, "", "key-1", Start, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r, fresh
	}
	first, fresh := send(Ann)
	again, repeated := send(Ann)
	other, otherFresh := send(Bob)
	if !fresh || repeated || first.ID != again.ID || !otherFresh || other.ID == first.ID {
		t.Fatalf("%d %v, %d %v, %d %v", first.ID, fresh, again.ID, repeated, other.ID, otherFresh)
	}
	Healthy(t, s)
}
