// Package clamav tests the example product on the real clamscan.
package clamav

import (
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/release"
)

func needClamscan(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("clamscan"); err != nil {
		t.Skip("clamscan is not installed (scripts/setup installs Debian's clamav): the example is not tested")
	}
}

// product makes a product folder of the example's signatures and returns it.
func product(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "product")
	out, err := exec.Command("./make-product", "signatures", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("make-product: %v\n%s", err, out)
	}
	return dir
}

// run runs one command of the folder's manifest as the agent would.
func run(t *testing.T, pick func(release.Manifest) release.Command, slot, state string) (string, error) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(slot, release.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	m, err := release.ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	args := pick(m).Run
	for i := range args {
		args[i] = strings.NewReplacer("{slot}", slot, "{state}", state).Replace(args[i])
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	return string(out), err
}

func preflight(m release.Manifest) release.Command { return m.Preflight }
func activate(m release.Manifest) release.Command  { return m.Activate }
func check(m release.Manifest) release.Command     { return m.Check }
func stop(m release.Manifest) release.Command      { return m.Stop }

func TestGoodSignaturesPassPreflightAndCheck(t *testing.T) {
	needClamscan(t)
	slot, state := product(t), t.TempDir()
	for _, c := range []func(release.Manifest) release.Command{preflight, activate, check, stop, check} {
		if out, err := run(t, c, slot, state); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func TestBadSignaturesAreRefusedInPreflight(t *testing.T) {
	needClamscan(t)
	for _, bad := range badSignatures {
		t.Run(bad.name, func(t *testing.T) {
			slot := product(t)
			bad.do(t, slot)
			out, err := run(t, preflight, slot, t.TempDir())
			if err == nil || !strings.Contains(out, bad.why) {
				t.Errorf("preflight: %v, %q; want a refusal with %q", err, out, bad.why)
			}
		})
	}
}

func TestFalsePositivePassesPreflightAndFailsTheCheck(t *testing.T) {
	needClamscan(t)
	slot, state := product(t), t.TempDir()
	flagCleanFile(t, slot)
	if out, err := run(t, preflight, slot, state); err != nil {
		t.Fatalf("preflight: %v: %s", err, out)
	}
	if out, err := run(t, activate, slot, state); err != nil {
		t.Fatalf("activate: %v: %s", err, out)
	}
	out, err := run(t, check, slot, state)
	if err == nil || !strings.Contains(out, "a clean file is flagged") {
		t.Errorf("check: %v, %q; want a clean file to be flagged", err, out)
	}
}

func TestActivateReplacesThePointerInOneStep(t *testing.T) {
	needClamscan(t)
	a, b, state := product(t), product(t), t.TempDir()
	for _, slot := range []string{a, b, a} {
		if out, err := run(t, activate, slot, state); err != nil {
			t.Fatalf("activate: %v: %s", err, out)
		}
		got, err := os.Readlink(filepath.Join(state, "signatures"))
		if err != nil || got != slot+"/signatures" {
			t.Errorf("pointer is %q, %v; want %s/signatures", got, err, slot)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(state, "*")); len(left) != 1 {
		t.Errorf("activate left %q behind", left)
	}
}

// badSignatures spoil a product folder in the ways that preflight must find;
// "cut in a line" is how a truncated file looks.
var badSignatures = []struct {
	name, why string
	do        func(t *testing.T, slot string)
}{
	{"malformed", "they do not load", func(t *testing.T, slot string) {
		edit(t, slot, func(b []byte) []byte { return append(b, "this is no signature\n"...) })
	}},
	{"cut in a line", "they do not load", func(t *testing.T, slot string) {
		edit(t, slot, func(b []byte) []byte { return b[:strings.LastIndex(string(b), ":*:")+2] })
	}},
	{"cut at a line's end", "clamscan loaded 2 signatures, the product has 3", func(t *testing.T, slot string) {
		edit(t, slot, func(b []byte) []byte { return b[:strings.Index(string(b), "\n")+1] })
	}},
	{"finds nothing", "the EICAR test file is not found", func(t *testing.T, slot string) {
		edit(t, slot, func(b []byte) []byte { return b[strings.Index(string(b), "\n")+1:] })
		if err := os.Remove(filepath.Join(slot, "signatures", "headgate.hsb")); err != nil {
			t.Fatal(err)
		}
	}},
	{"flags a clean file", "a clean file is flagged", func(t *testing.T, slot string) {
		flag(t, slot, "Nothing to see here.")
	}},
	{"no signatures", "they do not load", func(t *testing.T, slot string) {
		for _, f := range []string{"headgate.hsb", "headgate.ndb"} {
			if err := os.Truncate(filepath.Join(slot, "signatures", f), 0); err != nil {
				t.Fatal(err)
			}
		}
	}},
}

// edit rewrites the product's pattern signatures.
func edit(t *testing.T, slot string, f func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(slot, "signatures", "headgate.ndb")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o644); err != nil {
		t.Fatal(err)
	}
}

// flag adds a signature for text, and counts it.
func flag(t *testing.T, slot, text string) {
	t.Helper()
	edit(t, slot, func(b []byte) []byte {
		return append(b, "Headgate.Example.FalsePositive:0:*:"+hex.EncodeToString([]byte(text))+"\n"...)
	})
	if err := os.WriteFile(filepath.Join(slot, "signatures.count"), []byte("4\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// flagCleanFile adds a signature that matches a file of this machine's own.
func flagCleanFile(t *testing.T, slot string) {
	t.Helper()
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	flag(t, slot, string(b[:min(len(b), 60)]))
}
