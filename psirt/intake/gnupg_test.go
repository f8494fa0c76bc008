package intake

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/gpgtest"
)

// reporter makes a key for Ada, and has her know ours.
func reporter(t *testing.T, g *gpgtest.GnuPG, our Key) (public string) {
	t.Helper()
	public = g.Person("ada@example.org")
	armour, err := our.Public()
	if err != nil {
		t.Fatal(err)
	}
	g.Run(armour, "--import")
	return public
}

// made is when our key was made.
var made = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func ourKey(t testing.TB) Key {
	t.Helper()
	k, err := NewKey("Headgate throw-away", "security@headgate.example", made)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// crlf is a text as mail travels.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

const outer = "From: Ada <ada@example.org>\nTo: security@headgate.example\nMessage-ID: <1@example.org>\nMIME-Version: 1.0\n"

// What GnuPG encrypts and signs to us, we open, and we know that it is signed.
func TestGnuPGEncryptsAndSignsToUs(t *testing.T) {
	g, key := gpgtest.New(t), ourKey(t)
	public := reporter(t, g, key)
	now := time.Now().Add(time.Minute)
	inner := crlf("Content-Type: multipart/mixed; boundary=in\nSubject: The gate is open\n\n--in\nContent-Type: text/plain; charset=utf-8\n\nNo check at all.\n" +
		"--in\nContent-Type: application/pgp-keys; name=ada.asc\nContent-Disposition: attachment; filename=ada.asc\n\n" + public +
		"--in\nContent-Type: text/x-python; name=poc.py\nContent-Disposition: attachment; filename=../../poc.py\n\nprint(1)\n--in--\n")
	sealed, _ := g.Run(inner, "--armor", "--sign", "--encrypt", "-r", "security@headgate.example")
	raw := crlf(outer + "Subject: ...\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=out\n\n" +
		"--out\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--out\nContent-Type: application/octet-stream; name=encrypted.asc\n\n" + sealed + "\n--out--\n")
	m, err := ReadMail([]byte(raw), key, now)
	if err != nil {
		t.Fatal(err)
	}
	if !m.Encrypted || m.Signature != SignedBy || len(m.Signer) != 40 || len(m.Problems) > 0 {
		t.Errorf("encrypted %t, signature %q by %q, problems %q", m.Encrypted, m.Signature, m.Signer, m.Problems)
	}
	if m.Text != "No check at all." || m.Subject != "The gate is open" || m.From != "ada@example.org" || m.PublicKey == nil {
		t.Errorf("%+v", m)
	}
	if len(m.Files) != 2 || m.Files[1].Name != "poc.py" || strings.TrimSpace(string(m.Files[1].Body)) != "print(1)" {
		t.Errorf("files: %+v", m.Files)
	}

	t.Run("in the text", func(t *testing.T) {
		sealed, _ := g.Run("Only for you.", "--armor", "--encrypt", "-r", "security@headgate.example")
		m, err := ReadMail([]byte(crlf(outer+"Subject: Hidden\n\nHello\n\n"+sealed)), key, now)
		if err != nil || !m.Encrypted || m.Signature != Unsigned || m.Text != "Hello\n\nOnly for you." {
			t.Errorf("%v, %+v", err, m)
		}
	})
	t.Run("an attachment", func(t *testing.T) {
		sealed, _ := g.Run("secret bytes", "--armor", "--encrypt", "-r", "security@headgate.example")
		m, err := ReadMail([]byte(crlf(outer+"Subject: A file\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nSee the file.\n--b\n"+
			"Content-Type: application/octet-stream; name=poc.c.asc\nContent-Disposition: attachment; filename=poc.c.asc\n\n"+sealed+"\n--b--\n")), key, now)
		if err != nil || len(m.Files) != 1 || m.Files[0].Name != "poc.c" || string(m.Files[0].Body) != "secret bytes" {
			t.Errorf("%v, %+v", err, m)
		}
	})
	t.Run("to somebody else", func(t *testing.T) {
		sealed, _ := g.Run("Not for you.", "--armor", "--encrypt", "-r", "ada@example.org")
		m, err := ReadMail([]byte(crlf(outer+"Subject: Lost\n\n"+sealed)), key, now)
		if err != nil || m.Encrypted || len(m.Problems) != 1 || !strings.Contains(m.Text, beginMessage) {
			t.Errorf("it must stay and say why: %v, %+v", err, m)
		}
	})
}

// A signed mail is checked over its exact bytes: one changed letter is seen.
func TestGnuPGsSignatureIsChecked(t *testing.T) {
	g, key := gpgtest.New(t), ourKey(t)
	public := reporter(t, g, key)
	now := time.Now().Add(time.Minute)
	part := crlf("Content-Type: multipart/mixed; boundary=in\n\n--in\n\nNo check at all.\n--in\nContent-Type: application/pgp-keys\n\n" + public + "\n--in--")
	signature, _ := g.Run(part, "--armor", "--detach-sign")
	raw := crlf(outer+"Subject: Signed\nContent-Type: multipart/signed; micalg=pgp-sha512; protocol=\"application/pgp-signature\"; boundary=out\n\n--out\n") +
		part + crlf("\n--out\nContent-Type: application/pgp-signature; name=signature.asc\n\n"+signature+"\n--out--\n")
	for _, c := range []struct {
		name, raw string
		want      Signature
	}{
		{"as sent", raw, SignedBy},
		{"changed on its way", strings.Replace(raw, "No check", "A check", 1), SignedBadly},
		{"without the key", strings.Replace(raw, beginPublic, "-----BEGIN SOMETHING-----", 1), SignedOther},
	} {
		m, err := ReadMail([]byte(c.raw), key, now)
		if err != nil || m.Signature != c.want {
			t.Errorf("%s: %q, %v; want %q; problems %q", c.name, m.Signature, err, c.want, m.Problems)
		}
	}
	clear, _ := g.Run("Readable.\n- with a dash", "--clear-sign")
	m, err := ReadMail([]byte(crlf(outer+"Subject: Clear\n\n"+clear+"\n"+public)), key, now)
	if err != nil || m.Signature != SignedBy || !strings.HasPrefix(m.Text, "Readable.\n- with a dash") {
		t.Errorf("clear-signed: %v, %+v", err, m)
	}
	if m, err = ReadMail([]byte(crlf(outer+"Subject: Clear\n\n"+clear)), key, now); err != nil || m.Signature != SignedOther {
		t.Errorf("by a key that we do not have: %v, %q", err, m.Signature)
	}
}

// GnuPG verifies our security.txt, and reads what we encrypt.
func TestGnuPGReadsWhatWeSignAndEncrypt(t *testing.T) {
	g, key := gpgtest.New(t), ourKey(t)
	public := reporter(t, g, key)
	now := time.Now()
	s := SecurityTxt{Contact: []string{"mailto:security@headgate.example"}, Canonical: []string{"https://headgate.example/.well-known/security.txt"}, Languages: []string{"en", "ja"}, Life: 30 * 24 * time.Hour}
	text, _, err := s.Text(now)
	if err != nil {
		t.Fatal(err)
	}
	clear, err := key.SignClear(text, now)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(g.Home, "security.txt")
	if err := os.WriteFile(file, clear, 0o600); err != nil {
		t.Fatal(err)
	}
	out, said := g.Run("", "--output", "-", "--verify", file)
	if !strings.Contains(said, "Good signature") || out != string(text) {
		t.Errorf("gpg says %s\nand reads %q\nof %q", said, out, text)
	}
	sealed, err := key.EncryptTo([]byte(public), []byte("Your tracking id."), now)
	if err != nil {
		t.Fatal(err)
	}
	out, said = g.Run(string(sealed), "--decrypt")
	if out != "Your tracking id." || !strings.Contains(said, "Good signature") {
		t.Errorf("gpg says %s\nand reads %q", said, out)
	}
}
