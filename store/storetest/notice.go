package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// Letterhead is the suite's.
var Letterhead = store.Letterhead{MarkKey: []byte("throw-away"), Domain: "notices.example"}

// TenantViewer is whoever holds a token of a tenant.
func TenantViewer(name string) store.Viewer {
	return store.Viewer{Actor: "tenant:" + name + "-bot", Scope: store.ScopeTenant, Of: name}
}

// NoticeContent asks for an update and for something that no machine can check.
func NoticeContent() notify.Content {
	return notify.Content{
		Version: 1, Product: Product, Severity: "high", Action: notify.Update,
		Title: notify.Text{notify.English: "Overflow in acme/rules"}, Summary: notify.Text{notify.English: "An overflow.", notify.Japanese: "オーバーフローがあります。"},
		Steps: []notify.Step{
			{Text: notify.Text{notify.English: "Update to 1.0.0."}, Check: &notify.Check{Kind: notify.CheckVersion, Product: Product, Want: "1.0.0"}},
			{Text: notify.Text{notify.English: "Look at your logs."}},
		},
	}
}

// Told is a case whose rung is open to tenants, with two tenants in its audience
// and one that is not.
type Told struct {
	Store *store.Store
	Case  int64
	Draft store.WaveDraft
	// Notices are the notices' ids by tenant, once told.
	Notices map[string]int64
}

