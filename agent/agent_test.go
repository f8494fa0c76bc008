package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/headgate/headgate/agent/detect"
	"github.com/headgate/headgate/agent/link"
	"github.com/headgate/headgate/agent/link/linktest"
	"github.com/headgate/headgate/agent/probe"
	"github.com/headgate/headgate/agent/sandbox"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

// TestMain lets the test binary be each of the agent's roles, as the real one is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "link":
			os.Exit(link.Main(os.Args[2:]))
		case "probe":
			os.Exit(probe.Main(os.Args[2:]))
		case "vet":
			os.Exit(sandbox.VetMain(os.Args[2:]))
		case "engine":
			os.Exit(detect.Main(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

func config(w *linktest.World) Config {
	return Config{Server: w.HTTP.URL, Pin: w.Pin(), Name: "test", Labels: map[string]string{"site": "a"}, Products: []string{linktest.Product}, Poll: span.Duration(200 * time.Millisecond)}
}

func offer(t *testing.T, w *linktest.World, rollout int64, version string) release.Offer {
	t.Helper()
	dir := filepath.Join(t.TempDir(), version)
	if err := detect.DemoContent(version, dir); err != nil {
		t.Fatal(err)
	}
	r := w.Publish(version, dir)
	return release.Offer{Rollout: rollout, Product: r.Product, Version: version, Digest: r.Digest, Action: release.ActionOffer, Seed: []byte("s"), Turn: 1, Probation: span.Duration(1500 * time.Millisecond)}
}

func plan(version int64, offers ...release.Offer) release.Plan {
	return release.Plan{Schema: "headgate.plan/1", Version: version, Issued: time.Now().UTC(), Poll: span.Duration(200 * time.Millisecond), PollJitter: 0.2, Beacon: span.Duration(400 * time.Millisecond), Offers: offers}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 40 s: %s", what)
}

func TestRealAgentTakesGoodRevertsBadAndTakesTheFix(t *testing.T) {
	w := linktest.New(t, true)
	home := Home(t.TempDir())
	id, err := Enrol(t.Context(), home, config(w), "hgt_x")
	if err != nil {
		t.Fatal(err)
	}
	one := offer(t, w, 1, "1.0.0")
	w.SetPlan(plan(1, one))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, home, Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}) }()
	stopped := false
	halt := func() {
		if !stopped {
			stopped = true
			stop()
			if err := <-done; err != nil {
				t.Errorf("agent ended: %v", err)
			}
		}
	}
	defer halt()
	last := func() *v1.ProductState {
		bs := w.Beacons(id.Endpoint)
		if len(bs) == 0 {
			return &v1.ProductState{}
		}
		return bs[len(bs)-1].Products[0]
	}
	reported := func(rollout int64, state v1.AttemptState, version string) func() bool {
		return func() bool {
			p := last()
			return p.GetAttempt().GetRollout() == rollout && p.Attempt.State == state && p.Version == version && p.Healthy
		}
	}
	eventually(t, "1.0.0 is proven", reported(1, v1.AttemptState_ATTEMPT_STATE_PROVEN, "1.0.0"))
	two := offer(t, w, 2, "2.0.0")
	w.SetPlan(plan(2, one, two))
	eventually(t, "2.0.0 crashes and 1.0.0 is back", reported(2, v1.AttemptState_ATTEMPT_STATE_HARMED, "1.0.0"))
	if a := last().Attempt; a.Reason != "crash-loop" || a.DownUs <= 0 {
		t.Errorf("attempt %v", a)
	}
	two.Action = release.ActionStop
	w.SetPlan(plan(3, one, two, offer(t, w, 3, "3.0.0")))
	eventually(t, "3.0.0 is proven", reported(3, v1.AttemptState_ATTEMPT_STATE_PROVEN, "3.0.0"))
	eventually(t, "events are counted", func() bool {
		bs := w.Beacons(id.Endpoint)
		return bs[len(bs)-1].Vitals.Events > 0
	})
	halt()
	bs := w.Beacons(id.Endpoint)
	if b := bs[len(bs)-1]; !b.Goodbye || b.Vitals.RssBytes > 60<<20 {
		t.Errorf("last beacon: goodbye %v, %d MiB resident", b.Goodbye, b.Vitals.RssBytes>>20)
	}
	t.Logf("resident before the goodbye: %d MiB, sandbox %v", bs[len(bs)-2].Vitals.RssBytes>>20, bs[len(bs)-2].Vitals.Sandbox)
	for i, a := range w.Asks() {
		if a.Rollout != int64(i+1) {
			t.Errorf("ask %d is of R-%d: one ask a rollout is enough", i, a.Rollout)
		}
	}
}

