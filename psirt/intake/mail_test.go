package intake

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func read(t *testing.T, raw string) Mail {
	t.Helper()
	m, err := ReadMail([]byte(crlf(raw)), Key{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAMailInHTMLIsReadAsText(t *testing.T) {
	m := read(t, outer+"Subject: =?utf-8?q?F=C3=BCr_Sie?=\nContent-Type: text/html; charset=utf-8\n\n<p>No <b>check</b>.</p><script>alert(1)</script>\n")
	if !strings.Contains(m.Text, "No *check*.") && !strings.Contains(m.Text, "No check.") {
		t.Errorf("text %q", m.Text)
	}
	if m.Subject != "Für Sie" || strings.Contains(m.Text, "alert") || m.ID != "1@example.org" {
		t.Errorf("%+v", m)
	}
}

func TestAnAttachmentsNameIsNoPath(t *testing.T) {
	for in, want := range map[string]string{
		"a.txt": "a.txt", "../../etc/passwd": "passwd", `C:\x\y.exe`: "y.exe", "": "attachment-3", "..": "attachment-3", "/": "attachment-3",
		"a\r\nb": "a b", "a\u202etxt.exe": "atxt.exe", strings.Repeat("x", 300): strings.Repeat("x", maxFileName-3) + "…",
	} {
		if got := FileName(in, 3); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// An answer to an answering machine would go on for ever.
func TestMailOfProgramsIsKnown(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "Auto-Submitted: no\n": false, "Auto-Submitted: auto-replied\n": true, "Precedence: bulk\n": true, "List-Id: <x.example>\n": true,
		"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n": true,
	} {
		if m := read(t, outer+header+"Subject: x\n\n--b\n\nx\n--b--\n"); m.Automatic != want {
			t.Errorf("%q: automatic %t", header, m.Automatic)
		}
	}
}

// A broken part costs that part, and is named; the text is there.
func TestABrokenPartIsAProblemAndNotALoss(t *testing.T) {
	m := read(t, outer+"Subject: Broken\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nHello.\n--b\nContent-Type: application/zip; name=a.zip\nContent-Transfer-Encoding: base64\n\n!!!not base64!!!\n--b--\n")
	if !strings.Contains(m.Text, "Hello.") {
		t.Errorf("%+v", m)
	}
	if m := read(t, "To: x\n\nNobody sends this.\n"); len(m.Problems) == 0 || m.Text != "Nobody sends this." {
		t.Errorf("no sender: %+v", m)
	}
}

func TestWhatIsNoMailIsRefused(t *testing.T) {
	deep := outer
	for i := range 200 {
		deep += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	for name, raw := range map[string][]byte{"too long": make([]byte, MaxMail+1), "nested without end": []byte(crlf(deep)), "empty": nil} {
		if _, err := ReadMail(raw, Key{}, noon); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadMail(f *testing.F) {
	key := ourKey(f)
	public, err := key.Public()
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := key.EncryptTo([]byte(public), []byte("Content-Type: text/plain\r\n\r\nhello"), noon)
	if err != nil {
		f.Fatal(err)
	}
	clear, err := key.SignClear([]byte("hello\n"), noon)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(crlf(outer + "Subject: x\n\nhello\n"))
	f.Add(crlf(outer + "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=o\n\n--o\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--o\nContent-Type: application/octet-stream\n\n" + string(sealed) + "\n--o--\n"))
	f.Add(crlf(outer + "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=o\n\n--o\n\nx\n--o\nContent-Type: application/pgp-signature\n\nx\n--o--\n"))
	f.Add(crlf(outer + "\n" + string(clear) + public))
	f.Add(crlf(outer + "\n" + string(sealed)))
	f.Fuzz(func(t *testing.T, raw string) {
		m, err := ReadMail([]byte(raw), key, noon)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		for _, s := range append([]string{m.ID, m.From, m.Name, m.Subject, m.Signer}, m.Problems...) {
			if Line(s) != s || len(s) > 1000 {
				t.Fatalf("%q is not one line of bounded length", s)
			}
		}
		if !utf8.ValidString(m.Text) || len(m.Files) > maxFiles {
			t.Fatalf("%+v", m)
		}
		for i, file := range m.Files {
			if file.Name == "" || strings.ContainsAny(file.Name, `/\`) || FileName(file.Name, i) != file.Name {
				t.Fatalf("file name %q", file.Name)
			}
		}
	})
}
