package keeper

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/release"
)

// Each kind of check passes, fails, or cannot be told, by way of the real sandbox.
func TestAChecksAnswerIsWhatIsThere(t *testing.T) {
	b := newBox(t)
	b.start()
	ask := func(kind release.CheckKind, probe, want string) string {
		t.Helper()
		a, err := b.client.Check(context.Background(), ipc.Check{Kind: kind, Product: product, Probe: probe, Want: want})
		if err != nil {
			t.Fatal(err)
		}
		if a.OK {
			return "holds"
		}
		return a.Reason
	}
	if got := ask(release.CheckRuns, "", "1.0.0"); got != "not-running" {
		t.Errorf("nothing is installed: %s", got)
	}
	b.install("1.2.0", "good")
	state := filepath.Join(b.dir, "agent", "products", "acme", "detect", "state")
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(state, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hour := func(h int) string { return time.Now().Add(time.Duration(h) * time.Hour).UTC().Format(time.RFC3339) }
	if got := ask(release.CheckAge, "key", hour(-1)); got != "no-file" {
		t.Errorf("no key yet: %s", got)
	}
	write("key", "k")
	write("app.conf", "tls = 1.3\n")
	if err := os.Symlink("/etc/passwd", filepath.Join(state, "out")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind        release.CheckKind
		probe, want string
		is          string
	}{
		{release.CheckRuns, "", "1.2.0", "holds"},
		{release.CheckRuns, "", "1.2.1", "differs"},
		{release.CheckHash, "mode", sum("good 1.2.0"), "holds"},
		{release.CheckHash, "mode", sum("other"), "differs"},
		{release.CheckHash, "out", sum("other"), "probe-error"},
		{release.CheckSetting, "tls", "1.3", "holds"},
		{release.CheckSetting, "tls", "1.2", "differs"},
		{release.CheckAge, "key", hour(-1), "holds"},
		{release.CheckAge, "key", hour(1), "differs"},
		{release.CheckCommand, "self-test", "", "holds"},
		{release.CheckCommand, "fails", "", "exit-status"},
		{release.CheckCommand, "hangs", "", "timeout"},
		{release.CheckCommand, "writes", "", "exit-status"}, // a probe changes nothing
		{release.CheckCommand, "none", "", "no-probe"},
		{release.CheckSetting, "key", "x", "no-probe"}, // of another kind
	} {
		if got := ask(c.kind, c.probe, c.want); got != c.is {
			t.Errorf("%s %s %s: %s, want %s", c.kind, c.probe, c.want, got, c.is)
		}
	}
	a, err := b.client.Check(context.Background(), ipc.Check{Kind: release.CheckRuns, Product: "acme/other", Want: "1.0.0"})
	if err != nil || a.OK || a.Reason != "unknown-product" {
		t.Errorf("another product: %+v, %v", a, err)
	}
}
