package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheSimulationPageWorks runs each command of docs/simulation.md that stands
// by itself, simulations with a small fleet and one seed.
func TestTheSimulationPageWorks(t *testing.T) {
	page, err := os.ReadFile("../../docs/simulation.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	work, run := t.TempDir(), 0
	if err := os.Symlink(filepath.Join(root, "examples"), filepath.Join(work, "examples")); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		command, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "    headgate ")
		if !ok {
			continue
		}
		args := strings.Fields(command)
		if args[0] == "simulate" {
			args = append(args, "--endpoints", "20000", "--seeds", "1")
		}
		c := exec.Command(filepath.Join(binDir, "headgate"), args...)
		c.Dir = work
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("headgate %s: %v\n%s", command, err, out)
		}
		run++
	}
	if run < 4 {
		t.Errorf("only %d commands on the page", run)
	}
}
