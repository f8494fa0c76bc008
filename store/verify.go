package store

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/headgate/headgate/ledger"
)

// LedgerReport says what VerifyLedger saw.
type LedgerReport struct {
	Head        ledger.Head
	Root        ledger.Hash       // of the Merkle tree
	Checkpoints int64             // compared
	Covers      ledger.Checkpoint // the newest checkpoint
	Latest      []byte            // its note, for the caller to check its signature; nil if none
	Handovers   []ledger.Handover // of the key that signs checkpoints, oldest first
}

// VerifyLedger reads the whole ledger and checks the chain, each stored hash,
// the head, and the root of each checkpoint. An error that is ledger.ErrBroken
// says what does not hold. Signatures are the caller's to check.
func (s *Store) VerifyLedger(ctx context.Context) (report LedgerReport, err error) {
	err = s.inRead(ctx, "verify ledger", func(c conn) error {
		report, err = c.verifyLedger(ctx)
		return err
	})
	return report, err
}

func (c conn) verifyLedger(ctx context.Context) (report LedgerReport, err error) {
	stated, err := c.head(ctx)
	if err != nil {
		return report, fmt.Errorf("read head: %w", err)
	}
	roots, err := c.checkpoints(ctx)
	if err != nil {
		return report, fmt.Errorf("read checkpoints: %w", err)
	}
	v := verifier{made: map[int64]tlog.Hash{}}
	const page = 500
	for from := int64(0); ; from += page {
		entries, err := c.entries(ctx, entryTexts[[2]bool{false, false}], from, page)
		if err != nil {
			return report, fmt.Errorf("read entries from %d: %w", from, err)
		}
		made, err := v.follow(entries, roots)
		if err != nil {
			return report, err
		}
		if err := c.compareHashes(ctx, made); err != nil {
			return report, err
		}
		if len(entries) < page {
			break
		}
	}
	if v.head != stated {
		return report, fmt.Errorf("the head says %d entries ending in %s; there are %d ending in %s: %w", stated.Size, stated.Last, v.head.Size, v.head.Last, ledger.ErrBroken)
	}
	for size := range roots {
		if size > v.head.Size {
			return report, fmt.Errorf("a checkpoint speaks of %d entries, there are %d: %w", size, v.head.Size, ledger.ErrBroken)
		}
	}
	report = LedgerReport{Head: v.head, Root: v.root, Checkpoints: int64(len(roots))}
	if report.Checkpoints > 0 {
		if err := c.row(ctx, `SELECT size, note FROM ledger_checkpoint ORDER BY size DESC LIMIT 1`).Scan(&report.Covers.Size, &report.Latest); err != nil {
			return report, fmt.Errorf("read the newest checkpoint: %w", err)
		}
		report.Covers.Root = tlog.Hash(roots[report.Covers.Size])
	}
	report.Handovers, err = c.handovers(ctx)
	return report, err
}

// checkpoints reads the roots of all checkpoints by size.
func (c conn) checkpoints(ctx context.Context) (map[int64]ledger.Hash, error) {
	out := map[int64]ledger.Hash{}
	rows, err := c.rows(ctx, `SELECT size, root FROM ledger_checkpoint`)
	err = each(rows, err, func() error {
		var size int64
		var root []byte
		if err := rows.Scan(&size, &root); err != nil {
			return err
		}
		var h ledger.Hash
		copy(h[:], root)
		out[size] = h
		return nil
	})
	return out, err
}

// verifier makes chain and tree anew. Of the tree it keeps the right edge only.
type verifier struct {
	head ledger.Head
	root ledger.Hash
	made map[int64]tlog.Hash
}

// follow takes the next entries and returns the hashes they store.
func (v *verifier) follow(entries []ledger.Entry, roots map[int64]ledger.Hash) (map[int64]tlog.Hash, error) {
	fresh := map[int64]tlog.Hash{}
	reader := tlog.HashReaderFunc(func(ids []int64) (out []tlog.Hash, err error) {
		for _, id := range ids {
			h, ok := v.made[id]
			if !ok {
				panic("store: verifier dropped a hash of the tree's right edge")
			}
			out = append(out, h)
		}
		return out, nil
	})
	for _, e := range entries {
		head, err := ledger.Follow(v.head, e)
		if err != nil {
			return nil, err
		}
		stored, err := tlog.StoredHashes(e.Seq, e.Encode(), reader)
		if err != nil {
			return nil, fmt.Errorf("hash entry %d: %w", e.Seq, err)
		}
		for i, h := range stored {
			id := tlog.StoredHashIndex(0, e.Seq) + int64(i)
			v.made[id], fresh[id] = h, h
		}
		v.head = head
		if want, ok := roots[head.Size]; ok {
			if err := v.makeRoot(reader); err != nil {
				return nil, err
			}
			if v.root != want {
				return nil, fmt.Errorf("the checkpoint of %d entries has root %s, the entries have %s: %w", head.Size, want, v.root, ledger.ErrBroken)
			}
		}
	}
	return fresh, v.makeRoot(reader)
}

// makeRoot computes the root of what was followed so far, and forgets the
// hashes that no later one needs.
func (v *verifier) makeRoot(reader tlog.HashReader) error {
	if v.head.Size == 0 {
		return nil
	}
	root, err := tlog.TreeHash(v.head.Size, reader)
	if err != nil {
		return fmt.Errorf("root of %d entries: %w", v.head.Size, err)
	}
	v.root = ledger.Hash(root)
	edge := map[int64]tlog.Hash{}
	for level, at := 0, v.head.Size; at > 0; level, at = level+1, at/2 {
		if at%2 == 1 {
			id := tlog.StoredHashIndex(level, at-1)
			edge[id] = v.made[id]
		}
	}
	v.made = edge
	return nil
}

// compareHashes compares the stored hashes with those made anew.
func (c conn) compareHashes(ctx context.Context, made map[int64]tlog.Hash) error {
	var keys []any
	for id := range made {
		keys = append(keys, id)
	}
	missing := len(made)
	var wrong error
	seen := map[int64]bool{}
	err := c.readHashes(ctx, keys, func(id int64, h tlog.Hash) {
		if made[id] != h {
			wrong = fmt.Errorf("stored hash %d is %s, the entries make %s: %w", id, h, made[id], ledger.ErrBroken)
		}
		if !seen[id] {
			seen[id] = true
			missing--
		}
	})
	if err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("%d stored hashes are missing: %w", missing, ledger.ErrBroken)
	}
	return wrong
}
