// Package store keeps everything that must outlive a process, in SQLite or
// PostgreSQL. It holds all SQL of Headgate: one text for both engines, with
// the few differences in dialect.go.
//
// It decides nothing: what may be granted, counted or moved is said by the
// record packages, inside the transaction that writes it down. Each fact is
// committed together with its ledger entry, or not at all.
//
// Locks are taken in one order: counter, repository or rollout rows (by id),
// then the ledger's head.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/headgate/headgate/rollout"
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
	ErrState = rollout.ErrState
	// ErrInvalid: the input breaks a rule.
	ErrInvalid = errors.New("invalid")
)

// Hash is the SHA-256 of a token's secret: secrets are never stored.
type Hash = [32]byte

// InTx is work that a caller wants done in the store's own transaction, such
// as enqueuing a job; its error rolls the transaction back. It may be nil. It
// may run more than once, when a transaction has to be tried again.
type InTx func(*sql.Tx) error

// Store is an open database. It is safe for concurrent use.
type Store struct {
	dialect dialect
	write   *sql.DB // SQLite: one connection
	read    *sql.DB // its transactions write nothing
	log     *slog.Logger

	// The hot path's statements: texts of the lists by length, and what was
	// prepared of them on the writing pool. Neither changes after Open.
	texts    map[*list][]string
	prepared map[string]*sql.Stmt

	folder  string      // of a SQLite file
	failing atomic.Bool // the last transaction that wrote failed by the database's fault

	identities *lru.Cache[int64, *identity]
	samples    *lru.Cache[string, *sample] // by product that is compared

	// trace, if not nil, is told each statement: a test compares the work that is
	// done for what may not be read with that for what is not there.
	trace func(text string)

	mu       sync.Mutex              // guards what follows
	segments map[string]parsedLabels // by an endpoint's labels as stored
	static   map[int64]*static       // what never changes of a rollout
	limits   map[limitsKey]*rollout.Limits
	// published are digests of releases, which never change.
	published map[ReleaseKey]string
}

// Open opens or creates the database and brings its schema up to date. dsn is
// "postgres://...", "sqlite:PATH", or the path of a SQLite file.
func Open(ctx context.Context, dsn string, log *slog.Logger) (*Store, error) {
	s := &Store{
		dialect: dialectOf(dsn), log: log,
		texts: map[*list][]string{}, prepared: map[string]*sql.Stmt{},
		identities: newIdentities(), samples: newSamples(), segments: map[string]parsedLabels{}, static: map[int64]*static{}, limits: map[limitsKey]*rollout.Limits{}, published: map[ReleaseKey]string{},
	}
	var err error
	if s.write, err = s.dialect.open(dsn, false); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if s.read, err = s.dialect.open(dsn, true); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), s.Close())
	}
	writers, readers := 8, max(4, runtime.NumCPU())
	if s.dialect.name == sqlite.name {
		writers = 1 // which is the engine's own limit
		s.folder = filepath.Dir(strings.TrimPrefix(dsn, "sqlite:"))
	}
	s.write.SetMaxOpenConns(writers)
	s.write.SetMaxIdleConns(writers)
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close closes the database.
func (s *Store) Close() error {
	var errs []error
	for _, st := range s.prepared {
		errs = append(errs, st.Close())
	}
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	errs = append(errs, s.write.Close())
	return errors.Join(errs...)
}

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var one int64
	if err := s.read.QueryRowContext(ctx, `SELECT 1`).Scan(&one); err != nil {
		return fmt.Errorf("ping database: %w", err)
	}
	return nil
}

// DB is the pool that may write, for River's driver. With SQLite it has one
// connection: never hold it while calling the store.
func (s *Store) DB() *sql.DB { return s.write }

// Dialect is "sqlite" or "postgres".
func (s *Store) Dialect() string { return s.dialect.name }

// conn runs statements in one transaction.
type conn struct {
	s  *Store
	db *sql.DB
	tx *sql.Tx
}

// inWrite runs f in a transaction that may write, and commits it if f returns
// nil. A transaction that only lost a race is tried again.
func (s *Store) inWrite(ctx context.Context, what string, f func(c conn) error) error {
	const tries = 10
	for try := 1; ; try++ {
		err := s.judged(s.once(ctx, s.write, nil, f))
		if err == nil {
			return nil
		}
		if try == tries || !retryable(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(time.Duration(rand.Int64N(int64(try) * int64(5*time.Millisecond)))):
		}
	}
}

// inRead runs f in a transaction that sees one state of the database.
func (s *Store) inRead(ctx context.Context, what string, f func(c conn) error) error {
	opts := &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}
	if s.dialect.name == sqlite.name {
		opts = nil // each of its transactions is a snapshot
	}
	if err := s.once(ctx, s.read, opts, f); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *Store) once(ctx context.Context, db *sql.DB, opts *sql.TxOptions, f func(c conn) error) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // after a commit it does nothing
	if err := f(conn{s, db, tx}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// hot finds the prepared statement of text, or nil.
func (c conn) hot(ctx context.Context, text string) *sql.Stmt {
	if c.s.trace != nil {
		c.s.trace(text)
	}
	if st := c.s.prepared[text]; st != nil && c.db == c.s.write {
		return c.tx.StmtContext(ctx, st)
	}
	return nil
}

// exec returns how many rows it changed.
func (c conn) exec(ctx context.Context, text string, args ...any) (int64, error) {
	var r sql.Result
	var err error
	if st := c.hot(ctx, text); st != nil {
		r, err = st.ExecContext(ctx, args...)
	} else {
		r, err = c.tx.ExecContext(ctx, text, args...)
	}
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (c conn) row(ctx context.Context, text string, args ...any) *sql.Row {
	if st := c.hot(ctx, text); st != nil {
		return st.QueryRowContext(ctx, args...)
	}
	return c.tx.QueryRowContext(ctx, text, args...)
}

func (c conn) rows(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	if st := c.hot(ctx, text); st != nil {
		return st.QueryContext(ctx, args...)
	}
	return c.tx.QueryContext(ctx, text, args...)
}

// run calls the caller's own part of a transaction.
func (c conn) run(inTx InTx) error {
	if inTx == nil {
		return nil
	}
	return inTx(c.tx)
}

// each reads rows to their end.
func each(rows *sql.Rows, err error, f func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// found turns database/sql's word for no row into ours.
func found(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// next counts one more of what counter name numbers.
func (c conn) next(ctx context.Context, name string) (n int64, err error) {
	err = c.row(ctx, `UPDATE counter SET value = value + 1 WHERE name = $1 RETURNING value`, name).Scan(&n)
	return n, err
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
