package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// evidenceGates: what a policy asks for is checked in the start's own
// transaction, and trust that ended counts for nothing.
func evidenceGates(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 1)
	ctx, s := t.Context(), w.Store
	start := func() error {
		policy := Policy()
		policy.Evidence = []string{"compatibility"}
		_, err := s.StartRollout(ctx, store.Start{Product: Product, Version: "1.0.0", Policy: policy, Seed: []byte("seed"), Actor: "operator:ann", Pace: rollout.Pace{Window: 1, Ceiling: 1, Turn: 1}}, Start, nil)
		return err
	}
	if err := start(); !errors.Is(err, store.ErrState) || !strings.Contains(err.Error(), "nobody attests it") {
		t.Fatalf("without evidence: %v", err)
	}
	e := store.Evidence{Product: Product, Version: "1.0.0", Digest: Digest, Kinds: []string{"compatibility"}, Result: "FAILED", KeyIDs: []string{"k1"}, Envelope: []byte("one")}
	if _, err := s.AddEvidence(ctx, e, "operator:ann", Start); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("by nobody known: %v", err)
	}
	if _, err := s.AddAttestor(ctx, store.Attestor{Name: "lab", KeyID: "k1", Public: "{}"}, "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddAttestor(ctx, store.Attestor{Name: "other", KeyID: "k1", Public: "{}"}, "operator:ann", Start); !errors.Is(err, store.ErrExists) {
		t.Fatalf("one key, two names: %v", err)
	}
	other := e
	other.Digest = strings.Repeat("0", 64)
	if _, err := s.AddEvidence(ctx, other, "operator:ann", Start); !errors.Is(err, store.ErrInvalid) {
		t.Fatalf("of another artifact: %v", err)
	}
	for i, c := range []struct {
		result, want string
	}{{"FAILED", "failed by lab"}, {"PASSED", ""}} {
		e.Result, e.Envelope = c.result, []byte(c.result)
		for range 2 { // repeating it changes nothing
			got, err := s.AddEvidence(ctx, e, "operator:ann", Start.Add(time.Duration(i)*time.Second))
			if err != nil || len(got) != i+1 {
				t.Fatalf("%s: %+v, %v", c.result, got, err)
			}
		}
		if err := start(); c.want != "" && (!errors.Is(err, store.ErrState) || !strings.Contains(err.Error(), c.want)) || c.want == "" && err != nil {
			t.Fatalf("after %s: %v; want %q", c.result, err, c.want)
		}
	}
	if err := s.RemoveAttestor(ctx, "lab", "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	if err := start(); !errors.Is(err, store.ErrState) {
		t.Fatalf("after the trust ended: %v", err)
	}
	Healthy(t, s)
}
