package store

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/headgate/headgate/psirt"
)

// Reading cases and reports waits for no writer; the record of a sealed one that was
// read stands in the ledger before it is handed out, and without it nothing is.
func TestReadingCasesWaitsForNoWriter(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "h.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now, ann := time.Now(), Viewer{Actor: "operator:ann", Scope: ScopeOperator}
	kase, err := s.OpenCase(t.Context(), ann, Opening{Title: "x"}, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	engine := Engine("engine")
	err = s.inWrite(t.Context(), "write for long", func(conn) error {
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		if all, err := s.ListCases(ctx, engine, CaseQuery{}, now); err != nil || len(all) != 1 {
			t.Errorf("list cases beside a writer: %d, %v", len(all), err)
		}
		if _, err := s.ReadCase(ctx, engine, kase.ID, now); err != nil {
			t.Errorf("read a case beside a writer: %v", err)
		}
		if _, err := s.ListReports(ctx, engine, ReportQuery{}, now); err != nil {
			t.Errorf("list reports beside a writer: %v", err)
		}
		short, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer stop()
		if c, err := s.ReadCase(short, ann, kase.ID, now); err == nil || c.Title != "" {
			t.Errorf("a sealed case was handed out without its record: %q, %v", c.Title, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.VerifyCase(t.Context(), engine, kase.ID, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadCase(t.Context(), ann, kase.ID, now); err != nil {
		t.Fatal(err)
	}
	after, err := s.VerifyCase(t.Context(), engine, kase.ID, now)
	if err != nil || after.Readings != before.Readings+1 {
		t.Errorf("%d recorded reads, then %d (%v)", before.Readings, after.Readings, err)
	}
	open, err := psirt.Draft(&psirt.CaseUnsealed{Why: "test"}, time.Time{}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CommitFacts(t.Context(), ann, kase.ID, AnyRevision, []psirt.Fact{open}, now, nil); err != nil {
		t.Fatal(err)
	}
	err = s.inWrite(t.Context(), "write for long", func(conn) error {
		if _, err := s.ReadCase(t.Context(), ann, kase.ID, now); err != nil {
			t.Errorf("read what is not sealed beside a writer: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
