package store

import (
	"context"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/headgate/headgate/ledger"
)

// AppendLedger appends entries in a transaction of their own. What belongs to a
// fact is appended by the method that commits the fact.
func (s *Store) AppendLedger(ctx context.Context, now time.Time, drafts ...ledger.Draft) (ledger.Head, error) {
	return ledger.Head{}, errUnbuilt
}

// LedgerHead is the end of the chain.
func (s *Store) LedgerHead(ctx context.Context) (ledger.Head, error) {
	return ledger.Head{}, errUnbuilt
}

// EntryQuery selects ledger entries.
type EntryQuery struct {
	From       int64  // first sequence number; with Descending the last, and 0 means the end
	Limit      int    // at most 1000; 100 if 0
	Subject    string // only entries about this, if not empty
	Descending bool   // newest first
}

// ListEntries lists ledger entries.
func (s *Store) ListEntries(ctx context.Context, q EntryQuery) ([]ledger.Entry, error) {
	return nil, errUnbuilt
}

// LedgerHashes reads the stored hashes of the Merkle tree, for tlog's proofs
// and tree hashes.
func (s *Store) LedgerHashes(ctx context.Context) tlog.HashReader { return nil }

// Checkpoint is a signed statement of the ledger's size and root.
type Checkpoint struct {
	Size int64
	Root ledger.Hash
	Note []byte // the signed note
	Time time.Time
}

// SaveCheckpoint keeps a checkpoint; repeating one of the same size and root
// changes nothing, another root is an error.
func (s *Store) SaveCheckpoint(ctx context.Context, c Checkpoint) error { return errUnbuilt }

// LatestCheckpoint is the checkpoint with the greatest size. ErrNotFound.
func (s *Store) LatestCheckpoint(ctx context.Context) (Checkpoint, error) {
	return Checkpoint{}, errUnbuilt
}

// LedgerReport says what VerifyLedger saw.
type LedgerReport struct {
	Head        ledger.Head
	Root        ledger.Hash // of the Merkle tree
	Checkpoints int64       // compared
	Latest      []byte      // note of the newest checkpoint, for the caller to check its signature; nil if none
}

// VerifyLedger reads the whole ledger and checks the chain, each stored hash,
// the head, and the root of each checkpoint. An error that is ledger.ErrBroken
// says what does not hold. Signatures are the caller's to check.
func (s *Store) VerifyLedger(ctx context.Context) (LedgerReport, error) {
	return LedgerReport{}, errUnbuilt
}
