package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/detect"
	"github.com/headgate/headgate/agent/link/linktest"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

// probed publishes a demo version whose manifest declares the probe "api-key".
func probed(t *testing.T, w *linktest.World, rollout int64, version string) release.Offer {
	t.Helper()
	dir := filepath.Join(t.TempDir(), version)
	if err := detect.DemoContent(version, dir); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, release.ManifestName)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := release.ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	m.Probes = map[string]release.Probe{"api-key": {Kind: release.CheckAge, Path: "{state}/api.key"}}
	if b, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	r := w.Publish(version, dir)
	return release.Offer{Rollout: rollout, Product: r.Product, Version: version, Digest: r.Digest, Action: release.ActionOffer, Seed: []byte("s"), Turn: 1, Probation: span.Duration(1500 * time.Millisecond)}
}

// The agent's own processes look: red until the customer has done what was asked,
// green then, and the version's check is green as soon as the fix runs.
func TestARealAgentTurnsAChecksRedToGreen(t *testing.T) {
	w := linktest.New(t, true)
	home := Home(t.TempDir())
	id, err := Enrol(t.Context(), home, config(w), "hgt_x")
	if err != nil {
		t.Fatal(err)
	}
	one := probed(t, w, 1, "1.0.0")
	w.SetPlan(plan(1, one))
	since := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	w.SetChecks(
		&v1.Check{Id: "rotate", Kind: "file_age", Product: linktest.Product, Probe: "api-key", Want: since, EveryUs: 1},
		&v1.Check{Id: "update", Kind: "version", Product: linktest.Product, Want: "3.0.0"},
	)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, home, Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("agent ended: %v", err)
		}
	}()
	is := func(check, want string) func() bool {
		return func() bool {
			rs := w.Results(id.Endpoint, check)
			return len(rs) > 0 && strings.TrimPrefix(rs[len(rs)-1].State.String(), "CHECK_STATE_")+":"+rs[len(rs)-1].Reason == want
		}
	}
	eventually(t, "the key is not there", is("rotate", "UNKNOWN:no-file"))
	eventually(t, "the version is too old", is("update", "FAILED:differs"))
	key := filepath.Join(home.KeeperDir(), "products", linktest.Product, "state", "api.key")
	old := time.Now().Add(-48 * time.Hour)
	if err := os.WriteFile(key, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(key, old, old); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key is old", is("rotate", "FAILED:differs"))
	if err := os.WriteFile(key, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key is new", is("rotate", "PASSED:"))
	w.SetPlan(plan(2, one, probed(t, w, 2, "3.0.0")))
	eventually(t, "the fix runs", is("update", "PASSED:"))
}
