package store

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"
)

func TestSweepNamesTheRolloutThatIsMissing(t *testing.T) {
	s, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "headgate.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.inWrite(t.Context(), "break the database", func(c conn) error {
		_, err := c.exec(context.Background(), `INSERT INTO exposure (rollout, endpoint, state, granted, deadline, settled, reverted, domain, down, reason, detail)
			VALUES (7, 1, 'open', 1, 2, 0, FALSE, '', 0, '', '')`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.SweepSilent(t.Context(), time.Now(), 10)
	if want := "sweep silent exposures: lock rollout R-7: not found"; err == nil || err.Error() != want || !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v; want %s", err, want)
	}
}
