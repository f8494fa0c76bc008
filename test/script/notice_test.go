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

// docs/notice.md works as it stands: its commands, one after another, in a case
// that is there.
func TestNoticePageWorksLineByLine(t *testing.T) {
	page, err := os.ReadFile("../../docs/notice.md")
	if err != nil {
		t.Fatal(err)
	}
	const before = `set -euo pipefail
headgate server --data server --listen 127.0.0.1:0 >server.env 2>server.log &
until [ -s server.env ]; do sleep 0.1; done
. ./server.env
headgate tenant add example-corp
CASE=$(headgate case open Overflow)
`
	dir := t.TempDir()
	script := before + "set -x\n" + blocks(t, string(page), "sh", 3)
	if err := os.WriteFile(filepath.Join(dir, "page.sh"), []byte(script), 0o644); err != nil {
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
	err = cmd.Run()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // the server, in the background
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.Bytes(), logs(dir))
	}
	for _, want := range []string{"whsec_", "/feeds/notices/", "language:  ja", "実施していただきたいこと", "Checked by machine", "queued"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output does not show %q:\n%s", want, out.Bytes())
		}
	}
}
