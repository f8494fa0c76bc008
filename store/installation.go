package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// asPublished is kept in the place of a digest that is the published release's of
// the version. Nearly all are, and a row without it is less than half as long.
const asPublished = "="

const (
	// installedDigest is the digest that an installation i says it runs.
	installedDigest = `CASE WHEN i.digest = '` + asPublished + `' THEN (SELECT w.digest FROM release w WHERE w.product = i.product AND w.version = i.version) ELSE i.digest END`

	textPublished = `SELECT digest FROM release WHERE product = $1 AND version = $2`
)

// maxPublishedKept bounds the digests that are remembered.
const maxPublishedKept = 10000

// listInstalled writes nothing for a beacon that says what is stored already,
// until the stored "last seen" is older than $8.
var listInstalled = &list{
	of:   "BIGINT",
	head: `INSERT INTO installation (product, version, digest, healthy, crashes, last_seen, goodbye, endpoint) VALUES `,
	row:  `($1, $2, $3, $4, $5, $6, $7, ?)`,
	tail: ` ON CONFLICT (product, endpoint) DO UPDATE SET version = excluded.version, digest = excluded.digest, healthy = excluded.healthy,` +
		` crashes = excluded.crashes, last_seen = excluded.last_seen, goodbye = excluded.goodbye` +
		` WHERE installation.last_seen <= $8 OR installation.version <> excluded.version OR installation.digest <> excluded.digest` +
		` OR installation.healthy <> excluded.healthy OR installation.crashes <> excluded.crashes OR installation.goodbye <> excluded.goodbye`,
	fixed: 8,
}

// said is what many beacons of a batch say alike.
type said struct {
	installation Installation
	goodbye      bool
}

func (r *batchRun) saveInstallations(ctx context.Context) error {
	groups := map[said][]any{}
	latest := slices.Sorted(maps.Keys(r.latest))
	for _, endpoint := range latest {
		b := r.batch.Beacons[r.latest[endpoint]]
		for _, in := range b.Installations {
			k := said{in, b.Goodbye}
			if n := len(groups[k]); n > 0 && groups[k][n-1] == endpoint {
				continue // named twice in one beacon
			}
			groups[k] = append(groups[k], endpoint)
		}
	}
	now := micros(r.now)
	// One order for all servers, so that they do not wait for each other in a ring.
	keys := slices.SortedFunc(maps.Keys(groups), func(a, b said) int {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
	for _, k := range keys {
		in := k.installation
		digest, err := r.c.keptDigest(ctx, in)
		if err != nil {
			return err
		}
		fixed := []any{in.Product, in.Version, digest, in.Healthy, in.Crashes, now, k.goodbye, now - r.batch.SeenGrain.Microseconds()}
		if _, err := r.c.execList(ctx, listInstalled, fixed, groups[k]); err != nil {
			return err
		}
	}
	return r.saveVitals(ctx, latest)
}

// keptDigest is how an installation's digest is stored.
func (c conn) keptDigest(ctx context.Context, in Installation) (string, error) {
	published, err := c.published(ctx, ReleaseKey{in.Product, in.Version})
	if err != nil {
		return "", fmt.Errorf("find the release %s %s: %w", in.Product, in.Version, err)
	}
	if in.Digest == published && published != "" {
		return asPublished, nil
	}
	return in.Digest, nil
}

// published is the digest of a published release, which never changes; empty if
// there is none.
func (c conn) published(ctx context.Context, k ReleaseKey) (digest string, err error) {
	c.s.mu.Lock()
	digest, ok := c.s.published[k]
	c.s.mu.Unlock()
	if ok {
		return digest, nil
	}
	err = c.row(ctx, textPublished, k.Product, k.Version).Scan(&digest)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if len(c.s.published) >= maxPublishedKept {
		clear(c.s.published)
	}
	c.s.published[k] = digest
	return digest, nil
}
