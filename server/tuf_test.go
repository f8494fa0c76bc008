package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/release/tuf"
)

func TestNothingNewIs304(t *testing.T) {
	w := newWorld(t)
	until(t, "timestamp is served", func() bool { status, _ := w.get(t, timestampPath); return status == http.StatusOK })
	res, err := w.web.Get(w.base + timestampPath)
	check(t, err)
	body, err := io.ReadAll(res.Body)
	check(t, err)
	res.Body.Close()
	tag := res.Header.Get("ETag")
	if res.Header.Get("Cache-Control") != "no-cache" || !strings.HasPrefix(tag, `"`) || len(body) == 0 {
		t.Errorf("timestamp.json: headers %v, %d bytes", res.Header, len(body))
	}
	for sent, want := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200} {
		req, err := http.NewRequest(http.MethodGet, w.base+timestampPath, nil)
		check(t, err)
		req.Header.Set("If-None-Match", sent)
		if got, _ := w.do(req); got != want {
			t.Errorf("If-None-Match: %s: %d; want %d", sent, got, want)
		}
	}
	before := tag
	w.release("1.0.0")
	until(t, "a release changes the timestamp", func() bool {
		res, err := w.web.Head(w.base + timestampPath)
		check(t, err)
		res.Body.Close()
		return res.Header.Get("ETag") != before
	})
}

func TestRepositoryReadsAsTUF(t *testing.T) {
	w := newWorld(t)
	digest := w.release("1.0.0")
	_, root := w.get(t, "/tuf/1.root.json")
	var c *tuf.Client
	until(t, "the client sees the release", func() bool {
		var err error
		c, err = tuf.Open(t.TempDir(), []byte(root), tuf.NewHTTP(w.base+"/tuf/", w.web))
		check(t, err)
		_, err = c.Refresh(t.Context(), time.Now())
		check(t, err)
		rel, err := c.Target(t.Context(), time.Now(), product, "1.0.0")
		return err == nil && rel.Digest == digest
	})
	rel, err := c.Target(t.Context(), time.Now(), product, "1.0.0")
	check(t, err)
	var got bytes.Buffer
	check(t, c.Download(t.Context(), rel, &got))
	if got.String() != "artifact of 1.0.0" {
		t.Errorf("downloaded %q", got.String())
	}
	res, err := w.web.Get(w.base + "/tuf/1.root.json")
	check(t, err)
	res.Body.Close()
	if !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("a file that never changes is served with %v", res.Header)
	}
	for _, path := range []string{"/tuf/99.root.json", "/tuf/x.root.json", "/tuf/nothing", "/tuf/targets/acme/rules/1.0.0/" + strings.Repeat("a", 64) + ".artifact.tar", "/tuf/targets/../../x.artifact.tar", "/tuf/"} {
		if status, body := w.get(t, path); status != http.StatusNotFound {
			t.Errorf("%s: %d %.80s", path, status, body)
		}
	}
}

// An artifact that no listed release names is not served, whoever knows its
// digest.
func TestUnpublishedArtifactIsNotServed(t *testing.T) {
	w := newWorld(t)
	digest := w.upload([]byte("under embargo"))
	if status, _ := w.get(t, "/tuf/targets/acme/rules/1.0.0/"+digest+".artifact.tar"); status != http.StatusNotFound {
		t.Errorf("an unpublished artifact is served: %d", status)
	}
}

