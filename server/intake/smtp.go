package intake

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/psirt/intake"
	"github.com/headgate/headgate/store"
)

// MailConfig is what the configuration says of reports by e-mail. The listener is
// meant to stand behind a mail server of yours, which keeps spam away.
type MailConfig struct {
	// Listen is the address to take mail on, such as "127.0.0.1:2525". Required.
	Listen string `json:"listen"`
	// To are the addresses that reports are taken for, in lower case, such as
	// "security@acme.example". Required. Mail to others is refused.
	To []string `json:"to"`
	// Host is the name that the listener greets with. Default: the host of url.
	Host string `json:"host,omitempty"`
	// From are the networks that may deliver. Default: this machine.
	From []netip.Prefix `json:"from,omitempty"`
}

// Limits of the listener.
const (
	smtpCommand  = time.Minute // for a command or a part of the message
	smtpSessions = 50          // at once
	smtpMessages = 8           // read at once: each may take intake.MaxMail of memory
	smtpTo       = 10          // recipients of a message
	smtpLine     = 2000        // RFC 5321 4.5.3.1.6 wants 1000
)

func (c MailConfig) complete(host string) (MailConfig, error) {
	if c.Listen == "" || len(c.To) == 0 {
		return c, errors.New("configuration: intake.mail: listen and to are both needed")
	}
	for _, a := range c.To {
		if a != strings.ToLower(a) || !strings.Contains(a, "@") {
			return c, fmt.Errorf("configuration: intake.mail.to: %q: want a mail address in lower case", a)
		}
	}
	if c.Host == "" {
		c.Host = host
	}
	if len(c.From) == 0 {
		c.From = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	return c, nil
}

// MailServer makes the listener's server, which takes mail for the door until it
// is closed. cert may be nil: then there is no STARTTLS.
func (d *Door) MailServer(cert *tls.Certificate) *smtp.Server {
	d.init()
	s := smtp.NewServer(&mailBackend{door: d, room: make(chan struct{}, smtpMessages), sessions: make(chan struct{}, smtpSessions)})
	s.Domain = d.Config.Mail.Host
	s.MaxMessageBytes, s.MaxRecipients, s.MaxLineLength = intake.MaxMail, smtpTo, smtpLine
	s.ReadTimeout, s.WriteTimeout = smtpCommand, smtpCommand
	s.ErrorLog = slog.NewLogLogger(d.Log.Handler(), slog.LevelDebug)
	s.EnableSMTPUTF8 = true
	if cert != nil {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	}
	return s
}

// mailBackend lets sessions in.
type mailBackend struct {
	door           *Door
	room, sessions chan struct{}
}

// reply is an SMTP answer (RFC 5321, RFC 3463).
func reply(code int, enhanced smtp.EnhancedCode, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
}

// NewSession implements smtp.Backend.
func (b *mailBackend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	from := netip.Addr{}
	if host, _, err := net.SplitHostPort(c.Conn().RemoteAddr().String()); err == nil {
		from = parseAddr(host)
	}
	if !slices.ContainsFunc(b.door.Config.Mail.From, func(p netip.Prefix) bool { return p.Contains(from) }) {
		return nil, reply(554, smtp.EnhancedCode{5, 7, 1}, "mail is taken from our own mail server only")
	}
	select {
	case b.sessions <- struct{}{}:
		return &mailSession{backend: b}, nil
	default:
		return nil, reply(421, smtp.EnhancedCode{4, 3, 2}, "too many connections; come back later")
	}
}

// mailSession is one connection's work.
type mailSession struct {
	backend *mailBackend
	from    string
	to      bool
}

// Mail implements smtp.Session.
func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	s.from, s.to = from, false
	return nil
}

// Rcpt implements smtp.Session.
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	local, host, _ := strings.Cut(strings.ToLower(to), "@")
	local, _, _ = strings.Cut(local, "+") // subaddressing, RFC 5233
	if !slices.Contains(s.backend.door.Config.Mail.To, local+"@"+host) {
		return reply(550, smtp.EnhancedCode{5, 1, 1}, "reports are taken at other addresses; see security.txt")
	}
	if s.from == "" {
		// A bounce of what we sent. To take it would be to answer it.
		return reply(550, smtp.EnhancedCode{5, 7, 1}, "bounces are no reports")
	}
	s.to = true
	return nil
}

// Data implements smtp.Session. It returns nil, and so the mail is taken, only
// when the report is durable; a mail that comes again is the same report.
func (s *mailSession) Data(r io.Reader) error {
	b := s.backend
	if !s.to {
		return reply(503, smtp.EnhancedCode{5, 5, 1}, "no recipient")
	}
	select {
	case b.room <- struct{}{}:
		defer func() { <-b.room }()
	default:
		return reply(451, smtp.EnhancedCode{4, 3, 2}, "busy; come back later")
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return err // too long, or the connection broke: go-smtp answers
	}
	ctx, cancel := context.WithTimeout(context.Background(), submitTime)
	defer cancel()
	return b.door.takeMail(ctx, raw)
}

