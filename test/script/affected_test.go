package script

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// affectedBefore makes what docs/affected.md takes for granted: a server, a
// release, an endpoint, a case, and two bills of materials.
const affectedBefore = `set -euo pipefail
set -x
headgate server --data server --listen 127.0.0.1:0 >server.env 2>server.log &
until [ -s server.env ]; do sleep 0.1; done
. ./server.env
headgate key new alice.key bob.key acme1.key acme2.key 2>/dev/null
headgate root new --yes --operator alice.key.pub --operator bob.key.pub --key alice.key --key bob.key
headgate vendor add acme --yes --vendor-key acme1.key.pub --vendor-key acme2.key.pub --threshold 2 --key alice.key --key bob.key
headgate product add acme/rules
headgate release init rules --demo 1.0.0
headgate release sign --yes --dir rules --product acme/rules --version 1.0.0 --first --bundle b --key acme1.key --key acme2.key
headgate release publish --yes --bundle b
headgate tenant add example-corp
(umask 077; headgate tenant token example-corp >enrol.token)
headgate agent enrol --dir agent --name host --product acme/rules --enrolment-token-file enrol.token
ENDPOINT=$(headgate endpoint list -o json | grep -om1 'E-[0-9A-Z]*')
CASE=$(headgate case open Overflow)
doc() { printf '{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"lodash","purl":"pkg:npm/lodash@%s"},{"type":"library","name":"in-house"}]}' $1; }
doc 4.17.20 >host.cdx.json
doc 4.17.21 >rules.cdx.json
`

// affectedAfter is what must follow from the page's commands: the endpoint's own
// list said that it is affected, and its newer list says that it is not.
const affectedAfter = `
doc 4.17.21 >host.cdx.json
headgate endpoint sbom $ENDPOINT host.cdx.json --yes
until headgate affected show $CASE | grep '1 attested only'; do sleep 0.5; done
headgate affected set $CASE --yes "acme/rules npm/<1" && exit 1
headgate affected show $CASE | grep "$(headgate affected snapshot $CASE | sha256sum | cut -c1-64)"
headgate affected snapshot $CASE --n 1 -o json | grep lodash
headgate affected snapshot $CASE --n 7 && exit 1
headgate case verify $CASE
headgate token add eve >eve.token
headgate affected show $CASE --token-file eve.token && exit 1
headgate affected freeze $CASE --token-file eve.token --yes && exit 1
echo ALL-OF-IT
`

// docs/affected.md works as it stands.
func TestAffectedPageWorksLineByLine(t *testing.T) {
	page, err := os.ReadFile("../../docs/affected.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page.sh"), []byte(affectedBefore+blocks(t, string(page), "sh", 3)+affectedAfter), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Minute)
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
	syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // the server
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.Bytes(), logs(dir))
	}
	for _, want := range []string{
		"neither a PURL nor a CPE, which nothing can match: 1 (in-house)", "Affected: 1 endpoints, 1 tenants; unknown: 0", "its bill of materials lists pkg:npm/lodash 4.17.20",
		"(listed)", "0 of 1; at least 0.0 %", "attested", "cyclonedx-json", "ALL-OF-IT",
	} {
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("the output does not show %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out.Bytes())
	}
}
