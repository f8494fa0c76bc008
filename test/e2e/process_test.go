package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a child that ends with its test, whatever becomes of that.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// spawn starts a headgate process; its stderr goes to the file log, its stdout
// to out.
func spawn(t *testing.T, log string, env []string, out io.Writer, args ...string) *process {
	t.Helper()
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	check(t, err)
	defer f.Close()
	p := &process{t: t, cmd: exec.Command(headgate, args...), log: log, done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, out, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = time.Second
	started := make(chan error)
	starts <- func() { started <- p.cmd.Start() }
	check(t, <-started)
	go func() {
		_ = p.cmd.Wait() // how it ended is for the tests that ended it
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("-- the end of %s --\n%s", filepath.Base(log), tail(log))
		}
	})
	return p
}

// stop asks the process to end, and makes it.
func (p *process) stop() {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(8 * time.Second):
		p.t.Errorf("%s did not end by itself", filepath.Base(p.log))
		p.kill()
	}
}

// kill is kill -9, and the wait for its effect.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done: // its number may be another's by now
	default:
		_ = p.cmd.Process.Signal(s) // it may have ended since
	}
}

func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2500):])
}

// seen is a process as /proc shows it.
type seen struct {
	pid     int
	command string
}

// engines are the live engines of the agent at home, by the mark that keeper
// gives each. A zombie is none.
func engines(t *testing.T, home string) (out []seen) {
	t.Helper()
	mark := "HEADGATE_UNIT=" + filepath.Join(home, "keeper", "products") + "/"
	each(func(pid int) {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		command, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && err2 == nil && strings.Contains("\x00"+string(env), "\x00"+mark) && len(command) > 0 {
			out = append(out, seen{pid, string(bytes.ReplaceAll(command, []byte{0}, []byte(" ")))})
		}
	})
	return out
}

// links are the link processes of the agent at home.
func links(home string) (out []seen) {
	want := " link --identity " + filepath.Join(home, "identity.json")
	each(func(pid int) {
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if text := string(bytes.ReplaceAll(command, []byte{0}, []byte(" "))); err == nil && strings.Contains(text, want) {
			out = append(out, seen{pid, text})
		}
	})
	return out
}

func each(f func(pid int)) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			f(pid)
		}
	}
}

// turns counts how often a process went to sleep and woke: an engine that works
// does so many times a second.
func turns(t *testing.T, pid int) (n int64) {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				k, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
				check(t, err)
				n += k
			}
		}
	}
	return n
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for what must come.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 2 minutes: %s", what)
}
