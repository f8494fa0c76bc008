package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/headgate/headgate/ledger"
)

// The ledger's statements on the hot path.
const (
	textHead     = `SELECT size, last FROM ledger_head WHERE one = 1`
	textMoveHead = `UPDATE ledger_head SET size = $1, last = $2 WHERE one = 1`
	textEntry    = `INSERT INTO ledger_entry (seq, at, kind, subject, actor, body, prev) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	textHash     = `INSERT INTO ledger_hash (id, hash) VALUES ($1, $2)`
)

var listHashes = &list{of: "BIGINT", head: `SELECT id, hash FROM ledger_hash WHERE id IN (`, row: `?`, tail: `)`, pad: true}

// appendLedger appends entries in the transaction. It comes last: the head's
// row stays locked until the commit.
func (c conn) appendLedger(ctx context.Context, now time.Time, drafts ...ledger.Draft) (ledger.Head, error) {
	var head ledger.Head
	var last []byte
	if err := c.row(ctx, textHead+c.s.dialect.lock).Scan(&head.Size, &last); err != nil {
		return head, fmt.Errorf("lock ledger head: %w", found(err))
	}
	copy(head.Last[:], last)
	hashes := pendingHashes{c: c, ctx: ctx, made: map[int64]tlog.Hash{}}
	for _, d := range drafts {
		e, after, err := ledger.Append(head, d, now)
		if err != nil {
			return head, err
		}
		if _, err := c.exec(ctx, textEntry, e.Seq, micros(e.Time), e.Kind, e.Subject, e.Actor, e.Body, e.Prev[:]); err != nil {
			return head, fmt.Errorf("append ledger entry %d: %w", e.Seq, err)
		}
		stored, err := tlog.StoredHashes(e.Seq, e.Encode(), hashes)
		if err != nil {
			return head, fmt.Errorf("hash ledger entry %d: %w", e.Seq, err)
		}
		for i, h := range stored {
			id := tlog.StoredHashIndex(0, e.Seq) + int64(i)
			hashes.made[id] = h
			if _, err := c.exec(ctx, textHash, id, h[:]); err != nil {
				return head, fmt.Errorf("store hash %d of ledger: %w", id, err)
			}
		}
		head = after
	}
	if _, err := c.exec(ctx, textMoveHead, head.Size, head.Last[:]); err != nil {
		return head, fmt.Errorf("move ledger head: %w", err)
	}
	return head, nil
}

// note appends one entry that the store itself makes.
func (c conn) note(ctx context.Context, now time.Time, kind, subject, actor string, body any) error {
	d, err := ledger.New(kind, subject, actor, body)
	if err != nil {
		return err
	}
	_, err = c.appendLedger(ctx, now, d)
	return err
}

// pendingHashes reads stored hashes, those of this transaction included.
type pendingHashes struct {
	c    conn
	ctx  context.Context
	made map[int64]tlog.Hash
}

// ReadHashes implements tlog.HashReader.
func (p pendingHashes) ReadHashes(ids []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(ids))
	at := map[int64][]int{}
	var ask []any
	for i, id := range ids {
		if h, ok := p.made[id]; ok {
			out[i] = h
			continue
		}
		if at[id] == nil {
			ask = append(ask, id)
		}
		at[id] = append(at[id], i)
	}
	err := p.c.readHashes(p.ctx, ask, func(id int64, h tlog.Hash) {
		for _, i := range at[id] {
			out[i] = h
		}
		delete(at, id)
	})
	if err == nil && len(at) > 0 {
		err = fmt.Errorf("%d hashes are missing: %w", len(at), ledger.ErrBroken)
	}
	return out, err
}

func (c conn) readHashes(ctx context.Context, ids []any, f func(id int64, h tlog.Hash)) error {
	return c.queryList(ctx, listHashes, nil, ids, func(rows *sql.Rows) error {
		var id int64
		var b []byte
		if err := rows.Scan(&id, &b); err != nil {
			return err
		}
		if len(b) != tlog.HashSize {
			return fmt.Errorf("hash %d has %d bytes: %w", id, len(b), ledger.ErrBroken)
		}
		f(id, tlog.Hash(b))
		return nil
	})
}

// AppendLedger appends entries in a transaction of their own. What belongs to a
// fact is appended by the method that commits the fact.
func (s *Store) AppendLedger(ctx context.Context, now time.Time, drafts ...ledger.Draft) (head ledger.Head, err error) {
	err = s.inWrite(ctx, "append to ledger", func(c conn) error {
		head, err = c.appendLedger(ctx, now, drafts...)
		return err
	})
	return head, err
}

// LedgerHead is the end of the chain.
func (s *Store) LedgerHead(ctx context.Context) (head ledger.Head, err error) {
	err = s.inRead(ctx, "read ledger head", func(c conn) error {
		head, err = c.head(ctx)
		return err
	})
	return head, err
}

func (c conn) head(ctx context.Context) (h ledger.Head, err error) {
	var last []byte
	err = c.row(ctx, textHead).Scan(&h.Size, &last)
	copy(h.Last[:], last)
	return h, found(err)
}

// EntryQuery selects ledger entries.
type EntryQuery struct {
	From       int64  // first sequence number; with Descending the last, and 0 means the end
	Limit      int    // at most 1000; 100 if 0
	Subject    string // only entries about this, if not empty
	Descending bool   // newest first
}

const entryColumns = `seq, at, kind, subject, actor, body, prev`

// The four orders in which entries are listed, by (has subject, descending).
var entryTexts = map[[2]bool]string{
	{false, false}: `SELECT ` + entryColumns + ` FROM ledger_entry WHERE seq >= $1 ORDER BY seq LIMIT $2`,
	{false, true}:  `SELECT ` + entryColumns + ` FROM ledger_entry WHERE seq <= $1 ORDER BY seq DESC LIMIT $2`,
	{true, false}:  `SELECT ` + entryColumns + ` FROM ledger_entry WHERE seq >= $1 AND subject = $3 ORDER BY seq LIMIT $2`,
	{true, true}:   `SELECT ` + entryColumns + ` FROM ledger_entry WHERE seq <= $1 AND subject = $3 ORDER BY seq DESC LIMIT $2`,
}

// ListEntries lists ledger entries.
func (s *Store) ListEntries(ctx context.Context, q EntryQuery) (out []ledger.Entry, err error) {
	if q.Descending && q.From == 0 {
		q.From = 1<<63 - 1
	}
	args := []any{q.From, pageSize(q.Limit)}
	if q.Subject != "" {
		args = append(args, q.Subject)
	}
	err = s.inRead(ctx, "list ledger entries", func(c conn) error {
		out, err = c.entries(ctx, entryTexts[[2]bool{q.Subject != "", q.Descending}], args...)
		return err
	})
	return out, err
}

func (c conn) entries(ctx context.Context, text string, args ...any) (out []ledger.Entry, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var e ledger.Entry
		var at int64
		var prev []byte
		if err := rows.Scan(&e.Seq, &at, &e.Kind, &e.Subject, &e.Actor, &e.Body, &prev); err != nil {
			return err
		}
		e.Time = fromMicros(at)
		copy(e.Prev[:], prev)
		out = append(out, e)
		return nil
	})
	return out, err
}

// pageSize is a list's length: 100 if not given, 1000 at most.
func pageSize(limit int) int {
	if limit <= 0 {
		return 100
	}
	return min(limit, 1000)
}

// LedgerHashes reads the stored hashes of the Merkle tree, for tlog's proofs
// and tree hashes.
func (s *Store) LedgerHashes(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(ids []int64) (out []tlog.Hash, err error) {
		err = s.inRead(ctx, "read ledger hashes", func(c conn) error {
			out, err = pendingHashes{c: c, ctx: ctx}.ReadHashes(ids)
			return err
		})
		return out, err
	})
}

// Checkpoint is a signed statement of the ledger's size and root.
type Checkpoint struct {
	Size int64
	Root ledger.Hash
	Note []byte // the signed note
	Time time.Time
}

// SaveCheckpoint keeps a checkpoint; repeating one of the same size and root
// changes nothing, another root is an error.
func (s *Store) SaveCheckpoint(ctx context.Context, cp Checkpoint) error {
	return s.inWrite(ctx, "save checkpoint", func(c conn) error {
		var root []byte
		err := c.row(ctx, `SELECT root FROM ledger_checkpoint WHERE size = $1`, cp.Size).Scan(&root)
		switch {
		case err == nil && bytes.Equal(root, cp.Root[:]):
			return nil
		case err == nil:
			return fmt.Errorf("a checkpoint of size %d has root %x already, not %s: %w", cp.Size, root, cp.Root, ledger.ErrBroken)
		case !errors.Is(found(err), ErrNotFound):
			return err
		}
		_, err = c.exec(ctx, `INSERT INTO ledger_checkpoint (size, root, note, at) VALUES ($1, $2, $3, $4)`,
			cp.Size, cp.Root[:], cp.Note, micros(cp.Time))
		return err
	})
}

// LatestCheckpoint is the checkpoint with the greatest size. ErrNotFound.
func (s *Store) LatestCheckpoint(ctx context.Context) (cp Checkpoint, err error) {
	err = s.inRead(ctx, "read latest checkpoint", func(c conn) error {
		var root []byte
		var at int64
		err := c.row(ctx, `SELECT size, root, note, at FROM ledger_checkpoint ORDER BY size DESC LIMIT 1`).
			Scan(&cp.Size, &root, &cp.Note, &at)
		copy(cp.Root[:], root)
		cp.Time = fromMicros(at)
		return found(err)
	})
	return cp, err
}
