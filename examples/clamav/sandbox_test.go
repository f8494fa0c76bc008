package clamav

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/sandbox"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "vet" {
		os.Exit(sandbox.VetMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// The sandbox shows preflight the system's programs, its slot and a temporary
// folder, and no network.
func TestPreflightRunsInTheSandbox(t *testing.T) {
	needClamscan(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	slot, tmp := product(t), t.TempDir()
	argv := []string{"/bin/sh", filepath.Join(slot, "bin/preflight"), slot}
	spec := sandbox.Spec{Read: []string{slot}, Write: []string{tmp}, Namespaces: true, CPU: time.Minute, Files: 256}
	res, err := sandbox.Runner{Executable: self}.Run(t.Context(), spec, slot, []string{"TMPDIR=" + tmp}, argv, time.Minute)
	if err != nil || !res.Passed() {
		t.Errorf("preflight under %q: status %d, %v\n%s", res.Features, res.Exit, err, res.Output)
	}
}
