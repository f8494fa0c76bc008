package smtp

import (
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/gopenpgp/v3/crypto"

	"github.com/headgate/headgate/internal/eximtest"
	"github.com/headgate/headgate/notify"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var created = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

func parcel(to string) notify.Parcel {
	return notify.Parcel{MessageID: "m-" + to + "-1@notices.example", Created: created, Address: to,
		Message: notify.Message{Subject: "[要対応: 更新] acme/gateway の更新 (N-1)", Opaque: "Notice N-1 for t", Body: "お知らせ N-1\n.\n..\n\n" + strings.Repeat("A long line of text. ", 60) + "\n-- \nMark: X\n"}}
}

func sender(t *testing.T, port int, change ...func(*Config)) *Sender {
	t.Helper()
	c := Config{Host: "127.0.0.1", Port: port, From: "notices@psirt.example", TLS: None, Timeout: 5 * time.Second}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	check(t, err)
	return s
}

// releases counts the calls of release.
type releases int

func (r *releases) release(context.Context) error { *r++; return nil }

func TestRealMailServerTakesWhatWasComposed(t *testing.T) {
	mx := eximtest.Start(t, eximtest.Options{})
	var r releases
	p := parcel("alice@t.example")
	a := sender(t, mx.Port).Send(t.Context(), p, r.release)
	if a.Outcome != notify.Accepted || a.Code != 250 || r != 1 || !strings.Contains(a.Detail, "id=") {
		t.Fatalf("%+v, released %d times", a, r)
	}
	got := mx.Await(t, p.Address, 1)[0]
	subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
	check(t, err)
	if subject != p.Message.Subject || got.Header.Get("Message-ID") != "<"+p.MessageID+">" || got.Header.Get("Auto-Submitted") != "auto-generated" || got.Header.Get("Return-Path") != "<notices@psirt.example>" {
		t.Errorf("headers %v", got.Header)
	}
	if body := decoded(t, got); body != p.Message.Body {
		t.Errorf("body %q\nwant %q", body, p.Message.Body)
	}
}

// decoded is the text of a message of one part.
func decoded(t *testing.T, m *eximtest.Message) string {
	t.Helper()
	r := m.Body
	if strings.EqualFold(m.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		r = newQP(m.Body)
	}
	b, err := io.ReadAll(r)
	check(t, err)
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

// What a real server says maps to what is known: refused and put off are certain,
// before and after the message; an answer that does not come in time is doubt.
func TestAnswersOfARealServerAreReadTruly(t *testing.T) {
	mx := eximtest.Start(t, eximtest.Options{})
	mx.Down(t)
	s := sender(t, mx.Port)
	quick := sender(t, mx.Port, func(c *Config) { c.Timeout = 300 * time.Millisecond })
	for _, tc := range []struct {
		to       string
		by       *Sender
		outcome  notify.Outcome
		code     int
		released releases
	}{
		{"no.one@t.example", s, notify.Refused, 550, 0}, {"later.one@t.example", s, notify.Deferred, 451, 0},
		{"datano.one@t.example", s, notify.Refused, 550, 1}, {"datalater.one@t.example", s, notify.Deferred, 451, 1},
		{"slow.one@t.example", quick, notify.Unsure, 0, 1},
	} {
		var r releases
		a := tc.by.Send(t.Context(), parcel(tc.to), r.release)
		if a.Outcome != tc.outcome || a.Code != tc.code || r != tc.released {
			t.Errorf("%s: %+v, released %d times; want %s, %d, %d times", tc.to, a, r, tc.outcome, tc.code, tc.released)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	l.Close()
	var r releases
	if a := sender(t, l.Addr().(*net.TCPAddr).Port).Send(t.Context(), parcel("a@t.example"), r.release); a.Outcome != notify.Deferred || r != 0 {
		t.Errorf("nobody listens: %+v", a)
	}
}

// A message whose release fails, or whose sender dies before the dot, is not
// taken: not even when the connection is closed in an orderly way.
func TestNothingIsTakenBeforeItsRelease(t *testing.T) {
	mx := eximtest.Start(t, eximtest.Options{})
	s := sender(t, mx.Port)
	p := parcel("bob@t.example")
	a := s.Send(t.Context(), p, func(context.Context) error { return errors.New("the lease ran out") })
	if a.Outcome != notify.Deferred {
		t.Errorf("%+v", a)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a = s.Send(ctx, p, func(context.Context) error { cancel(); time.Sleep(50 * time.Millisecond); return nil })
	if a.Outcome == notify.Accepted {
		t.Errorf("cancelled before the dot: %+v", a)
	}
	var r releases
	if a := s.Send(t.Context(), p, r.release); a.Outcome != notify.Accepted {
		t.Fatalf("%+v", a)
	}
	if got := mx.Await(t, p.Address, 1); len(got) != 1 || mx.Queued(t) != 0 {
		t.Errorf("%d copies delivered, %d queued\n%s", len(got), mx.Queued(t), mx.Log())
	}
}

func TestRelayThatDropsDoublesTakesAMessageIDOnce(t *testing.T) {
	mx := eximtest.Start(t, eximtest.Options{DropDoubles: true})
	s := sender(t, mx.Port)
	p, other := parcel("carol@t.example"), parcel("carol@t.example")
	other.MessageID = "m-2@notices.example"
	for _, p := range []notify.Parcel{p, p, other, p} {
		var r releases
		if a := s.Send(t.Context(), p, r.release); a.Outcome != notify.Accepted {
			t.Fatalf("%+v", a)
		}
	}
	mx.Await(t, p.Address, 2)
	for end := time.Now().Add(10 * time.Second); mx.Queued(t) > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	if got := mx.Count(t); got["<"+p.MessageID+">"] != 1 || got["<"+other.MessageID+">"] != 1 || mx.Queued(t) != 0 {
		t.Errorf("%v\n%s", got, mx.Log())
	}
}

func TestGnuPGReadsWhatWeEncryptAndSign(t *testing.T) {
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		t.Skip("no GnuPG on this machine")
	}
	home := t.TempDir()
	check(t, os.Chmod(home, 0o700))
	run := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.Command(gpg, append([]string{"--homedir", home, "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	t.Cleanup(func() { exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run() })
	run("", "--quick-gen-key", "Throw-away Tenant <t@t.example>", "default", "default", "1d")
	public := run("", "--armor", "--export", "t@t.example")
	ours, err := crypto.PGP().KeyGeneration().AddUserId("Throw-away PSIRT", "psirt@psirt.example").New().GenerateKey()
	check(t, err)
	armored, err := ours.GetArmoredPublicKey()
	check(t, err)
	run(armored, "--import")

	mx := eximtest.Start(t, eximtest.Options{})
	p := parcel("t@t.example")
	p.Key = public
	var r releases
	if a := sender(t, mx.Port, func(c *Config) { c.Sign = ours }).Send(t.Context(), p, r.release); a.Outcome != notify.Accepted {
		t.Fatalf("%+v", a)
	}
	got := mx.Await(t, p.Address, 1)[0]
	if kind := got.Header.Get("Content-Type"); !strings.HasPrefix(kind, "multipart/encrypted") {
		t.Errorf("content type %s", kind)
	}
	for _, leak := range []string{"acme", "gateway", "A long line", "要対応", "=E8=A6"} {
		if strings.Contains(string(got.Raw), leak) {
			t.Errorf("the mail shows %q:\n%s", leak, got.Raw)
		}
	}
	parts := mimeParts(t, got)
	if len(parts) != 2 || strings.TrimSpace(parts[0]) != "Version: 1" {
		t.Fatalf("%d parts: %q", len(parts), parts)
	}
	file := filepath.Join(home, "mail.asc")
	check(t, os.WriteFile(file, []byte(parts[1]), 0o600))
	status := run("", "--status-fd", "1", "--output", filepath.Join(home, "mail.txt"), "--decrypt", file)
	if !strings.Contains(status, "GOODSIG") || !strings.Contains(status, "DECRYPTION_OKAY") {
		t.Errorf("gpg: %s", status)
	}
	inner, err := os.ReadFile(filepath.Join(home, "mail.txt"))
	check(t, err)
	head, body, _ := strings.Cut(string(inner), "\r\n\r\n")
	text, err := io.ReadAll(newQP(strings.NewReader(body)))
	check(t, err)
	if strings.ReplaceAll(string(text), "\r\n", "\n") != p.Message.Body || !strings.Contains(head, "protected-headers") {
		t.Errorf("inside: %s\n%s", head, text)
	}
}

func TestKeysThatCannotBeEncryptedToAreRefused(t *testing.T) {
	k, err := crypto.PGP().KeyGeneration().AddUserId("x", "x@x.example").Lifetime(3600).GenerationTime(created.Unix()).New().GenerateKey()
	check(t, err)
	private, err := k.Armor()
	check(t, err)
	public, err := k.GetArmoredPublicKey()
	check(t, err)
	if _, err := ParseKey(public, created.Add(time.Minute)); err != nil {
		t.Errorf("a good key: %v", err)
	}
	for name, text := range map[string]string{"expired": public, "private": private, "text": "no key", "too long": strings.Repeat("x", maxKey+1)} {
		if _, err := ParseKey(text, created.Add(48*time.Hour)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestAddressesThatCouldAddAnythingAreRefused(t *testing.T) {
	for _, a := range []string{"", "a", "a@", "@b", "a@b@c", "a b@c.example", "a@b.example\r\nBcc: c@d.example", "<a@b.example>", "a@b.example,c@d.example", "Ä@b.example", strings.Repeat("x", 250) + "@b.example"} {
		if CheckAddress(a) == nil {
			t.Errorf("%q was taken", a)
		}
	}
	if err := CheckAddress("first.last+tag@sub.example"); err != nil {
		t.Error(err)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxsBN\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseKey(s, created); err == nil && k.IsPrivate() {
			t.Fatal("a private key was taken")
		}
	})
}
