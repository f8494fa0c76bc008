// Package store keeps everything that must outlive a process, in SQLite or
// PostgreSQL. It holds all SQL of Headgate: one text for both engines, with
// the few differences in dialect.go.
//
// It decides nothing: what may be granted, counted or moved is said by the
// record packages, inside the transaction that writes it down. Each fact is
// committed together with its ledger entry, or not at all.
package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"
)

// The errors that callers tell apart, with errors.Is.
var (
	// ErrNotFound: no such row.
	ErrNotFound = errors.New("not found")
	// ErrConflict: somebody else committed first; read again and decide again.
	ErrConflict = errors.New("changed meanwhile")
	// ErrExists: the name is taken by something else.
	ErrExists = errors.New("exists already")
	// ErrUnauthenticated: unknown endpoint, or not its token.
	ErrUnauthenticated = errors.New("unknown endpoint or wrong token")
	// ErrState: the rollout's state does not allow it.
	ErrState = errors.New("not possible in this state")
	// ErrInvalid: the input breaks a rule.
	ErrInvalid = errors.New("invalid")
)

// Hash is the SHA-256 of a token's secret: secrets are never stored.
type Hash = [32]byte

// InTx is work that a caller wants done in the store's own transaction, such
// as enqueuing a job; its error rolls the transaction back. It may be nil.
type InTx func(*sql.Tx) error

// Store is an open database. It is safe for concurrent use.
type Store struct {
	dialect dialect
	write   *sql.DB // SQLite: one connection
	read    *sql.DB
	log     *slog.Logger
}

// Open opens or creates the database and brings its schema up to date. dsn is
// "postgres://...", "sqlite:PATH", or the path of a SQLite file.
func Open(ctx context.Context, dsn string, log *slog.Logger) (*Store, error) {
	return nil, errUnbuilt
}

// Close closes the database.
func (s *Store) Close() error { return errUnbuilt }

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return errUnbuilt }

// DB is the pool that may write, for River's driver. With SQLite it has one
// connection: never hold it while calling the store.
func (s *Store) DB() *sql.DB { return s.write }

// Dialect is "sqlite" or "postgres".
func (s *Store) Dialect() string { return s.dialect.name }

var errUnbuilt = errors.New("store: not built yet")

type dialect struct{ name string }

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
