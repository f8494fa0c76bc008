package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// ErrFull: the database found no room on its disk.
var ErrFull = errors.New("the database's disk is full; nothing was changed, and with room it goes on by itself")

// broken tells whether a transaction failed by the database's own fault, so that
// the next one may well fail too, and whether for want of room.
func broken(err error) (broken, full bool) {
	var lite *sqlite3.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case lib.SQLITE_FULL:
			return true, true
		case lib.SQLITE_IOERR:
			return true, lite.Code() == lib.SQLITE_IOERR_SHMSIZE // the index of the log could not grow
		case lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
			return true, false
		}
		return false, false
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false, false // a connection that is gone is Ping's business
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "53", "58", "XX": // want of resources; the operating system; the engine itself
		return true, pg.Code == "53100"
	}
	return pg.Code == "25006", false // it may be read only: a standby
}

// judged notes whether the database writes, and marks want of room as ErrFull.
func (s *Store) judged(err error) error {
	if err == nil {
		// A write that is small enough may find a place in the log while others do not.
		if s.failing.Load() && s.room() && s.failing.CompareAndSwap(true, false) {
			s.log.LogAttrs(context.Background(), slog.LevelInfo, "database writes again")
		}
		return nil
	}
	broken, full := broken(err)
	if broken && s.failing.CompareAndSwap(false, true) {
		s.log.LogAttrs(context.Background(), slog.LevelError, "database does not write", slog.Any("err", err))
	}
	if full {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// leastRoom is what a disk that was full must have again, bytes.
const leastRoom = 1 << 20

// room tells whether the disk has some, as far as this process can see.
func (s *Store) room() bool {
	var disk syscall.Statfs_t
	return s.folder == "" || syscall.Statfs(s.folder, &disk) != nil || disk.Bavail*uint64(disk.Bsize) >= leastRoom
}

// Ready tells whether the database answers and, if it failed to write last, whether
// it does now.
func (s *Store) Ready(ctx context.Context) error {
	if err := s.Ping(ctx); err != nil || !s.failing.Load() {
		return err
	}
	if !s.room() {
		return ErrFull
	}
	return s.inWrite(ctx, "write to database", func(c conn) error {
		_, err := c.exec(ctx, `UPDATE counter SET value = value WHERE name = 'rollout'`)
		return err
	})
}
