package script

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// docs/quickstart.md works as it stands: its blocks, one after another, are one
// shell script that stops at the first line that fails. Only the port is
// another, so that tests do not meet.
func TestQuickstartWorksLineByLine(t *testing.T) {
	page, err := os.ReadFile("../../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	script := "set -euo pipefail\nset -x\n" + strings.ReplaceAll(blocks(t, string(page), "sh", 5), "127.0.0.1:8443", "127.0.0.1:0")
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("no curl on this machine: the line with it is left out")
		script = withoutLines(script, "curl ")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "quickstart.sh"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, "bash", "quickstart.sh")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+binDir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // what a failed script left in the background
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.Bytes(), logs(dir))
	}
	for _, want := range []string{"acme/rules 1.0.0", "R-2", "crash-loop", "halted", "reverted", "holds", `"rollouts"`} {
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("the output does not show %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out.Bytes())
	}
}

// blocks joins the fenced blocks of a language, of which there are at least so
// many.
func blocks(t *testing.T, page, language string, least int) string {
	var b strings.Builder
	in := false
	n := 0
	for line := range strings.Lines(page) {
		switch {
		case !in && strings.TrimSpace(line) == "```"+language:
			in = true
			n++
		case in && strings.TrimSpace(line) == "```":
			in = false
		case in:
			b.WriteString(line)
		}
	}
	if n < least {
		t.Fatalf("found %d blocks of %s in the page", n, language)
	}
	return b.String()
}

func withoutLines(script, prefix string) string {
	var b strings.Builder
	for line := range strings.Lines(script) {
		if !strings.HasPrefix(line, prefix) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// logs is the end of each log that a failed run left.
func logs(dir string) string {
	var b strings.Builder
	names, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, name := range names {
		text, _ := os.ReadFile(name)
		b.WriteString("-- " + filepath.Base(name) + " --\n" + string(text[max(0, len(text)-2000):]) + "\n")
	}
	return b.String()
}
