package store

import (
	"database/sql"
	"errors"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // driver "sqlite"
)

// dialect is all in which the two engines differ.
type dialect struct {
	name  string // as callers know it
	goose goose.Dialect
	// lock ends a SELECT whose rows stay as they are until we commit. SQLite
	// locks the whole database instead: each transaction that writes begins with
	// BEGIN IMMEDIATE.
	lock string
	// skip is lock that passes over rows which another transaction holds.
	skip string
	// clustered ends a table that is stored in the order of its primary key.
	clustered string
	// prepare: the hot statements are prepared by us. pgx does that by itself.
	prepare bool
	// numbered: a list's parameters are "$7", not "?". SQLite finds a numbered
	// parameter by walking a list of all of them, which is quadratic in long lists.
	numbered bool
}

var sqlite = dialect{
	name: "sqlite", goose: goose.DialectSQLite3,
	clustered: " WITHOUT ROWID", prepare: true,
}

var postgres = dialect{
	name: "postgres", goose: goose.DialectPostgres,
	lock: " FOR UPDATE", skip: " FOR UPDATE SKIP LOCKED", numbered: true,
}

// dialectOf tells the engine by the data source name.
func dialectOf(dsn string) dialect {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		return postgres
	}
	return sqlite
}

// sqliteDSN makes the driver's data source name. WAL with synchronous=FULL: a
// commit returns only when it is on the disk. Several processes may share the
// file, so a busy one is waited for. The log grows to 64 MiB before its pages are
// written to the database: a page that changes often is written there once.
func sqliteDSN(path string, reader bool) string {
	path = strings.TrimPrefix(path, "sqlite:")
	q := url.Values{"_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
		"cache_size(-32768)", "temp_store(MEMORY)", "wal_autocheckpoint(16000)",
	}, "_txlock": {"immediate"}}
	if reader {
		q.Set("_txlock", "deferred")
		q.Add("_pragma", "query_only(1)")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// open opens a pool of connections, for writing or for reading only.
func (d dialect) open(dsn string, reader bool) (*sql.DB, error) {
	if d.name == sqlite.name {
		return sql.Open("sqlite", sqliteDSN(dsn, reader))
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if !reader {
		// Each statement that we write with finds its rows by key. The planner does
		// not know that while a table is young and its statistics are none: it
		// would scan, and keep that plan while the table grows.
		cfg.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
		cfg.RuntimeParams["enable_seqscan"] = "off"
		cfg.RuntimeParams["jit"] = "off" // no statement of ours lives long enough to gain from it
	}
	return stdlib.OpenDB(*cfg), nil
}

// retryable tells whether a transaction failed only because another one ran at
// the same time, so that trying again may succeed (SQLSTATE class 40).
func retryable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && strings.HasPrefix(pg.Code, "40")
}
