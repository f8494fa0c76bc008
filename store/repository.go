package store

import (
	"context"
	"time"

	"github.com/headgate/headgate/ledger"
)

// File is a file of the TUF repository.
type File struct {
	Path    string // below /tuf/: "timestamp.json", "3.root.json", "targets/plan/<sha256>.plan.json"
	Version int64  // of the metadata in it; 0 for a target
	Body    []byte
}

// RepositoryCommit is one step of the TUF repository: all of it or nothing.
type RepositoryCommit struct {
	Base     int64 // RepositoryVersion that it was made from
	Put      []File
	Delete   []string
	Vendors  []Vendor  // recorded or changed in the same transaction
	Releases []Release // recorded in the same transaction; their products exist
	// Unlist names releases ("vendor/product", "version") that endpoints cannot
	// fetch any more.
	Unlist []ReleaseKey
	Drafts []ledger.Draft
}

// ReleaseKey names a release.
type ReleaseKey struct{ Product, Version string }

// RepositoryVersion is the number of commits to the repository so far.
func (s *Store) RepositoryVersion(ctx context.Context) (int64, error) { return 0, errUnbuilt }

// RepositoryFile reads a file of the repository. ErrNotFound.
func (s *Store) RepositoryFile(ctx context.Context, path string) (File, error) {
	return File{}, errUnbuilt
}

// RepositoryFiles reads all files whose path starts with prefix, by path, with
// the repository version that they belong to, in one transaction.
func (s *Store) RepositoryFiles(ctx context.Context, prefix string) ([]File, int64, error) {
	return nil, 0, errUnbuilt
}

// CommitRepository commits one step and returns the new RepositoryVersion.
// ErrConflict if Base is not the present one.
func (s *Store) CommitRepository(ctx context.Context, c RepositoryCommit, now time.Time, inTx InTx) (int64, error) {
	return 0, errUnbuilt
}