func TestFingerprintIsTheCertificates(t *testing.T) {
	cfg := testConfig(t)
	cfg.InsecureHTTP = false
	s := startServer(t, cfg)
	var first string
	func() {
		defer stopServer(t, s)
		first = s.Fingerprint()
		conn, err := tls.Dial("tcp", s.Addr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		check(t, err)
		defer conn.Close()
		if got := fingerprint(tls.Certificate{Certificate: [][]byte{conn.ConnectionState().PeerCertificates[0].Raw}}); got != first || len(got) != 64 {
			t.Errorf("the certificate's fingerprint is %s, the server says %s", got, first)
		}
		if p := conn.ConnectionState().NegotiatedProtocol; p != "h2" {
			t.Errorf("negotiated %q; want h2", p)
		}
	}()
	again, err := New(cfg)
	check(t, err)
	if again.Fingerprint() != first {
		t.Error("a restart made another certificate")
	}
	for _, f := range []string{"operator.token", "keys/timestamp.key", "keys/snapshot.key", "keys/rollout.key", "keys/ledger.key", "tls/key.pem"} {
		info, err := os.Stat(filepath.Join(cfg.Data, f))
		check(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s; want 0600", f, info.Mode())
		}
	}
}

func TestGRPCClientsAreServed(t *testing.T) {
	w := newWorld(t)
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	hc := &http.Client{Transport: bearerTransport{w.token, &http.Transport{Protocols: p}}}
	c := headgatev1connect.NewAccountServiceClient(hc, w.base, connect.WithGRPC())
	r, err := c.ListTenants(t.Context(), connect.NewRequest(&headgatev1.ListTenantsRequest{}))
	check(t, err)
	if len(r.Msg.Tenants) != 1 {
		t.Errorf("tenants over gRPC: %v", r.Msg.Tenants)
	}
}

func TestPlainJSONWorks(t *testing.T) {
	w := newWorld(t)
	status, body := w.post(t, "/headgate.v1.AccountService/ListTenants", `{}`)
	if status != http.StatusOK || !strings.Contains(body, `"t1"`) {
		t.Errorf("%d %s", status, body)
	}
}

func TestCheckpointIsSignedAndServed(t *testing.T) {
	w := newWorld(t)
	keys, err := w.repo.GetOnlineKeys(t.Context(), connect.NewRequest(&headgatev1.GetOnlineKeysRequest{}))
	check(t, err)
	v, err := note.NewVerifier(keys.Msg.LedgerKey)
	check(t, err)
	read := func() (c ledger.Checkpoint, ok bool) {
		status, body := w.get(t, "/ledger/checkpoint")
		if status != http.StatusOK {
			return c, false
		}
		c, err := ledger.OpenCheckpoint([]byte(body), v)
		check(t, err)
		return c, true
	}
	var first, later ledger.Checkpoint
	until(t, "a checkpoint", func() (ok bool) { first, ok = read(); return ok })
	w.release("1.0.0")
	until(t, "a later checkpoint", func() bool { later, _ = read(); return later.Size > first.Size })
	proof, err := w.ledger.ProveConsistency(t.Context(), connect.NewRequest(&headgatev1.ProveConsistencyRequest{OldSize: first.Size, NewSize: later.Size}))
	check(t, err)
	check(t, ledger.CheckConsistency(later, first, hashes(proof.Msg.Hashes)))
	entries, err := w.ledger.ListEntries(t.Context(), connect.NewRequest(&headgatev1.ListEntriesRequest{}))
	check(t, err)
	if len(entries.Msg.Entries) == 0 || entries.Msg.Size < later.Size {
		t.Errorf("%d entries listed of %d", len(entries.Msg.Entries), entries.Msg.Size)
	}
	_, err = w.ledger.ProveInclusion(t.Context(), connect.NewRequest(&headgatev1.ProveInclusionRequest{Seq: 0, Size: later.Size}))
	check(t, err)
}

func hashes(in [][]byte) (out []tlog.Hash) {
	for _, b := range in {
		out = append(out, tlog.Hash(b))
	}
	return out
}

func TestTimestampIsRenewedBeforeItExpires(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TimestampLife = span.Duration(6 * time.Second) })
	version := func() int64 {
		state, err := w.publisher.State(t.Context())
		check(t, err)
		return state.Version(tuf.Timestamp)
	}
	before := version()
	until(t, "a newer timestamp", func() bool { return version() > before })
	state, err := w.publisher.State(t.Context())
	check(t, err)
	if left := time.Until(state.Expires(tuf.Timestamp)); left < 2*time.Second {
		t.Errorf("renewed with %s left", left)
	}
}

