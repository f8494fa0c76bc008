// Package storetest is the conformance suite of package store: both engines
// must pass all of it. It knows nothing of SQL; what it checks is what callers
// rely on.
package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// Start is when the suite's worlds begin.
var Start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Product and Digest are what the suite's worlds roll out.
const (
	Product = "acme/rules"
	Digest  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// Endpoint is an enrolled endpoint.
type Endpoint struct {
	ID     int64
	Secret store.Hash
}

// World is a database with a vendor, a product, a release and endpoints.
type World struct {
	Store     *store.Store
	Endpoints []Endpoint
}

// NewWorld fills an empty database with n endpoints of tenant "north".
func NewWorld(tb testing.TB, s *store.Store, n int) *World {
	tb.Helper()
	w, err := Fill(tb.Context(), s, n)
	if err != nil {
		tb.Fatalf("fill database: %v", err)
	}
	return w
}

// Fill is NewWorld for programs.
func Fill(ctx context.Context, s *store.Store, n int) (*World, error) {
	w := &World{Store: s}
	token := sha256.Sum256([]byte("enrol"))
	_, err1 := s.AddTenant(ctx, "north", "operator:ann", Start)
	err2 := s.AddEnrolmentToken(ctx, store.EnrolmentToken{Hash: token, Tenant: "north", Expires: Start.Add(time.Hour)}, "operator:ann", Start)
	if err := errors.Join(err1, err2, AddRelease(ctx, s, "1.0.0", Digest)); err != nil {
		return nil, err
	}
	for i := range n {
		e := Endpoint{Secret: SecretOf(int64(i))}
		who, err := s.Enrol(ctx, store.Enrolment{
			Token: token, Secret: e.Secret, Name: fmt.Sprintf("host-%d", i), Products: []string{Product},
			Labels: fleet.Labels{"os": []string{"linux", "windows"}[i%2], "region": []string{"eu", "us", "ap"}[i%3]},
		}, Start)
		if err != nil {
			return nil, err
		}
		e.ID = who.ID
		w.Endpoints = append(w.Endpoints, e)
	}
	return w, nil
}

// SecretOf is the secret of the suite's endpoint i.
func SecretOf(i int64) store.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

// AddRelease publishes a version of Product.
func AddRelease(ctx context.Context, s *store.Store, version, digest string) error {
	base, err1 := s.RepositoryVersion(ctx)
	_, err2 := s.PutVendor(ctx, store.Vendor{Name: "acme", Threshold: 2, Keys: 3}, "operator:ann", Start)
	_, err3 := s.AddProduct(ctx, store.Product{Name: Product}, "operator:ann", Start)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	_, err := s.CommitRepository(ctx, store.RepositoryCommit{Base: base, Releases: []store.Release{{
		Release: release.Release{Product: Product, Version: version, Digest: digest, Length: 10}, Listed: true,
	}}}, Start, nil)
	return err
}

// Policy is a policy with short times.
func Policy() rollout.Policy {
	p := rollout.DefaultPolicy()
	p.Probation, p.Grace, p.GrantTTL = span.Duration(10*time.Second), span.Duration(10*time.Second), span.Duration(10*time.Second)
	return p
}

// Roll starts a rollout of version 1.0.0 that lets window endpoints through at
// once.
func (w *World) Roll(tb testing.TB, window int64) store.Rollout {
	tb.Helper()
	ro, err := w.Store.StartRollout(tb.Context(), store.Start{
		Product: Product, Version: "1.0.0", Policy: Policy(), Seed: []byte("seed"), Actor: "operator:ann",
		Pace: rollout.Pace{Window: window, Ceiling: 1 << 40, Turn: 1},
	}, Start, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return ro
}

// Ask makes endpoint i's ask.
func (w *World) Ask(i int, ro int64) store.GrantAsk {
	return store.GrantAsk{Endpoint: w.Endpoints[i].ID, Secret: w.Endpoints[i].Secret, Rollout: ro, Digest: Digest}
}

// Beacon makes endpoint i's beacon about its attempt.
func (w *World) Beacon(i int, ro int64, state store.AttemptState) store.BeaconReport {
	b := store.BeaconReport{
		Endpoint: w.Endpoints[i].ID, Secret: w.Endpoints[i].Secret, Seq: 1,
		Installations: []store.Installation{{Product: Product, Version: "1.0.0", Digest: Digest, Healthy: true}},
	}
	if state != "" {
		b.Attempts = []store.AttemptReport{{Rollout: ro, Digest: Digest, State: state}}
		if state == store.AttemptHarmed {
			b.Attempts[0].Reason, b.Attempts[0].Down = "crash-loop", time.Second
		}
	}
	return b
}

// Commit commits a batch.
func (w *World) Commit(tb testing.TB, b store.Batch, now time.Time) store.BatchAnswer {
	tb.Helper()
	a, err := w.Store.CommitBatch(tb.Context(), b, now)
	if err != nil {
		tb.Fatalf("commit batch: %v", err)
	}
	return a
}

// Healthy fails the test if the database breaks one of its rules.
func Healthy(tb testing.TB, s *store.Store) {
	tb.Helper()
	problems, err := s.Doctor(tb.Context())
	if err != nil || len(problems) > 0 {
		tb.Fatalf("doctor: %v, %+v", err, problems)
	}
	if _, err := s.VerifyLedger(tb.Context()); err != nil {
		tb.Fatalf("verify ledger: %v", err)
	}
}

// Open opens a store that is closed when the test ends.
func Open(tb testing.TB, dsn string) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), dsn, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatalf("open store: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close store: %v", err)
		}
	})
	return s
}
