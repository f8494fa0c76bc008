package intake

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/gopenpgp/v3/constants"
	"github.com/ProtonMail/gopenpgp/v3/crypto"
	"github.com/ProtonMail/gopenpgp/v3/profile"
)

// maxKey is the largest OpenPGP key that is read, bytes.
const maxKey = 256 << 10

// maxPlain is how much a decrypted or decompressed message may hold, bytes.
const maxPlain = 64 << 20

// pgp keeps to RFC 4880, which every correspondent's software reads.
func pgp() *crypto.PGPHandle { return crypto.PGPWithProfile(profile.RFC4880()) }

// Key is our own OpenPGP key: it opens what was encrypted to us and signs what
// we publish. It is safe for concurrent use.
type Key struct{ key *crypto.Key }

// NewKey makes a key that does not expire, in RFC 4880's Ed25519 and X25519.
func NewKey(name, email string, now time.Time) (Key, error) {
	k, err := pgp().KeyGeneration().AddUserId(name, email).GenerationTime(now.Unix()).
		OverrideProfileAlgorithm(crypto.KeyGenerationCurve25519Legacy).New().GenerateKey()
	if err != nil {
		return Key{}, fmt.Errorf("make OpenPGP key: %w", err)
	}
	return Key{k}, nil
}

// ReadKey reads a secret key in ASCII armour, without a passphrase.
func ReadKey(armoured []byte) (Key, error) {
	if len(armoured) > maxKey {
		return Key{}, fmt.Errorf("OpenPGP key: %d bytes, limit %d: %w", len(armoured), maxKey, ErrInvalid)
	}
	k, err := crypto.NewKeyFromArmored(string(armoured))
	if err != nil {
		return Key{}, fmt.Errorf("OpenPGP key: %w: %w", err, ErrInvalid)
	}
	if open, err := k.IsUnlocked(); err != nil || !open {
		return Key{}, fmt.Errorf("OpenPGP key %s: no secret key, or one with a passphrase: %w", k.GetFingerprint(), ErrInvalid)
	}
	return Key{k}, nil
}

// Armour is the secret key as ReadKey reads it.
func (k Key) Armour() (string, error) { return k.key.Armor() }

// Public is the public key in ASCII armour.
func (k Key) Public() (string, error) { return k.key.GetArmoredPublicKey() }

// Fingerprint names the key, in hex.
func (k Key) Fingerprint() string { return k.key.GetFingerprint() }

// SignClear signs a text so that it stays readable (RFC 4880 7).
func (k Key) SignClear(text []byte, now time.Time) ([]byte, error) {
	s, err := pgp().Sign().SigningKey(k.key).SignTime(now.Unix()).New()
	if err != nil {
		return nil, fmt.Errorf("sign by %s: %w", k.Fingerprint(), err)
	}
	// The line end before the signature belongs to it, not to the text (RFC 4880 7.1).
	out, err := s.SignCleartext(bytes.TrimSuffix(text, []byte("\n")))
	if err != nil {
		return nil, fmt.Errorf("sign by %s: %w", k.Fingerprint(), err)
	}
	return append(out, '\n'), nil
}

// EncryptTo encrypts and signs text to the owner of a public key in armour.
func (k Key) EncryptTo(public []byte, text []byte, now time.Time) ([]byte, error) {
	to, err := readPublic(public)
	if err != nil {
		return nil, err
	}
	e, err := pgp().Encryption().Recipient(to).SigningKey(k.key).EncryptionTime(now.Unix()).SignTime(now.Unix()).New()
	if err != nil {
		return nil, fmt.Errorf("encrypt to %s: %w", to.GetFingerprint(), err)
	}
	m, err := e.Encrypt(text)
	if err != nil {
		return nil, fmt.Errorf("encrypt to %s: %w", to.GetFingerprint(), err)
	}
	return m.ArmorBytes()
}

// readPublic reads one public key that can be encrypted to, in armour.
func readPublic(armoured []byte) (*crypto.Key, error) {
	if len(armoured) > maxKey {
		return nil, fmt.Errorf("OpenPGP public key: %d bytes, limit %d: %w", len(armoured), maxKey, ErrInvalid)
	}
	k, err := crypto.NewKeyFromArmored(string(armoured))
	if err != nil {
		return nil, fmt.Errorf("OpenPGP public key: %w: %w", err, ErrInvalid)
	}
	if k.IsPrivate() {
		return nil, fmt.Errorf("OpenPGP public key: it is a secret key: %w", ErrInvalid)
	}
	return k, nil
}

