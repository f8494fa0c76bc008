package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/psirt"
)

// listIntervals writes intervals as they are now.
var listIntervals = &list{
	head: `INSERT INTO affected_interval (case_id, endpoint, product, name_key, started, tenant, runs, version, ranges, unknown, basis, ended, how, joined) VALUES `,
	row:  `($1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
	tail: ` ON CONFLICT (case_id, endpoint, product, name_key, started) DO UPDATE SET runs = excluded.runs, version = excluded.version, ranges = excluded.ranges,` +
		` unknown = excluded.unknown, ended = excluded.ended, how = excluded.how`,
	fixed: 1,
}

// keepIntervals writes intervals that are new or changed.
func (c conn) keepIntervals(ctx context.Context, id int64, changed []fleet.Interval) error {
	rows := make([]any, 0, 13*len(changed))
	for _, i := range changed {
		ranges, err := json.Marshal(i.Ranges)
		if err != nil {
			return err
		}
		rows = append(rows, i.Endpoint, i.Product, i.Key, micros(i.From), i.Tenant, i.Runs, i.Version, string(ranges), i.Unknown, string(i.Basis), micros(i.Until), string(i.End), micros(i.Joined))
	}
	_, err := c.execList(ctx, listIntervals, []any{id}, rows)
	return err
}

const textIntervals = `SELECT endpoint, product, name_key, started, tenant, runs, version, ranges, unknown, basis, ended, how, joined FROM affected_interval WHERE case_id = $1 AND (CAST($2 AS BIGINT) = 0 OR endpoint = $2) ORDER BY endpoint, product, name_key, started`

// intervals reads a case's intervals, of one endpoint if it is not 0.
func (c conn) intervals(ctx context.Context, id, endpoint int64) (out []fleet.Interval, err error) {
	rows, err := c.rows(ctx, textIntervals, id, endpoint)
	err = each(rows, err, func() error {
		i, err := scanInterval(rows)
		out = append(out, i)
		return err
	})
	return out, err
}

func scanInterval(rows *sql.Rows) (i fleet.Interval, err error) {
	var ranges []byte
	var from, until, joined int64
	err = rows.Scan(&i.Endpoint, &i.Product, &i.Key, &from, &i.Tenant, &i.Runs, &i.Version, &ranges, &i.Unknown, &i.Basis, &until, &i.End, &joined)
	if err == nil {
		err = json.Unmarshal(ranges, &i.Ranges)
	}
	if err != nil {
		return i, fmt.Errorf("affected interval: %w", err)
	}
	i.From, i.Until, i.Joined = fromMicros(from), fromMicros(until), fromMicros(joined)
	return i, nil
}

func (c conn) snapshots(ctx context.Context, id int64) (out []AffectedSnapshot, err error) {
	rows, err := c.rows(ctx, `SELECT n, at, hash, tenants, resources, unknown FROM affected_snapshot WHERE case_id = $1 ORDER BY n`, id)
	err = each(rows, err, func() error {
		var s AffectedSnapshot
		var at int64
		err := rows.Scan(&s.N, &at, &s.Hash, &s.Tenants, &s.Resources, &s.Unknown)
		s.At = fromMicros(at)
		out = append(out, s)
		return err
	})
	return out, err
}

// AffectedSnapshotText reads a snapshot of a case, the newest if n is 0, with its
// text. It takes a member of the case; a read of a sealed case is recorded.
func (s *Store) AffectedSnapshotText(ctx context.Context, v Viewer, id, n int64, now time.Time) (out AffectedSnapshot, text []byte, err error) {
	err = s.inWrite(ctx, "read a snapshot of whom a case concerns", func(c conn) error {
		w, err := c.affected(ctx, v, id)
		if err != nil {
			return err
		}
		if !v.engine && v.Scope != ScopeOperator {
			return fmt.Errorf("a snapshot shows every tenant's part: %w", psirt.ErrForbidden)
		}
		all, err := c.snapshots(ctx, id)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(s AffectedSnapshot) bool { return s.N == n })
		if n == 0 {
			i = len(all) - 1
		}
		if i < 0 {
			return fmt.Errorf("snapshot %d of %d: %w", n, len(all), ErrNotFound)
		}
		out = all[i]
		var packed []byte
		if err := c.row(ctx, `SELECT body FROM affected_snapshot WHERE case_id = $1 AND n = $2`, id, out.N).Scan(&packed); err != nil {
			return err
		}
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err == nil {
			text, err = io.ReadAll(z)
		}
		if err != nil {
			return fmt.Errorf("unpack snapshot %d: %w", out.N, err)
		}
		return c.recordRead(ctx, w, v, now, "affected.snapshot")
	})
	return out, text, err
}

var listSeen = &list{head: `SELECT i.endpoint, i.last_seen FROM product p JOIN installation i ON i.product = p.name WHERE i.endpoint IN (`, row: `?`, tail: `)`, pad: true}

// lastSeen is when the endpoints of intervals were last heard from.
func (c conn) lastSeen(ctx context.Context, all []fleet.Interval) (map[int64]time.Time, error) {
	out := map[int64]time.Time{}
	var keys []any
	for _, i := range all {
		if _, ok := out[i.Endpoint]; !ok {
			out[i.Endpoint] = time.Time{}
			keys = append(keys, i.Endpoint)
		}
	}
	err := c.queryList(ctx, listSeen, nil, keys, func(rows *sql.Rows) error {
		var id, seen int64
		if err := rows.Scan(&id, &seen); err != nil {
			return err
		}
		out[id] = later(out[id], fromMicros(seen))
		return nil
	})
	return out, err
}
