package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/headgate/headgate/notify"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

var secret = []byte("0123456789abcdef0123456789abcdef") // throw-away

func parcel(url string) notify.Parcel {
	return notify.Parcel{MessageID: "m-1", Address: url, Secret: secret, Payload: []byte(`{"type":"notice.notice"}`)}
}

func receiver(t *testing.T, h http.HandlerFunc) (*httptest.Server, *tls.Config) {
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

func release(context.Context) error { return nil }

func TestReceiverCanCheckTheSignature(t *testing.T) {
	wh, err := standardwebhooks.NewWebhookRaw(secret)
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	s, tls := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		failed = wh.Verify(b, r.Header)
		if r.Header.Get("webhook-id") != "m-1" {
			failed = errors.Join(failed, errors.New("no stable id"))
		}
	})
	if a := New(Config{Allow: loopback, TLS: tls}).Send(t.Context(), parcel(s.URL), release); a.Outcome != notify.Accepted || failed != nil {
		t.Errorf("%+v; the receiver says %v", a, failed)
	}
}

// The signature is what Standard Webhooks 1.0 says, computed here without any
// library: HMAC-SHA256 over id, timestamp and body, in base64 behind "v1,".
func TestTheSignatureIsTheSpecifications(t *testing.T) {
	var head http.Header
	var body []byte
	s, tls := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		head = r.Header
		body, _ = io.ReadAll(r.Body)
	})
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	a := New(Config{Allow: loopback, TLS: tls, Now: func() time.Time { return at }}).Send(t.Context(), parcel(s.URL), release)
	if a.Outcome != notify.Accepted {
		t.Fatalf("%+v", a)
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "m-1.%d.%s", at.Unix(), `{"type":"notice.notice"}`)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if head.Get("webhook-signature") != want || head.Get("webhook-timestamp") != strconv.FormatInt(at.Unix(), 10) || string(body) != `{"type":"notice.notice"}` {
		t.Errorf("signed %s at %s over %s; want %s", head.Get("webhook-signature"), head.Get("webhook-timestamp"), body, want)
	}
}

// Who catches a request cannot use it: a receiver refuses it after five minutes,
// with another body, another id or another time. A repeat of ours is signed anew and
// keeps its id.
func TestACaughtRequestIsOfNoUse(t *testing.T) {
	wh, err := standardwebhooks.NewWebhookRaw(secret)
	if err != nil {
		t.Fatal(err)
	}
	var caught []http.Header
	s, tls := receiver(t, func(_ http.ResponseWriter, r *http.Request) { caught = append(caught, r.Header.Clone()) })
	ago := time.Duration(0)
	sender := New(Config{Allow: loopback, TLS: tls, Now: func() time.Time { return time.Now().Add(-ago) }})
	for _, ago = range []time.Duration{0, 4 * time.Minute, 6 * time.Minute, -6 * time.Minute, 24 * time.Hour} {
		sender.Send(t.Context(), parcel(s.URL), release)
	}
	body := parcel("").Payload
	for i, want := range []error{nil, nil, standardwebhooks.ErrMessageTooOld, standardwebhooks.ErrMessageTooNew, standardwebhooks.ErrMessageTooOld} {
		if err := wh.Verify(body, caught[i]); !errors.Is(err, want) {
			t.Errorf("request %d: %v, want %v", i, err, want)
		}
		if caught[i].Get("webhook-id") != "m-1" {
			t.Errorf("request %d has id %s", i, caught[i].Get("webhook-id"))
		}
	}
	for _, name := range []string{"webhook-id", "webhook-timestamp"} {
		other := caught[0].Clone()
		other.Set(name, strconv.FormatInt(time.Now().Unix()+1, 10))
		if wh.Verify(body, other) == nil {
			t.Errorf("another %s is taken", name)
		}
	}
	if wh.Verify([]byte(`{"type":"other"}`), caught[0]) == nil {
		t.Error("another body is taken")
	}
}

