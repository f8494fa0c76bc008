package server

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/gopenpgp/v3/crypto"

	"github.com/headgate/headgate/control"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/notify/smtp"
	"github.com/headgate/headgate/notify/webhook"
	"github.com/headgate/headgate/store"
)

// MailConfig says by which server notices are mailed.
type MailConfig struct {
	// Host and Port are the mail server's. Required.
	Host string `json:"host"`
	Port int    `json:"port"`
	// From is the sender's address; bounces return to it. Required.
	From string `json:"from"`
	// TLS is "starttls" (the default), "implicit", or "none" for a relay on this
	// machine.
	TLS smtp.TLS `json:"tls,omitempty"`
	// CAFile holds the authorities of the mail server's certificate, in PEM; empty is
	// the system's.
	CAFile string `json:"ca_file,omitempty"`
	// User is for AUTH, with the password in PasswordFile; no user is none.
	User         string `json:"user,omitempty"`
	PasswordFile string `json:"password_file,omitempty"`
	// SignKeyFile holds the OpenPGP secret key, in armour and without a passphrase, that
	// signs what is mailed; empty signs nothing.
	SignKeyFile string `json:"sign_key_file,omitempty"`
	// Hello is the name given in EHLO. Default: the domain of From.
	Hello string `json:"hello,omitempty"`
	// Timeout is for each command; the answer to the whole message is waited for ten
	// times as long. Default 1m, as RFC 5321 4.5.3.2 has it.
	Timeout span.Duration `json:"timeout,omitzero"`
}

// WebhookConfig says which webhooks may be reached beyond the public internet.
type WebhookConfig struct {
	// Allow are address ranges ("10.1.0.0/16") of receivers in your own network.
	Allow []string `json:"allow,omitempty"`
	// CAFile holds authorities of receivers' certificates besides the system's, in
	// PEM.
	CAFile string `json:"ca_file,omitempty"`
}

// transports makes what the courier sends with.
func (c Config) transports() (map[notify.Channel]control.Transport, error) {
	var allow []netip.Prefix
	for _, s := range c.Webhooks.Allow {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("configuration: webhooks: allow: %w", err)
		}
		allow = append(allow, p.Masked())
	}
	roots, err := authorities(c.Webhooks.CAFile)
	if err != nil {
		return nil, fmt.Errorf("configuration: webhooks: ca_file: %w", err)
	}
	out := map[notify.Channel]control.Transport{
		notify.Webhook: webhook.New(webhook.Config{Allow: allow, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Now: c.Now}),
	}
	if c.Mail == nil {
		return out, nil
	}
	m := smtp.Config{Host: c.Mail.Host, Port: c.Mail.Port, From: c.Mail.From, TLS: c.Mail.TLS, User: c.Mail.User, Hello: c.Mail.Hello, Timeout: c.Mail.Timeout.Std()}
	or(&m.TLS, smtp.StartTLS)
	if roots, err = authorities(c.Mail.CAFile); err != nil {
		return nil, fmt.Errorf("configuration: mail: ca_file: %w", err)
	}
	m.TLSConfig = &tls.Config{RootCAs: roots, ServerName: m.Host, MinVersion: tls.VersionTLS12}
	if c.Mail.PasswordFile != "" {
		b, err := os.ReadFile(c.Mail.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("configuration: mail: password_file: %w", err)
		}
		m.Password = strings.TrimSpace(string(b))
	}
	if m.Sign, err = signKey(c.Mail.SignKeyFile, c.Now()); err != nil {
		return nil, fmt.Errorf("configuration: mail: sign_key_file: %w", err)
	}
	sender, err := smtp.New(m)
	if err != nil {
		return nil, fmt.Errorf("configuration: mail: %w", err)
	}
	out[notify.Email] = sender
	return out, nil
}

// signKey reads the key that mail is signed by; nil if there is none.
func signKey(path string, now time.Time) (*crypto.Key, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k, err := smtp.ParseSigner(string(b), now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// authorities reads a file of certificates on top of the system's; nil is the
// system's alone.
func authorities(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return pool, nil
}

// letterhead is what the server's notices carry. The key is made at the first
// start and stays: with another one, marks of older notices cannot be traced.
// Servers on one database share it.
func (c Config) letterhead() (l store.Letterhead, err error) {
	path := filepath.Join(c.Data, "keys", "notice-mark.key")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var key [32]byte
		rand.Read(key[:]) // never fails: it aborts the program instead
		b = []byte(base64.StdEncoding.EncodeToString(key[:]) + "\n")
		err = atomicfile.Write(path, b, 0o600)
	}
	if err != nil {
		return l, fmt.Errorf("key of notices' marks: %w", err)
	}
	if l.MarkKey, err = base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(b))); err != nil || len(l.MarkKey) != 32 {
		return l, fmt.Errorf("key of notices' marks %s: malformed", path)
	}
	l.Domain = "headgate.invalid" // RFC 6761: certainly nobody's, where no mail is sent
	if c.Mail != nil {
		_, l.Domain, _ = strings.Cut(c.Mail.From, "@")
	}
	return l, nil
}

// wireNotices makes the loops that tell tenants.
func (s *Server) wireNotices() error {
	c := s.cfg
	transports, err := c.transports()
	if err != nil {
		return err
	}
	if s.letterhead, err = c.letterhead(); err != nil {
		return err
	}
	s.courier = &control.Courier{
		Outbox: s.store, Transports: transports, Holder: ids.Format("S", ids.Random()), Grace: c.StopGrace.Std() / 2, Now: c.Now, Log: c.Log,
	}
	s.herald = &control.Herald{
		Notices: s.store, Policy: notify.DefaultPolicy(), Letterhead: s.letterhead, As: store.Engine("herald"),
		Every: c.DecideEvery.Std(), Now: c.Now, Log: c.Log, Queued: s.courier.Wake,
	}
	return nil
}
