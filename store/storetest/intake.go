package storetest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// submission is a report from outside with one file, and a page of its own.
func submission(request, file string) store.Submission {
	sum := sha256.Sum256([]byte(file))
	return store.Submission{
		Received: psirt.ReportReceived{Source: psirt.FromForm, Title: "overflow", Text: "see there", Contact: "ada@example.org",
			Attachments: []psirt.Attachment{{Name: "poc.txt", Digest: hex.EncodeToString(sum[:]), Length: int64(len(file))}}},
		Files: [][]byte{[]byte(file)}, Request: request, Acknowledged: "page", Letter: "ada@example.org",
		Page: func(id string) store.Hash { return sha256.Sum256([]byte("secret of " + id)) },
	}
}

func secretOf(r store.Report) store.Hash {
	return sha256.Sum256([]byte("secret of " + store.ReportID(r.ID)))
}

// submitOnce: a report from outside is kept whole and once: its facts, its files,
// its page and its letter; who has the page's secret may read and answer, and no
// more.
func submitOnce(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	r, fresh, err := s.Submit(ctx, submission("a", "bytes"), Start)
	if err != nil || !fresh || r.Revision != 2 || !r.Acknowledged.Known() {
		t.Fatalf("%+v, fresh %t, %v", r, fresh, err)
	}
	again, fresh, err := s.Submit(ctx, submission("a", "bytes"), Start.Add(time.Hour))
	if err != nil || fresh || again.ID != r.ID || again.Revision != r.Revision {
		t.Errorf("again: %+v, fresh %t, %v", again, fresh, err)
	}
	other, fresh, err := s.Submit(ctx, submission("b", "bytes"), Start)
	if err != nil || !fresh || other.ID == r.ID {
		t.Errorf("another with the same file: %+v, fresh %t, %v", other, fresh, err)
	}
	bad := submission("c", "bytes")
	bad.Files[0] = []byte("other bytes")
	if _, _, err := s.Submit(ctx, bad, Start); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a file that is not what the report says: %v", err)
	}
	p, err := s.ReportPage(ctx, secretOf(r), Start)
	if err != nil || p.ID != r.ID || p.Case != nil {
		t.Errorf("its page: %+v, %v", p, err)
	}
	if _, err := s.ReportPage(ctx, store.Hash{1}, Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown secret: %v", err)
	}
	if err := s.AddToPage(ctx, secretOf(r), &psirt.ReportMessage{From: psirt.FromReporter, Text: "more"}, Start); err != nil {
		t.Error(err)
	}
	if err := s.AddToPage(ctx, secretOf(r), &psirt.ReportClosed{Why: "mine"}, Start); !errors.Is(err, psirt.ErrForbidden) {
		t.Errorf("a reporter closes: %v", err)
	}
	digest := r.Attachments[0].Digest
	if _, body, err := s.ReportFile(ctx, store.Engine("x"), r.ID, digest, Start); err != nil || string(body) != "bytes" {
		t.Errorf("its file: %q, %v", body, err)
	}
	if _, _, err := s.ReportFile(ctx, Bob, r.ID, digest, Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a stranger reads the file: %v", err)
	}
	if err := s.AddTriager(ctx, Ann, "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	if _, body, err := s.ReportFile(ctx, Ann, r.ID, digest, Start); err != nil || string(body) != "bytes" {
		t.Errorf("a triager reads the file: %q, %v", body, err)
	}
	if problems, err := s.Doctor(ctx); err != nil || len(problems) > 0 {
		t.Errorf("doctor: %v, %v", problems, err)
	}
}

