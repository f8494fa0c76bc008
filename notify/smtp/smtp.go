// Package smtp sends notices as mail, one message to one address, encrypted with
// OpenPGP where the tenant gave a key.
//
// Its one duty beyond mail itself is to say truly what came of an attempt. A mail
// server takes a message with its reply to the final dot; everything before that
// dot can be repeated without harm. So the caller's release is called when the
// whole message has been handed over and only the dot is missing. Refused before
// it, the message was certainly not taken; lost after it, it may have been.
//
// It decides nothing: whether and when to try again is notify.Delivery's.
package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"time"

	"github.com/ProtonMail/gopenpgp/v3/crypto"
	mail "github.com/wneessen/go-mail"
	gosmtp "github.com/wneessen/go-mail/smtp"

	"github.com/headgate/headgate/notify"
)

// TLS is how the connection to the mail server is protected.
type TLS string

// The ways. None is for a relay on this machine.
const (
	StartTLS TLS = "starttls" // required: no TLS, no mail
	Implicit TLS = "implicit" // RFC 8314, port 465
	None     TLS = "none"
)

// Config says by which server mail is sent, and as whom.
type Config struct {
	Host string
	Port int
	From string // the sender's address, which bounces return to
	TLS  TLS
	// RootCAs and ServerName are the connection's; nil and empty are the system's
	// and Host.
	TLSConfig *tls.Config
	// User and Password are for AUTH; no User is none.
	User, Password string
	// Hello is the name given in EHLO; empty is the host part of From.
	Hello string
	// Timeout is for each command; 0 is a minute. The answer to the whole message
	// is waited for ten times as long: RFC 5321 4.5.3.2.6 asks for ten minutes,
	// because a client that gives up sooner makes doubles.
	Timeout time.Duration
	// Sign signs each message, encrypted or not; nil signs nothing.
	Sign *crypto.Key
}

// Sender sends mail. It is safe for concurrent use.
type Sender struct{ c Config }

// New checks a configuration.
func New(c Config) (*Sender, error) {
	_, domain, ok := strings.Cut(c.From, "@")
	if !ok || strings.ContainsAny(c.From, " <>\r\n") || domain == "" {
		return nil, fmt.Errorf("smtp: from: %q is no plain mail address", c.From)
	}
	if c.Host == "" || c.Port < 1 || c.Port > 65535 {
		return nil, fmt.Errorf("smtp: server %q, port %d: want a host and a port", c.Host, c.Port)
	}
	switch c.TLS {
	case StartTLS, Implicit:
	case None:
		if ip := net.ParseIP(c.Host); c.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, fmt.Errorf("smtp: tls none is for a relay on this machine, not for %s: notices would travel in clear", c.Host)
		}
	default:
		return nil, fmt.Errorf("smtp: tls %q: want %s, %s or %s", c.TLS, StartTLS, Implicit, None)
	}
	if c.Hello == "" {
		c.Hello = domain
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	return &Sender{c}, nil
}

// dial connects, and speaks TLS and AUTH as configured.
func (s *Sender) dial(ctx context.Context) (*gosmtp.Client, error) {
	opts := []mail.Option{mail.WithPort(s.c.Port), mail.WithHELO(s.c.Hello), mail.WithTimeout(s.c.Timeout)}
	switch s.c.TLS {
	case Implicit:
		opts = append(opts, mail.WithSSL())
	case StartTLS:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	case None:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	}
	if s.c.TLSConfig != nil {
		opts = append(opts, mail.WithTLSConfig(s.c.TLSConfig))
	}
	if s.c.User != "" {
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(s.c.User), mail.WithPassword(s.c.Password))
	}
	c, err := mail.NewClient(s.c.Host, opts...)
	if err != nil {
		return nil, err
	}
	return c.DialToSMTPClientWithContext(ctx)
}

// Send makes one attempt. release is called once, after the message and before
// its final dot; if it fails, the connection is dropped and nothing was sent.
func (s *Sender) Send(ctx context.Context, p notify.Parcel, release func(context.Context) error) notify.Answer {
	msg, err := s.compose(p)
	if err != nil {
		return notify.Answer{Outcome: notify.Refused, Detail: "compose the mail: " + err.Error()}
	}
	c, err := s.dial(ctx)
	if err != nil {
		// A server that does not let us in says nothing about the message.
		return notify.Answer{Outcome: notify.Deferred, Code: replyCode(err), Detail: "connect to the mail server: " + err.Error()}
	}
	// Never Quit or Reset once DATA has begun: both would end the message with the
	// dot that it must not get. Closing the connection cannot.
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	return s.transact(ctx, c, p, msg, release)
}

func (s *Sender) transact(ctx context.Context, c *gosmtp.Client, p notify.Parcel, msg io.WriterTo, release func(context.Context) error) notify.Answer {
	if err := c.Mail(s.c.From); err != nil {
		// What the server holds against the sender is ours to mend; the message may
		// still be taken tomorrow.
		return notify.Answer{Outcome: notify.Deferred, Code: replyCode(err), Detail: "MAIL FROM: " + err.Error()}
	}
	if err := c.Rcpt(p.Address); err != nil {
		return before("RCPT TO", err)
	}
	data, err := c.Data()
	if err != nil {
		return before("DATA", err)
	}
	if _, err := msg.WriteTo(data); err != nil {
		return notify.Answer{Outcome: notify.Deferred, Detail: "write the message: " + err.Error()}
	}
	if err := c.UpdateDeadline(10 * s.c.Timeout); err != nil {
		return notify.Answer{Outcome: notify.Deferred, Detail: "set a deadline: " + err.Error()}
	}
	if err := release(ctx); err != nil {
		return notify.Answer{Outcome: notify.Deferred, Detail: "nothing was sent: " + err.Error()}
	}
	if err := data.Close(); err != nil {
		if replyCode(err) != 0 {
			return before("the message", err) // it said no: it has not taken it
		}
		return notify.Answer{Outcome: notify.Unsure, Detail: "wait for the answer to the message: " + err.Error()}
	}
	answer := notify.Answer{Outcome: notify.Accepted, Code: 250}
	if d, ok := data.(*gosmtp.DataCloser); ok {
		answer.Detail = d.ServerResponse() // with the queue's id, by which the relay's log knows it
	}
	// The message is taken whatever comes of this.
	_ = c.Quit()
	return answer
}

// before is the answer when the server has certainly not taken the message.
func before(what string, err error) notify.Answer {
	a := notify.Answer{Outcome: notify.Deferred, Code: replyCode(err), Detail: what + ": " + err.Error()}
	if a.Code >= 500 {
		a.Outcome = notify.Refused
	}
	return a
}

// replyCode is the SMTP reply that err carries, or 0: the connection broke.
func replyCode(err error) int {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return reply.Code
	}
	return 0
}
