package storetest

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// hooked is Duty with webhooks: ann has one beside her mail, bob two.
var hooked = strings.Replace(Duty, `"reach"`, `"hooks": {"operator:ann": ["https://pager.example/ann"], "operator:bob": ["https://pager.example/bob", "https://other.example/bob"]}, "reach"`, 1)

// phone is a store with hooked in force and one report that calls.
type phone struct {
	*testing.T
	*store.Store
	secrets []store.HookSecret
	report  int64
}

func newPhone(t *testing.T, newDSN func(testing.TB) string) *phone {
	p := &phone{T: t, Store: Open(t, newDSN(t))}
	if err := p.AddTriager(t.Context(), Ann, "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	if p.secrets = p.roster(hooked, false); len(p.secrets) != 3 {
		t.Fatalf("%+v", p.secrets)
	}
	sub := submission("a", "bytes")
	sub.Letter, sub.Received.Contact = "", ""
	r, _, err := p.Submit(t.Context(), sub, Start)
	if err != nil {
		t.Fatal(err)
	}
	p.report = r.ID
	return p
}

// roster puts a roster in force, and returns the secrets that are new.
func (p *phone) roster(text string, afresh bool) []store.HookSecret {
	p.Helper()
	_, secrets, err := p.SetRoster(p.Context(), Ann, []byte(text), afresh, Start)
	if err != nil {
		p.Fatal(err)
	}
	return secrets
}

func minute(m int) time.Time { return Start.Add(time.Duration(m) * time.Minute) }

func (p *phone) take(m int) []store.Letter {
	p.Helper()
	l, err := p.TakeLetters(p.Context(), store.LetterQuery{Kinds: hooks, Lease: minute(m + 1), Limit: 10}, minute(m))
	if err != nil {
		p.Fatal(err)
	}
	return l
}

func (p *phone) tried(l store.Letter, a notify.Answer, next time.Time) {
	p.Helper()
	if err := p.LetterTried(p.Context(), l, a, next, minute(1)); err != nil {
		p.Fatal(err)
	}
}

// anyReportCalls: a report calls whoever is on duty by whichever way it came in.
func anyReportCalls(t *testing.T, newDSN func(testing.TB) string) {
	p := newPhone(t, newDSN)
	r, fresh, err := p.AddReport(t.Context(), Ann, psirt.ReportReceived{Source: psirt.FromDetection, Title: "Rules are skipped"}, "", "again", Start, nil)
	if err != nil || !fresh {
		t.Fatal(err)
	}
	if _, fresh, err := p.AddReport(t.Context(), Ann, psirt.ReportReceived{Source: psirt.FromDetection, Title: "Rules are skipped"}, "", "again", Start, nil); err != nil || fresh {
		t.Fatalf("a repeat is fresh: %t, %v", fresh, err)
	}
	calls, err := p.ListCalls(t.Context(), Ann)
	n := 0
	for _, c := range calls {
		if c.Report && c.Subject == r.ID {
			n++
		}
	}
	if err != nil || n != 1 || len(calls) != 2 {
		t.Errorf("%+v, %v: want one call about each of two reports", calls, err)
	}
	Healthy(t, p.Store)
}

