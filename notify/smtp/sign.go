package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/gopenpgp/v3/armor"
	"github.com/ProtonMail/gopenpgp/v3/constants"
	"github.com/ProtonMail/gopenpgp/v3/crypto"

	"github.com/headgate/headgate/notify"
)

// ParseSigner reads an armored OpenPGP secret key that mail can be signed with at now:
// without a passphrase, and neither expired nor revoked.
func ParseSigner(armored string, now time.Time) (*crypto.Key, error) {
	if len(armored) > maxKey {
		return nil, fmt.Errorf("OpenPGP key of %d bytes, limit %d", len(armored), maxKey)
	}
	k, err := crypto.NewKeyFromArmored(armored)
	if err != nil {
		return nil, fmt.Errorf("OpenPGP key: %w", err)
	}
	if open, err := k.IsUnlocked(); err != nil || !open {
		return nil, fmt.Errorf("OpenPGP key %s: no secret key, or one with a passphrase", k.GetFingerprint())
	}
	if k.IsExpired(now.Unix()) || k.IsRevoked(now.Unix()) {
		return nil, fmt.Errorf("OpenPGP key %s: it is expired or revoked", k.GetFingerprint())
	}
	return k, nil
}

// composeSigned makes a PGP/MIME message with a detached signature (RFC 3156 5): who
// has no OpenPGP reads it as any other mail.
func (s *Sender) composeSigned(p notify.Parcel) (io.WriterTo, error) {
	part := entity(p.Message)
	signature, hash, err := s.detached(part)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	// The part as it was signed, to the byte: a multipart.Writer would write its
	// headers anew, in an order of its own. The line break before the next boundary
	// does not belong to it (RFC 2046 5.1.1).
	fmt.Fprintf(&body, "--%s\r\n%s\r\n", w.Boundary(), part)
	fmt.Fprintf(&body, "--%s\r\nContent-Type: application/pgp-signature; name=\"signature.asc\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n%s\r\n--%s--\r\n", w.Boundary(), signature, w.Boundary())
	kind := fmt.Sprintf(`multipart/signed; micalg=%s; protocol="application/pgp-signature"; boundary=%s`, hash, w.Boundary())
	return s.whole(p, mime.QEncoding.Encode("utf-8", p.Message.Subject), kind, body.Bytes()), nil
}

// whole is a message of a body that is assembled already.
func (s *Sender) whole(p notify.Parcel, subject, kind string, body []byte) io.WriterTo {
	var b bytes.Buffer
	for name, value := range oneByOne(
		"From", "<"+s.c.From+">", "To", "<"+p.Address+">", "Subject", subject,
		"Date", p.Created.UTC().Format(time.RFC1123Z), "Message-ID", "<"+p.MessageID+">", "Auto-Submitted", "auto-generated",
		"MIME-Version", "1.0", "Content-Type", kind,
	) {
		// A line has at most 998 bytes (RFC 5322 2.1.1), and a long subject more words.
		b.WriteString(name + ": " + strings.ReplaceAll(value, "?= =?", "?=\r\n =?") + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return &b
}

// detached signs a MIME entity, and names the hash as micalg does.
func (s *Sender) detached(part []byte) (armored, micalg string, err error) {
	h, err := crypto.PGP().Sign().SigningKey(s.c.Sign).Detached().New()
	if err != nil {
		return "", "", fmt.Errorf("sign by %s: %w", s.c.Sign.GetFingerprint(), err)
	}
	raw, err := h.Sign(part, crypto.Bytes)
	if err != nil {
		return "", "", fmt.Errorf("sign by %s: %w", s.c.Sign.GetFingerprint(), err)
	}
	of, err := packet.Read(bytes.NewReader(raw))
	if err != nil {
		return "", "", fmt.Errorf("read our own signature: %w", err)
	}
	made, ok := of.(*packet.Signature)
	if !ok {
		return "", "", errors.New("read our own signature: it is none")
	}
	if armored, err = armor.ArmorWithType(raw, constants.PGPSignatureHeader); err != nil {
		return "", "", fmt.Errorf("armor: %w", err)
	}
	return crlf(armored), "pgp-" + strings.ToLower(strings.ReplaceAll(made.Hash.String(), "-", "")), nil
}
