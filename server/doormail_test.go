package server

import (
	"fmt"
	"net"
	"net/http"
	"net/smtp"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/control"
	"github.com/headgate/headgate/internal/eximtest"
	"github.com/headgate/headgate/internal/gpgtest"
	notifysmtp "github.com/headgate/headgate/notify/smtp"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/server/intake"
	"github.com/headgate/headgate/store"
)

// freePort is one that nobody listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// mailed is the reports that came in, as the engine sees them.
func mailed(t *testing.T, s *Server) []store.Report {
	t.Helper()
	reports, err := s.Store().ListReports(t.Context(), store.Engine("test"), store.ReportQuery{}, time.Now())
	check(t, err)
	return reports
}

var pageLink = regexp.MustCompile(`http://\S+/report/[A-Za-z0-9_-]{43}`)

// Ada writes to us through Debian's mail server, encrypted and signed by Debian's
// GnuPG. She gets an encrypted receipt with her link by the same way, and what she
// answers to it is a message on her report.
func TestMailGoesInAndOutThroughARealServer(t *testing.T) {
	port := freePort(t)
	mx := eximtest.Start(t, eximtest.Options{Relay: port, RelayDomain: "acme.example"})
	g := gpgtest.New(t)
	public := g.Person("ada@example.org")
	s, visitor := openServer(t, func(c *Config) {
		c.Intake.Mail = &intake.MailConfig{Listen: fmt.Sprintf("127.0.0.1:%d", port), To: []string{"security@acme.example"}, Host: "headgate.acme.example"}
		c.OutgoingMail = &OutgoingMail{Host: "127.0.0.1", Port: mx.Port, From: "security@acme.example", TLS: notifysmtp.None}
	})
	res, err := visitor.Get(s.URL() + "/report.asc")
	g.Run(page(t, res, err), "--import")

	inner := "Content-Type: multipart/mixed; boundary=in\r\nSubject: The gate is open\r\n\r\n--in\r\nContent-Type: text/plain\r\n\r\nNo check at all.\r\n" +
		"--in\r\nContent-Type: application/pgp-keys; name=ada.asc\r\nContent-Disposition: attachment; filename=ada.asc\r\n\r\n" + public + "\r\n--in--\r\n"
	sealed, _ := g.Run(inner, "--armor", "--sign", "--encrypt", "-r", "security@acme.example")
	send := func(text string) {
		t.Helper()
		check(t, smtp.SendMail(mx.Addr(), nil, "ada@example.org", []string{"security@acme.example"}, []byte(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n"))))
	}
	const head = "From: Ada <ada@example.org>\nTo: security@acme.example\nDate: Mon, 02 Mar 2026 10:00:00 +0000\nMIME-Version: 1.0\n"
	send(head + "Message-ID: <1@example.org>\nSubject: ...\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=out\n\n" +
		"--out\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--out\nContent-Type: application/octet-stream\n\n" + sealed + "\n--out--\n")

	receipt := mx.Await(t, "ada@example.org", 1)[0]
	reports := mailed(t, s)
	if len(reports) != 1 {
		t.Fatalf("%d reports", len(reports))
	}
	r := reports[0]
	if r.Title != "The gate is open" || !strings.Contains(r.Text, "No check at all.") || !strings.Contains(r.Text, "Came encrypted, signed by the key") || r.Contact != "ada@example.org" || r.Source != psirt.FromMail {
		t.Errorf("%+v", r.ReportReceived)
	}
	if len(r.Attachments) != 3 || r.Attachments[0].Name != "message.eml" {
		t.Errorf("attachments: %+v", r.Attachments)
	}
	raw := string(receipt.Raw)
	if strings.Contains(raw, "/report/") || strings.Contains(raw, store.ReportID(r.ID)+" is kept") {
		t.Errorf("the receipt to who wrote encrypted is in clear:\n%s", raw)
	}
	from := strings.Index(raw, "-----BEGIN PGP MESSAGE-----")
	to := strings.Index(raw, "-----END PGP MESSAGE-----")
	if from < 0 || to < from {
		t.Fatalf("no encrypted receipt:\n%s", raw)
	}
	plain, _ := g.Run(raw[from:to+len("-----END PGP MESSAGE-----\n")], "--decrypt")
	link := pageLink.FindString(plain)
	if link == "" || !strings.Contains(plain, store.ReportID(r.ID)) {
		t.Fatalf("no link in\n%s", plain)
	}
	send(head + "Message-ID: <2@example.org>\nSubject: Re: Your report\nIn-Reply-To: " + receipt.Header.Get("Message-ID") + "\n\nIt works on 1.3, too.\n")
	until(t, "her answer is on her page", func() bool {
		res, err := visitor.Get(link)
		return strings.Contains(page(t, res, err), "It works on 1.3, too.") && res.StatusCode == http.StatusOK
	})
	if n := len(mailed(t, s)); n != 1 {
		t.Errorf("the answer became a report: %d", n)
	}

	// Encrypted again, without a key to answer to: the answer in clear holds no link.
	sealed, _ = g.Run("The key is under the mat.\r\n", "--armor", "--encrypt", "-r", "security@acme.example")
	send(head + "Message-ID: <3@example.org>\nSubject: Another\nContent-Type: text/plain\n\n" + sealed)
	raw = string(mx.Await(t, "ada@example.org", 2)[1].Raw)
	if strings.Contains(raw, "BEGIN PGP MESSAGE") || strings.Contains(raw, "/report/") || !strings.Contains(raw, "no key of yours") {
		t.Errorf("the answer in clear to who wrote encrypted:\n%s", raw)
	}
}

// The listener takes mail for its own addresses from its own network only, takes a
// repeat once, and answers nothing automatic.
func TestTheMailListenerKeepsToItsLimits(t *testing.T) {
	s, _ := openServer(t, func(c *Config) {
		c.Intake.Mail = &intake.MailConfig{Listen: "127.0.0.1:0", To: []string{"security@acme.example"}}
	})
	const text = "From: Ada <ada@example.org>\r\nMessage-ID: <1@example.org>\r\nSubject: Open\r\n\r\nNo check.\r\n"
	for name, c := range map[string]struct{ from, to, text, want string }{
		"first":         {"ada@example.org", "Security@acme.example", text, ""},
		"again":         {"ada@example.org", "security+x@acme.example", text, ""},
		"a stranger":    {"ada@example.org", "ceo@acme.example", text, "550"},
		"a bounce":      {"", "security@acme.example", text, "550"},
		"no mail":       {"ada@example.org", "security@acme.example", "\r\n", "554"},
		"too many":      {"ada@example.org", "security@acme.example", "From: a@b.example\r\n" + strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", 200), "554"},
		"a long line":   {"ada@example.org", "security@acme.example", "From: a@b.example\r\n\r\n" + strings.Repeat("x", 5000), "too long"},
		"of a program":  {"bot@example.org", "security@acme.example", "From: bot@example.org\r\nAuto-Submitted: auto-generated\r\nSubject: Scan\r\n\r\nFound.\r\n", ""},
		"no words, not": {"ada@example.org", "security@acme.example", "From: ada@example.org\r\nSubject: Only this\r\n\r\n", ""},
	} {
		err := smtp.SendMail(s.MailAddr(), nil, c.from, []string{c.to}, []byte(c.text))
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	reports := mailed(t, s)
	if len(reports) != 3 {
		t.Errorf("%d reports: %+v", len(reports), reports)
	}
	letters, err := s.Store().TakeLetters(t.Context(), store.LetterQuery{Kinds: control.ReporterRound.Kinds, Lease: time.Now(), Limit: 10}, time.Now())
	check(t, err)
	for _, l := range letters {
		if l.Address != "ada@example.org" {
			t.Errorf("a program is answered: %+v", l)
		}
	}

	stranger, _ := openServer(t, func(c *Config) {
		c.Intake.Mail = &intake.MailConfig{Listen: "127.0.0.1:0", To: []string{"security@acme.example"}, From: prefixes(t, "192.0.2.0/24")}
	})
	if err := smtp.SendMail(stranger.MailAddr(), nil, "ada@example.org", []string{"security@acme.example"}, []byte(text)); err == nil {
		t.Error("mail from another network was taken")
	}
}
