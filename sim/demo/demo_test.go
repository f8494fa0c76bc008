package demo

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// build makes the headgate binary that the demo drives.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "headgate")
	c := exec.Command("go", "build", "-o", bin, "../../cmd/headgate")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build headgate: %v\n%s", err, out)
	}
	return bin
}

// TestTheDemoHolds plays the whole demo at a small size, with real processes.
func TestTheDemoHolds(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	var out bytes.Buffer
	summary := filepath.Join(t.TempDir(), "summary.json")
	err := Run(t.Context(), Options{Headgate: build(t), Agents: MinAgents, Simulated: 60, Dir: filepath.Join(t.TempDir(), "demo"), Summary: summary, Out: &out})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	b, err := os.ReadFile(summary)
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Endpoints int64 `json:"endpoints"`
		LedgerOK  bool  `json:"ledger_ok"`
		Releases  []struct {
			Version      string  `json:"version"`
			Granted      int64   `json:"granted"`
			Harmed       int64   `json:"harmed"`
			StillDown    int64   `json:"still_down"`
			NeverTouched int64   `json:"never_touched"`
			SecondsToAll float64 `json:"seconds_to_all"`
		} `json:"releases"`
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	const all = MinAgents + 60
	if s.Endpoints != all || !s.LedgerOK || len(s.Releases) != 3 {
		t.Fatalf("summary %s", b)
	}
	good, bad, fixed := s.Releases[0], s.Releases[1], s.Releases[2]
	if good.Granted != all || good.Harmed != 0 || good.SecondsToAll <= 0 || fixed.Granted != all || fixed.Harmed != 0 || fixed.SecondsToAll <= 0 {
		t.Errorf("the good releases: %+v, %+v", good, fixed)
	}
	if bad.Harmed < 1 || bad.Granted > canaries || bad.StillDown != 0 || bad.NeverTouched != all-bad.Granted {
		t.Errorf("the bad release: %+v", bad)
	}
}

// TestADemoThatCannotStartSaysWhy: nothing is started, nothing is left.
func TestADemoThatCannotStartSaysWhy(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "something"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"too few agents":  {Agents: 1},
		"folder not ours": {Agents: MinAgents, Dir: full},
	} {
		o.Out = &bytes.Buffer{}
		if err := Run(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