// Signature says what is known of a message's signature. A signature proves that
// two messages come from one hand; whose hand it is, it does not.
type Signature string

// What is known of a signature.
const (
	Unsigned    Signature = ""
	SignedBy    Signature = "valid"   // by the key that the message brought along
	SignedOther Signature = "unknown" // by a key that we do not have
	SignedBadly Signature = "bad"     // it does not match: changed on its way, or forged
)

// signed says what came of checking a signature.
func signed(err error, r *crypto.VerifyResult) (Signature, string) {
	var why crypto.SignatureVerificationError
	if err == nil {
		return SignedBy, fmt.Sprintf("%x", r.SignedByFingerprint())
	}
	if !errors.As(err, &why) {
		return SignedBadly, ""
	}
	switch why.Status {
	case constants.SIGNATURE_NOT_SIGNED:
		return Unsigned, ""
	case constants.SIGNATURE_NO_VERIFIER:
		return SignedOther, ""
	}
	return SignedBadly, ""
}

// keyring is the public keys that a message brought, at most a few.
func keyring(armoured [][]byte) *crypto.KeyRing {
	ring, err := crypto.NewKeyRing(nil)
	if err != nil {
		panic("intake: an empty key ring was refused: " + err.Error())
	}
	for _, a := range armoured[:min(len(armoured), 5)] {
		k, err := readPublic(a)
		if err != nil {
			continue // the file itself is kept; it is no key that we could use
		}
		if ring.AddKey(k) != nil {
			continue // likewise
		}
	}
	return ring
}

// open decrypts a message and checks its signature by the keys in armour.
func (k Key) open(message []byte, keys [][]byte, now time.Time) ([]byte, Signature, string, error) {
	if k.key == nil {
		return nil, "", "", errors.New("there is no key here to open it with")
	}
	d, err := pgp().Decryption().DecryptionKey(k.key).VerificationKeys(keyring(keys)).
		VerifyTime(now.Unix()).MaxDecompressedMessageSize(maxPlain).DisableAutomaticTextSanitize().New()
	if err != nil {
		return nil, "", "", err
	}
	r, err := d.Decrypt(message, crypto.Auto)
	if err != nil {
		return nil, "", "", err
	}
	if len(r.Bytes()) > maxPlain {
		return nil, "", "", fmt.Errorf("%d bytes of plain text, limit %d", len(r.Bytes()), maxPlain)
	}
	s, by := signed(r.SignatureError(), &r.VerifyResult)
	return r.Bytes(), s, by, nil
}

// checkDetached checks a detached signature over data.
func checkDetached(data, signature []byte, keys [][]byte, now time.Time) (Signature, string) {
	v, err := pgp().Verify().VerificationKeys(keyring(keys)).VerifyTime(now.Unix()).New()
	if err != nil {
		return SignedBadly, ""
	}
	r, err := v.VerifyDetached(data, signature, crypto.Auto)
	if err != nil {
		return SignedBadly, ""
	}
	return signed(r.SignatureError(), r)
}

// checkClear checks a text that was signed so that it stays readable, and
// returns what is signed.
func checkClear(message []byte, keys [][]byte, now time.Time) ([]byte, Signature, string) {
	v, err := pgp().Verify().VerificationKeys(keyring(keys)).VerifyTime(now.Unix()).New()
	if err != nil {
		return nil, SignedBadly, ""
	}
	r, err := v.VerifyCleartext(message)
	if err != nil {
		return nil, SignedBadly, ""
	}
	s, by := signed(r.SignatureError(), &r.VerifyResult)
	return r.Cleartext(), s, by
}

// The lines that begin and end OpenPGP in a text.
const (
	beginMessage = "-----BEGIN PGP MESSAGE-----"
	endMessage   = "-----END PGP MESSAGE-----"
	beginSigned  = "-----BEGIN PGP SIGNED MESSAGE-----"
	endSigned    = "-----END PGP SIGNATURE-----"
	beginPublic  = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	endPublic    = "-----END PGP PUBLIC KEY BLOCK-----"
)

// armoured finds the first block between two such lines, both included.
func armoured(text []byte, begin, end string) (from, to int, ok bool) {
	from = bytes.Index(text, []byte(begin))
	if from < 0 {
		return 0, 0, false
	}
	n := bytes.Index(text[from:], []byte(end))
	if n < 0 {
		return 0, 0, false
	}
	return from, from + n + len(end), true
}

// trimArmour removes the white space that mail software puts around lines.
func trimArmour(block []byte) []byte {
	lines := strings.Split(string(block), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}
