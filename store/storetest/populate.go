package storetest

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/store"
)

// populateRows is how many endpoints one statement inserts: SQLite takes a time
// quadratic in the number of parameters. populateCommit is how many one
// transaction does.
const (
	populateRows   = 40
	populateCommit = 20000
)

// Secret is the secret of the i-th endpoint that Populate made.
func Secret(i int) [32]byte {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(i))
	return sha256.Sum256(append([]byte("storetest.Populate"), n[:]...))
}

// Populate enrols n endpoints of a tenant that run a published release, in bulk
// and without ledger entries: for benchmarks that need a large fleet. Each has
// reported once, from 40 MiB of memory. It returns their ids; the i-th has the
// secret Secret(i).
func Populate(ctx context.Context, s *store.Store, tenant string, runs store.ReleaseKey, n int, now time.Time) ([]int64, error) {
	var of int64
	if err := s.DB().QueryRowContext(ctx, `SELECT id FROM tenant WHERE name = $1`, tenant).Scan(&of); err != nil {
		return nil, fmt.Errorf("populate: find tenant %s: %w", tenant, err)
	}
	out := make([]int64, n)
	base := ids.New(now.Add(-time.Duration(n)*time.Millisecond)) &^ (1<<22 - 1)
	for i := range out {
		out[i] = base + int64(i)<<22
	}
	for from := 0; from < n; from += populateCommit {
		if err := populateChunk(ctx, s, of, runs, out, from, min(from+populateCommit, n), now); err != nil {
			return nil, fmt.Errorf("populate endpoints from %d: %w", from, err)
		}
	}
	return out, nil
}

func populateChunk(ctx context.Context, s *store.Store, tenant int64, runs store.ReleaseKey, all []int64, from, to int, now time.Time) error {
	tx, err := s.DB().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for ; from < to; from += populateRows {
		if err := populateSome(ctx, tx, tenant, runs, all, from, min(from+populateRows, to), now); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func populateSome(ctx context.Context, tx *sql.Tx, tenant int64, runs store.ReleaseKey, all []int64, from, to int, now time.Time) error {
	var endpoints, installations strings.Builder
	var a, b []any
	for i := from; i < to; i++ {
		secret := Secret(i)
		hash := sha256.Sum256(secret[:])
		k := len(a)
		fmt.Fprintf(&endpoints, "%s($%d, $%d, $%d, $%d, '', 41943040, '', $%d, 'bench', $%d)", comma(i > from), k+1, k+2, k+3, k+4, k+5, k+6)
		a = append(a, all[i], tenant, hash[:], fmt.Sprintf(`{"arch":"amd64","os":"os-%d","region":"r-%d"}`, i%5, i%20), fmt.Sprint("endpoint-", i), now.UnixMicro())
		k = len(b)
		fmt.Fprintf(&installations, "%s($%d, $%d, $%d, '=', TRUE, 0, $%d, FALSE)", comma(i > from), k+1, k+2, k+3, k+4)
		b = append(b, runs.Product, all[i], runs.Version, now.UnixMicro())
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO endpoint (id, tenant, secret, labels, domain, rss, sandbox, name, agent_version, enrolled) VALUES `+endpoints.String(), a...); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO installation (product, endpoint, version, digest, healthy, crashes, last_seen, goodbye) VALUES `+installations.String(), b...)
	return err
}

func comma(yes bool) string {
	if yes {
		return ", "
	}
	return ""
}
