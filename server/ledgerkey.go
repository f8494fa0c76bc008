package server

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"github.com/headgate/headgate/control"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/ledger"
)

// ledgerKeys are the keys on the disk that sign the ledger's checkpoints. Which of
// them is in force is said by the ledger alone, as it is by the published root for
// the online keys: the folder only follows.
type ledgerKeys struct {
	dir string
	mu  sync.Mutex // guards the folder, and is held while signing
}

// ledgerPair is a key in both forms of package note.
type ledgerPair struct {
	private string // secret
	public  string
	signer  note.Signer
}

func (k *ledgerKeys) present() string { return filepath.Join(k.dir, "ledger.key") }
func (k *ledgerKeys) next() string    { return filepath.Join(k.dir, "ledger.next.key") }

// makeLedgerKey makes a key unless the file is there. The public part beside it is
// for people.
func makeLedgerKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	private, public, err := note.GenerateKey(rand.Reader, ledger.Origin)
	if err != nil {
		return fmt.Errorf("make ledger key: %w", err)
	}
	return errors.Join(atomicfile.Write(path+".pub", []byte(public+"\n"), 0o644), atomicfile.Write(path, []byte(private+"\n"), 0o600))
}

// readLedgerKey reads a key; nil if there is none.
func readLedgerKey(path string) (*ledgerPair, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ledger key: %w", err)
	}
	p := &ledgerPair{private: strings.TrimSpace(string(b))}
	if p.signer, err = note.NewSigner(p.private); err != nil || p.signer.Name() != ledger.Origin {
		return nil, fmt.Errorf("ledger key %s: malformed", path) // the cause would hold the key
	}
	if p.public, err = publicOf(p.private); err != nil {
		return nil, fmt.Errorf("ledger key %s: malformed", path)
	}
	return p, nil
}

// publicOf makes the public form of "PRIVATE+KEY+name+hash+base64(1 | seed)".
func publicOf(private string) (string, error) {
	f := strings.SplitN(private, "+", 5)
	if len(f) != 5 {
		return "", errors.New("want five fields")
	}
	data, err := base64.StdEncoding.DecodeString(f[4])
	if err != nil || len(data) != 1+ed25519.SeedSize {
		return "", errors.New("not an Ed25519 key")
	}
	return note.NewEd25519VerifierKey(ledger.Origin, ed25519.NewKeyFromSeed(data[1:]).Public().(ed25519.PublicKey))
}

// read reads the present key, and the next one if there is one.
func (k *ledgerKeys) read() (present, next *ledgerPair, err error) {
	// The next first: a key that is moved meanwhile is seen in either place.
	if next, err = readLedgerKey(k.next()); err != nil {
		return nil, nil, err
	}
	if present, err = readLedgerKey(k.present()); err == nil && present == nil {
		err = fmt.Errorf("read ledger key %s: %w", k.present(), fs.ErrNotExist)
	}
	return present, next, err
}

// last is the newest handover; zero if there was none.
func (s *Server) lastHandover(ctx context.Context) (h ledger.Handover, err error) {
	all, err := s.store.Handovers(ctx)
	if err != nil || len(all) == 0 {
		return h, err
	}
	return all[len(all)-1], nil
}

// checkpoint signs the ledger's head.
func (s *Server) checkpoint(ctx context.Context) error {
	s.keys.ledger.mu.Lock()
	defer s.keys.ledger.mu.Unlock()
	return s.signHead(ctx)
}

// signHead signs the ledger's head with the key that the ledger names. While it is
// handed over, both keys sign: the old one's word for the new one.
func (s *Server) signHead(ctx context.Context) error {
	k := s.keys.ledger
	present, next, err := k.read()
	if err != nil {
		return err
	}
	h, err := s.lastHandover(ctx)
	if err != nil {
		return err
	}
	switch {
	case h.Key == "" || h.Key == present.public:
		return control.SignCheckpoint(ctx, s.store, s.cfg.Now(), present.signer)
	case next == nil || h.Key != next.public || h.Before != present.public:
		return fmt.Errorf("the ledger names a key that is not in %s: copy ledger.key from the server that has it (%s)", k.dir, h.Key)
	}
	if err := control.SignCheckpoint(ctx, s.store, s.cfg.Now(), present.signer, next.signer); err != nil {
		return err
	}
	return s.settleLedgerKey(ctx, present, next)
}

// settleLedgerKey puts the new key in the old one's place, once a checkpoint carries
// the word of both.
func (s *Server) settleLedgerKey(ctx context.Context, present, next *ledgerPair) error {
	k := s.keys.ledger
	for _, p := range []*ledgerPair{present, next} {
		newest, err := s.store.LatestCheckpoint(ctx)
		if err != nil {
			return err
		}
		v, err := note.NewVerifier(p.public)
		if err != nil {
			return fmt.Errorf("ledger key: %w", err)
		}
		if _, err := ledger.OpenCheckpoint(newest.Note, v); err != nil {
			return nil //nolint:nilerr // another server signed it just before: the next one will do
		}
	}
	retired := filepath.Join(k.dir, retiredKeys, fmt.Sprintf("ledger-%08x.key", present.signer.KeyHash()))
	if err := os.MkdirAll(filepath.Dir(retired), 0o700); err != nil {
		return fmt.Errorf("retire the ledger's old key: %w", err)
	}
	for _, suffix := range []string{".pub", ""} { // the private key goes last
		if err := os.Link(k.present()+suffix, retired+suffix); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("retire the ledger's old key: %w", err)
		}
		if err := os.Rename(k.next()+suffix, k.present()+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put the ledger's new key in its place: %w", err)
		}
	}
	s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "ledger's key rotated", slog.String("before", present.public), slog.String("key", next.public))
	return errors.Join(atomicfile.SyncDir(filepath.Dir(retired)), atomicfile.SyncDir(k.dir))
}

// rotateLedgerKey makes the next key, unless one waits, has the ledger name it and
// the old one sign for it. A repeat after a crash goes on where that was.
func (s *Server) rotateLedgerKey(ctx context.Context, actor string) (before, key string, err error) {
	k := s.keys.ledger
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := makeLedgerKey(k.next()); err != nil {
		return "", "", err
	}
	present, next, err := k.read()
	if err != nil {
		return "", "", err
	}
	if err := s.store.HandLedgerOver(ctx, ledger.Handover{Before: present.public, Key: next.public}, actor, s.cfg.Now()); err != nil {
		return "", "", err
	}
	return present.public, next.public, s.signHead(ctx)
}

// ledgerPublic is the key in force, as the ledger names it.
func (s *Server) ledgerPublic(ctx context.Context) (string, error) {
	h, err := s.lastHandover(ctx)
	if err != nil || h.Key != "" {
		return h.Key, err
	}
	present, _, err := s.keys.ledger.read()
	if err != nil {
		return "", err
	}
	return present.public, nil
}