// webhooksAreCalled: a call goes to the webhooks of whoever is called, signed by a
// secret that each of them has of its own; the log has each attempt, and what is not
// sent when the call is answered is sent no more.
func webhooksAreCalled(t *testing.T, newDSN func(testing.TB) string) {
	p := newPhone(t, newDSN)
	first := p.take(0)
	if len(first) != 1 || first[0].Address != "https://pager.example/ann" || first[0].Whom != "operator:ann" || !first[0].Report || first[0].Subject != p.report {
		t.Fatalf("%+v", first)
	}
	for _, h := range p.secrets {
		if (h.URL == first[0].Address) != bytes.Equal(h.Secret, first[0].Secret) {
			t.Errorf("the secret of %s: %x, and the call's %x", h.URL, h.Secret, first[0].Secret)
		}
	}
	p.tried(first[0], notify.Answer{Outcome: notify.Deferred, Code: 503, Detail: "503"}, minute(5))
	if l := p.take(4); len(l) != 0 {
		t.Errorf("before its time: %+v", l)
	}
	second := p.take(5) // and its server ends
	calls, err := p.OpenCalls(t.Context())
	if err != nil || len(calls) != 1 {
		t.Fatalf("%+v, %v", calls, err)
	}
	if err := p.Climb(t.Context(), calls[0], "operator:bob", minute(10)); err != nil {
		t.Fatal(err)
	}
	third := p.take(10)
	if len(second) != 1 || len(third) != 3 {
		t.Fatalf("%+v, then %+v", second, third)
	}
	p.tried(third[0], notify.Answer{Outcome: notify.Accepted, Code: 204, Detail: "204"}, time.Time{})
	p.tried(third[1], notify.Answer{Outcome: notify.Deferred, Detail: "refused"}, minute(12))
	heard := Draft(t, &psirt.PageAcknowledged{By: "operator:ann"})
	if _, err := p.CommitReport(t.Context(), Ann, p.report, store.AnyRevision, []psirt.Fact{heard}, minute(11), nil); err != nil {
		t.Fatal(err)
	}
	p.tried(third[2], notify.Answer{Outcome: notify.Unsure, Detail: "the answer was lost"}, minute(12)) // it was under way
	if l := p.take(100); len(l) != 0 {
		t.Errorf("a call that is answered goes on: %+v", l)
	}
	checkCallLog(t, p.Store, p.report)
}

// hookSecretsAreOfTheRoster: an address has a secret while the roster names it.
func hookSecretsAreOfTheRoster(t *testing.T, newDSN func(testing.TB) string) {
	p := newPhone(t, newDSN)
	if again := p.roster(hooked, false); len(again) != 0 {
		t.Errorf("addresses that stay keep their secrets: %+v", again)
	}
	if made := p.roster(hooked, true); len(made) != 3 || bytes.Equal(made[0].Secret, p.secrets[0].Secret) {
		t.Errorf("afresh: %+v", made)
	}
	if made := p.roster(Duty, false); len(made) != 0 {
		t.Errorf("%+v", made)
	}
	if l := p.take(0); len(l) != 1 || l[0].Secret != nil {
		t.Errorf("an address that left the roster keeps its secret: %+v", l)
	}
	if made := p.roster(hooked, false); len(made) != 3 {
		t.Errorf("back again: %+v", made)
	}
}

// checkCallLog checks what webhooksAreCalled left in the log, and who may read it.
func checkCallLog(t *testing.T, s *store.Store, report int64) {
	t.Helper()
	log, err := s.CallLog(t.Context(), Ann, report, true, Start)
	if err != nil || len(log) != 5 {
		t.Fatalf("%+v, %v", log, err)
	}
	if a := log[0]; a.Whom != "operator:ann" || a.N != 1 || a.Outcome != notify.Deferred || a.Code != 503 || !a.Next.IsZero() {
		t.Errorf("the first attempt: %+v", a)
	}
	if a := log[1]; a.N != 2 || a.Outcome != notify.Unsure || !strings.Contains(a.Detail, "no answer was recorded") {
		t.Errorf("one whose server ended: %+v", a)
	}
	outcomes := map[notify.Outcome]int{}
	for _, a := range log {
		outcomes[a.Outcome]++
		if !a.Next.IsZero() {
			t.Errorf("it was answered, and goes on: %+v", a)
		}
	}
	if outcomes[notify.Accepted] != 1 || outcomes[notify.Deferred] != 2 || outcomes[notify.Unsure] != 2 {
		t.Errorf("%v", outcomes)
	}
	if _, err := s.CallLog(t.Context(), Bob, report, true, Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a stranger reads the log: %v", err)
	}
	if _, err := s.CallLog(t.Context(), Ann, report, false, Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a report as a case: %v", err)
	}
}
