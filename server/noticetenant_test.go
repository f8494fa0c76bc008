package server

import (
	"fmt"
	"io"
	"math/rand/v2"
	"mime/quotedprintable"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/mmcdole/gofeed"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/internal/eximtest"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// taker is a webhook receiver that takes everything and keeps it by path.
type taker struct {
	mu   sync.Mutex // guards what follows
	took map[string]string
}

// ServeHTTP implements http.Handler.
func (h *taker) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.took[r.URL.Path] += string(b)
}

// noise is what an endpoint may say of itself: text that could break out of a
// line, a header, a column or a tag.
func noise(r *rand.Rand) string {
	parts := []string{"\r\n", "\nBcc: x@y.example\n", "<b>", "]]>", "\u202e", "\x00", "%s%d", "{{.}}", "'; --", "お知らせ", "\u2028", "\t"}
	var b strings.Builder
	for range r.IntN(5) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

// Everything that a tenant can get, by mail, webhook, feed and API, holds its own
// words and none of another tenant's, whatever endpoints call themselves.
func TestNoByteOfOneTenantReachesAnother(t *testing.T) {
	const tenants = 5
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	nw := newNoticeWorld(t, "", eximtest.Options{})
	h := &taker{took: map[string]string{}}
	nw.hooks.Config.Handler = http.HandlerFunc(h.ServeHTTP)
	w := newWorld(t, func(c *Config) { c.Mail, c.Webhooks = nw.cfg.Mail, nw.cfg.Webhooks })
	secret := func(i int) string { return fmt.Sprintf("zq%dqz", i) }
	name := func(i int) string { return fmt.Sprintf("corp-%s", secret(i)) }
	ann := store.Viewer{Actor: "operator:ann", Scope: store.ScopeOperator}
	var matches []notify.Match
	for i := range tenants {
		_, err := w.store.AddTenant(t.Context(), name(i), ann.Actor, time.Now())
		check(t, err)
		_, err = w.store.SetContact(t.Context(), ann, store.Contact{
			Tenant: name(i), Language: []notify.Language{"en", "ja"}[i%2], Email: secret(i) + "@mail.example", Webhook: nw.hooks.URL + "/" + secret(i), Secret: make([]byte, 32),
		}, time.Now())
		check(t, err)
		s := secret(i)
		matches = append(matches, notify.Match{Tenant: name(i), Resources: []notify.Resource{{ID: "E-" + s, Name: noise(r) + s, Product: noise(r) + s, Version: s + noise(r), Reason: noise(r) + s + noise(r)}}})
	}
	w.tellOf(t, ann, matches)
	until(t, "everybody has it by mail and webhook", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		mails := 0
		for i := range tenants {
			mails += len(nw.mx.Mail(t, secret(i)+"@mail.example"))
		}
		return len(h.took) == tenants && mails == tenants
	})
	all, err := w.store.ListNotices(t.Context(), store.Engine("test"), store.NoticeQuery{}, time.Now())
	check(t, err)
	for i := range tenants {
		got := map[string]string{"webhook": h.took["/"+secret(i)], "api": w.everything(t, name(i), all)}
		b, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(string(nw.mx.Mail(t, secret(i)+"@mail.example")[0].Raw))))
		check(t, err)
		got["mail"] = string(b)
		for way, text := range got {
			for j := range tenants {
				if found := strings.Contains(text, secret(j)); found != (j == i) {
					t.Errorf("tenant %d by %s, bytes of tenant %d: %v\n%s", i, way, j, found, text)
				}
			}
		}
	}
}

// tellOf opens a case to its tenants and tells them.
func (w *world) tellOf(t *testing.T, v store.Viewer, matches []notify.Match) {
	t.Helper()
	kase, err := w.store.OpenCase(t.Context(), v, store.Opening{Title: "overflow"}, time.Now(), nil)
	check(t, err)
	opened, err := psirt.Draft(&psirt.RungOpened{Rung: psirt.TenantsRung, Decision: []byte(`{}`)}, time.Now(), "")
	check(t, err)
	_, err = w.store.CommitFacts(t.Context(), store.Engine("ladder"), kase.ID, store.AnyRevision, []psirt.Fact{opened}, time.Now(), nil)
	check(t, err)
	audience, err := notify.NewAudience(matches)
	check(t, err)
	_, err = w.store.QueueWave(t.Context(), v, store.WaveDraft{Case: kase.ID, Rung: notify.Tenants, Audience: audience, Letterhead: w.letterhead, Content: notify.Content{
		Version: 1, Product: product, Action: notify.Update, Title: notify.Text{"en": "Overflow"}, Summary: notify.Text{"en": "An overflow."},
		Steps: []notify.Step{{Text: notify.Text{"en": "Update."}, Check: &notify.Check{Kind: notify.CheckVersion, Product: product, Want: "2.0.0"}}},
	}}, time.Now())
	check(t, err)
}

// everything is all that a tenant's token gets from NoticeService, errors
// included, and its feed.
func (w *world) everything(t *testing.T, tenant string, all []store.Notice) string {
	t.Helper()
	ctx := t.Context()
	c := w.as(strings.ReplaceAll(tenant, "corp-", "bot-"), headgatev1.Scope_SCOPE_TENANT, tenant)
	api := headgatev1connect.NewNoticeServiceClient(c.web, c.base)
	var b strings.Builder
	add := func(m proto.Message, err error) {
		if err != nil {
			b.WriteString(err.Error() + "\n")
			return
		}
		text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
		check(t, err)
		b.Write(append(text, '\n'))
	}
	list, err := api.ListNotices(ctx, connect.NewRequest(&headgatev1.ListNoticesRequest{}))
	check(t, err)
	add(list.Msg, nil)
	if len(list.Msg.Notices) != 1 {
		t.Errorf("%s lists %d notices", tenant, len(list.Msg.Notices))
	}
	for _, n := range all {
		res, err := api.GetNotice(ctx, connect.NewRequest(&headgatev1.GetNoticeRequest{Id: store.NoticeID(n.ID)}))
		if own := n.Tenant == tenant; own != (err == nil) {
			t.Errorf("%s reads the notice of %s: %v", tenant, n.Tenant, err)
		} else if own {
			add(res.Msg, nil)
		} else {
			add(nil, err)
		}
	}
	f, err := api.NewFeed(ctx, connect.NewRequest(&headgatev1.NewFeedRequest{Tenant: tenant}))
	check(t, err)
	req := httptest.NewRequest(http.MethodGet, f.Msg.Path, nil)
	rec := httptest.NewRecorder()
	handler, _ := w.handler()
	handler.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "urn:headgate:notice:") {
		t.Errorf("feed of %s: %d %s", tenant, rec.Code, rec.Body)
	}
	read, err := gofeed.NewParser().ParseString(rec.Body.String())
	if err != nil || read.FeedType != "atom" || len(read.Items) != 1 || read.Items[0].Title == "" || read.Items[0].Content == "" || read.Items[0].UpdatedParsed == nil {
		t.Errorf("a reader of the feed of %s reads %v, %v", tenant, read, err)
	}
	b.WriteString(rec.Body.String())
	return b.String()
}
