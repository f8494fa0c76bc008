// Package webhook sends notices as signed requests in the form of Standard
// Webhooks 1.0 (webhook-id, webhook-timestamp, webhook-signature).
//
// The webhook-id is the same on every attempt: a receiver that remembers the ids
// it has taken takes each message once, however often it is sent. So a lost
// answer costs a repeat here, and never a second message.
//
// A tenant chooses where we send, so that the address is not to be trusted:
// https only, no redirects, no proxy, and no address that is not on the public
// internet unless the server's configuration allows it, checked on the address
// that is dialled and not on the name.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/headgate/headgate/notify"
)

// Config says what may be reached.
type Config struct {
	// Allow are address ranges that may be reached although they are not on the
	// public internet, on any port; everything else is reached on 443 only.
	Allow []netip.Prefix
	// TLS is for receivers whose authority the system does not know; nil is the
	// system's.
	TLS *tls.Config
	// Timeout is for one attempt; 0 is 20 s (Standard Webhooks asks for 15 to 30).
	Timeout time.Duration
	// Now is the clock that signatures are dated by; nil is time.Now.
	Now func() time.Time
}

// SecretText is a secret as Standard Webhooks writes it.
func SecretText(secret []byte) string { return "whsec_" + base64.StdEncoding.EncodeToString(secret) }

// maxAnswer is how much of an answer is read, bytes: none of it matters.
const maxAnswer = 4 << 10

// Sender sends webhooks. It is safe for concurrent use.
type Sender struct {
	http *http.Client
	now  func() time.Time
}

// New makes a sender.
func New(c Config) *Sender {
	guard := newGuard(c.Allow)
	d := &net.Dialer{Timeout: 10 * time.Second, Control: guard.Safe}
	s := &Sender{now: c.Now, http: &http.Client{
		Timeout: c.Timeout,
		Transport: &http.Transport{
			DialContext: d.DialContext, TLSClientConfig: c.TLS, TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if s.http.Timeout == 0 {
		s.http.Timeout = 20 * time.Second
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// guard lets addresses through that may be dialled.
type guard struct {
	public *ssrf.Guardian
	allow  []netip.Prefix
}

func newGuard(allow []netip.Prefix) guard {
	return guard{public: ssrf.New(ssrf.WithPorts(443)), allow: allow}
}

// errUnreachable means that the address is not one that a tenant may have us
// dial.
var errUnreachable = errors.New("not an address that notices are sent to")

// Safe is a net.Dialer's Control: it is asked with the address itself.
func (g guard) Safe(network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%s: %w", address, errUnreachable)
	}
	for _, p := range g.allow {
		if p.Contains(ap.Addr().Unmap()) {
			return nil
		}
	}
	if err := g.public.Safe(network, address, nil); err != nil {
		return fmt.Errorf("%s: %w: %w", address, errUnreachable, err)
	}
	return nil
}

// CheckURL refuses what can never be sent to: it is asked when a tenant sets its
// address, so that the tenant hears of it. What a name stands for is checked at
// each attempt.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > 2048:
		return fmt.Errorf("webhook URL: want an https URL of at most 2048 bytes")
	case u.Scheme != "https":
		return fmt.Errorf("webhook URL %q: want https: a notice must not travel in clear", s)
	case u.Hostname() == "":
		return fmt.Errorf("webhook URL %q: no host", s)
	case u.User != nil:
		return errors.New("webhook URL: a name or password in it would be logged on the way; the signature is what the receiver can check")
	case u.Fragment != "":
		return fmt.Errorf("webhook URL %q: a fragment is never sent", s)
	}
	return nil
}

// Send makes one attempt. release is called once, before the request is sent.
func (s *Sender) Send(ctx context.Context, p notify.Parcel, release func(context.Context) error) notify.Answer {
	req, err := s.request(ctx, p)
	if err != nil {
		return notify.Answer{Outcome: notify.Refused, Detail: err.Error()}
	}
	// A connection that was never had is certainly nothing sent.
	var connected atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}))
	if err := release(ctx); err != nil {
		return notify.Answer{Outcome: notify.Deferred, Detail: "nothing was sent: " + err.Error()}
	}
	res, err := s.http.Do(req)
	if err != nil {
		return lost(err, connected.Load())
	}
	defer res.Body.Close()
	// Read to its end if it is short, so that the connection can be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	return answer(res, s.now())
}

func (s *Sender) request(ctx context.Context, p notify.Parcel) (*http.Request, error) {
	if err := CheckURL(p.Address); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Address, bytes.NewReader(p.Payload))
	if err != nil {
		return nil, errors.New("webhook URL: malformed")
	}
	wh, err := standardwebhooks.NewWebhookRaw(p.Secret)
	if err != nil {
		return nil, fmt.Errorf("webhook secret: %w", err)
	}
	now := s.now()
	signature, err := wh.Sign(p.MessageID, now, p.Payload)
	if err != nil {
		return nil, fmt.Errorf("sign webhook: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "headgate-notify")
	req.Header.Set(standardwebhooks.HeaderWebhookID, p.MessageID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return req, nil
}

// lost is the answer when none came.
func lost(err error, connected bool) notify.Answer {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the URL is the tenant's, and is known
	}
	a := notify.Answer{Outcome: notify.Deferred, Detail: err.Error()}
	switch {
	case errors.Is(err, errUnreachable):
		// A name may stand for another address tomorrow; it is not given up at once.
	case connected:
		a.Outcome = notify.Unsure
	}
	return a
}

// answer reads a response as Standard Webhooks has it: 2xx is taken, 410 ends it,
// everything else is tried again.
func answer(res *http.Response, now time.Time) notify.Answer {
	a := notify.Answer{Outcome: notify.Deferred, Code: res.StatusCode, Detail: res.Status}
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		a.Outcome = notify.Accepted
	case res.StatusCode == http.StatusGone:
		a.Outcome = notify.Refused
	case res.StatusCode >= 300 && res.StatusCode < 400:
		a.Detail += ": redirects are not followed; give the address itself"
	}
	if after := strings.TrimSpace(res.Header.Get("Retry-After")); after != "" {
		if n, err := strconv.Atoi(after); err == nil && n > 0 {
			a.After = time.Duration(min(n, 7*24*3600)) * time.Second
		} else if t, err := http.ParseTime(after); err == nil && t.After(now) {
			a.After = t.Sub(now)
		}
	}
	return a
}
