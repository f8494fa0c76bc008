package storetest

import (
	"errors"
	"sync"
	"testing"

	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// policies: each apply that changes anything is a revision and a ledger entry;
// no revision changes afterwards; a rollout records which one it started by.
func policies(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 1)
	s, ctx := w.Store, t.Context()
	p := Policy()
	p.Name = "night"
	first, changed, err := s.ApplyPolicy(ctx, p, 0, "operator:ann", Start)
	if err != nil || !changed || first.Revision != 1 {
		t.Fatalf("first: %+v, %v, %v", first, changed, err)
	}
	size := ledgerSize(t, s)
	for _, base := range []int64{0, 1, 7} {
		if again, changed, err := s.ApplyPolicy(ctx, p, base, "operator:bob", Start); err != nil || changed || again.Revision != 1 || again.By != "operator:ann" {
			t.Fatalf("the same again on %d: %+v, %v, %v", base, again, changed, err)
		}
	}
	if got := ledgerSize(t, s); got != size {
		t.Errorf("applying the same again wrote %d ledger entries", got-size)
	}
	q := p
	q.Growth = 9
	if _, _, err := s.ApplyPolicy(ctx, q, 0, "operator:bob", Start); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("on an old base: %v", err)
	}
	if second, changed, err := s.ApplyPolicy(ctx, q, 1, "operator:bob", Start); err != nil || !changed || second.Revision != 2 {
		t.Fatalf("second: %+v, %v, %v", second, changed, err)
	}
	for ref, growth := range map[rollout.Ref]int64{{Name: "night"}: 9, {Name: "night", Revision: 1}: p.Growth, {Name: "night", Revision: 2}: 9} {
		if got, err := s.Policy(ctx, ref); err != nil || got.Policy.Growth != growth {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	if _, err := s.Policy(ctx, rollout.Ref{Name: "night", Revision: 3}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a revision that is not there: %v", err)
	}
	if all, err := s.ListPolicies(ctx); err != nil || len(all) != 1 || all[0].Revision != 2 {
		t.Errorf("list: %+v, %v", all, err)
	}
	ro, err := s.StartRollout(ctx, store.Start{Product: Product, Version: "1.0.0", Policy: q, PolicyRevision: 2, Seed: []byte("seed"), Actor: "operator:ann"}, Start, nil)
	if err != nil || ro.PolicyRevision != 2 || ro.Policy.Name != "night" {
		t.Errorf("rollout by %s@%d: %v", ro.Policy.Name, ro.PolicyRevision, err)
	}
	Healthy(t, s)
}

// oneApply: two people who saw the same revision apply different things; one of
// them is told so.
func oneApply(t *testing.T, newDSN func(testing.TB) string) {
	s := Open(t, newDSN(t))
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			p := Policy()
			p.Name, p.Growth = "night", int64(2+i)
			_, _, errs[i] = s.ApplyPolicy(t.Context(), p, 0, "operator:ann", Start)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, store.ErrConflict) {
			t.Errorf("%v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d applies on the same base won", won, len(errs))
	}
	Healthy(t, s)
}

// ledgerSize is how many entries the ledger has.
func ledgerSize(tb testing.TB, s *store.Store) int64 {
	tb.Helper()
	head, err := s.VerifyLedger(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return head.Head.Size
}