// Reset implements smtp.Session.
func (s *mailSession) Reset() { s.from, s.to = "", false }

// Logout implements smtp.Session.
func (s *mailSession) Logout() error {
	<-s.backend.sessions
	return nil
}

// takeMail keeps a mail: as a message on the report that it answers, or as a
// report.
func (d *Door) takeMail(ctx context.Context, raw []byte) error {
	m, err := intake.ReadMail(raw, d.Key, d.Now())
	if err != nil {
		return reply(554, smtp.EnhancedCode{5, 6, 0}, intake.Line(err.Error()))
	}
	if !d.limits.all.AllowN(d.Now(), 1) {
		return reply(451, smtp.EnhancedCode{4, 7, 1}, "too many reports just now; come back later")
	}
	if report, ok := d.answered(m); ok && len(m.Files) == 0 && m.Text != "" && len(m.Text) <= psirt.MaxText {
		err := d.Reports.AddToPage(ctx, d.hashOf(report), &psirt.ReportMessage{From: psirt.FromReporter, Text: m.Text}, d.Now())
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, psirt.ErrIllegal) && !errors.Is(err, psirt.ErrInvalid) {
			return d.mailBroke(ctx, err)
		}
	}
	s, err := mailReport(m, raw)
	if err != nil {
		return d.mailBroke(ctx, err)
	}
	if _, _, err := d.submit(ctx, s); err != nil {
		if errors.Is(err, psirt.ErrInvalid) || errors.Is(err, store.ErrInvalid) {
			return reply(554, smtp.EnhancedCode{5, 6, 0}, intake.Line(err.Error()))
		}
		return d.mailBroke(ctx, err)
	}
	return nil
}

func (d *Door) mailBroke(ctx context.Context, err error) error {
	d.Log.ErrorContext(ctx, "cannot keep mail", "err", err)
	return reply(451, smtp.EnhancedCode{4, 3, 0}, "it could not be kept; come back later")
}

// answered finds the report whose letter a mail answers.
func (d *Door) answered(m intake.Mail) (report string, ok bool) {
	for _, id := range m.Answers {
		local, host, _ := strings.Cut(id, "@")
		report, rest, _ := strings.Cut(local, ".")
		mark, _, _ := strings.Cut(rest, ".")
		if host == d.host() && mark == d.answerMark(report) {
			return report, true
		}
	}
	return "", false
}

// The names of the files that are kept beside a report by mail.
const (
	rawMail     = "message.eml"
	reporterKey = "reporter-key.asc"
)

// mailReport makes a report of a mail. The message as it came is its first file,
// so that nothing is lost that we did not understand.
func mailReport(m intake.Mail, raw []byte) (store.Submission, error) {
	r := psirt.ReportReceived{Source: psirt.FromMail, Title: m.Subject, Text: mailText(m), Reporter: m.Name, Encrypted: m.Encrypted}
	if r.Title == "" {
		r.Title = "A mail without a subject"
	}
	// Line again: what a message says of itself may end in half a character.
	r.Title, r.Reporter = intake.Line(r.Title), intake.Line(r.Reporter)
	if intake.Line(m.From) == m.From && strings.Contains(m.From, "@") {
		r.Contact = m.From
	}
	files := []intake.File{{Name: rawMail, Type: "message/rfc822", Body: raw}}
	if m.PublicKey != nil {
		files = append(files, intake.File{Name: reporterKey, Type: "application/pgp-keys", Body: m.PublicKey})
	}
	var bodies [][]byte
	r.Attachments, bodies = attach(append(files, m.Files...))
	s := store.Submission{Received: r, Files: bodies}
	if r.Contact != "" && !m.Automatic {
		s.Letter, s.Acknowledged = r.Contact, "mail"
	}
	key, err := requestKey("mail", m.ID, r)
	s.Request = key
	return s, err
}

// mailText is the mail's words, with what a triager must know of how it came.
func mailText(m intake.Mail) string {
	var b strings.Builder
	text := m.Text
	const note = "\n\n(Cut here: the whole is in message.eml.)"
	if room := psirt.MaxText - 8<<10; len(text) > room {
		text = strings.ToValidUTF8(text[:room], "") + note
	}
	b.WriteString(text)
	b.WriteString("\n\n---\n\n")
	switch {
	case m.Encrypted && m.Signature == intake.SignedBy:
		fmt.Fprintf(&b, "Came encrypted, signed by the key %s that it brought along.\n", m.Signer)
	case m.Encrypted:
		b.WriteString("Came encrypted" + signatureText(m) + ".\n")
	default:
		b.WriteString("Came in clear" + signatureText(m) + ". Its sender's address is not proven.\n")
	}
	for _, p := range m.Problems {
		b.WriteString("\n* could not be read: " + p)
	}
	return strings.TrimSpace(b.String())
}

func signatureText(m intake.Mail) string {
	switch m.Signature {
	case intake.SignedBy:
		return ", signed by the key " + m.Signer + " that it brought along"
	case intake.SignedOther:
		return ", signed by a key that we do not have"
	case intake.SignedBadly:
		return ", with a signature that does not match"
	}
	return ", not signed"
}
