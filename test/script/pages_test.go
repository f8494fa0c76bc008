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

// pages are documents whose commands are run, each against a server of its own,
// after the lines that set the scene; the output must hold the words. People are
// asked before something changes: here --yes answers.
var pages = []struct {
	page  string
	scene string
	words []string
}{
	{"report.md", `echo "A rule of 300 bytes overflows." >report.txt`, []string{"same product acme/rules", "operator:admin", "answered:", "no security impact"}},
	{"case.md", withReport + `(umask 077; headgate token add bob >bob.token)`, []string{"a fix is ready", "not found", "recorded reads", "40 of 40", "fails on load.c", "passes on \"parse.c\", which it must find", "9a1b"}},
	{"embargo.md", withCase, []string{" active\n", "proposed until:", "stays ended", "no embargo may start", "too long for our constituents", "goes to hosted-opaque tenants at most", "not published yet"}},
	{"clock.md", withCase, []string{"cra-early-warning", "BREAKS", "CNA rules 4.x, 4.5.1.4"}},
	{"party.md", withCase + `
headgate vendor add acme >/dev/null 2>&1 || true`, []string{"silence is no answer", "not_affected", "the parser is not in it"}},
}

// withReport and withCase are scenes.
const (
	withReport = `
headgate report triager add admin
REPORT=$(headgate report add "Overflow in the parser" --product acme/rules)
`
	withCase = withReport + `
CASE=$(headgate case open "Overflow in the parser" --report $REPORT)
`
)

func TestPagesWorkLineByLine(t *testing.T) {
	for _, p := range pages {
		t.Run(p.page, func(t *testing.T) {
			page, err := os.ReadFile("../../docs/" + p.page)
			if err != nil {
				t.Fatal(err)
			}
			out := runPage(t, p.scene, blocks(t, string(page), "sh", 1))
			for _, w := range p.words {
				if !strings.Contains(out, w) {
					t.Errorf("the output does not show %q", w)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

// servePage starts a server, points a shell to it, and ends it when the shell ends.
const servePage = `set -euo pipefail
headgate server --data server --listen 127.0.0.1:0 >server.env 2>server.log &
server=$!
trap 'kill $server; wait $server || true' EXIT
until grep -q TOKEN_FILE server.env; do kill -0 $server; sleep 0.1; done
. ./server.env
headgate() { command headgate --yes "$@"; }
set -x
`

func runPage(t *testing.T, scene, script string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page.sh"), []byte(servePage+scene+"\n"+script), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, "bash", "page.sh")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+binDir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // what a failed script left in the background
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.Bytes(), logs(dir))
	}
	return out.String()
}
