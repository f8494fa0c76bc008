package server

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/internal/eximtest"
	"github.com/headgate/headgate/internal/span"
)

// onCall is a server without a public door, whose clock stands still between steps;
// a real mail server; and a receiver of webhooks.
type onCall struct {
	*testing.T
	cfg   Config
	s     *Server
	hooks *hooks
	mx    *eximtest.Server
	ahead atomic.Int64
	api   clients
	calls headgatev1connect.IntakeServiceClient
}

func newOnCall(t *testing.T) *onCall {
	o := &onCall{T: t, cfg: testConfig(t), mx: eximtest.Start(t, eximtest.Options{})}
	var ca string
	o.hooks, ca = newHooks(t)
	start := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	o.cfg.Stepped, o.cfg.Now = true, func() time.Time { return start.Add(time.Duration(o.ahead.Load())) }
	o.cfg.Webhooks = WebhookConfig{Allow: []string{"127.0.0.0/8"}, CAFile: ca}
	o.cfg.Mail = &MailConfig{Host: "127.0.0.1", Port: o.mx.Port, From: "psirt@acme.example", TLS: "none", Timeout: span.Duration(10 * time.Second)}
	o.start()
	t.Cleanup(func() { stopServer(t, o.s) })
	return o
}

func (o *onCall) start() {
	o.Helper()
	o.s = startServer(o, o.cfg)
	token, err := os.ReadFile(filepath.Join(o.cfg.Data, "operator.token"))
	check(o, err)
	o.api = newClients(o.s.URL(), strings.TrimSpace(string(token)))
	o.calls = headgatev1connect.NewIntakeServiceClient(o.api.web, o.s.URL())
}

// after lets d pass, and has the server look once.
func (o *onCall) after(d time.Duration) {
	o.Helper()
	o.ahead.Add(int64(d))
	check(o, o.s.Step(context.Background()))
}

func (o *onCall) log(subject string) []*headgatev1.CallAttempt {
	o.Helper()
	res, err := o.calls.ListCallAttempts(o.Context(), connect.NewRequest(&headgatev1.ListCallAttemptsRequest{Subject: subject}))
	check(o, err)
	return res.Msg.Attempts
}

// roster names admin, by mail and webhook, and then bob, by webhook alone.
func (o *onCall) roster() string {
	return strings.ReplaceAll(`{"id": "acme", "levels": [
		{"wait": "15m", "shifts": [{"from": "00:00", "until": "00:00", "who": "operator:admin"}]},
		{"wait": "30m", "shifts": [{"from": "00:00", "until": "00:00", "who": "operator:bob"}]}],
		"reach": {"operator:admin": ["admin@acme.example"]}, "hooks": {"operator:admin": ["URL/admin"], "operator:bob": ["URL/bob"]}}`, "URL", o.hooks.URL)
}

