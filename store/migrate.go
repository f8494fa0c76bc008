package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. Migrations go forward only, and each
// is safe for the release before it, so that servers may be replaced one by one.
func (s *Store) migrate(ctx context.Context) error {
	p, err := s.migrator()
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// migrator knows all migrations. One that ends in ".sqlite.sql" is for SQLite: it
// says how rows are stored, which PostgreSQL does by itself.
func (s *Store) migrator() (*goose.Provider, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var steps []*goose.Migration
	for _, name := range names {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", name, err)
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		if s.dialect.name != sqlite.name && strings.HasSuffix(name, ".sqlite.sql") {
			text = nil
		}
		steps = append(steps, goose.NewGoMigration(version, &goose.GoFunc{RunTx: s.runScript(string(text))}, nil))
	}
	opts := []goose.ProviderOption{
		goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true),
		goose.WithTableName("schema_version"), goose.WithSlog(s.log),
	}
	if s.dialect.name == postgres.name { // servers may start together
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, fmt.Errorf("make migration lock: %w", err)
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(s.dialect.goose, s.write, nil, opts...)
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	return p, nil
}

// runScript runs a migration's text, rendered for the dialect.
func (s *Store) runScript(text string) func(context.Context, *sql.Tx) error {
	text = strings.ReplaceAll(text, "{{clustered}}", s.dialect.clustered)
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, text)
		return err
	}
}
