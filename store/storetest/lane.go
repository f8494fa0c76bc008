package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// hasty is a policy that a rollout by budgetPolicy may be switched to: the first
// of its horizons only, and grants that live shorter.
func hasty() rollout.Policy {
	p := budgetPolicy()
	p.Name, p.MinControls = "hasty", 0.5
	p.GrantTTL = span.Duration(5 * time.Second)
	p.Budget.Horizons = p.Budget.Horizons[:1]
	return p
}

// laneTakesTwo: to switch takes two who ask for the same; from then on every server
// grants by the new policy, and what was observed is still there.
func laneTakesTwo(t *testing.T, newDSN func(testing.TB) string) {
	dsn := newDSN(t)
	w := NewWorld(t, Open(t, dsn), 4)
	other := *w
	other.Store = Open(t, dsn)
	ro, err := w.Store.StartRollout(t.Context(), store.Start{
		Product: Product, Version: "1.0.0", Policy: budgetPolicy(), Seed: seedFor(w), Actor: "operator:ann", Pace: rollout.Pace{Window: 4, Ceiling: 4, Turn: 1},
	}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, ro.ID, "")}}, Start)
	for i, server := range []*World{w, &other} {
		if a := server.asked(t, i, ro.ID, Start); a.TTL != 10*time.Second {
			t.Fatalf("server %d grants for %s", i, a.TTL)
		}
	}
	size := ledgerSize(t, w.Store)
	ask := func(operator string, p rollout.Policy) (store.Rollout, bool, error) {
		return w.Store.SwitchLane(t.Context(), store.LaneSwitch{Rollout: ro.ID, Policy: p, PolicyRevision: 3, Operator: operator, Why: "test",
			Choice: rollout.Choice{Taken: rollout.Cost{Lane: p.Name, Total: 7}}}, Start.Add(time.Second), nil)
	}
	for range 2 {
		if r, done, err := ask("ann", hasty()); err != nil || done || r.LaneAskedBy != "ann" || r.Policy.Name == "hasty" {
			t.Fatalf("the first asks: %+v, %v, %v", r.Lane, done, err)
		}
	}
	r, done, err := ask("bob", hasty())
	if err != nil || !done || r.Policy.Name != "hasty" || r.PolicyRevision != 3 || r.LaneAskedBy != "" || !slices.Equal(r.Lane.Signed, []string{"ann", "bob"}) || r.Revision != ro.Revision+1 {
		t.Fatalf("the second agrees: %+v, %v, %v", r, done, err)
	}
	if got := ledgerSize(t, w.Store); got != size+2 {
		t.Errorf("%d ledger entries, want a wish and a switch", got-size)
	}
	for i, server := range []*World{w, &other} {
		if a := server.asked(t, 2+i, ro.ID, Start.Add(2*time.Second)); a.Verdict != rollout.Granted || a.TTL != 5*time.Second {
			t.Errorf("server %d: %+v", i, a)
		}
	}
	snap, err := w.Store.Snapshot(t.Context(), ro.ID, Start.Add(3*time.Second))
	if err != nil || len(snap.Observed.Cohorts[0].ByAge) != 1 || snap.Observed.Cohorts[0].Granted != 4 || snap.Policy.Name != "hasty" {
		t.Fatalf("%+v, %v", snap.Observed, err)
	}
	if _, err := rollout.Decide(snap, Start.Add(3*time.Second)); err != nil {
		t.Errorf("it cannot be decided any more: %v", err)
	}
	if _, _, err := ask("ann", budgetPolicy()); err == nil {
		t.Error("switched to a policy that hears no silence")
	}
	if _, err := w.order(t, ro.ID, rollout.VerbHalt, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ask("ann", hasty()); !errors.Is(err, store.ErrState) {
		t.Errorf("a halted one: %v", err)
	}
	Healthy(t, w.Store)
}
