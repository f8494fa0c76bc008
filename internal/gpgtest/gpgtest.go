// Package gpgtest runs Debian's GnuPG, for tests: it encrypts and signs to us, and
// reads what we encrypt and sign.
package gpgtest

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// GnuPG is GnuPG with a home, and keys, of its own.
type GnuPG struct {
	Home string
	t    testing.TB
}

// New makes a home that the test's end removes. Where GnuPG is not installed the
// test is skipped.
func New(t testing.TB) *GnuPG {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("GnuPG is not installed (scripts/setup installs it): what we encrypt and sign is not checked by another's software")
	}
	home, err := os.MkdirTemp("", "hg") // t.TempDir's path is too long for the agent's socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// There may be no agent to end.
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	return &GnuPG{Home: home, t: t}
}

// Run runs gpg, and fails the test if gpg fails. It returns both outputs.
func (g *GnuPG) Run(in string, args ...string) (out, said string) {
	g.t.Helper()
	cmd := exec.Command("gpg", append([]string{"--homedir", g.Home, "--batch", "--yes", "--no-tty", "--trust-model", "always", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &o, &e
	if err := cmd.Run(); err != nil {
		g.t.Fatalf("gpg %v: %v\n%s", args, err, e.String())
	}
	return o.String(), e.String()
}

// Person makes a throw-away key for an address, and returns its public part in
// armour.
func (g *GnuPG) Person(address string) (public string) {
	g.t.Helper()
	g.Run("", "--quick-generate-key", address, "ed25519", "default", "never")
	list, _ := g.Run("", "--list-keys", "--with-colons", address)
	_, rest, _ := strings.Cut(list, "\nfpr:::::::::")
	id, _, _ := strings.Cut(rest, ":")
	g.Run("", "--quick-add-key", id, "cv25519", "encr", "never")
	public, _ = g.Run("", "--armor", "--export", address)
	return public
}

// Try runs gpg where it may fail, and returns what it wrote.
func (g *GnuPG) Try(args ...string) (string, error) {
	cmd := exec.Command("gpg", append([]string{"--homedir", g.Home, "--batch", "--yes", "--no-tty", "--trust-model", "always"}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
