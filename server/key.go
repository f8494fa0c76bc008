package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/store"
)

// keys are what the server signs with: the online roles and the ledger.
type keys struct {
	online *keyring
	ledger *ledgerKeys
}

// loadKeys reads the server's keys, making what is missing. Servers on one
// database share one set: it is copied by hand.
func loadKeys(dir string, log *slog.Logger) (k keys, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return k, fmt.Errorf("make key folder: %w", err)
	}
	if k.online, err = openKeyring(dir, log); err != nil {
		return k, err
	}
	k.ledger = &ledgerKeys{dir: dir}
	if err := makeLedgerKey(k.ledger.present()); err != nil {
		return k, err
	}
	_, _, err = k.ledger.read()
	return k, err
}

// adminName is the name of the first operator token.
const adminName = "admin"

// firstToken makes the first operator token. The file is written before the
// database knows the token, so that a crash in between loses nothing.
func (s *Server) firstToken(ctx context.Context) error {
	path := filepath.Join(s.cfg.Data, "operator.token")
	all, err := s.store.ListTokens(ctx)
	if err != nil {
		return fmt.Errorf("first token: %w", err)
	}
	for _, t := range all {
		if t.Name == adminName {
			return nil
		}
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		token, _ := newToken(prefixAccess)
		b, err = []byte(token+"\n"), atomicfile.Write(path, []byte(token+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("first token: %w", err)
	}
	hash, err := hashToken(prefixAccess, strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("first token in %s: %w", path, err)
	}
	_, err = s.store.AddToken(ctx, store.Token{Name: adminName, Scope: store.ScopeOperator}, hash, "server", s.cfg.Now())
	if errors.Is(err, store.ErrExists) {
		return nil // another server on the same database was faster
	}
	if err != nil {
		return fmt.Errorf("first token: %w", err)
	}
	s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "first operator token written", slog.String("file", path))
	return nil
}

// endpointToken is the bearer token of an endpoint.
func endpointToken(id string, secret []byte) string {
	return prefixEndpoint + strings.TrimPrefix(id, "E-") + "_" + base64.RawURLEncoding.EncodeToString(secret)
}
