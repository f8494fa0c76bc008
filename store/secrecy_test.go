package store

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/psirt"
)

// What may not be read costs the same work as what is not there: the same
// statements in the same order, on both engines, and the same error.
func TestHiddenCaseCostsTheWorkOfNone(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { hiddenCostsNone(t, filepath.Join(t.TempDir(), "s.db")) })
	t.Run("postgres", func(t *testing.T) { hiddenCostsNone(t, pgtest.Start(t).NewDatabase(t)) })
}

func hiddenCostsNone(t *testing.T, dsn string) {
	s, err := Open(t.Context(), dsn, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ctx, ann := t.Context(), Viewer{Actor: "operator:ann", Scope: ScopeOperator}
	if err := s.AddTriager(ctx, ann, "operator:ann", now); err != nil {
		t.Fatal(err)
	}
	free, _, err1 := s.AddReport(ctx, Engine("form"), psirt.ReportReceived{Source: psirt.FromForm, Title: "free"}, "", "", now, nil)
	taken, _, err2 := s.AddReport(ctx, Engine("form"), psirt.ReportReceived{Source: psirt.FromForm, Title: "taken"}, "", "", now, nil)
	kase, err3 := s.OpenCase(ctx, ann, Opening{Title: "secret", Reports: []int64{taken.ID}, Restricted: true}, now, nil)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	title, err := psirt.Draft(&psirt.CaseTitled{Title: "x"}, time.Time{}, "")
	if err != nil {
		t.Fatal(err)
	}
	message, err := psirt.Draft(&psirt.ReportMessage{From: "x", Text: "x"}, time.Time{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []Viewer{
		{Actor: "operator:bob", Scope: ScopeOperator}, {Actor: "vendor:bot", Scope: ScopeVendor, Of: "acme"}, {Actor: "tenant:bot", Scope: ScopeTenant, Of: "north"},
	} {
		for name, op := range map[string]struct {
			hidden []int64
			do     func(id int64) error
		}{
			"read case": {[]int64{kase.ID}, func(id int64) error { _, err := s.ReadCase(ctx, v, id, now); return err }},
			"change case": {[]int64{kase.ID}, func(id int64) error {
				_, err := s.CommitFacts(ctx, v, id, 0, []psirt.Fact{title}, now, nil)
				return err
			}},
			"verify case":  {[]int64{kase.ID}, func(id int64) error { _, err := s.VerifyCase(ctx, v, id, now); return err }},
			"link to case": {[]int64{kase.ID}, func(id int64) error { _, err := s.LinkReport(ctx, v, id, free.ID, psirt.Duplicate, now); return err }},
			"read report":  {[]int64{free.ID, taken.ID}, func(id int64) error { _, err := s.ReadReport(ctx, v, id, now); return err }},
			"change report": {[]int64{free.ID, taken.ID}, func(id int64) error {
				_, err := s.CommitReport(ctx, v, id, 0, []psirt.Fact{message}, now, nil)
				return err
			}},
			"reports of a case": {[]int64{kase.ID}, func(id int64) error {
				out, err := s.ListReports(ctx, v, ReportQuery{Case: id}, now)
				if err == nil && len(out) == 0 {
					return ErrNotFound // which is not said: the list is empty
				}
				return err
			}},
		} {
			for _, hidden := range op.hidden {
				work1, err1 := traced(s, func() error { return op.do(hidden) })
				work2, err2 := traced(s, func() error { return op.do(ids.Random()) })
				if !errors.Is(err1, ErrNotFound) || err1.Error() != err2.Error() {
					t.Errorf("%s %s: %q for what is hidden, %q for what is not there", v.Actor, name, err1, err2)
				}
				if len(work1) == 0 || !slices.Equal(work1, work2) {
					t.Errorf("%s %s: other work\n%q\n%q", v.Actor, name, work1, work2)
				}
			}
		}
	}
}

// traced runs f and returns the statements that it ran.
func traced(s *Store, f func() error) (work []string, err error) {
	s.trace = func(text string) { work = append(work, text) }
	defer func() { s.trace = nil }()
	err = f()
	return work, err
}
