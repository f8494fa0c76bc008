package store

import (
	"context"
	"fmt"
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
func (s *Store) RepositoryVersion(ctx context.Context) (n int64, err error) {
	err = s.inRead(ctx, "read repository version", func(c conn) error {
		return c.row(ctx, `SELECT value FROM counter WHERE name = 'repository'`).Scan(&n)
	})
	return n, err
}

// RepositoryFile reads a file of the repository. ErrNotFound.
func (s *Store) RepositoryFile(ctx context.Context, path string) (f File, err error) {
	err = s.inRead(ctx, fmt.Sprintf("read repository file %q", path), func(c conn) error {
		return found(c.row(ctx, `SELECT path, version, body FROM repository_file WHERE path = $1`, path).Scan(&f.Path, &f.Version, &f.Body))
	})
	return f, err
}

// RepositoryFiles reads all files whose path starts with prefix, by path, with
// the repository version that they belong to, in one transaction.
func (s *Store) RepositoryFiles(ctx context.Context, prefix string) (out []File, version int64, err error) {
	err = s.inRead(ctx, "read repository files", func(c conn) error {
		if err := c.row(ctx, `SELECT value FROM counter WHERE name = 'repository'`).Scan(&version); err != nil {
			return err
		}
		out = nil
		rows, err := c.rows(ctx, `SELECT path, version, body FROM repository_file WHERE SUBSTR(path, 1, LENGTH($1)) = $1 ORDER BY path`, prefix)
		return each(rows, err, func() error {
			var f File
			if err := rows.Scan(&f.Path, &f.Version, &f.Body); err != nil {
				return err
			}
			out = append(out, f)
			return nil
		})
	})
	return out, version, err
}

// CommitRepository commits one step and returns the new RepositoryVersion.
// ErrConflict if Base is not the present one.
func (s *Store) CommitRepository(ctx context.Context, rc RepositoryCommit, now time.Time, inTx InTx) (version int64, err error) {
	err = s.inWrite(ctx, "commit repository", func(c conn) error {
		n, err := c.exec(ctx, `UPDATE counter SET value = value + 1 WHERE name = 'repository' AND value = $1`, rc.Base)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("made from version %d: %w", rc.Base, ErrConflict)
		}
		version = rc.Base + 1
		if err := c.putFiles(ctx, rc); err != nil {
			return err
		}
		if err := c.putCatalog(ctx, rc, now); err != nil {
			return err
		}
		if err := c.run(inTx); err != nil || len(rc.Drafts) == 0 {
			return err
		}
		_, err = c.appendLedger(ctx, now, rc.Drafts...)
		return err
	})
	return version, err
}

func (c conn) putFiles(ctx context.Context, rc RepositoryCommit) error {
	for _, path := range rc.Delete {
		if _, err := c.exec(ctx, `DELETE FROM repository_file WHERE path = $1`, path); err != nil {
			return fmt.Errorf("delete %q: %w", path, err)
		}
	}
	for _, f := range rc.Put {
		_, err := c.exec(ctx, `INSERT INTO repository_file (path, version, body) VALUES ($1, $2, $3)
			ON CONFLICT (path) DO UPDATE SET version = excluded.version, body = excluded.body`, f.Path, f.Version, f.Body)
		if err != nil {
			return fmt.Errorf("put %q: %w", f.Path, err)
		}
	}
	return nil
}

func (c conn) putCatalog(ctx context.Context, rc RepositoryCommit, now time.Time) error {
	for _, v := range rc.Vendors {
		if _, err := c.putVendor(ctx, &v, now); err != nil {
			return fmt.Errorf("put vendor %q: %w", v.Name, err)
		}
	}
	for _, r := range rc.Releases {
		if err := c.putRelease(ctx, r, now); err != nil {
			return fmt.Errorf("put release %s %s: %w", r.Product, r.Version, err)
		}
	}
	for _, k := range rc.Unlist {
		if _, err := c.exec(ctx, `UPDATE release SET listed = FALSE WHERE product = $1 AND version = $2`, k.Product, k.Version); err != nil {
			return fmt.Errorf("unlist release %s %s: %w", k.Product, k.Version, err)
		}
	}
	return nil
}
