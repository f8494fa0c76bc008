package store

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/pgtest"
)

// TestOlderDatabaseKeepsItsRows: a database of migration 25 with exposures and
// installations is opened, and says what it said before.
func TestOlderDatabaseKeepsItsRows(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { olderDatabase(t, filepath.Join(t.TempDir(), "old.db")) })
	t.Run("postgres", func(t *testing.T) { olderDatabase(t, pgtest.Start(t).NewDatabase(t)) })
}

func olderDatabase(t *testing.T, dsn string) {
	ctx := t.Context()
	d := dialectOf(dsn)
	db, err := d.open(dsn, false)
	if err != nil {
		t.Fatal(err)
	}
	old := &Store{dialect: d, write: db, log: slog.New(slog.DiscardHandler)}
	p, err := old.migrator()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(ctx, 25); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`INSERT INTO tenant (id, name, paused, created) VALUES (1, 'north', FALSE, 1)`,
		`INSERT INTO vendor (name, threshold, keys, added) VALUES ('acme', 1, 1, 1)`,
		`INSERT INTO product (name, vendor, description, added) VALUES ('acme/rules', 'acme', '', 1)`,
		`INSERT INTO release (product, version, digest, length, floor, published, listed) VALUES ('acme/rules', '1.0.0', 'aaaa', 1, 0, 1, TRUE)`,
		`INSERT INTO rollout (id, product, version, digest, floor, policy, seed, started, started_by, state, revision, rung, window_size, ceiling, turn, boost, quiet_until,
			accepted_harm, accepted_refusals, held_by, rung_since, ended, resume_asked_by, preflight_failed, reverted, segments, action, reasons, decided)
			VALUES (7, 'acme/rules', '1.0.0', 'aaaa', 0, '{}', '', 1, 'ann', 'finished', 1, 0, 9, 9, 1, 1, 0, 0, 0, '', 1, 1, '', 0, 1, 0, '', '[]', 1)`,
		`INSERT INTO rollout_count (rollout, segment, exposed, proven, harmed, silent, still_open) VALUES (7, '', 3, 1, 1, 0, 1)`,
		`INSERT INTO exposure (rollout, endpoint, state, granted, deadline, settled, reverted, domain, down, reason, detail, rung, measured) VALUES
			(7, 1, 'proven', 30, 90, 40, FALSE, '1/rack', 0, '', '', 2, 1), (7, 2, 'harmed', 20, 90, 50, FALSE, '', 8, 'crash', 'it ended', 1, 0), (7, 3, 'open', 10, 90, 0, FALSE, '', 0, '', '', 0, 0)`,
	} {
		if _, err := db.ExecContext(ctx, text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	// Endpoint 1 runs what was published, 2 something else of that name, 3 nothing.
	digests := []string{"aaaa", "bbbb", ""}
	for i, digest := range digests {
		version := "1.0.0"
		if digest == "" {
			version = ""
		}
		_, err := db.ExecContext(ctx, `INSERT INTO endpoint (id, tenant, secret, labels, domain, rss, sandbox, name, agent_version, enrolled) VALUES ($1, 1, $2, '{}', '', 0, '', '', '', 1)`, i+1, []byte{byte(i)})
		if err == nil {
			_, err = db.ExecContext(ctx, `INSERT INTO installation (product, endpoint, version, digest, healthy, crashes, last_seen, goodbye) VALUES ('acme/rules', $1, $2, $3, TRUE, 0, 60, FALSE)`, i+1, version, digest)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s, err := Open(ctx, dsn, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	exposures := []string{
		"proven - 30 40 0s", "harmed crash: it ended 20 50 8µs", "open - 10 0 0s",
	}
	for i, digest := range digests {
		e, err := s.Endpoint(ctx, int64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Installations) != 1 || e.Installations[0].Digest != digest {
			t.Errorf("endpoint %d runs %+v; want digest %q", i+1, e.Installations, digest)
		}
		if len(e.Exposures) != 1 || sayExposure(e.Exposures[0]) != exposures[i] {
			t.Errorf("endpoint %d: exposures %+v; want %s", i+1, e.Exposures, exposures[i])
		}
	}
	problems, err := s.Doctor(ctx)
	if err != nil || len(problems) > 0 {
		t.Errorf("doctor: %+v, %v", problems, err)
	}
	if d.name == sqlite.name {
		sharePages(t, s)
	}
}

func sayExposure(x Exposure) string {
	why := "-"
	if x.State == health.Harmed {
		why = x.Reason + ": " + x.Detail
	}
	return fmt.Sprint(x.State, " ", why, " ", micros(x.Granted), " ", micros(x.Settled), " ", x.Down)
}

// sharePages checks the order in which SQLite keeps exposures, and that what is
// published is not written out.
func sharePages(t *testing.T, s *Store) {
	var order, digests string
	err := s.read.QueryRowContext(t.Context(), `SELECT group_concat(endpoint, ' ') FROM (SELECT endpoint FROM exposure ORDER BY rowid)`).Scan(&order)
	if err == nil {
		err = s.read.QueryRowContext(t.Context(), `SELECT group_concat(digest, ' ') FROM (SELECT digest FROM installation ORDER BY endpoint)`).Scan(&digests)
	}
	if err != nil || order != "3 2 1" || digests != "= bbbb " {
		t.Errorf("exposures in the order %q; want the order of their grants; digests %q; %v", order, digests, err)
	}
}
