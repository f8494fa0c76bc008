package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/headgate/headgate/control"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/notify/smtp"
	psirtintake "github.com/headgate/headgate/psirt/intake"
	"github.com/headgate/headgate/server/intake"
)

// OutgoingMail says by which mail server the server sends.
type OutgoingMail struct {
	// Host and Port are the mail server's. Required.
	Host string `json:"host"`
	Port int    `json:"port"`
	// From is the address that mail comes from, and that bounces return to. Required.
	From string `json:"from"`
	// TLS is "starttls" (required, not merely tried), "implicit" or, for a server on
	// this machine, "none". Default "starttls".
	TLS smtp.TLS `json:"tls,omitempty"`
	// User and PasswordFile are for authentication; without a user there is none.
	User         string `json:"user,omitempty"`
	PasswordFile string `json:"password_file,omitempty"`
	// SignKeyFile holds the OpenPGP secret key, in armour and without a passphrase, that
	// signs letters to reporters and calls; empty signs nothing.
	SignKeyFile string `json:"sign_key_file,omitempty"`
}

func (c OutgoingMail) sender(now time.Time) (*smtp.Sender, error) {
	o := smtp.Config{Host: c.Host, Port: c.Port, From: c.From, TLS: c.TLS, User: c.User}
	if o.TLS == "" {
		o.TLS = smtp.StartTLS
	}
	if c.PasswordFile != "" {
		b, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("read outgoing_mail.password_file: %w", err)
		}
		o.Password = strings.TrimSpace(string(b))
	}
	var err error
	if o.Sign, err = signKey(c.SignKeyFile, now); err != nil {
		return nil, fmt.Errorf("configuration: outgoing_mail: sign_key_file: %w", err)
	}
	s, err := smtp.New(o)
	if err != nil {
		return nil, fmt.Errorf("configuration: outgoing_mail: %w", err)
	}
	return s, nil
}

// The paces of the loops about reports.
const (
	dutyEvery = 10 * time.Second
	stopMail  = 5 * time.Second
)

// door makes the open door, if the configuration has one.
func (s *Server) door() (*intake.Door, error) {
	if s.cfg.Intake == nil {
		return nil, nil
	}
	dir := filepath.Join(s.cfg.Data, "keys")
	secret, err := pageSecret(filepath.Join(dir, "report.key"))
	if err != nil {
		return nil, err
	}
	d := &intake.Door{Reports: s.store, Secret: secret, Now: s.cfg.Now, Log: s.cfg.Log}
	// The address is known once the listener is: a port of 0 takes a free one.
	if d.Config, err = s.cfg.Intake.Complete(s.URL()); err != nil {
		return nil, err
	}
	path := d.Config.KeyFile
	if path == "" {
		path = filepath.Join(dir, "openpgp.asc")
	}
	d.Key, err = reportKey(path, d.Config, s.cfg.Now())
	return d, err
}

// pageSecret reads what reporters' secrets are derived from, and makes it at the
// first start.
func pageSecret(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret := intake.NewSecret()
		return secret, atomicfile.Write(path, []byte(hex.EncodeToString(secret)+"\n"), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("read the secret of reports' pages: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(secret) != secretBytes {
		return nil, fmt.Errorf("secret of reports' pages %s: want %d bytes in hex", path, secretBytes)
	}
	return secret, nil
}

// reportKey reads the OpenPGP key that reports are encrypted to, and makes it at
// the first start.
func reportKey(path string, c intake.Config, now time.Time) (psirtintake.Key, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return psirtintake.ReadKey(b)
	}
	if !errors.Is(err, fs.ErrNotExist) || c.KeyFile != "" {
		return psirtintake.Key{}, fmt.Errorf("read the OpenPGP key of reports: %w", err)
	}
	k, err := psirtintake.NewKey(c.Name+" product security", keyAddress(c), now)
	if err != nil {
		return k, err
	}
	armour, err := k.Armour()
	if err != nil {
		return k, fmt.Errorf("write the OpenPGP key of reports: %w", err)
	}
	return k, atomicfile.Write(path, []byte(armour+"\n"), 0o600)
}

// keyAddress is the mail address in the key's user id, so that mail software finds
// the key; without one there is none.
func keyAddress(c intake.Config) string {
	if c.Mail != nil {
		return c.Mail.To[0]
	}
	for _, u := range c.Contact {
		if a, ok := strings.CutPrefix(u, "mailto:"); ok {
			if _, err := mail.ParseAddress(a); err == nil {
				return a
			}
		}
	}
	return ""
}

// openDoor starts what takes reports in and answers for them, after the listener
// is bound and before it serves.
func (s *Server) openDoor(ctx context.Context) (err error) {
	every, now, log := s.cfg.DecideEvery.Std(), s.cfg.Now, s.cfg.Log
	s.watchman = &control.Watchman{Anomalies: s.store, Every: every, Now: now, Log: log}
	s.duty = &control.Duty{Calls: s.store, Every: dutyEvery, Now: now, Log: log}
	door, err := s.door()
	if err != nil {
		return err
	}
	if err := s.wirePost(door); err != nil || door == nil {
		return err
	}
	s.opened = door
	door.Mount(s.mux)
	if door.Config.Mail != nil {
		return s.takeMail(ctx, door)
	}
	return nil
}

// takeMail listens for mail until ctx ends.
func (s *Server) takeMail(ctx context.Context, door *intake.Door) error {
	l, err := net.Listen("tcp", door.Config.Mail.Listen)
	if err != nil {
		return fmt.Errorf("listen for mail on %s: %w", door.Config.Mail.Listen, err)
	}
	s.mailAddr = l.Addr().String()
	cert := &s.cert
	if s.cfg.InsecureHTTP {
		cert = nil
	}
	server := door.MailServer(cert)
	s.loops.Go(func() {
		if err := server.Serve(l); err != nil && ctx.Err() == nil {
			s.cfg.Log.LogAttrs(ctx, slog.LevelError, "mail listener failed", slog.Any("err", err))
		}
	})
	s.loops.Go(func() {
		<-ctx.Done()
		// A mail that is being kept is kept; one that is still coming in is sent again.
		graceful, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopMail)
		defer cancel()
		if server.Shutdown(graceful) != nil {
			server.Close()
		}
	})
	return nil
}

// MailAddr is the address that mail is taken on; empty if none is.
func (s *Server) MailAddr() string { return s.mailAddr }
