package e2e

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The example product all the way: signatures made by the vendor, signed,
// published, rolled out to a real agent with the real clamscan; and those that
// flag a clean file of the endpoint's system, which no preflight can know.
func TestClamAVSignaturesGoAllTheWayAndBackWhenTheyFlagACleanFile(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("clamscan"); err != nil {
		t.Skip("clamscan is not installed (scripts/setup installs Debian's clamav): the example is not tested through the server")
	}
	s := newSite(t, nil)
	s.product = vendor + "/clamav"
	s.do("product", "add", s.product)
	a := s.enrol(1)[0]
	slow := func(over map[string]any) map[string]any {
		p := everyone(map[string]any{"grace": "60s"})
		for k, v := range over {
			p[k] = v
		}
		return p
	}

	s.publishDir("1.0.0", signatures(t, ""))
	s.rollOut("1.0.0", slow(nil))
	if r := s.become("R-1", "finished"); r.Counts != (counts{Exposed: 1, Proven: 1}) {
		t.Fatalf("good signatures: %+v", r.Counts)
	}
	const marker = "it says headgate-example-marker-1 in here"
	if !found(t, a, marker) || found(t, a, "nothing") {
		t.Error("the active signatures do not find what they should, or find what they should not")
	}

	clean, err := os.ReadFile("/etc/os-release")
	check(t, err)
	s.publishDir("1.1.0", signatures(t, string(clean[:min(len(clean), 60)])))
	s.rollOut("1.1.0", slow(nil))
	r := s.become("R-2", "reverted")
	if r.Counts != (counts{Exposed: 1, Harmed: 1}) {
		t.Errorf("signatures that flag a clean file: %+v", r.Counts)
	}
	until(t, "1.0.0 is back", func() bool { return a.show().runs() == "1.0.0" })
	if x := a.show().Exposures[0]; x.State != "harmed" || x.Reason != "check-failed" || !strings.Contains(x.Detail, "a clean file is flagged") {
		t.Errorf("the server knows of %+v", x)
	}
	if !found(t, a, marker) {
		t.Error("after the way back the good signatures are not active")
	}

	s.publishDir("1.2.0", truncated(t))
	s.rollOut("1.2.0", slow(map[string]any{"max_preflight_failed": 1}))
	if r := s.become("R-3", "reverted"); r.Counts != (counts{}) {
		t.Errorf("malformed signatures, refused in preflight: %+v", r.Counts)
	}
	if e := a.show(); e.runs() != "1.0.0" {
		t.Errorf("%s runs", e.runs())
	}
	s.verify()
}

// signatures makes the example's product folder, with one more signature for
// flagged if that is not empty, and with checks that come soon.
func signatures(t *testing.T, flagged string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "product")
	example, err := filepath.Abs("../../examples/clamav")
	check(t, err)
	cmd := exec.Command("./make-product", "signatures", dir)
	cmd.Dir = example
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make-product: %v\n%s", err, out)
	}
	edit(t, filepath.Join(dir, "headgate.json"), `"30s"`, `"200ms"`)
	if flagged != "" {
		appendTo(t, filepath.Join(dir, "signatures", "headgate.ndb"), "Headgate.Example.FalsePositive:0:*:"+hex.EncodeToString([]byte(flagged))+"\n")
		check(t, os.WriteFile(filepath.Join(dir, "signatures.count"), []byte("4\n"), 0o644))
	}
	return dir
}

func truncated(t *testing.T) string {
	t.Helper()
	dir := signatures(t, "")
	appendTo(t, filepath.Join(dir, "signatures", "headgate.ndb"), "this is no signature\n")
	return dir
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(path, append(b, text...), 0o644))
}

// found scans a text with the signatures that are active on an endpoint.
func found(t *testing.T, a *agent, text string) bool {
	t.Helper()
	active, err := filepath.Glob(filepath.Join(a.home, "keeper", "products", vendor, "clamav", "*", "signatures"))
	check(t, err)
	if len(active) != 1 {
		t.Fatalf("active signatures: %q", active)
	}
	file := filepath.Join(t.TempDir(), "scanned")
	check(t, os.WriteFile(file, []byte(text), 0o600))
	out, err := exec.Command("clamscan", "--database="+active[0], file).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "FOUND") {
		t.Fatalf("clamscan: %v: %s", err, out)
	}
	return err != nil
}
