package tuf

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/headgate/headgate/internal/atomicfile"
)

// maxKeyFile is the largest key file in bytes.
const maxKeyFile = 16 << 10

// Signer signs metadata: a *Key, or a hardware token behind the same two calls.
type Signer interface {
	Public() PublicKey
	// Sign gives the raw signature of message by the key's scheme.
	Sign(message []byte) ([]byte, error)
}

// Key is an Ed25519 signing key.
type Key struct {
	private ed25519.PrivateKey
	public  PublicKey
}

// PublicKey is a TUF key object (TUF 4.2.2). The zero value is no key.
type PublicKey struct {
	id  string
	hex string // Ed25519 public key
}

// NewKey makes a key from the system's randomness.
func NewKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return keyOf(private)
}

func keyOf(private ed25519.PrivateKey) (*Key, error) {
	public, err := publicOf(private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return &Key{private: private, public: public}, nil
}

func publicOf(k ed25519.PublicKey) (PublicKey, error) {
	obj, err := metadata.KeyFromPublicKey(k)
	if err != nil {
		return PublicKey{}, fmt.Errorf("key object: %w", err)
	}
	id, err := obj.ID()
	if err != nil {
		return PublicKey{}, fmt.Errorf("key id: %w", err)
	}
	return PublicKey{id: id, hex: hex.EncodeToString(k)}, nil
}

// Public gives the public part.
func (k *Key) Public() PublicKey { return k.public }

// ID is the key id (TUF 4.2.2).
func (k *Key) ID() string { return k.public.id }

// Sign gives the Ed25519 signature of message.
func (k *Key) Sign(message []byte) ([]byte, error) {
	return ed25519.Sign(k.private, message), nil
}

// ID is the key id (TUF 4.2.2): SHA-256 of the canonical key object, in hex.
// It is empty for no key.
func (p PublicKey) ID() string { return p.id }

// IsZero tells whether there is no key.
func (p PublicKey) IsZero() bool { return p.id == "" }

// Ed25519 is the key itself; nil for no key.
func (p PublicKey) Ed25519() ed25519.PublicKey {
	b, err := hex.DecodeString(p.hex)
	if err != nil {
		panic("tuf: a public key is not hex: ParsePublic let it through")
	}
	return b
}

// Verify checks a raw signature of message.
func (p PublicKey) Verify(message, signature []byte) error {
	if p.IsZero() || !ed25519.Verify(p.Ed25519(), message, signature) {
		return fmt.Errorf("signature of key %s does not hold: %w", p.id, ErrKey)
	}
	return nil
}

func (p PublicKey) tuf() *metadata.Key {
	return &metadata.Key{
		Type: metadata.KeyTypeEd25519, Scheme: metadata.KeySchemeEd25519,
		Value: metadata.KeyVal{PublicKey: p.hex},
	}
}

// MarshalJSON writes the TUF key object.
func (p PublicKey) MarshalJSON() ([]byte, error) { return json.Marshal(p.tuf()) }

// UnmarshalJSON reads a TUF key object; only Ed25519 is taken.
func (p *PublicKey) UnmarshalJSON(b []byte) error {
	got, err := ParsePublic(b)
	if err != nil {
		return err
	}
	*p = got
	return nil
}

// ParsePublic reads a TUF key object in JSON. Errors wrap ErrKey.
func ParsePublic(b []byte) (PublicKey, error) {
	if len(b) > maxKeyFile {
		return PublicKey{}, fmt.Errorf("public key: %d bytes, limit %d: %w", len(b), maxKeyFile, ErrKey)
	}
	var k metadata.Key
	if err := json.Unmarshal(b, &k); err != nil {
		return PublicKey{}, fmt.Errorf("public key: want a TUF key object in JSON: %w: %w", err, ErrKey)
	}
	return publicFrom(&k)
}

func publicFrom(k *metadata.Key) (PublicKey, error) {
	if k == nil || k.Type != metadata.KeyTypeEd25519 || k.Scheme != metadata.KeySchemeEd25519 {
		return PublicKey{}, fmt.Errorf("public key: want keytype and scheme ed25519: %w", ErrKey)
	}
	raw, err := hex.DecodeString(k.Value.PublicKey)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return PublicKey{}, fmt.Errorf("public key: want %d bytes in hex: %w", ed25519.PublicKeySize, ErrKey)
	}
	return publicOf(raw)
}

// SaveKey writes the private key to path (PKCS#8 in PEM, mode 0600, with a line
// that says what it is) and the public part, a TUF key object, to path+".pub".
// It refuses to replace a file.
func SaveKey(path string, k *Key) error {
	for _, p := range []string{path, path + ".pub"} {
		if _, err := os.Lstat(p); err == nil {
			return fmt.Errorf("save key: %s exists already: %w", p, os.ErrExist)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return fmt.Errorf("save key %s: %w", path, err)
	}
	text := "Headgate signing key " + k.ID() + " (Ed25519). Whoever has this file can sign with it.\n" +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err := atomicfile.Write(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("save key: %w", err)
	}
	public, err := json.Marshal(k.public)
	if err != nil {
		return fmt.Errorf("save key %s: %w", path, err)
	}
	if err := atomicfile.Write(path+".pub", append(public, '\n'), 0o644); err != nil {
		return fmt.Errorf("save public key: %w", err)
	}
	return nil
}

// LoadKey reads what SaveKey wrote.
func LoadKey(path string) (*Key, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	k, err := ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("load key %s: %w", path, err)
	}
	return k, nil
}

// ParseKey reads a private key: PKCS#8 in PEM. Errors wrap ErrKey and never
// quote the input.
func ParseKey(b []byte) (*Key, error) {
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("%d bytes, limit %d: %w", len(b), maxKeyFile, ErrKey)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("want a PEM block \"PRIVATE KEY\": %w", ErrKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("want PKCS#8: %w", ErrKey)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("want an Ed25519 key, got %T: %w", parsed, ErrKey)
	}
	return keyOf(private)
}

// LoadPublic reads the public part that SaveKey wrote beside the key.
func LoadPublic(path string) (PublicKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return PublicKey{}, fmt.Errorf("load public key: %w", err)
	}
	p, err := ParsePublic(b)
	if err != nil {
		return PublicKey{}, fmt.Errorf("load public key %s: %w", path, err)
	}
	return p, nil
}
