package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/notify/feed"
	"github.com/headgate/headgate/notify/smtp"
	"github.com/headgate/headgate/notify/webhook"
	"github.com/headgate/headgate/store"
)

// feedPath is where tenants' feeds are, before their secret.
const feedPath = "/feeds/notices/"

func contactOut(k store.Contact, now time.Time) *headgatev1.Contact {
	out := &headgatev1.Contact{Tenant: k.Tenant, Language: string(k.Language), Email: k.Email, Second: k.Second, Openpgp: k.OpenPGP, Webhook: k.Webhook, Feed: k.HasFeed, ChangedUs: micros(k.Changed)}
	if k.OpenPGP != "" {
		if key, err := smtp.ParseKey(k.OpenPGP, now); err == nil {
			out.Fingerprint = key.GetFingerprint()
		} else {
			out.Fingerprint = "unusable: " + err.Error()
		}
	}
	return out
}

// contactIn checks a contact: what could not be written to is refused now, to the
// one who can mend it.
func contactIn(m *headgatev1.Contact, now time.Time) (k store.Contact, err error) {
	if m == nil || m.Tenant == "" {
		return k, invalid(errors.New("contact: no tenant is named"))
	}
	if m.Language == "" {
		m.Language = string(notify.English)
	}
	k = store.Contact{Tenant: m.Tenant, Email: m.Email, Second: m.Second, OpenPGP: m.Openpgp, Webhook: m.Webhook}
	if k.Language, err = notify.ParseLanguage(m.Language); err != nil {
		return k, invalid(err)
	}
	for name, address := range map[string]string{"email": m.Email, "second": m.Second} {
		if address == "" {
			continue
		}
		if err := smtp.CheckAddress(address); err != nil {
			return k, invalid(fmt.Errorf("%s: %w", name, err))
		}
	}
	if m.Openpgp != "" {
		if _, err := smtp.ParseKey(m.Openpgp, now); err != nil {
			return k, invalid(fmt.Errorf("openpgp: %w", err))
		}
		if m.Email == "" {
			return k, invalid(errors.New("openpgp: a key without a mail address"))
		}
	}
	if m.Webhook != "" {
		if err := webhook.CheckURL(m.Webhook); err != nil {
			return k, invalid(fmt.Errorf("webhook: %w", err))
		}
	}
	return k, nil
}

// SetContact implements NoticeService.
func (s noticeService) SetContact(ctx context.Context, req *connect.Request[headgatev1.SetContactRequest]) (*connect.Response[headgatev1.SetContactResponse], error) {
	now, v := s.cfg.Now(), from(ctx).viewer()
	k, err := contactIn(req.Msg.Contact, now)
	if err != nil {
		return nil, err
	}
	before, err := s.store.ReadContact(ctx, v, k.Tenant)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	out := &headgatev1.SetContactResponse{}
	if k.Webhook != "" && k.Webhook != before.Webhook {
		k.Secret = make([]byte, notify.SecretBytes)
		rand.Read(k.Secret) // never fails: it aborts the program instead
		out.WebhookSecret = webhook.SecretText(k.Secret)
	}
	if k, err = s.store.SetContact(ctx, v, k, now); err != nil {
		return nil, err
	}
	out.Contact = contactOut(k, now)
	return connect.NewResponse(out), nil
}

// GetContact implements NoticeService.
func (s noticeService) GetContact(ctx context.Context, req *connect.Request[headgatev1.GetContactRequest]) (*connect.Response[headgatev1.GetContactResponse], error) {
	k, err := s.store.ReadContact(ctx, from(ctx).viewer(), req.Msg.Tenant)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.GetContactResponse{Contact: contactOut(k, s.cfg.Now())}), nil
}

// NewFeed implements NoticeService.
func (s noticeService) NewFeed(ctx context.Context, req *connect.Request[headgatev1.NewFeedRequest]) (*connect.Response[headgatev1.NewFeedResponse], error) {
	secret, hash := newToken("")
	if err := s.store.SetFeed(ctx, from(ctx).viewer(), req.Msg.Tenant, hash, s.cfg.Now()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.NewFeedResponse{Path: feedPath + secret}), nil
}

// serveFeed serves a tenant's feed to whoever knows its secret. An unknown secret
// and a malformed one get the same answer.
func (s *Server) serveFeed(w http.ResponseWriter, r *http.Request) {
	const doing = "read feed"
	hash, err := hashSecret(r.PathValue("secret"))
	if err != nil {
		s.refuse(w, r, doing, fmt.Errorf("feed: %w", store.ErrNotFound))
		return
	}
	tenant, notices, err := s.store.ReadFeed(r.Context(), hash, s.cfg.Now())
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("feed: %w", store.ErrNotFound)
	}
	if err != nil {
		s.refuse(w, r, doing, err)
		return
	}
	f := feed.Feed{Tenant: tenant, ID: "urn:headgate:tenant:" + tenant, Updated: time.Unix(0, 0)}
	for _, n := range notices {
		e := feed.Entry{Notice: store.NoticeID(n.ID), Title: n.Text.Subject, Body: n.Text.Body, Published: n.Created, Updated: n.Progress.Created}
		f.Entries = append(f.Entries, e)
		if e.Updated.After(f.Updated) {
			f.Updated = e.Updated
		}
	}
	b, err := feed.Encode(f)
	if err != nil {
		s.refuse(w, r, doing, err)
		return
	}
	sum := sha256.Sum256(b)
	h := w.Header()
	h.Set("Content-Type", "application/atom+xml; charset=utf-8")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // the address is the secret
	h.Set("X-Robots-Tag", "noindex, nofollow")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}