// Without a public door, a call about a sealed case goes out by mail and by signed
// webhook: again when it is not taken, also by another server process, with each
// attempt in the log; when nobody answers it climbs, and once somebody does it rests.
// Of the case it tells the number alone.
func TestACallGoesOutWithoutThePublicDoor(t *testing.T) {
	o := newOnCall(t)
	set, err := o.calls.SetRoster(t.Context(), connect.NewRequest(&headgatev1.SetRosterRequest{RosterJson: o.roster()}))
	check(t, err)
	if len(set.Msg.Secrets) != 2 || len(set.Msg.Roster.Unreached) != 0 {
		t.Fatalf("%+v", set.Msg)
	}
	secret := map[string]*standardwebhooks.Webhook{}
	for _, h := range set.Msg.Secrets {
		secret[strings.TrimPrefix(h.Url, o.hooks.URL)], err = standardwebhooks.NewWebhook(h.Secret)
		check(t, err)
	}
	var bad []string
	var last map[string]any
	o.hooks.check = func(body []byte, r *http.Request) {
		if err := secret[r.URL.Path].VerifyIgnoringTimestamp(body, r.Header); err != nil {
			bad = append(bad, r.URL.Path+": "+err.Error())
		}
		if err := json.Unmarshal(body, &last); err != nil || strings.Contains(string(body), "okapi") || strings.Contains(string(body), "quagga") {
			bad = append(bad, string(body))
		}
	}
	opened, err := o.api.cases.OpenCase(t.Context(), connect.NewRequest(&headgatev1.OpenCaseRequest{Title: "an okapi in the parser", Restricted: true}))
	check(t, err)
	kase := opened.Msg.Case.Id
	_, err = o.api.cases.AddFacts(t.Context(), connect.NewRequest(&headgatev1.AddFactsRequest{Id: kase, Revision: -1, Facts: []*headgatev1.NewFact{
		{Kind: "page.raised", Body: `{"to": "operator:admin", "why": "a quagga was seen"}`},
	}}))
	check(t, err)

	o.after(0) // the webhook reads it and gives no answer
	mail := o.mx.Await(t, "admin@acme.example", 1)[0]
	if text := string(mail.Raw); !strings.Contains(text, "headgate oncall answer "+kase) || strings.Contains(text, "okapi") || strings.Contains(text, "quagga") {
		t.Errorf("the mail: %s", text)
	}
	stopServer(t, o.s)
	o.start()
	o.after(9 * time.Second)
	if n := o.hooks.count(); n != 1 {
		t.Errorf("%d requests before the second is due", n)
	}
	o.after(time.Second)      // it asks for patience
	o.after(20 * time.Second) // it takes it
	o.after(time.Hour / 6)
	if taken := o.hooks.taken["/admin"]; len(taken) != 1 || o.hooks.seen[taken[0]] != 3 || len(o.hooks.seen) != 1 {
		t.Fatalf("taken %q of %v", taken, o.hooks.seen)
	}
	data, _ := last["data"].(map[string]any)
	if last["type"] != "call.raised" || data["subject"] != kase || data["to"] != "operator:admin" || data["answer"] != "headgate oncall answer "+kase {
		t.Errorf("the request: %v", last)
	}

	o.after(5 * time.Minute) // nobody answered within 15 minutes
	o.after(10 * time.Second)
	o.after(20 * time.Second)
	if len(o.hooks.taken["/bob"]) != 1 {
		t.Fatalf("it did not climb: %v", o.hooks.taken)
	}
	_, err = o.calls.AnswerCall(t.Context(), connect.NewRequest(&headgatev1.AnswerCallRequest{Subject: kase}))
	check(t, err)
	seen := o.hooks.count()
	o.after(24 * time.Hour)
	if n := o.hooks.count(); n != seen {
		t.Errorf("an answered call goes on: %d requests more", n-seen)
	}
	if len(bad) > 0 {
		t.Errorf("%q", bad)
	}
	o.checkLog(kase)
}

// checkLog checks that the log says what was done.
func (o *onCall) checkLog(kase string) {
	o.Helper()
	got := map[string]string{}
	for _, a := range o.log(kase) {
		got[a.To+" "+a.Channel] += a.Outcome + " "
	}
	for who, want := range map[string]string{"operator:admin email": "accepted ", "operator:admin webhook": "unsure deferred accepted ", "operator:bob webhook": "unsure deferred accepted "} {
		if got[who] != want {
			o.Errorf("the log says %q of %s, want %q", got[who], who, want)
		}
	}
	if _, err := o.calls.ListCallAttempts(o.Context(), connect.NewRequest(&headgatev1.ListCallAttemptsRequest{Subject: "C-0000000000000"})); connect.CodeOf(err) != connect.CodeNotFound {
		o.Errorf("the log of no case: %v", err)
	}
}

// A server that sends no mail says whom it cannot reach.
func TestARosterSaysWhomNothingReaches(t *testing.T) {
	o := newOnCall(t)
	stopServer(t, o.s)
	o.cfg.Mail = nil
	o.start()
	res, err := o.calls.SetRoster(t.Context(), connect.NewRequest(&headgatev1.SetRosterRequest{RosterJson: strings.Replace(o.roster(), `"operator:admin": ["`+o.hooks.URL+`/admin"], `, "", 1)}))
	check(t, err)
	if u := res.Msg.Roster.Unreached; len(u) != 1 || u[0] != "operator:admin" {
		t.Errorf("%q", u)
	}
}