func TestEnrolmentRepeatedMakesNoSecondEndpoint(t *testing.T) {
	w := linktest.New(t, true)
	home := Home(filepath.Join(t.TempDir(), "home"))
	var lost atomic.Bool
	w.Before(func(rw http.ResponseWriter, r *http.Request) bool {
		// The first answer is lost after the server has enrolled the endpoint.
		if !lost.Swap(true) {
			b := enrolBody(t, r)
			if _, err := w.Enrol(t.Context(), connect.NewRequest(b)); err != nil {
				t.Error(err)
			}
			panic(http.ErrAbortHandler)
		}
		return true
	})
	id, err := Enrol(t.Context(), home, config(w), "hgt_x")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Enrol(t.Context(), home, config(w), "hgt_x")
	if err != nil || again.Endpoint != id.Endpoint || len(w.Enrolled()) != 1 {
		t.Fatalf("%v; first %s, then %s; the server has %d endpoints", err, id.Endpoint, again.Endpoint, len(w.Enrolled()))
	}
	r := w.Enrolled()[id.Endpoint]
	if r.Labels["os"] != "linux" || r.Labels["site"] != "a" || r.Labels["kernel"] == "" || !slices.Equal(r.Products, []string{linktest.Product}) {
		t.Errorf("enrolled as %v", r)
	}
	for _, f := range []string{home.IdentityFile(), home.ConfigFile()} {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, st.Mode(), err)
		}
	}
	if _, err := os.Stat(home.secretFile()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the secret file is still there: %v", err)
	}
	other := config(w)
	other.Server = "https://127.0.0.1:1"
	if _, err := Enrol(t.Context(), home, other, "hgt_x"); err == nil || !strings.Contains(err.Error(), "is enrolled as "+id.Endpoint) {
		t.Errorf("enrolled at a second server: %v", err)
	}
}

// enrolBody reads the request that Enrol sent.
func enrolBody(t *testing.T, r *http.Request) *v1.EnrolRequest {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	m := &v1.EnrolRequest{}
	if err := errors.Join(err, proto.Unmarshal(b, m)); err != nil {
		t.Error(err)
	}
	return m
}

func TestEnrolmentThatCannotSucceedSaysWhyAtOnce(t *testing.T) {
	w := linktest.New(t, true)
	bad := config(w)
	bad.Pin = strings.Repeat("00", 32)
	for name, c := range map[string]struct {
		config Config
		token  string
		want   string
	}{
		"bad token":  {config(w), "hgt_bad", "enrolment token is not known"},
		"wrong pin":  {bad, "hgt_x", "server's certificate is not the pinned one"},
		"no product": {Config{Server: w.HTTP.URL}, "hgt_x", "0 products"},
	} {
		home := Home(t.TempDir())
		_, err := Enrol(t.Context(), home, c.config, c.token)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(home.IdentityFile()); err == nil {
			t.Errorf("%s: an identity was written", name)
		}
		if err := Run(t.Context(), home, Options{}); err == nil || !strings.Contains(err.Error(), "enrol first") {
			t.Errorf("%s: ran all the same: %v", name, err)
		}
	}
}

func TestConfigIsStrict(t *testing.T) {
	good := `{"server":"https://h:1","products":["a/b"]}`
	if _, err := ParseConfig([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		`{"server":"https://h:1","products":["a/b"],"prodcts":[]}`: `unknown field "prodcts"`,
		good + "{}": "data after",
		`{"server":"ftp://h","products":["a/b"]}`:                                          "want https://",
		`{"server":"http://h","pin":"` + strings.Repeat("0", 64) + `","products":["a/b"]}`: "needs https",
		`{"server":"https://h","pin":"xyz","products":["a/b"]}`:                            "64 hex digits",
		`{"server":"https://h","products":["a"]}`:                                          "vendor/product",
		`{"server":"https://h","products":["a/b","a/b"]}`:                                  "twice",
		`{"server":"https://h","products":["a/b"],"poll":60}`:                              "want a text",
		`{"server":"https://h","products":["a/b"],"labels":{"OS":"x"}}`:                    "label key",
	} {
		if _, err := ParseConfig([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v; want %q", in, err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"server":"https://h:1","pin":"","name":"n","labels":{"os":"x"},"products":["a/b"],"poll":"60s"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseConfig(out); err != nil {
			t.Fatalf("accepted %s, refused %s: %v", b, out, err)
		}
	})
}
