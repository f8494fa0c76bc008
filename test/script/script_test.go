// Package script runs whole stories with the real binary: each txtar file under
// testdata is one, and docs/quickstart.md is another.
package script

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// binDir is the folder of the binary that TestMain builds.
var binDir string

func TestMain(m *testing.M) { os.Exit(runMain(m)) }

func runMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "headgate-script-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "headgate"), "github.com/headgate/headgate/cmd/headgate")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build headgate: %v\n%s", err, out)
		return 1
	}
	binDir = dir
	return m.Run()
}

// patience is how long a story waits for what must come.
const patience = 30 * time.Second

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", binDir+string(filepath.ListSeparator)+e.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":  status,
			"server":  startServer,
			"connect": connect,
			"corrupt": corrupt,
		},
	})
}

// status runs a command that must end with the exit status given first.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// startServer runs a server for the rest of the story, with what is given as
// further flags, and connects to it. Its data is in server/.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	out := ts.MkAbs("server.env")
	f, err := os.Create(out)
	ts.Check(err)
	defer f.Close()
	log, err := os.Create(ts.MkAbs("server.log"))
	ts.Check(err)
	defer log.Close()
	cmd := exec.Command(filepath.Join(binDir, "headgate"), append([]string{"server", "--data", "server", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), f, log
	ts.Check(cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ts.Defer(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case err := <-done:
			if err != nil {
				b, _ := os.ReadFile(log.Name())
				ts.Logf("server: %v\n%s", err, b)
			}
		case <-time.After(patience):
			cmd.Process.Kill()
			<-done
		}
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(out); err == nil && bytes.Contains(b, []byte("TOKEN_FILE")) {
			connect(ts, false, []string{"server.env"})
			return
		}
		select {
		case err := <-done:
			done <- err
			b, _ := os.ReadFile(log.Name())
			ts.Fatalf("the server ended: %v\n%s", err, b)
		default:
		}
	}
	ts.Fatalf("the server was not ready within %s", patience)
}

// connect takes over what a server printed at its start.
func connect(ts *testscript.TestScript, neg bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "export "); ok {
			name, value, _ := strings.Cut(v, "=")
			ts.Setenv(name, strings.Trim(value, "'"))
		}
	}
}

// corrupt replaces one text by another of the same length inside a binary file.
func corrupt(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || len(args[1]) != len(args[2]) {
		ts.Fatalf("usage: corrupt FILE OLD NEW, both as long")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	if !bytes.Contains(b, []byte(args[1])) {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, bytes.ReplaceAll(b, []byte(args[1]), []byte(args[2])), 0o600))
}