func TestMetricsAndHealthAnswer(t *testing.T) {
	w := newWorld(t)
	d := w.enrol(1)[0]
	check(t, d.beacon(t.Context(), nil))
	if status, body := w.get(t, "/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %s", status, body)
	}
	_, body := w.get(t, "/metrics")
	for _, m := range []string{"headgate_requests_total", "headgate_batch_size_count", "headgate_update_checks_total", "headgate_batch_commit_seconds", "go_sql_open_connections"} {
		if !strings.Contains(body, m) {
			t.Errorf("metrics lack %s", m)
		}
	}
}

func TestOtherKeysThanTheRootsRefuseToStart(t *testing.T) {
	cfg := testConfig(t)
	s := startServer(t, cfg)
	w := &world{TB: t, Server: s}
	w.clients = newClients(s.URL(), w.adminToken())
	w.found()
	stopServer(t, s)
	check(t, os.RemoveAll(filepath.Join(cfg.Data, "keys")))
	again, err := New(cfg)
	check(t, err)
	if err := again.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "keys") {
		t.Errorf("started with other keys: %v", err)
	}
}

func TestInsecureHTTPStaysOnLoopback(t *testing.T) {
	cfg := testConfig(t)
	cfg.Listen = "0.0.0.0:0"
	s, err := New(cfg)
	check(t, err)
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("clear text on every address: %v", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"data": "/x", "decide_every": "250ms"}`))
	f.Add([]byte(`{"dataa": 1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseConfig(b); err == nil {
			c.complete() // must not panic
		}
	})
}

func FuzzBearer(f *testing.F) {
	f.Add("Bearer hge_0000000000001_" + strings.Repeat("A", 43))
	f.Add("Bearer hgo_" + strings.Repeat("A", 43))
	f.Fuzz(func(t *testing.T, v string) {
		token, err := bearer(v)
		if err != nil {
			return
		}
		c, err := endpointCaller(token)
		if err == nil && c.secret == [32]byte{} {
			t.Errorf("%q has no secret", v)
		}
		if err != nil && len(token) > 8 && strings.Contains(err.Error(), token) {
			t.Errorf("the error quotes the token %q", token)
		}
		hashToken(prefixAccess, token)
	})
}

func FuzzBeacon(f *testing.F) {
	f.Add([]byte(`{"seq": 1, "products": [{"product": "a/b", "attempt": {"rollout": 1}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m headgatev1.BeaconRequest
		if (strictJSON{"json"}).Unmarshal(b, &m) == nil {
			readBeacon(&m) // must not panic
		}
	})
}

// BenchmarkUpdateCheck compares the update check with a bare handler of the same
// bytes, both without network.
func BenchmarkUpdateCheck(b *testing.B) {
	f := newFiles(nil, nil)
	f.timestamp.Store(newFile(bytes.Repeat([]byte("x"), 700), ask))
	s := &Server{files: f, metrics: newMetrics(), cfg: Config{Log: slog.New(slog.DiscardHandler)}}
	ours, _ := s.handler()
	tag := f.timestamp.Load().tag
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write(f.timestamp.Load().body)
	})
	for name, h := range map[string]http.Handler{"headgate": ours, "bare": bare} {
		b.Run(name, func(b *testing.B) {
			srv := httptest.NewServer(h)
			defer srv.Close()
			req, err := http.NewRequest(http.MethodGet, srv.URL+timestampPath, nil)
			check(b, err)
			req.Header.Set("If-None-Match", tag)
			for b.Loop() {
				res, err := srv.Client().Do(req)
				check(b, err)
				res.Body.Close()
			}
		})
	}
}
