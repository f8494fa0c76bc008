package server

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/review"
	"github.com/headgate/headgate/rollout"
)

// exporter serves one metric for a Prometheus to scrape; no value is no metric.
type exporter struct {
	*httptest.Server
	value atomic.Value // string
}

func newExporter(t testing.TB) *exporter {
	e := &exporter{}
	e.value.Store("")
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		if v := e.value.Load().(string); v != "" {
			fmt.Fprintf(w, "demo_errors{version=\"1.0.0\"} %s\n", v)
		}
	}))
	t.Cleanup(e.Close)
	return e
}

// startPrometheus runs a real Prometheus that scrapes e, and returns its URL.
func startPrometheus(t testing.TB, e *exporter) string {
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("Prometheus is not installed (scripts/setup installs it on Debian): the test against a real one is skipped")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs: [{job_name: demo, static_configs: [{targets: [%q]}]}]\n", strings.TrimPrefix(e.URL, "http://"))
	check(t, os.WriteFile(config, []byte(text), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	addr := l.Addr().String()
	check(t, l.Close())
	log, err := os.Create(filepath.Join(dir, "log"))
	check(t, err)
	cmd := exec.Command(path, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = log, log
	check(t, cmd.Start())
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Errorf("end Prometheus: %v", err)
		}
		// Its exit status says nothing that the test is about.
		_ = cmd.Wait()
		log.Close()
	})
	return "http://" + addr
}

// A signal that was never measured holds; a good one lets go; a bad one halts; and
// each decision is replayed from what it recorded.
func TestSignalsOfARealPrometheus(t *testing.T) {
	e := newExporter(t)
	url := startPrometheus(t, e)
	w := newWorld(t, func(c *Config) {
		c.Prometheus, c.SignalsEvery, c.DecideEvery = url, span.Duration(200*time.Millisecond), span.Duration(100*time.Millisecond)
	})
	w.release("1.0.0")
	device := w.enrol(1)[0]
	check(t, device.beacon(t.Context(), nil))
	p := rollout.DefaultPolicy()
	p.Name = "with-signals"
	p.Signals = []rollout.Signal{{Name: "errors", Query: `demo_errors{version="$version"}`, Is: rollout.SignalAbove, Threshold: 5, For: span.Duration(2 * time.Second), Then: rollout.SignalHalt}}
	id := w.start("1.0.0", p)
	w.untilReason(id, "signal-missing")
	if r := w.show(id); r.State != string(rollout.Held) || r.Ceiling != 0 {
		t.Fatalf("nothing was measured, and it is %s at %d", r.State, r.Ceiling)
	}
	e.value.Store("1")
	w.untilState(id, rollout.Running)
	e.value.Store("9")
	w.untilReason(id, "signal-breached")
	if r := w.show(id); r.State == string(rollout.Running) || r.State == string(rollout.Held) {
		t.Errorf("breached, and it is %s", r.State)
	}
	if n := w.replayed(id); n < 3 {
		t.Errorf("%d decisions were replayed", n)
	}
}

// What cannot be asked is a reading with its error, and is never waited for by the
// decider.
func TestASilentPrometheusHolds(t *testing.T) {
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(func() { hangs.CloseClientConnections(); hangs.Close() })
	w := newWorld(t, func(c *Config) { c.Prometheus = hangs.URL })
	w.release("1.0.0")
	check(t, w.enrol(1)[0].beacon(t.Context(), nil))
	p := rollout.DefaultPolicy()
	p.Signals = []rollout.Signal{{Name: "errors", Query: "x", Is: rollout.SignalAbove, Then: rollout.SignalHalt}}
	id := w.start("1.0.0", p)
	w.untilReason(id, "signal-missing")
	if _, err := w.rollout.HaltRollout(t.Context(), connect.NewRequest(&headgatev1.HaltRolloutRequest{Id: id})); err != nil {
		t.Fatal(err)
	}
	w.untilState(id, rollout.Halted)
}

func TestWithoutAPrometheusSignalsAreRefused(t *testing.T) {
	w := newWorld(t)
	w.release("1.0.0")
	p := rollout.DefaultPolicy()
	p.Signals = []rollout.Signal{{Name: "errors", Query: "x", Is: rollout.SignalAbove, Then: rollout.SignalHalt}}
	_, err := w.rollout.StartRollout(t.Context(), connect.NewRequest(&headgatev1.StartRolloutRequest{Product: product, Version: "1.0.0", PolicyJson: policyJSON(t, p)}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "no prometheus configured") {
		t.Errorf("%v", err)
	}
}

// The credentials reach the Prometheus, and a file that holds none is refused.
func TestPrometheusCredentials(t *testing.T) {
	var got atomic.Value
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("Authorization"))
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["partial"]}`)
	}))
	t.Cleanup(fake.Close)
	file := filepath.Join(t.TempDir(), "credentials")
	check(t, os.WriteFile(file, []byte("Bearer throw-away\n"), 0o600))
	c, err := newPrometheus(Config{Prometheus: fake.URL, PrometheusCredentialsFile: file})
	check(t, err)
	now := time.Now().Truncate(time.Second)
	if _, err := c.Query(t.Context(), "x", now, now, time.Second); err == nil || !strings.Contains(err.Error(), "partial") {
		t.Errorf("an answer that may be partial: %v", err)
	}
	if got.Load() != "Bearer throw-away" {
		t.Errorf("sent %q", got.Load())
	}
	check(t, os.WriteFile(file, []byte("throw-away"), 0o600))
	if _, err := newPrometheus(Config{Prometheus: fake.URL, PrometheusCredentialsFile: file}); err == nil || strings.Contains(err.Error(), "throw-away") {
		t.Errorf("a file without a kind: %v", err)
	}
}

// untilReason waits until a rollout's last decision has a reason.
func (w *world) untilReason(id int64, code string) {
	w.Helper()
	until(w, fmt.Sprintf("R-%d decided for %s", id, code), func() bool {
		return slices.ContainsFunc(w.show(id).Reasons, func(r *headgatev1.Reason) bool { return r.Code == code })
	})
}

// replayed makes every recorded decision on a rollout again and counts them.
func (w *world) replayed(id int64) (n int) {
	w.Helper()
	res, err := w.ledger.ListEntries(w.Context(), connect.NewRequest(&headgatev1.ListEntriesRequest{Subject: fmt.Sprintf("R-%d", id), Limit: 1000}))
	check(w, err)
	for _, e := range res.Msg.Entries {
		entry := ledger.Entry{Seq: e.Seq, Time: time.UnixMicro(e.TimeUs).UTC(), Draft: ledger.Draft{Kind: e.Kind, Subject: e.Subject, Actor: e.Actor, Body: []byte(e.Body)}}
		err := review.Replay(entry)
		if errors.Is(err, review.ErrNotDecision) {
			continue
		}
		check(w, err)
		n++
	}
	return n
}
