package control

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/advisory"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// newCase opens a case with a fix in a real store.
func newCase(t *testing.T, now time.Time) (*store.Store, store.Viewer, store.Case) {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "h.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	alice := store.Viewer{Actor: "operator:alice", Scope: store.ScopeOperator}
	c, err := s.OpenCase(t.Context(), alice, store.Opening{Title: "x"}, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	var facts []psirt.Fact
	for _, b := range []psirt.Body{&psirt.VendorIsAware{}, &psirt.FixBound{Product: "acme/rules", Version: "3.0.0"}} {
		f, err := psirt.Draft(b, time.Time{}, psirt.Amber)
		if err != nil {
			t.Fatal(err)
		}
		facts = append(facts, f)
	}
	if c, err = s.CommitFacts(t.Context(), alice, c.ID, store.AnyRevision, facts, now, nil); err != nil {
		t.Fatal(err)
	}
	return s, alice, c
}

// Rungs open as the measured fraction passes their marks, each opening once even
// if several servers look at once, with the measurement that it rests on.
func TestRungsOpenOnceOnMeasuredProtection(t *testing.T) {
	now := time.Date(1999, 12, 31, 12, 0, 0, 0, time.UTC)
	s, alice, c := newCase(t, now)
	verified := int64(0)
	d := &Discloser{
		Cases: s, As: store.Engine("engine"), Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		Measure: func(_ context.Context, id int64, at time.Time) (advisory.Protection, error) {
			if id != c.ID {
				t.Errorf("measured case %d", id)
			}
			return advisory.Protection{Resources: 1000, Verified: verified, At: at.UnixMicro()}, nil
		},
	}
	for _, step := range []struct {
		verified int64
		after    time.Duration
		want     psirt.Rung
	}{
		{1000, 0, psirt.Sealed}, {0, 24 * time.Hour, psirt.Partners}, {400, 25 * time.Hour, psirt.Partners}, {600, 26 * time.Hour, psirt.TenantsRung},
		{1000, 27 * time.Hour, psirt.TenantsRung}, // the public rung's floor is three days
		{1000, 73 * time.Hour, psirt.PublicRung}, {0, 74 * time.Hour, psirt.PublicRung},
		{1000, 8 * 24 * time.Hour, psirt.Details},
	} {
		now, verified = c.Opened.Add(step.after), step.verified
		var servers sync.WaitGroup
		for range 3 {
			servers.Go(func() {
				if err := d.Disclose(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})
		}
		servers.Wait()
		got, err := s.ReadCase(t.Context(), alice, c.ID, now)
		if err != nil || got.Rung != step.want {
			t.Fatalf("after %s with %d verified: rung %s (%v); want %s", step.after, verified, got.Rung, err, step.want)
		}
	}
	got, err := s.ReadCase(t.Context(), alice, c.ID, now)
	if err != nil {
		t.Fatal(err)
	}
	count := map[psirt.Kind]int{}
	for _, f := range got.Facts {
		count[f.Kind]++
	}
	if count["rung.opened"] != 4 {
		t.Errorf("facts: %v; want 4 openings", count)
	}
}

// A case that cannot be measured stays shut, and does not keep others shut.
func TestOneCasesTroubleKeepsNoOtherShut(t *testing.T) {
	now := time.Date(1999, 12, 31, 12, 0, 0, 0, time.UTC)
	s, alice, bad := newCase(t, now)
	good, err := s.OpenCase(t.Context(), alice, store.Opening{Title: "y"}, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no inventory")
	d := &Discloser{
		Cases: s, As: store.Engine("engine"), Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		Measure: func(context.Context, int64, time.Time) (advisory.Protection, error) {
			return advisory.Protection{}, broken
		},
	}
	if err := d.Disclose(t.Context()); !errors.Is(err, broken) {
		t.Errorf("the trouble: %v", err)
	}
	now = now.Add(24 * time.Hour)
	if err := d.Disclose(t.Context()); !errors.Is(err, broken) {
		t.Errorf("the trouble: %v", err)
	}
	for id, want := range map[int64]psirt.Rung{bad.ID: psirt.Sealed, good.ID: psirt.Partners} {
		if c, err := s.ReadCase(t.Context(), alice, id, now); err != nil || c.Rung != want {
			t.Errorf("rung %s (%v); want %s", c.Rung, err, want)
		}
	}
}
