package server

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/eximtest"
	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// hooks is a webhook receiver that gives trouble, and remembers what it took.
type hooks struct {
	*httptest.Server
	mu      sync.Mutex          // guards what follows
	seen    map[string]int      // requests by webhook-id
	taken   map[string][]string // webhook-ids that were answered with 200, by path
	trouble func(http.ResponseWriter, *http.Request) bool
	check   func(body []byte, r *http.Request) // nil: nothing is checked
}

func newHooks(t *testing.T) (*hooks, string) {
	t.Helper()
	h := &hooks{seen: map[string]int{}, taken: map[string][]string{}}
	h.trouble = h.losesFirst
	h.Server = httptest.NewTLSServer(h)
	t.Cleanup(h.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}), 0o600))
	if _, err := x509.ParseCertificate(h.Certificate().Raw); err != nil {
		t.Fatal(err)
	}
	return h, file
}

// ServeHTTP takes a message unless there is trouble.
func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	id := r.Header.Get("webhook-id")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[id]++
	if h.check != nil {
		h.check(body, r)
	}
	if !h.trouble(w, r) {
		h.taken[r.URL.Path] = append(h.taken[r.URL.Path], id)
	}
}

// losesFirst has each message taken at its third request: the first gets no answer
// although it was read, the second is refused for now.
func (h *hooks) losesFirst(w http.ResponseWriter, r *http.Request) bool {
	switch h.seen[r.Header.Get("webhook-id")] {
	case 1:
		panic(http.ErrAbortHandler)
	case 2:
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	return false
}

func (h *hooks) count() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.seen {
		n += k
	}
	return n
}

// noticeWorld is a server's configuration with a real mail server and a webhook
// receiver, and a case that was told to tenants.
type noticeWorld struct {
	*testing.T
	cfg   Config
	mx    *eximtest.Server // nil: no mail
	hooks *hooks
	mail  []string // addresses that must be reached
	never []string // addresses that the mail server refuses for good
	paths []string // of webhooks
	// sayClock, if set, is told how far a server's clock is ahead before it starts.
	sayClock func(ahead time.Duration)
}

const recipients = 24

// webhookSecret is throw-away.
var webhookSecret = []byte(strings.Repeat("k", 32))

func newNoticeWorld(t *testing.T, database string, o eximtest.Options) *noticeWorld {
	w := newHookWorld(t)
	w.mx = eximtest.Start(t, o)
	w.cfg.Database = database
	// A whole message's answer is waited for ten times as long: not as long as a slow
	// one takes.
	w.cfg.Mail = &MailConfig{Host: "127.0.0.1", Port: w.mx.Port, From: "notices@psirt.example", TLS: "none", Timeout: span.Duration(500 * time.Millisecond)}
	return w
}

// newHookWorld is a world with webhooks alone.
func newHookWorld(t *testing.T) *noticeWorld {
	w := &noticeWorld{T: t, cfg: testConfig(t)}
	var ca string
	w.hooks, ca = newHooks(t)
	w.cfg.Webhooks = WebhookConfig{Allow: []string{"127.0.0.0/8"}, CAFile: ca}
	return w
}

// troubles are what the mail server does with addresses that begin so, while it is
// down; the last two never get better.
var troubles = map[int]string{0: "later.", 1: "datalater.", 2: "slow.", 4: "later.", 8: "datalater.", 10: "no.", 11: "datano.", 14: "slow."}

