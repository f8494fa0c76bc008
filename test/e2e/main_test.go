// Package e2e proves the rules that only the whole can break: a real server
// process, real agents with all their processes, the real command line, and
// what happens when any of them is killed, cut off, or runs out of disk.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// headgate is the binary that TestMain builds.
var headgate string

// starts runs functions on one thread that lives as long as the tests: the
// kernel ends a child with Pdeathsig when the thread that started it ends.
var starts = make(chan func())

func TestMain(m *testing.M) { os.Exit(runMain(m)) }

func runMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "headgate-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	headgate = filepath.Join(dir, "headgate")
	build := exec.Command("go", "build", "-o", headgate, "github.com/headgate/headgate/cmd/headgate")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build headgate: %v\n%s", err, out)
		return 1
	}
	go func() {
		runtime.LockOSThread()
		for f := range starts {
			f()
		}
	}()
	return m.Run()
}