func TestAnswersAreReadAsStandardWebhooksHasThem(t *testing.T) {
	status, after := 0, ""
	s, tls := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		if status == 0 { // takes it, and dies before it answers
			io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Location", "/elsewhere")
		w.Header().Set("Retry-After", after)
		w.WriteHeader(status)
	})
	sender := New(Config{Allow: loopback, TLS: tls})
	for _, tc := range []struct {
		status int
		after  string
		want   notify.Outcome
		wait   time.Duration
	}{
		{200, "", notify.Accepted, 0}, {204, "", notify.Accepted, 0}, {301, "", notify.Deferred, 0}, {404, "", notify.Deferred, 0},
		{410, "", notify.Refused, 0}, {429, "120", notify.Deferred, 2 * time.Minute}, {503, "x", notify.Deferred, 0}, {0, "", notify.Unsure, 0},
	} {
		status, after = tc.status, tc.after
		if a := sender.Send(t.Context(), parcel(s.URL), release); a.Outcome != tc.want || a.After != tc.wait || a.Code != tc.status {
			t.Errorf("%d: %+v, want %s after %s", tc.status, a, tc.want, tc.wait)
		}
	}
	s.Close()
	if a := sender.Send(t.Context(), parcel(s.URL), release); a.Outcome != notify.Deferred {
		t.Errorf("nobody listens: %+v", a)
	}
	if a := sender.Send(t.Context(), parcel(s.URL), func(context.Context) error { return errors.New("no lease") }); a.Outcome != notify.Deferred {
		t.Errorf("not released: %+v", a)
	}
}

// A tenant's address must not make the server speak to what is beside it.
func TestNothingButThePublicInternetIsReached(t *testing.T) {
	reached := false
	s, tls := receiver(t, func(http.ResponseWriter, *http.Request) { reached = true })
	if a := New(Config{TLS: tls}).Send(t.Context(), parcel(s.URL), release); a.Outcome == notify.Accepted || reached || !strings.Contains(a.Detail, errUnreachable.Error()) {
		t.Errorf("loopback: %+v, reached %v", a, reached)
	}
	g := newGuard(nil)
	for _, a := range []string{
		"127.0.0.1:443", "10.1.2.3:443", "172.16.0.1:443", "192.168.1.1:443", "169.254.169.254:443", "100.64.0.1:443", "0.0.0.0:443", "224.0.0.1:443", "255.255.255.255:443",
		"[::1]:443", "[::]:443", "[fe80::1]:443", "[fc00::1]:443", "[::ffff:127.0.0.1]:443", "[::ffff:10.0.0.1]:443", "[64:ff9b::7f00:1]:443", "[2002:7f00:1::]:443", "93.184.215.14:22", "93.184.215.14:80", "nonsense",
	} {
		if err := g.Safe("tcp", a, nil); !errors.Is(err, errUnreachable) {
			t.Errorf("%s: %v", a, err)
		}
	}
	if err := g.Safe("tcp4", "93.184.215.14:443", nil); err != nil {
		t.Errorf("a public address: %v", err)
	}
	if err := newGuard(loopback).Safe("tcp4", "127.0.0.1:8443", nil); err != nil {
		t.Errorf("what the configuration allows: %v", err)
	}
	for _, u := range []string{"http://x.example/", "https:///x", "https://u:p@x.example/", "https://x.example/#f", "ftp://x", "::", "https://" + strings.Repeat("x", 2050)} {
		if CheckURL(u) == nil {
			t.Errorf("%s was taken", u)
		}
	}
	if err := CheckURL("https://hooks.t.example/headgate?x=1"); err != nil {
		t.Error(err)
	}
}

func FuzzCheckURL(f *testing.F) {
	f.Add("https://hooks.t.example/x")
	f.Fuzz(func(t *testing.T, s string) {
		if CheckURL(s) == nil && !strings.HasPrefix(strings.ToLower(s), "https:") {
			t.Fatalf("%q was taken", s)
		}
	})
}
