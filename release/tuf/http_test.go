package tuf

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/release"
)

func TestNothingNewCostsOne304(t *testing.T) {
	w := newWorld(t)
	s := serve(t, w)
	var asked []string
	c, err := Open(t.TempDir(), w.firstRoot(), NewHTTP(s.URL+"/tuf", &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			asked = append(asked, resp.Status[:3]+" "+r.URL.Path)
		}
		return resp, err
	})}))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if changed, err := c.Refresh(ctx, w.now); err != nil || !changed {
		t.Fatal(changed, err)
	}
	asked = nil
	if changed, err := c.Refresh(ctx, w.now); err != nil || changed {
		t.Fatal(changed, err)
	}
	if len(asked) != 1 || asked[0] != "304 /tuf/timestamp.json" {
		t.Errorf("asked %q, want one 304", asked)
	}
	etag, body := c.Timestamp()
	if etag == "" || !bytes.Equal(body, w.files["timestamp.json"]) {
		t.Errorf("etag %q, %d bytes", etag, len(body))
	}
	if _, _, err := c.fetcher.Fetch(ctx, "timestamp.json", MaxTimestamp, etag); !errors.Is(err, ErrNotModified) {
		t.Errorf("a poll beside the client: %v", err)
	}

	r, err := c.Target(ctx, w.now, "zeta/rules", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := c.Download(ctx, r, &got); err != nil || got.String() != "artifact of zeta/rules 1.0.0" {
		t.Errorf("%q, %v", got.String(), err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestServersAnswersBecomeTypedErrors(t *testing.T) {
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", date.Format(http.TimeFormat))
		switch r.URL.Path {
		case "/seconds":
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(503)
		case "/date":
			w.Header().Set("Retry-After", date.Add(90*time.Second).Format(http.TimeFormat))
			w.WriteHeader(429)
		case "/past":
			w.Header().Set("Retry-After", "-5")
			w.WriteHeader(429)
		case "/gone":
			w.WriteHeader(410)
		case "/wrong":
			w.WriteHeader(500)
		case "/endless":
			for range 100 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
				w.(http.Flusher).Flush()
			}
		default:
			w.Write(make([]byte, 1000))
		}
	}))
	defer s.Close()
	h := NewHTTP(s.URL+"/", s.Client())
	fetch := func(path string, limit int64) error {
		_, _, err := h.Fetch(context.Background(), path, limit, "")
		return err
	}
	for path, want := range map[string]time.Duration{"seconds": 2 * time.Minute, "date": 90 * time.Second, "past": 0} {
		var retry *RetryError
		if err := fetch(path, 10); !errors.As(err, &retry) || retry.After != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	wantError(t, "gone", fetch("gone", 10), ErrNotFound)
	wantError(t, "endless", fetch("endless", 5000), ErrTooLarge)
	wantError(t, "long", fetch("long", 999), ErrTooLarge)
	if err := fetch("long", 1000); err != nil {
		t.Error(err)
	}
	if err := fetch("wrong", 10); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("%v, want one that says 500", err)
	}
}

func TestArtifactMustBeExactlyTheSignedOne(t *testing.T) {
	r := releaseFor("acme/sensor", "1.0.0")
	good := artifactOf("acme/sensor", "1.0.0")
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"good":    {good, nil},
		"cut off": {good[:len(good)-1], ErrDigest},
		"longer":  {append(bytes.Clone(good), 0), ErrTooLarge},
		"changed": {append([]byte("x"), good[1:]...), ErrDigest},
		"empty":   {nil, ErrDigest},
	} {
		wantError(t, name, VerifyArtifact(bytes.NewReader(c.b), r), c.want)
		files := memory{TargetFile(release.Target(r.Product, r.Version), r.Digest): c.b}
		client := &Client{fetcher: files}
		wantError(t, name, client.Download(context.Background(), r, new(bytes.Buffer)), c.want)
	}
}
