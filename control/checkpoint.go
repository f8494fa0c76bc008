package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/store"
)

// Log is what signing a checkpoint needs of the store.
type Log interface {
	LedgerHead(ctx context.Context) (ledger.Head, error)
	LedgerHashes(ctx context.Context) tlog.HashReader
	LatestCheckpoint(ctx context.Context) (store.Checkpoint, error)
	SaveCheckpoint(ctx context.Context, c store.Checkpoint) error
}

// SignCheckpoint signs the ledger's head in the form of C2SP tlog-checkpoint, if
// it grew since the last one. It signs nothing that does not extend what was
// signed before: a log that shows two histories is worse than a silent one.
// Several sign it while one key hands over to another.
func SignCheckpoint(ctx context.Context, l Log, now time.Time, by ...note.Signer) error {
	head, err := l.LedgerHead(ctx)
	if err != nil {
		return fmt.Errorf("sign checkpoint: %w", err)
	}
	last, err := l.LatestCheckpoint(ctx)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("sign checkpoint: %w", err)
	}
	if head.Size == last.Size {
		return nil
	}
	root, err := extends(ctx, l, head.Size, last)
	if err != nil {
		return fmt.Errorf("sign checkpoint of %d entries: %w", head.Size, err)
	}
	c := ledger.Checkpoint{Size: head.Size, Root: root}
	msg, err := c.Sign(by...)
	if err != nil {
		return err
	}
	if err := l.SaveCheckpoint(ctx, store.Checkpoint{Size: c.Size, Root: ledger.Hash(c.Root), Note: msg, Time: now}); err != nil {
		return fmt.Errorf("save checkpoint of %d entries: %w", c.Size, err)
	}
	return nil
}

// extends computes the root at size and checks that last is its prefix.
func extends(ctx context.Context, l Log, size int64, last store.Checkpoint) (tlog.Hash, error) {
	hashes := l.LedgerHashes(ctx)
	root, err := tlog.TreeHash(size, hashes)
	if err != nil || last.Size == 0 {
		return root, err
	}
	proof, err := tlog.ProveTree(size, last.Size, hashes)
	if err != nil {
		return root, err
	}
	return root, ledger.CheckConsistency(ledger.Checkpoint{Size: size, Root: root}, ledger.Checkpoint{Size: last.Size, Root: tlog.Hash(last.Root)}, proof)
}
