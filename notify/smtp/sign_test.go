package smtp

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/gopenpgp/v3/crypto"

	"github.com/headgate/headgate/internal/eximtest"
	"github.com/headgate/headgate/internal/gpgtest"
	"github.com/headgate/headgate/notify"
)

var signedAs = regexp.MustCompile(`micalg=(pgp-sha(?:256|384|512))`)

// What goes out signed and not encrypted comes through a real mail server to a reader
// whose GnuPG finds the signature good over the part's exact bytes, and who sees a
// changed letter.
func TestGnuPGVerifiesSignedMail(t *testing.T) {
	g := gpgtest.New(t)
	ours, err := crypto.PGP().KeyGeneration().AddUserId("Throw-away PSIRT", "psirt@psirt.example").New().GenerateKey()
	check(t, err)
	public, err := ours.GetArmoredPublicKey()
	check(t, err)
	g.Run(public, "--import")
	mx := eximtest.Start(t, eximtest.Options{})
	p := parcel("t@t.example")
	p.Message.Subject = strings.Repeat("長い件名 ", 20)
	var r releases
	if a := sender(t, mx.Port, func(c *Config) { c.Sign = ours }).Send(t.Context(), p, r.release); a.Outcome != notify.Accepted {
		t.Fatalf("%+v", a)
	}
	got := mx.Await(t, p.Address, 1)[0]
	kind := got.Header.Get("Content-Type")
	if !strings.HasPrefix(kind, "multipart/signed") || signedAs.FindString(kind) == "" {
		t.Fatalf("content type %s", kind)
	}
	raw := strings.ReplaceAll(strings.ReplaceAll(string(got.Raw), "\r\n", "\n"), "\n", "\r\n")
	_, boundary, _ := strings.Cut(kind, "boundary=")
	parts := strings.Split(raw, "--"+boundary)
	if len(parts) != 4 {
		t.Fatalf("%d parts: %s", len(parts), raw)
	}
	part := strings.TrimSuffix(strings.TrimPrefix(parts[1], "\r\n"), "\r\n")
	_, signature, _ := strings.Cut(parts[2], "\r\n\r\n")
	dir := t.TempDir()
	sig, text := filepath.Join(dir, "sig.asc"), filepath.Join(dir, "part")
	check(t, os.WriteFile(sig, []byte(strings.TrimSpace(signature)+"\n"), 0o600))
	check(t, os.WriteFile(text, []byte(part), 0o600))
	if status, _ := g.Run("", "--status-fd", "1", "--verify", sig, text); !strings.Contains(status, "GOODSIG") {
		t.Errorf("gpg: %s", status)
	}
	_, body, _ := strings.Cut(part, "\r\n\r\n")
	read, err := io.ReadAll(newQP(strings.NewReader(body)))
	check(t, err)
	if strings.ReplaceAll(string(read), "\r\n", "\n") != p.Message.Body {
		t.Errorf("inside: %q", read)
	}
	for _, l := range strings.Split(raw, "\r\n") {
		if len(l) > 998 {
			t.Errorf("a line of %d bytes", len(l))
		}
	}
	check(t, os.WriteFile(text, []byte(strings.Replace(part, "A long line", "A wrong line", 1)), 0o600))
	if out, err := g.Try("--status-fd", "1", "--verify", sig, text); err == nil || !strings.Contains(out, "BADSIG") {
		t.Errorf("a changed letter was not seen: %s", out)
	}
}

func TestKeysThatCannotSignAreRefused(t *testing.T) {
	k, err := crypto.PGP().KeyGeneration().AddUserId("x", "x@x.example").Lifetime(3600).GenerationTime(created.Unix()).New().GenerateKey()
	check(t, err)
	private, err := k.Armor()
	check(t, err)
	public, err := k.GetArmoredPublicKey()
	check(t, err)
	locked, err := crypto.PGP().LockKey(k, []byte("throw-away"))
	check(t, err)
	shut, err := locked.Armor()
	check(t, err)
	if _, err := ParseSigner(private, created.Add(time.Minute)); err != nil {
		t.Errorf("a good key: %v", err)
	}
	for name, c := range map[string]struct {
		text string
		at   time.Time
	}{
		"expired": {private, created.Add(48 * time.Hour)}, "public": {public, created.Add(time.Minute)}, "with a passphrase": {shut, created.Add(time.Minute)},
		"text": {"no key", created}, "too long": {strings.Repeat("x", maxKey+1), created},
	} {
		if _, err := ParseSigner(c.text, c.at); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