// NewTold opens a case and adds tenants east (mail and webhook, in Japanese), west
// (mail, in English) and south, which is not affected.
func NewTold(tb testing.TB, s *store.Store) *Told {
	tb.Helper()
	ctx := tb.Context()
	for _, name := range []string{"east", "west", "south"} {
		if _, err := s.AddTenant(ctx, name, "operator:ann", Start); err != nil {
			tb.Fatal(err)
		}
	}
	for _, k := range []store.Contact{
		{Tenant: "east", Language: notify.Japanese, Email: "psirt@east.example", Second: "ciso@east.example", Webhook: "https://hooks.east.example/", Secret: []byte(strings.Repeat("s", 32))},
		{Tenant: "west", Language: notify.English, Email: "psirt@west.example"},
	} {
		if _, err := s.SetContact(ctx, Ann, k, Start); err != nil {
			tb.Fatal(err)
		}
	}
	kase, err := s.OpenCase(ctx, Ann, store.Opening{Title: "overflow"}, Start, nil)
	if err != nil {
		tb.Fatal(err)
	}
	a, err := notify.NewAudience([]notify.Match{
		{Tenant: "east", Resources: []notify.Resource{{ID: "E-1", Product: Product, Version: "0.9", Reason: "0.9 < 1.0.0"}, {ID: "E-2", Product: Product, Version: "0.8", Reason: "0.8 < 1.0.0"}}},
		{Tenant: "west", Resources: []notify.Resource{{ID: "W-1", Product: Product, Version: "0.9", Reason: "0.9 < 1.0.0"}}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return &Told{Store: s, Case: kase.ID, Draft: store.WaveDraft{Case: kase.ID, Rung: notify.Tenants, Content: NoticeContent(), Audience: a, Letterhead: Letterhead}}
}

// OpenRung opens a rung as the ladder does.
func (w *Told) OpenRung(tb testing.TB, rung psirt.Rung) {
	tb.Helper()
	if _, err := w.Store.CommitFacts(tb.Context(), store.Engine("ladder"), w.Case, store.AnyRevision, []psirt.Fact{Draft(tb, &psirt.RungOpened{Rung: rung, Decision: []byte(`{}`)})}, Start, nil); err != nil {
		tb.Fatal(err)
	}
}

// Tell queues a wave.
func (w *Told) Tell(tb testing.TB, now time.Time) store.Wave {
	tb.Helper()
	out, err := w.Store.QueueWave(tb.Context(), Ann, w.Draft, now)
	if err != nil {
		tb.Fatal(err)
	}
	w.Notices = map[string]int64{}
	all, err := w.Store.ListNotices(tb.Context(), Ann, store.NoticeQuery{Case: w.Case}, now)
	if err != nil {
		tb.Fatal(err)
	}
	for _, n := range all {
		w.Notices[n.Tenant] = n.ID
	}
	return out
}

func newTold(t *testing.T, newDSN func(testing.TB) string) *Told {
	w := NewTold(t, Open(t, newDSN(t)))
	w.OpenRung(t, psirt.TenantsRung)
	return w
}

// nobodyIsToldLess: whom a later rung reached is not sent an earlier rung's text,
// which says to keep quiet about what is public.
func nobodyIsToldLess(t *testing.T, newDSN func(testing.TB) string) {
	w := newTold(t, newDSN)
	w.OpenRung(t, psirt.PublicRung)
	w.Draft.Rung = notify.Public
	w.Tell(t, Start)
	w.Draft.Rung = notify.Tenants
	if again := w.Tell(t, Start); again.Notices != 0 {
		t.Errorf("told again at an earlier rung: %+v", again)
	}
	more, err := notify.NewAudience([]notify.Match{{Tenant: "west", Resources: []notify.Resource{{ID: "W-1", Product: Product, Version: "0.9"}, {ID: "W-2", Product: Product, Version: "0.9"}}}})
	if err != nil {
		t.Fatal(err)
	}
	w.Draft.Audience = more
	if _, err := w.Store.QueueWave(t.Context(), Ann, w.Draft, Start); !errors.Is(err, store.ErrState) || !strings.Contains(err.Error(), "west") {
		t.Errorf("a late joiner's tenant is told less than before: %v", err)
	}
	w.Draft.Rung = notify.Public
	if joined := w.Tell(t, Start); joined.Notices != 1 {
		t.Errorf("the late joiner is not told: %+v", joined)
	}
	Healthy(t, w.Store)
}

func wavesTell(t *testing.T, newDSN func(testing.TB) string) {
	w := NewTold(t, Open(t, newDSN(t)))
	ctx := t.Context()
	if _, err := w.Store.QueueWave(ctx, Ann, w.Draft, Start); !errors.Is(err, store.ErrState) {
		t.Fatalf("a sealed case told tenants: %v", err)
	}
	w.OpenRung(t, psirt.TenantsRung)
	if _, err := w.Store.QueueWave(ctx, Bob, w.Draft, Start); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a stranger told tenants: %v", err)
	}
	one := w.Tell(t, Start)
	if one.Notices != 2 || one.Number != 1 || one.More || len(w.Notices) != 2 {
		t.Fatalf("first wave %+v, notices %v", one, w.Notices)
	}
	if again := w.Tell(t, Start); again.Notices != 0 {
		t.Fatalf("told twice: %+v", again)
	}
	got := w.ship(t, Start)
	want := []string{"email psirt@east.example", "email psirt@west.example", "webhook https://hooks.east.example/"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("sent to %q, want %q", got, want)
	}
	w.OpenRung(t, psirt.PublicRung)
	w.Draft.Rung = notify.Public
	if two := w.Tell(t, Start.Add(time.Hour)); two.Notices != 2 || two.Number != 2 {
		t.Errorf("public wave %+v", two)
	}
	kase, err := w.Store.ReadCase(ctx, Ann, w.Case, Start)
	if err != nil || len(kase.Outcome.Waves) != 2 || kase.Outcome.Waves[0].Hash != one.Hash {
		t.Errorf("the case's waves: %+v, %v", kase.Outcome.Waves, err)
	}
	check, err := w.Store.VerifyCase(ctx, Ann, w.Case, Start)
	if err != nil || len(check.Broken) > 0 || check.Readings < 4 {
		t.Errorf("openings: %+v, %v", check, err)
	}
	noTrace(t, w.Store, store.CaseID(w.Case), store.NoticeID(w.Notices["east"]), "overflow", "Overflow", "hooks.east", "psirt@")
	Healthy(t, w.Store)
}

// ship sends all that is due, every message taken, and says to whom.
func (w *Told) ship(t *testing.T, now time.Time) (to []string) {
	t.Helper()
	for {
		sh, err := w.Store.LeaseDelivery(t.Context(), "s1", now)
		if errors.Is(err, store.ErrNotFound) {
			slices.Sort(to)
			return to
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Store.ReleaseDelivery(t.Context(), sh, "s1", now); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Store.SettleDelivery(t.Context(), sh, "s1", notify.Answer{Outcome: notify.Accepted, Code: 250}, now); err != nil {
			t.Fatal(err)
		}
		to = append(to, string(sh.Channel)+" "+sh.Parcel.Address)
	}
}

// Each viewer against each notice: only its tenant and the case's members read
// it, and what the others get is the very error of an id that is nobody's.
func noticesAreTheirs(t *testing.T, newDSN func(testing.TB) string) {
	w := newTold(t, newDSN)
	ctx := t.Context()
	w.Tell(t, Start)
	if _, err := w.Store.CommitFacts(ctx, Ann, w.Case, store.AnyRevision, []psirt.Fact{Draft(t, &psirt.MemberAdded{Principal: "operator:bob", Role: psirt.Observer, UpTo: psirt.Amber})}, Start, nil); err != nil {
		t.Fatal(err)
	}
	const nobodys = 42
	_, _, absent := w.Store.ReadNotice(ctx, TenantViewer("south"), nobodys, "api", Start)
	for name, v := range map[string]store.Viewer{"east": TenantViewer("east"), "west": TenantViewer("west"), "south": TenantViewer("south"), "ann": Ann, "bob": Bob, "acme": Acme} {
		for tenant, id := range w.Notices {
			n, body, err := w.Store.ReadNotice(ctx, v, id, "api", Start)
			if may := name == tenant || name == "ann"; may != (err == nil) {
				t.Errorf("%s reads the notice of %s: %v", name, tenant, err)
			} else if !may && strings.ReplaceAll(err.Error(), store.NoticeID(id), "") != strings.ReplaceAll(absent.Error(), store.NoticeID(nobodys), "") {
				t.Errorf("%s, of %s: %v; a notice that is not: %v", name, tenant, err, absent)
			} else if may && (n.Tenant != tenant || !strings.Contains(body.Body, store.NoticeID(id))) {
				t.Errorf("%s reads %+v of %s", name, n, tenant)
			}
			_, errLog := w.Store.NoticeLog(ctx, v, id)
			_, errReads := w.Store.NoticeReads(ctx, v, id)
			_, errAck := w.Store.AcknowledgeNotice(ctx, v, id, Start)
			_, errStep := w.Store.AttestStep(ctx, v, id, 2, Start)
			if (errLog == nil) != (err == nil) || (errReads == nil) != (err == nil) || (errAck == nil) != (name == tenant) || (errStep == nil) != (name == tenant) {
				t.Errorf("%s, of %s: read %v; log %v, reads %v, acknowledge %v, attest %v", name, tenant, err, errLog, errReads, errAck, errStep)
			}
		}
		list, err := w.Store.ListNotices(ctx, v, store.NoticeQuery{}, Start)
		if want := map[string]int{"east": 1, "west": 1, "ann": 2}[name]; err != nil || len(list) != want {
			t.Errorf("%s lists %d notices, %v; want %d", name, len(list), err, want)
		}
		cells, total, err := w.Store.NoticeCounts(ctx, v, w.Case, 5)
		if (err == nil) != (name == "ann" || name == "bob") {
			t.Errorf("%s counts: %v", name, err)
		}
		if name == "bob" && (total || slices.ContainsFunc(cells, func(c notify.Cell) bool { return c.N > 0 && !c.Suppressed })) {
			t.Errorf("an observer sees %+v, total %v", cells, total)
		}
		_, err = w.Store.ReadContact(ctx, v, "east")
		if (err == nil) != (v.Scope == store.ScopeOperator || name == "east") {
			t.Errorf("%s reads the contact of east: %v", name, err)
		}
	}
	reads, err := w.Store.NoticeReads(ctx, Ann, w.Notices["east"])
	if err != nil || len(reads) != 1 || reads[0].Actor != "tenant:east-bot" || reads[0].Via != "api" {
		t.Errorf("reads of east's notice: %+v, %v", reads, err)
	}
}

// A delivery that a dead server held is taken over, and its doubt is known only
// where it can be; the late server's words count no more.
func deliveriesSurvive(t *testing.T, newDSN func(testing.TB) string) {
	w := newTold(t, newDSN)
	ctx := t.Context()
	w.Tell(t, Start)
	first, err := w.Store.LeaseDelivery(ctx, "s1", Start)
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.Store.LeaseDelivery(ctx, "s2", Start)
	if err != nil || second.ID == first.ID {
		t.Fatalf("leased twice: %+v, %v", second, err)
	}
	if err := w.Store.ReleaseDelivery(ctx, second, "s2", Start); err != nil {
		t.Fatal(err)
	}
	if err := w.Store.ReleaseDelivery(ctx, first, "s2", Start); !errors.Is(err, store.ErrConflict) {
		t.Errorf("another server's lease was released: %v", err)
	}
	if _, err := w.Store.ExpireDelivery(ctx, Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a live lease expired: %v", err)
	}
	if err := w.Store.RenewDeliveries(ctx, "s1", Start.Add(30*time.Second)); err != nil {
		t.Fatal(err)
	}
	late := Start.Add(notify.LeaseLife())
	d, err := w.Store.ExpireDelivery(ctx, late)
	if err != nil || d.Doubtful != 1 || d.MessageID != second.Parcel.MessageID {
		t.Fatalf("expired %+v, %v; want the one that was released, in doubt", d, err)
	}
	if _, err := w.Store.ExpireDelivery(ctx, late); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a renewed lease expired: %v", err)
	}
	if _, err := w.Store.SettleDelivery(ctx, second, "s2", notify.Answer{Outcome: notify.Accepted}, late); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an attempt that was taken over settled: %v", err)
	}
	again, err := w.Store.LeaseDelivery(ctx, "s3", late)
	for err == nil && again.ID != second.ID {
		again, err = w.Store.LeaseDelivery(ctx, "s3", late)
	}
	if err != nil || again.Parcel.MessageID != second.Parcel.MessageID || again.Attempt != 2 {
		t.Fatalf("taken over as %+v, %v", again, err)
	}
	if d, err := w.Store.SettleDelivery(ctx, first, "s1", notify.Answer{Outcome: notify.Deferred, Code: 451, Detail: "busy"}, Start.Add(time.Minute)); err != nil || d.State != notify.Waiting || d.Doubtful != 0 {
		t.Errorf("the live one: %+v, %v", d, err)
	}
	log, err := w.Store.NoticeLog(ctx, Ann, w.Notices["east"])
	if err != nil || len(log) < 2 {
		t.Errorf("log %+v, %v", log, err)
	}
	Healthy(t, w.Store)
}

// closing follows one notice through its checks.
type closing struct {
	*Told
	testing.TB
	id  int64
	now time.Time
}

// look decides about the notice and reads it.
func (c *closing) look() store.Notice {
	c.Helper()
	ctx := c.Context()
	if _, err := c.Store.DecideNotice(ctx, c.id, notify.DefaultPolicy(), Letterhead, c.now); err != nil {
		c.Fatal(err)
	}
	n, _, err := c.Store.ReadNotice(ctx, Ann, c.id, "api", c.now)
	if err != nil {
		c.Fatal(err)
	}
	return n
}

// report has the first step's check say something, a minute later.
func (c *closing) report(resource string, passed bool) {
	c.Helper()
	c.now = c.now.Add(time.Minute)
	if err := c.Store.RecordChecks(c.Context(), []store.CheckResult{{Notice: c.id, Step: 1, Resource: resource, Passed: passed, At: c.now}}, c.now); err != nil {
		c.Fatal(err)
	}
}

// A notice closes by its checks on every resource and by nothing less.
func checksClose(t *testing.T, newDSN func(testing.TB) string) {
	w := newTold(t, newDSN)
	w.Tell(t, Start)
	w.ship(t, Start)
	c := &closing{Told: w, TB: t, id: w.Notices["east"], now: Start}
	if n := c.look(); n.Progress.State() != notify.Delivered {
		t.Fatalf("shipped: %s", n.Progress.State())
	}
	for step := range 2 {
		if _, err := w.Store.AttestStep(t.Context(), TenantViewer("east"), c.id, step+1, c.now); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.look(); n.Progress.State() != notify.Done || n.Progress.Closed() {
		t.Fatalf("attested: %s, closed %v", n.Progress.State(), n.Progress.Closed())
	}
	c.report("E-1", true)
	c.report("W-1", true) // another tenant's resource closes nothing here
	if n := c.look(); n.Progress.Closed() {
		t.Fatal("closed by one resource of two")
	}
	c.report("E-2", true)
	if n := c.look(); !n.Progress.Closed() {
		t.Fatalf("every check passed: %+v", n.Progress)
	}
	regressions(t, c)
	Healthy(t, w.Store)
}

// regressions opens a closed notice again, twice, and each time tells of it.
func regressions(t *testing.T, c *closing) {
	c.report("E-1", false)
	if n := c.look(); n.Progress.Closed() || n.Reopenings != 1 {
		t.Fatalf("a check failed again: closed %v, %d reopenings", n.Progress.Closed(), n.Reopenings)
	}
	if to := c.ship(t, c.now); len(to) != 2 {
		t.Errorf("the reopening was sent to %q", to)
	}
	c.report("E-1", true)
	c.report("E-1", false)
	if n := c.look(); n.Reopenings != 2 {
		t.Errorf("%d reopenings", n.Reopenings)
	}
	if to := c.ship(t, c.now); len(to) != 2 {
		t.Errorf("the second reopening was sent to %q", to)
	}
	stale := store.CheckResult{Notice: c.id, Step: 1, Resource: "E-1", Passed: true, At: Start}
	if err := c.Store.RecordChecks(t.Context(), []store.CheckResult{stale}, c.now); err != nil {
		t.Fatal(err)
	}
	if n := c.look(); n.Progress.Closed() {
		t.Error("a result older than the last one closed it")
	}
}

// Silence is followed up on the policy's schedule, once for each entry of it.
func remindersComeOnce(t *testing.T, newDSN func(testing.TB) string) {
	w := newTold(t, newDSN)
	ctx := t.Context()
	w.Tell(t, Start)
	w.ship(t, Start)
	if _, err := w.Store.CommitFacts(ctx, Ann, w.Case, store.AnyRevision, []psirt.Fact{Draft(t, &psirt.OwnerSet{Owner: "operator:ann"})}, Start, nil); err != nil {
		t.Fatal(err)
	}
	sent := map[string]int{}
	for hour := range 8 * 24 {
		now := Start.Add(time.Duration(hour) * time.Hour)
		due, err := w.Store.NoticesToLookAt(ctx, now, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range due {
			for range 2 { // and two servers at once
				if _, err := w.Store.DecideNotice(ctx, id, notify.DefaultPolicy(), Letterhead, now); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, to := range w.ship(t, now) {
			sent[to]++
		}
	}
	want := map[string]int{"email psirt@east.example": 3, "webhook https://hooks.east.example/": 3, "email psirt@west.example": 3, "email ciso@east.example": 1}
	if fmt.Sprint(sent) != fmt.Sprint(want) {
		t.Errorf("within eight days: %v; want %v", sent, want)
	}
	kase, err := w.Store.ReadCase(ctx, Ann, w.Case, Start)
	if err != nil || kase.Page == nil || kase.Page.To != "operator:ann" || !strings.Contains(kase.Page.Why, notify.WhyEscalation) {
		t.Errorf("the owner's page is %+v, %v", kase.Page, err)
	}
	if _, err := w.Store.CommitFacts(ctx, Ann, w.Case, store.AnyRevision, []psirt.Fact{Draft(t, &psirt.CaseClosed{Why: "done"})}, Start.Add(10*24*time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	closed, err := w.Store.CasesToEnd(ctx)
	if err != nil || len(closed) != 1 || closed[0] != w.Case {
		t.Errorf("closed cases with notices: %v, %v", closed, err)
	}
	if n, err := w.Store.EndNotices(ctx, store.Engine("herald"), w.Case, notify.Audience{}, Start.Add(10*24*time.Hour)); err != nil || n != 2 {
		t.Errorf("ended %d, %v", n, err)
	}
	if closed, err := w.Store.CasesToEnd(ctx); err != nil || len(closed) != 0 {
		t.Errorf("after that: %v, %v", closed, err)
	}
	if due, err := w.Store.NoticesToLookAt(ctx, Start.Add(1000*time.Hour), 100); err != nil || len(due) != 0 {
		t.Errorf("ended notices are looked at: %v, %v", due, err)
	}
}

// A feed shows its own tenant's notices and records that it was fetched; its
// secret is replaced by the next.
func feedsAreTheirs(t *testing.T, newDSN func(testing.TB) string) {
	w := newTold(t, newDSN)
	ctx := t.Context()
	w.Tell(t, Start)
	for i, name := range []string{"east", "south"} {
		if err := w.Store.SetFeed(ctx, TenantViewer(name), name, SecretOf(int64(i)), Start); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Store.SetFeed(ctx, TenantViewer("east"), "west", SecretOf(9), Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a tenant set another's feed: %v", err)
	}
	for i, want := range []int{1, 0} {
		for range 3 {
			_, entries, err := w.Store.ReadFeed(ctx, SecretOf(int64(i)), Start)
			if err != nil || len(entries) != want {
				t.Errorf("feed %d: %d entries, %v; want %d", i, len(entries), err, want)
			}
		}
	}
	reads, err := w.Store.NoticeReads(ctx, Ann, w.Notices["east"])
	if err != nil || len(reads) != 1 || reads[0].Via != "feed" {
		t.Errorf("reads %+v, %v", reads, err)
	}
	if _, _, err := w.Store.ReadFeed(ctx, SecretOf(7), Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown secret: %v", err)
	}
	if err := w.Store.SetFeed(ctx, TenantViewer("east"), "east", SecretOf(5), Start); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Store.ReadFeed(ctx, SecretOf(0), Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the replaced secret: %v", err)
	}
	contact, err := w.Store.ReadContact(ctx, TenantViewer("east"), "east")
	if err != nil || !contact.HasFeed || len(contact.Secret) != 0 {
		t.Errorf("contact %+v, %v", contact, err)
	}
}
