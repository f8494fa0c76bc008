package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"strings"
	"time"

	"github.com/ProtonMail/gopenpgp/v3/crypto"
	mail "github.com/wneessen/go-mail"

	"github.com/headgate/headgate/notify"
)

// maxKey is the largest OpenPGP key that is read, armored, in bytes.
const maxKey = 256 << 10

// ParseKey reads an armored OpenPGP public key, and refuses one that mail cannot
// be encrypted to at now: expired, revoked, or without a key for encryption.
func ParseKey(armored string, now time.Time) (*crypto.Key, error) {
	if len(armored) > maxKey {
		return nil, fmt.Errorf("OpenPGP key of %d bytes, limit %d", len(armored), maxKey)
	}
	k, err := crypto.NewKeyFromArmored(armored)
	if err != nil {
		return nil, fmt.Errorf("OpenPGP key: %w", err)
	}
	if k.IsPrivate() {
		return nil, errors.New("OpenPGP key: it is a private key; give the public one, and think of this one as known to others")
	}
	if !k.CanEncrypt(now.Unix()) {
		return nil, fmt.Errorf("OpenPGP key %s: nothing can be encrypted to it: it is expired or revoked, or only for signing", k.GetFingerprint())
	}
	return k, nil
}

// compose makes the mail. The same parcel makes the same headers on every
// attempt; only an encrypted body differs, as ciphertext does.
func (s *Sender) compose(p notify.Parcel) (io.WriterTo, error) {
	if err := CheckAddress(p.Address); err != nil {
		return nil, err
	}
	switch {
	case p.Key != "":
		return s.composeEncrypted(p)
	case s.c.Sign != nil:
		return s.composeSigned(p)
	}
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := m.From(s.c.From); err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	if err := m.To(p.Address); err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	m.SetMessageIDWithValue(p.MessageID)
	m.SetDateWithValue(p.Created.UTC())
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no holiday replies
	m.Subject(p.Message.Subject)
	m.SetBodyString(mail.TypeTextPlain, p.Message.Body)
	return m, nil
}

// composeEncrypted makes a PGP/MIME message (RFC 3156 4). Its subject is not
// encrypted, so that it says nothing; the true one is inside. It is assembled
// here, because go-mail 0.8.1 writes armor as quoted-printable and leaves out the
// last boundary.
func (s *Sender) composeEncrypted(p notify.Parcel) (io.WriterTo, error) {
	armored, err := s.encrypt(p)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for kind, text := range oneByOne("application/pgp-encrypted", "Version: 1\r\n", "application/octet-stream", armored) {
		part, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {kind}, "Content-Transfer-Encoding": {"7bit"}})
		if err == nil {
			_, err = io.WriteString(part, text)
		}
		if err != nil {
			return nil, fmt.Errorf("assemble: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("assemble: %w", err)
	}
	kind := `multipart/encrypted; protocol="application/pgp-encrypted"; boundary=` + w.Boundary()
	return s.whole(p, mime.QEncoding.Encode("utf-8", p.Message.Opaque), kind, body.Bytes()), nil
}

// oneByOne yields pairs in the order given.
func oneByOne(pairs ...string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if !yield(pairs[i], pairs[i+1]) {
				return
			}
		}
	}
}

// encrypt encrypts the MIME entity that the reader shall see.
func (s *Sender) encrypt(p notify.Parcel) (string, error) {
	key, err := ParseKey(p.Key, time.Now())
	if err != nil {
		return "", err
	}
	b := crypto.PGP().Encryption().Recipient(key)
	if s.c.Sign != nil {
		b = b.SigningKey(s.c.Sign)
	}
	h, err := b.New()
	if err != nil {
		return "", fmt.Errorf("encrypt to %s: %w", key.GetFingerprint(), err)
	}
	sealed, err := h.Encrypt(entity(p.Message))
	if err != nil {
		return "", fmt.Errorf("encrypt to %s: %w", key.GetFingerprint(), err)
	}
	armored, err := sealed.ArmorBytes()
	if err != nil {
		return "", fmt.Errorf("armor: %w", err)
	}
	return crlf(string(armored)), nil
}

// crlf ends each line as mail does.
func crlf(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
}

// entity is a text/plain MIME entity with the true subject among its headers,
// where mail programs look for it (protected-headers).
func entity(m notify.Message) []byte {
	var b strings.Builder
	b.WriteString("Content-Type: text/plain; charset=utf-8; protected-headers=\"v1\"\r\n")
	b.WriteString("Subject: " + mime.QEncoding.Encode("utf-8", m.Subject) + "\r\n")
	b.WriteString("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
	w := quotedprintable.NewWriter(&b)
	// A strings.Builder takes everything.
	_, _ = w.Write([]byte(strings.ReplaceAll(m.Body, "\n", "\r\n")))
	_ = w.Close()
	return []byte(b.String())
}

// CheckAddress refuses what is not one plain mail address of at most 254 bytes
// (RFC 5321 4.5.3.1.3): no name, no comment, no list, nothing that could add a
// header or a recipient.
func CheckAddress(a string) error {
	local, domain, ok := strings.Cut(a, "@")
	if !ok || local == "" || domain == "" || len(a) > 254 || strings.Contains(domain, "@") {
		return fmt.Errorf("mail address %q: want name@domain, at most 254 bytes", a)
	}
	for _, r := range a {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>()[]\,;:"`, r) {
			return fmt.Errorf("mail address %q: character %q is not taken", a, r)
		}
	}
	return nil
}
