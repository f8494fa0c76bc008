package notify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/psirt"
)

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// content is what the tests tell.
func content() Content {
	return Content{
		Version: 1, Product: "acme/gateway", Severity: "high", Action: Rotate,
		Title:   Text{English: "API keys of acme/gateway could be read", Japanese: "acme/gateway の API キーが読み取られる可能性"},
		Summary: Text{English: "A crafted request made the gateway answer with memory of others.\nUpdate, then rotate.", Japanese: "細工されたリクエストにより、他のリクエストの内容が応答に含まれる可能性がありました。"},
		Detail:  Text{English: "The length field was not checked."}, Advisory: "https://acme.example/advisories/1",
		Steps: []Step{
			{Text: Text{English: "Update to 1.2.3.", Japanese: "1.2.3 に更新してください。"}, Check: &Check{Kind: CheckVersion, Product: "acme/gateway", Want: "1.2.3"}},
			{Text: Text{English: "Rotate the API key.", Japanese: "API キーを作り直してください。"}, Check: &Check{Kind: CheckAge, Product: "acme/gateway", Probe: "api-key", Want: "2026-03-01T00:00:00Z"}},
		},
	}
}

// The recipients are exactly the tenants that match: none is missing, none is
// there for nothing, and each has its own resources and no others.
func TestAudienceIsExactlyWhoMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owner := map[string]string{} // resource → tenant
		affected := map[string]bool{}
		for i := range rapid.IntRange(0, 60).Draw(t, "resources") {
			id := fmt.Sprintf("E-%d", i)
			owner[id] = fmt.Sprintf("t%d", rapid.IntRange(0, 12).Draw(t, "owner"))
			affected[id] = rapid.Bool().Draw(t, "affected")
		}
		var matches []Match
		for id, tenant := range owner {
			if !affected[id] {
				continue
			}
			for range rapid.IntRange(1, 2).Draw(t, "reasons") { // some match twice
				matches = append(matches, Match{tenant, []Resource{{ID: id, Product: "p", Version: "1", Reason: "r"}}})
			}
		}
		a, err := NewAudience(matches)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, r := range a.Recipients {
			for _, res := range r.Resources {
				if got[res.ID] != "" {
					t.Fatalf("%s is told of twice", res.ID)
				}
				got[res.ID] = r.Tenant
			}
		}
		for id := range owner {
			if want := affected[id]; want != (got[id] != "") || want && got[id] != owner[id] {
				t.Fatalf("%s of %s, affected %v: told to %q", id, owner[id], want, got[id])
			}
		}
		slices.Reverse(matches)
		if b, _ := NewAudience(matches); b.Hash() != a.Hash() {
			t.Fatal("the hash depends on the order of the matches")
		}
	})
}