// tell adds tenants and tells them all: some mail has trouble while the mail server
// is down, and every third tenant has a webhook as well.
func (w *noticeWorld) tell() {
	w.Helper()
	s := startServer(w.T, w.cfg)
	ctx, db, now := w.Context(), s.Store(), time.Now()
	ann := store.Viewer{Actor: "operator:ann", Scope: store.ScopeOperator}
	var matches []notify.Match
	for i := range recipients {
		name := fmt.Sprintf("t%02d", i)
		_, err := db.AddTenant(ctx, name, ann.Actor, now)
		check(w, err)
		k := store.Contact{Tenant: name, Language: notify.English}
		if w.mx != nil {
			k.Email = troubles[i] + name + "@mail.example"
			if strings.Contains(troubles[i], "no.") {
				w.never = append(w.never, k.Email)
			} else {
				w.mail = append(w.mail, k.Email)
			}
		}
		if i%3 == 0 {
			k.Webhook, k.Secret = w.hooks.URL+"/"+name, webhookSecret
			w.paths = append(w.paths, "/"+name)
		}
		_, err = db.SetContact(ctx, ann, k, now)
		check(w, err)
		matches = append(matches, notify.Match{Tenant: name, Resources: []notify.Resource{{ID: "E-" + name, Product: product, Version: "1.0.0", Reason: "1.0.0 < 2.0.0"}}})
	}
	kase, err := db.OpenCase(ctx, ann, store.Opening{Title: "overflow"}, now, nil)
	check(w, err)
	opened, err := psirt.Draft(&psirt.RungOpened{Rung: psirt.TenantsRung, Decision: []byte(`{}`)}, now, "")
	check(w, err)
	_, err = db.CommitFacts(ctx, store.Engine("ladder"), kase.ID, store.AnyRevision, []psirt.Fact{opened}, now, nil)
	check(w, err)
	audience, err := notify.NewAudience(matches)
	check(w, err)
	if w.mx != nil {
		w.mx.Down(w.T)
	}
	w.stop(s)
	// Nobody sends while the wave is queued: the killed processes have all of it.
	db, err = store.Open(ctx, w.dsn(), startLog(w.T))
	check(w, err)
	wave, err := db.QueueWave(ctx, ann, store.WaveDraft{Case: kase.ID, Rung: notify.Tenants, Audience: audience, Letterhead: s.letterhead, Content: notify.Content{
		Version: 1, Product: product, Action: notify.Update, Title: notify.Text{"en": "Overflow"}, Summary: notify.Text{"en": "An overflow."},
		Steps: []notify.Step{{Text: notify.Text{"en": "Update."}, Check: &notify.Check{Kind: notify.CheckVersion, Product: product, Want: "2.0.0"}}},
	}}, now)
	check(w, err)
	check(w, db.Close())
	if wave.Notices != recipients {
		w.Fatalf("told %d tenants", wave.Notices)
	}
}

func (w *noticeWorld) stop(s *Server) { stopServer(w.T, s) }

func (w *noticeWorld) dsn() string {
	if w.cfg.Database != "" {
		return w.cfg.Database
	}
	return "sqlite:" + w.cfg.Data + "/headgate.db"
}

// killOnce runs a server process and kills it in the middle of its sending: when
// it has made so many attempts, or has nothing more to do just now.
func (w *noticeWorld) killOnce(ahead time.Duration, attempts int) {
	w.Helper()
	before := w.attempts()
	cmd, _ := spawn(w.T, w.cfg, clockEnv+"="+ahead.String())
	defer func(cmd *exec.Cmd) { _ = cmd.Wait() }(cmd)
	for deadline := time.Now().Add(3 * time.Second); w.attempts()-before < attempts && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	check(w, cmd.Process.Signal(syscall.SIGKILL))
}

// attempts is how many messages and requests the receivers have seen.
func (w *noticeWorld) attempts() int {
	if w.mx == nil {
		return w.hooks.count()
	}
	return w.hooks.count() + strings.Count(w.mx.Log(), " <= notices@") + strings.Count(w.mx.Log(), "rejected")
}

// finish lets one server, whose clock is ahead, send what is left.
func (w *noticeWorld) finish(ahead time.Duration) map[string]store.Attempt {
	w.Helper()
	db, err := store.Open(w.Context(), w.dsn(), startLog(w.T))
	check(w, err)
	defer db.Close()
	engine := store.Engine("test")
	var last map[string]store.Attempt
	for {
		if w.sayClock != nil {
			w.sayClock(ahead)
		}
		cmd, _ := spawn(w.T, w.cfg, clockEnv+"="+ahead.String())
		open := 1
		for deadline := time.Now().Add(4 * time.Second); open > 0 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			last, open = w.ledgerOf(db, engine)
		}
		check(w, cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait()
		if open == 0 {
			return last
		}
		if ahead += 3 * time.Hour; ahead > 9*24*time.Hour {
			w.Fatalf("%d deliveries are not settled", open)
		}
	}
}