// lettersGoOnce: a letter is taken by one server at a time, tried again when it
// failed, and never after it was sent.
func lettersGoOnce(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	r, _, err := s.Submit(ctx, submission("a", "bytes"), Start)
	if err != nil {
		t.Fatal(err)
	}
	answer := Draft(t, &psirt.ReportMessage{From: "operator:ann", Text: "which version?"})
	if _, err := s.CommitReport(ctx, store.Engine("test"), r.ID, store.AnyRevision, []psirt.Fact{answer}, Start, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.AddToPage(ctx, secretOf(r), &psirt.ReportMessage{From: psirt.FromReporter, Text: "1.2"}, Start); err != nil {
		t.Fatal(err)
	}
	at := func(m int) time.Time { return Start.Add(time.Duration(m) * time.Minute) }
	take := func(m int) []store.Letter {
		t.Helper()
		l, err := s.TakeLetters(ctx, store.LetterQuery{Kinds: toReporters, Lease: at(m + 15), Limit: 10}, at(m))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := take(0)
	if len(first) != 2 || !first[0].Report || first[0].Subject != r.ID || first[0].Address != "ada@example.org" {
		t.Fatalf("one for the receipt, one for our message, none for hers: %+v", first)
	}
	if l := take(1); len(l) != 0 {
		t.Errorf("taken twice: %+v", l)
	}
	tried := func(l store.Letter, o notify.Outcome, next time.Time) {
		t.Helper()
		if err := s.LetterTried(ctx, l, notify.Answer{Outcome: o, Code: 451, Detail: "as it was said"}, next, at(1)); err != nil {
			t.Fatal(err)
		}
	}
	tried(first[0], notify.Accepted, time.Time{})
	tried(first[1], notify.Deferred, at(3))
	if l := take(2); len(l) != 0 {
		t.Errorf("before its time: %+v", l)
	}
	second := take(3)
	if len(second) != 1 || second[0].ID != first[1].ID || second[0].Tries != 1 {
		t.Fatalf("%+v", second)
	}
	// The server that took it died: when its lease is over, it is taken again.
	third := take(19)
	if len(third) != 1 || third[0].Tries != 2 {
		t.Fatalf("after the lease: %+v", third)
	}
	// The server was slow, and not dead: its answer does not end the other's attempt.
	tried(second[0], notify.Refused, time.Time{})
	if l := take(35); len(l) != 1 || l[0].Tries != 3 {
		t.Errorf("who was late gave it up: %+v", l)
	} else {
		tried(l[0], notify.Refused, time.Time{})
	}
	if l := take(10000); len(l) != 0 {
		t.Errorf("after it was given up: %+v", l)
	}
}

// toReporters are the letters to reporters, calls those by mail, and hooks those by
// webhook.
var (
	toReporters = [2]store.LetterKind{store.LetterReceived, store.LetterMessage}
	calls       = [2]store.LetterKind{store.LetterCall}
	hooks       = [2]store.LetterKind{store.LetterHook}
)

// Duty is a roster of two levels, ten and twenty minutes.
const Duty = `{"id": "acme", "levels": [
	{"wait": "10m", "shifts": [{"from": "00:00", "until": "00:00", "who": "operator:ann"}]},
	{"wait": "20m", "shifts": [{"from": "00:00", "until": "00:00", "who": "operator:bob"}]}],
	"reach": {"operator:ann": ["ann@acme.example"], "operator:bob": ["bob@acme.example", "bob2@acme.example"]}}`

// callsClimb: a report calls whoever is on duty; the call is open until somebody
// answers, climbs by compare-and-swap, and each call is a letter.
func callsClimb(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	if _, err := s.Roster(ctx); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no roster yet: %v", err)
	}
	if err := s.AddTriager(ctx, Ann, "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.SetRoster(ctx, Bob, []byte(Duty), false, Start); !errors.Is(err, psirt.ErrForbidden) {
		t.Errorf("who is no triager sets a roster: %v", err)
	}
	roster, _, err := s.SetRoster(ctx, Ann, []byte(Duty), false, Start)
	if err != nil || roster.Revision != 1 || roster.ID != "acme" {
		t.Fatalf("%+v, %v", roster, err)
	}
	sub := submission("a", "bytes")
	sub.Letter, sub.Received.Contact = "", ""
	r, _, err := s.Submit(ctx, sub, Start)
	if err != nil || r.Page == nil || r.Page.To != "operator:ann" {
		t.Fatalf("%+v, %v", r.Page, err)
	}
	open := func() store.OpenCall {
		t.Helper()
		calls, err := s.OpenCalls(ctx)
		if err != nil || len(calls) != 1 || !calls[0].Report || calls[0].Subject != r.ID {
			t.Fatalf("%+v, %v", calls, err)
		}
		return calls[0]
	}
	call := open()
	if err := s.Climb(ctx, call, "operator:bob", Start.Add(10*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := s.Climb(ctx, call, "operator:bob", Start.Add(10*time.Minute)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("two servers have it climb: %v", err)
	}
	if call = open(); call.To != "operator:bob" || call.Level != 1 {
		t.Errorf("%+v", call)
	}
	letters, err := s.TakeLetters(ctx, store.LetterQuery{Kinds: calls, Lease: Start.Add(2 * time.Hour), Limit: 10}, Start.Add(time.Hour))
	if err != nil || len(letters) != 3 {
		t.Errorf("one letter to ann, two to bob: %+v, %v", letters, err)
	}
	heard := Draft(t, &psirt.PageAcknowledged{By: "operator:ann"})
	if _, err := s.CommitReport(ctx, Ann, r.ID, store.AnyRevision, []psirt.Fact{heard}, Start.Add(11*time.Minute), nil); err != nil {
		t.Fatal(err)
	}
	if calls, err := s.OpenCalls(ctx); err != nil || len(calls) != 0 {
		t.Errorf("answered: %+v, %v", calls, err)
	}
	if err := s.Climb(ctx, call, "operator:bob", Start.Add(time.Hour)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an answered call climbs: %v", err)
	}
}

// caseCallsClimb: a case's call climbs as a report's does.
func caseCallsClimb(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	if _, _, err := s.SetRoster(ctx, Ann, []byte(Duty), false, Start); err != nil {
		t.Fatal(err)
	}
	kase, err := s.OpenCase(ctx, Ann, store.Opening{Title: "overflow in the parser"}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	raised := Draft(t, &psirt.PageRaised{To: "operator:ann", Why: "attacks"})
	if _, err := s.CommitFacts(ctx, Ann, kase.ID, store.AnyRevision, []psirt.Fact{raised}, Start, nil); err != nil {
		t.Fatal(err)
	}
	calls, err := s.OpenCalls(ctx)
	if err != nil || len(calls) != 1 || calls[0].Report {
		t.Fatalf("%+v, %v", calls, err)
	}
	if err := s.Climb(ctx, calls[0], "operator:bob", Start.Add(10*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if calls, err = s.OpenCalls(ctx); err != nil || calls[0].To != "operator:bob" {
		t.Errorf("%+v, %v", calls, err)
	}
}