func TestAMatchOfNobodyIsAnError(t *testing.T) {
	for _, m := range []Match{{Resources: []Resource{{ID: "E-1"}}}, {Tenant: "t", Resources: []Resource{{}}}} {
		if _, err := NewAudience([]Match{m}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func TestWavesTellEachRungOnceAndLateJoinersToo(t *testing.T) {
	a, err := NewAudience([]Match{{"a", []Resource{{ID: "1"}}}, {"b", []Resource{{ID: "2"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Rung{psirt.Sealed, psirt.Partners} {
		if w := NextWave(a, r, nil); len(w.Recipients) != 0 {
			t.Errorf("rung %s tells %d tenants", r, len(w.Recipients))
		}
	}
	told := map[string]Told{}
	tell := func(rung Rung) (names []string) {
		for _, r := range NextWave(a, rung, told).Recipients {
			names = append(names, r.Tenant)
			told[r.Tenant] = Told{rung, HashResources(r.Resources)}
		}
		return names
	}
	for _, step := range []struct {
		rung Rung
		want string
	}{{Tenants, "[a b]"}, {Tenants, "[]"}, {Public, "[a b]"}, {Tenants, "[]"}} {
		if got := fmt.Sprint(tell(step.rung)); got != step.want {
			t.Errorf("rung %s tells %s, want %s", step.rung, got, step.want)
		}
	}
	a, err = NewAudience([]Match{{"a", []Resource{{ID: "1", Version: "2"}}}, {"b", []Resource{{ID: "2"}, {ID: "3"}}}, {"c", []Resource{{ID: "4"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(tell(Public)); got != "[b c]" {
		t.Errorf("after b gained a resource and c joined: %s told; want [b c]", got)
	}
}

// Each tenant's letter holds nothing of another: every byte that only another
// tenant's inventory has is absent, whatever the names look like.
func TestNoByteOfOneTenantReachesAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := func(i int) string { return fmt.Sprintf("zq%dqz", i) }
		var matches []Match
		n := rapid.IntRange(2, 5).Draw(t, "tenants")
		for i := range n {
			noise := rapid.StringN(0, 40, 200).Draw(t, "noise")
			matches = append(matches, Match{"t" + secret(i), []Resource{{ID: "E" + secret(i), Name: noise + secret(i), Product: noise, Version: secret(i) + noise, Reason: secret(i) + noise}}})
		}
		a, err := NewAudience(matches)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []Language{English, Japanese} {
			p := NewPrinter(l) // one printer for all: it must carry nothing over
			for i, r := range a.Recipients {
				m := p.Render(Letter{Notice: "N-1", Rung: Tenants, Content: content(), To: r, Language: l, Mark: NewMark([]byte("k"), 1, r.Tenant)})
				for j := range n {
					if found := strings.Contains(m.Subject+m.Opaque+m.Body, secret(j)); found != (j == i) {
						t.Fatalf("the letter of tenant %d, of tenant %d's bytes: %v\n%s", i, j, found, m.Body)
					}
				}
				if strings.ContainsFunc(m.Subject+m.Opaque, func(r rune) bool { return r < ' ' }) {
					t.Fatalf("subject %q", m.Subject)
				}
			}
		}
	})
}

func TestRungsTellNoMoreThanTheyMay(t *testing.T) {
	c := content()
	for _, tc := range []struct {
		rung             Rung
		advisory, detail bool
		tlp              string
	}{{Tenants, false, false, "TLP:AMBER+STRICT"}, {Public, true, false, "TLP:CLEAR"}, {Details, true, true, "TLP:CLEAR"}} {
		m := Render(Letter{Notice: "N-1", Rung: tc.rung, Content: c, To: Recipient{Tenant: "t", Resources: []Resource{{ID: "1"}}}, Language: English})
		if strings.Contains(m.Body, c.Advisory) != tc.advisory || strings.Contains(m.Body, c.Detail[English]) != tc.detail || !strings.Contains(m.Body, tc.tlp) {
			t.Errorf("rung %s:\n%s", tc.rung, m.Body)
		}
		if strings.Contains(m.Opaque, "gateway") || strings.Contains(m.Opaque, "keys") {
			t.Errorf("the opaque subject tells: %q", m.Opaque)
		}
	}
}

func TestLanguagesAreFoundAndMissingTextsSaySo(t *testing.T) {
	for tag, want := range map[string]Language{"ja-JP": Japanese, "ja": Japanese, "en-GB": English} {
		if got, err := ParseLanguage(tag); err != nil || got != want {
			t.Errorf("%s: %s, %v", tag, got, err)
		}
	}
	for _, tag := range []string{"", "xx-", "th"} {
		if l, err := ParseLanguage(tag); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %s, %v", tag, l, err)
		}
	}
	c := content()
	delete(c.Steps[1].Text, Japanese)
	m := Render(Letter{Notice: "N-1", Rung: Tenants, Content: c, To: Recipient{Tenant: "t", Resources: []Resource{{ID: "1"}}}, Language: Japanese})
	if !strings.Contains(m.Body, "英語で記載") || !strings.Contains(m.Body, "Rotate the API key.") {
		t.Errorf("%s", m.Body)
	}
}

func TestMarkTracesALeak(t *testing.T) {
	marks, bodies := map[string]Mark{}, map[string]string{}
	for i := range 40 {
		name := fmt.Sprintf("t%02d", i)
		marks[name] = NewMark([]byte("key"), 9, name)
		bodies[name] = Render(Letter{Notice: "N-1", Rung: Tenants, Content: content(), To: Recipient{Tenant: "x", Resources: []Resource{{ID: "1"}}}, Language: []Language{English, Japanese}[i%2], Mark: marks[name]}).Body
	}
	codes := map[string]bool{}
	for name, body := range bodies {
		codes[marks[name].Code] = true
		got := Trace(body, marks)
		if len(got) == 0 || got[0].Tenant != name || !got[0].ByCode {
			t.Fatalf("%s leaked it; found %+v", name, got)
		}
		cut := strings.ReplaceAll(strings.ReplaceAll(body, marks[name].Code, ""), " ", "\n")
		got = Trace(cut, marks)
		if !slices.ContainsFunc(got, func(s Suspect) bool { return s.Tenant == name }) || len(got) > 10 {
			t.Fatalf("%s leaked it and cut the code off; found %+v", name, got)
		}
	}
	if len(codes) != len(marks) {
		t.Errorf("%d codes for %d tenants", len(codes), len(marks))
	}
	if got := Trace("nothing of ours", marks); len(got) != 0 {
		t.Errorf("an innocent text: %+v", got)
	}
}

// From what is shown, no count below k can be told: neither alone nor by taking
// the shown ones from the total.
func TestSmallCountsCannotBeTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const k = 5
		var cells []Cell
		sum := 0
		for i := range rapid.IntRange(1, 6).Draw(t, "cells") {
			n := rapid.IntRange(0, 12).Draw(t, "n")
			cells = append(cells, Cell{Name: fmt.Sprint(i), N: n})
			sum += n
		}
		out, total := Suppress(cells, k)
		hidden, rest := 0, sum
		for _, c := range out {
			if c.Suppressed {
				hidden++
				if c.Text() != "hidden" {
					t.Fatalf("%+v shows %s", c, c.Text())
				}
				continue
			}
			if c.N > 0 && c.N < k {
				t.Fatalf("%d is shown of %+v", c.N, cells)
			}
			rest -= c.N
		}
		if total && hidden == 1 {
			t.Fatalf("one hidden count of %+v is the total less the others", cells)
		}
		if total && hidden > 0 && rest < k {
			t.Fatalf("the hidden counts of %+v sum to %d", cells, rest)
		}
	})
}

func TestContentRefusesWhatCouldNotBeClosed(t *testing.T) {
	good := content()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, breakIt := range map[string]func(*Content){
		"version": func(c *Content) { c.Version = 2 }, "no English": func(c *Content) { delete(c.Summary, English) },
		"steps of no action": func(c *Content) { c.Action = None }, "action of no steps": func(c *Content) { c.Steps = nil },
		"two lines": func(c *Content) { c.Title[English] = "a\nBcc: x" }, "language": func(c *Content) { c.Title["fr"] = "x" },
		"advisory": func(c *Content) { c.Advisory = "http://x" }, "probe": func(c *Content) { c.Steps[1].Check.Probe = "" },
		"kind": func(c *Content) { c.Steps[0].Check.Kind = "shell" }, "want": func(c *Content) { c.Steps[0].Check.Want = "" },
	} {
		c := content()
		breakIt(&c)
		if err := c.Check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseContent([]byte(`{"version":1,"chek":1}`)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "chek") {
		t.Errorf("unknown field: %v", err)
	}
}

func FuzzParseContent(f *testing.F) {
	f.Add([]byte(`{"version":1,"product":"a/b","action":"none","title":{"en":"t"},"summary":{"en":"s"}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseContent(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		for _, l := range []Language{English, Japanese} {
			m := Render(Letter{Notice: "N-1", Rung: Details, Content: c, To: Recipient{Tenant: "t", Resources: []Resource{{ID: "1"}}}, Language: l})
			if strings.ContainsFunc(m.Subject, func(r rune) bool { return r < ' ' }) || strings.ContainsFunc(m.Body, func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Fatalf("control characters: %q %q", m.Subject, m.Body)
			}
		}
	})
}

func TestStepStaysOpenUntilEveryResourcePasses(t *testing.T) {
	rs := []Resource{{ID: "1"}, {ID: "1", Reason: "again"}, {ID: "2"}}
	at := func(m int) time.Time { return start.Add(time.Duration(m) * time.Minute) }
	for _, tc := range []struct {
		name string
		p    StepProgress
		want StepState
	}{
		{"nothing is known", StepProgress{HasCheck: true}, StepOpen},
		{"one of two", StepProgress{HasCheck: true, Results: []Result{{"1", true, at(1)}}}, StepOpen},
		{"both", StepProgress{HasCheck: true, Results: []Result{{"1", true, at(1)}, {"2", true, at(2)}}}, StepVerified},
		{"a stranger's result", StepProgress{HasCheck: true, Results: []Result{{"1", true, at(1)}, {"3", true, at(2)}}}, StepOpen},
		{"attested", StepProgress{HasCheck: true, Attested: at(1)}, StepDone},
		{"attested, then it failed", StepProgress{HasCheck: true, Attested: at(1), Results: []Result{{"1", false, at(2)}}}, StepOpen},
		{"failed, then attested", StepProgress{HasCheck: true, Attested: at(3), Results: []Result{{"1", false, at(2)}}}, StepDone},
		{"verified, then it failed", StepProgress{HasCheck: true, Verified: at(1), Results: []Result{{"1", true, at(1)}, {"2", false, at(2)}}}, StepReopened},
		{"verified, then one joined", StepProgress{HasCheck: true, Verified: at(1), Results: []Result{{"1", true, at(1)}}}, StepOpen},
		{"no check, attested", StepProgress{Attested: at(1)}, StepDone},
	} {
		if got := tc.p.State(rs); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	attested := Progress{Resources: rs, Delivered: start, Steps: []StepProgress{{HasCheck: true, Attested: at(1)}}}
	if attested.State() != Done || attested.Closed() {
		t.Errorf("attested only: %s, closed %v; an attestation alone closes no step with a check", attested.State(), attested.Closed())
	}
}

// simulated is what a snapshot's acts lead to when deliveries succeed at once.
func apply(s *Snapshot, d Decision, now time.Time) (sent int) {
	for _, a := range d.Acts {
		if a.Page != "" {
			s.Pages = append(s.Pages, PageFact{a.Page, a.N})
			continue
		}
		s.Deliveries = append(s.Deliveries, DeliveryFact{a.Purpose, a.N, a.Channel, Sent})
		s.Progress.Delivered = later(s.Progress.Delivered, now)
		sent++
	}
	return sent
}

// Deciding again after the acts were recorded asks for nothing more, at any
// instant, and nobody is sent two messages of one kind within an hour.
func TestDecideIsIdempotentAndNeverNags(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Snapshot{Policy: DefaultPolicy(), Edition: 1, Channels: []Channel{Email, Webhook}[:rapid.IntRange(0, 2).Draw(t, "channels")],
			Second: rapid.Bool().Draw(t, "second"), Progress: Progress{Created: start, Resources: []Resource{{ID: "1"}}, Steps: []StepProgress{{HasCheck: true}}}}
		now := start
		lastReminder := time.Time{}
		for range rapid.IntRange(1, 30).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "hours")) * time.Hour)
			switch rapid.IntRange(0, 7).Draw(t, "event") {
			case 0:
				s.Progress.Acknowledged = now
			case 1:
				s.Progress.Steps[0].Results, s.Progress.Steps[0].Verified = []Result{{"1", true, now}}, now
			case 2:
				if !s.Progress.Steps[0].Verified.IsZero() && s.Progress.Steps[0].State(s.Progress.Resources) == StepVerified {
					s.Progress.Steps[0].Results = []Result{{"1", false, now}}
					s.Reopenings, s.ReopenedAt = s.Reopenings+1, now
				}
			case 3:
				s.Progress.Steps[0].Attested = now
			}
			d := Decide(s, now)
			if len(d.Reasons) == 0 {
				t.Fatal("a decision without a reason")
			}
			apply(&s, d, now)
			reminded := slices.ContainsFunc(d.Acts, func(a Act) bool { return a.Purpose == ForReminder })
			if reminded {
				if !lastReminder.IsZero() && now.Sub(lastReminder) < time.Hour {
					t.Fatalf("reminded at %s and at %s", lastReminder, now)
				}
				lastReminder = now
			}
			if again := Decide(s, now); len(again.Acts) != 0 {
				t.Fatalf("decided again at once: %+v after %+v", again.Acts, d.Acts)
			}
			if s.Progress.Closed() && slices.ContainsFunc(d.Acts, func(a Act) bool { return a.Purpose == ForReminder || a.Purpose == ForEscalation }) {
				t.Fatalf("a closed notice was followed up: %+v", d.Acts)
			}
			if !d.Next.IsZero() && !d.Next.After(now) {
				t.Fatalf("look again at %s, and it is %s", d.Next, now)
			}
		}
	})
}

func TestARegressionIsToldAtOnce(t *testing.T) {
	s := Snapshot{Policy: DefaultPolicy(), Edition: 1, Channels: []Channel{Email}, Progress: Progress{Created: start, Resources: []Resource{{ID: "1"}}, Steps: []StepProgress{{HasCheck: true}}}}
	apply(&s, Decide(s, start), start)
	s.Progress.Steps[0] = StepProgress{HasCheck: true, Verified: start, Results: []Result{{"1", true, start}}}
	if d := Decide(s, start.Add(time.Hour)); len(d.Acts) != 0 || d.Reasons[0].Code != WhyClosed {
		t.Fatalf("verified: %+v", d)
	}
	s.Progress.Steps[0].Results[0] = Result{"1", false, start.Add(2 * time.Hour)}
	s.ReopenedAt, s.Reopenings = start.Add(2*time.Hour), 1
	d := Decide(s, start.Add(2*time.Hour))
	if len(d.Acts) != 1 || d.Acts[0] != (Act{Purpose: ForReopened, N: 1, Channel: Email}) {
		t.Fatalf("regressed: %+v", d)
	}
}

func TestATenantThatCannotBeToldIsTheOwnersConcern(t *testing.T) {
	s := Snapshot{Policy: DefaultPolicy(), Edition: 1, Progress: Progress{Created: start, Resources: []Resource{{ID: "1"}}, Steps: []StepProgress{{HasCheck: true}}}}
	if d := Decide(s, start); len(d.Acts) != 1 || d.Acts[0].Page != WhyNoChannel {
		t.Errorf("no channel: %+v", d)
	}
	s.Channels = []Channel{Email}
	s.Deliveries = []DeliveryFact{{ForNotice, 1, Email, Failed}}
	if d := Decide(s, start); len(d.Acts) != 1 || d.Acts[0].Page != WhyUndeliverable {
		t.Errorf("refused: %+v", d)
	}
	s.Deliveries[0].State = Waiting
	if d := Decide(s, start); len(d.Acts) != 0 || d.Reasons[0].Code != WhyUndelivered {
		t.Errorf("on its way: %+v", d)
	}
}

// receiver is the far side of a transport: it takes messages, and may drop doubles
// by their id.
type receiver struct {
	copies map[string]int // by message id
}

// TestCrashesLoseNothingAndDoublesAreOnlyWhereInDoubt runs deliveries to their end
// through crashes at every point and through every kind of answer. What the
// server knows is what it committed; what the receiver took is counted apart.
func TestCrashesLoseNothingAndDoublesAreOnlyWhereInDoubt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := receiver{copies: map[string]int{}}
		d := Delivery{Channel: Email, MessageID: "m-1", State: Waiting, Created: start, Due: start}
		now := start
		for range 200 {
			if d.State.Settled() {
				break
			}
			now = later(now, d.Due)
			if d.State != Waiting { // the server that leased it died
				next, err := d.Expired(now)
				if err != nil {
					t.Fatal(err)
				}
				d = next
				continue
			}
			d = attempt(t, d, &r, now)
			now = now.Add(time.Second)
		}
		taken := r.copies["m-1"]
		switch {
		case !d.State.Settled():
			t.Fatalf("not settled after 200 attempts: %+v", d)
		case d.State == Sent && taken < 1:
			t.Fatalf("sent, and the receiver has nothing: %+v", d)
		case d.State == Sent && taken > 1+d.Doubtful:
			t.Fatalf("%d copies, and %d attempts in doubt", taken, d.Doubtful)
		case d.State == Failed && taken > d.Doubtful:
			t.Fatalf("failed, %d copies taken, %d attempts in doubt", taken, d.Doubtful)
		}
	})
}

// attempt makes one attempt; it may crash at any point, which leaves what was
// committed before.
func attempt(t *rapid.T, d Delivery, r *receiver, now time.Time) Delivery {
	crash := rapid.IntRange(0, 9).Draw(t, "crash") // 0..3: at that point
	if crash == 0 {
		return d // before the intent was committed
	}
	d, err := d.Lease(now)
	if err != nil {
		t.Fatal(err)
	}
	if crash == 1 {
		return d // after the intent, before the message is complete: nothing can have been taken
	}
	answer := rapid.SampledFrom([]Answer{{Outcome: Accepted}, {Outcome: Accepted}, {Outcome: Deferred, Code: 451}, {Outcome: Refused, Code: 550}, {Outcome: Unsure}}).Draw(t, "answer")
	early := answer.Outcome != Accepted && answer.Outcome != Unsure && rapid.Bool().Draw(t, "early")
	if early { // refused before the message was complete
		d, err = d.Answered(answer, now)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d, err = d.Release(now); err != nil {
		t.Fatal(err)
	}
	if crash == 2 {
		return d // released on paper only
	}
	if answer.Outcome == Accepted || answer.Outcome == Unsure && rapid.Bool().Draw(t, "taken") {
		r.copies[d.MessageID]++
	}
	if crash == 3 {
		return d // taken, and not recorded
	}
	if d, err = d.Answered(answer, now); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAReceiverThatIsDownForADayIsReached(t *testing.T) {
	d := Delivery{MessageID: "m", State: Waiting, Created: start, Due: start}
	back := start.Add(24 * time.Hour)
	for !d.State.Settled() {
		now := d.Due
		var err error
		if d, err = d.Lease(now); err != nil {
			t.Fatal(err)
		}
		if now.Before(back) {
			d, err = d.Answered(Answer{Outcome: Deferred, Detail: "connection refused"}, now)
		} else if d, err = d.Release(now); err == nil {
			d, err = d.Answered(Answer{Outcome: Accepted, Code: 200}, now)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if late := d.Due.Sub(back); d.State != Sent || late > 5*time.Hour || d.Attempts > 30 {
		t.Errorf("%s %s after it came back, in %d attempts", d.State, late, d.Attempts)
	}
	d = Delivery{MessageID: "m", State: Waiting, Created: start, Due: start}
	for !d.State.Settled() {
		d, _ = d.Lease(d.Due)
		d, _ = d.Answered(Answer{Outcome: Deferred}, d.Due.Add(-leaseLife))
	}
	if life := d.Due.Sub(start); d.State != Failed || life > giveUp || life < giveUp-6*time.Hour {
		t.Errorf("a receiver that never comes back: %s after %s", d.State, life)
	}
}

func TestAcceptanceWithoutReleaseIsABug(t *testing.T) {
	d, _ := Delivery{State: Waiting}.Lease(start)
	if _, err := d.Answered(Answer{Outcome: Accepted}, start); !errors.Is(err, ErrStep) {
		t.Errorf("%v", err)
	}
	if _, err := d.Release(start.Add(leaseLife)); !errors.Is(err, ErrStep) {
		t.Errorf("a lease that ran out released: %v", err)
	}
}

func BenchmarkRender(b *testing.B) {
	for _, l := range []Language{English, Japanese} {
		b.Run(string(l), func(b *testing.B) {
			p := NewPrinter(l)
			var rs []Resource
			for i := range 5 {
				rs = append(rs, Resource{ID: fmt.Sprint("E-", i), Product: "acme/gateway", Version: "1.1.0", Reason: "1.1.0 is within >=1.0.0 <1.2.3"})
			}
			letter := Letter{Notice: "N-1", Rung: Tenants, Content: content(), To: Recipient{"example-corp", rs}, Language: l, Mark: NewMark([]byte("k"), 1, "t")}
			for b.Loop() {
				p.Render(letter)
			}
		})
	}
}