// ledgerOf reads the last attempt of each message of the first edition, and how
// many are not settled.
func (w *noticeWorld) ledgerOf(db *store.Store, engine store.Viewer) (last map[string]store.Attempt, open int) {
	w.Helper()
	last = map[string]store.Attempt{}
	notices, err := db.ListNotices(w.Context(), engine, store.NoticeQuery{Limit: 1000}, time.Now())
	check(w, err)
	for _, n := range notices {
		log, err := db.NoticeLog(w.Context(), engine, n.ID)
		check(w, err)
		for _, a := range log {
			if a.Purpose == notify.ForNotice {
				last[a.MessageID] = a
			}
		}
	}
	for _, a := range last {
		if !a.State.Settled() {
			open++
		}
	}
	return last, open
}

// A notice reaches each recipient exactly once, whatever happens to the server
// and whatever the receivers answer: kill -9 in the middle of the sending, again
// and again; a mail server that puts off (4xx, before or after the message), refuses
// (5xx) or answers too late; webhooks whose answers are lost. A
// receiver that tells repeats by their id has each message once. A plain mail
// server has at most one extra copy for each attempt that the log says is in
// doubt.
func TestKilledServerTellsEverybodyExactlyOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("kills server processes")
	}
	t.Run("sqlite, relay that drops doubles", func(t *testing.T) { tellThroughKills(t, "", true) })
	t.Run("postgres, plain relay", func(t *testing.T) { tellThroughKills(t, pgtest.Start(t).NewDatabase(t), false) })
}

func tellThroughKills(t *testing.T, database string, drop bool) {
	w := newNoticeWorld(t, database, eximtest.Options{DropDoubles: drop})
	w.tell()
	ahead := time.Duration(0)
	for i := range 6 {
		w.killOnce(ahead, 1+3*i)
		ahead += 3 * time.Minute // the dead server's leases run out
	}
	w.mx.Up()
	last := w.finish(ahead)
	doubtful, attempts := map[string]int{}, 0
	for id, a := range last {
		attempts += a.Attempt
		if refused := slices.Contains(w.never, a.Address); refused && (a.State != notify.Failed || a.Code != 550) || !refused && a.State != notify.Sent {
			t.Errorf("%s to %s ended %s: %s", id, a.Address, a.State, a.Detail)
		}
		if a.Channel == notify.Email {
			doubtful["<"+id+">"] = a.Doubtful
		}
	}
	if want := len(w.mail) + len(w.never) + len(w.paths); len(last) != want {
		t.Fatalf("%d messages for %d addresses", len(last), want)
	}
	w.checkMail(doubtful, drop)
	for _, address := range w.never {
		if got := w.mx.Mail(t, address); len(got) > 0 {
			t.Errorf("%s was refused, and has %d messages", address, len(got))
		}
	}
	for _, path := range w.paths {
		ids := map[string]bool{}
		for _, id := range w.hooks.taken[path] {
			ids[id] = true
		}
		if len(ids) != 1 {
			t.Errorf("webhook %s took %d messages, by their ids", path, len(ids))
		}
	}
	t.Logf("%d messages in %d attempts over six kills; in doubt: %d mails", len(last), attempts, sum(doubtful))
}

func sum(m map[string]int) (n int) {
	for _, k := range m {
		n += k
	}
	return n
}

// checkMail compares what was delivered with what the log knows.
func (w *noticeWorld) checkMail(doubtful map[string]int, drop bool) {
	w.Helper()
	until(w.T, "the mail server has delivered what it took", func() bool { return w.mx.Queued(w.T) == 0 })
	copies := w.mx.Count(w.T)
	for _, address := range w.mail {
		ids := map[string]bool{}
		for _, m := range w.mx.Mail(w.T, address) {
			ids[m.Header.Get("Message-ID")] = true
		}
		if len(ids) != 1 {
			w.Errorf("%s has %d messages: %v", address, len(ids), ids)
		}
		for id := range ids {
			if drop && copies[id] != 1 || copies[id] > 1+doubtful[id] {
				w.Errorf("%s has %d copies of %s, of which %d attempts are in doubt", address, copies[id], id, doubtful[id])
			}
		}
	}
}
