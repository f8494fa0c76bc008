package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Main()
	os.Exit(m.Run())
}

func sqliteDSN(tb testing.TB) string { return filepath.Join(tb.TempDir(), "headgate.db") }

func TestSQLiteConforms(t *testing.T) { storetest.Run(t, sqliteDSN) }

func TestPostgresConforms(t *testing.T) { storetest.Run(t, pgtest.Start(t).NewDatabase) }
