package store

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/ledger"
)

// HandLedgerOver records that another key signs the ledger's checkpoints from now
// on. A repeat changes nothing. ErrConflict if h.Before is not the key in force: of
// the first one, no entry tells.
func (s *Store) HandLedgerOver(ctx context.Context, h ledger.Handover, actor string, now time.Time) error {
	d, err := h.Draft(actor)
	if err != nil {
		return err
	}
	return s.inWrite(ctx, "hand the ledger over to another key", func(c conn) error {
		var size int64
		var last []byte
		if err := c.row(ctx, textHead+c.s.dialect.lock).Scan(&size, &last); err != nil {
			return fmt.Errorf("lock ledger head: %w", found(err))
		}
		all, err := c.handovers(ctx)
		if err != nil {
			return err
		}
		if n := len(all); n > 0 {
			if all[n-1].Key == h.Key && all[n-1].Before == h.Before {
				return nil
			}
			if all[n-1].Key != h.Before {
				return fmt.Errorf("the ledger's key is %s, not %s: %w", all[n-1].Key, h.Before, ErrConflict)
			}
		}
		_, err = c.appendLedger(ctx, now, d)
		return err
	})
}

// Handovers lists the replacements of the ledger's key, oldest first, each with the
// first checkpoint that covers it.
func (s *Store) Handovers(ctx context.Context) (out []ledger.Handover, err error) {
	err = s.inRead(ctx, "list the ledger's keys", func(c conn) error {
		out, err = c.handovers(ctx)
		return err
	})
	return out, err
}

func (c conn) handovers(ctx context.Context) (out []ledger.Handover, err error) {
	entries, err := c.entries(ctx, `SELECT `+entryColumns+` FROM ledger_entry WHERE subject = $1 AND kind = $2 ORDER BY seq`, ledger.KeySubject, ledger.KeyKind)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		h, err := ledger.ParseHandover(e)
		if err != nil {
			return nil, err
		}
		var root []byte
		rows, err := c.rows(ctx, `SELECT size, root, note FROM ledger_checkpoint WHERE size > $1 ORDER BY size LIMIT 1`, e.Seq)
		if err := each(rows, err, func() error { return rows.Scan(&h.Covers.Size, &root, &h.Note) }); err != nil {
			return nil, err
		}
		copy(h.Covers.Root[:], root)
		out = append(out, h)
	}
	return out, nil
}
