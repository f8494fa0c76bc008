package tuf

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkSetPlan is what a decision costs the server: rollout, snapshot and
// timestamp signed and checked, with a hundred vendors.
func BenchmarkSetPlan(b *testing.B) {
	w := newWorld(b)
	targets := w.repo.State[Targets]
	for i := range 100 {
		name := fmt.Sprintf("vendor-%d", i)
		w.vendors[name] = []*Key{newKey(b)}
		targets = w.must(AddVendor(targets, Vendor{name, public(w.vendors[name]...), 1}, time.Time{}))
	}
	w.apply(w.repo.SetTargets(w.sign(targets, w.ops[:2]...), w.now))
	for i := range 100 {
		for v := range 3 {
			w.release(fmt.Sprintf("vendor-%d/product", i), fmt.Sprintf("1.%d.0", v))
		}
	}
	for b.Loop() {
		w.plan(w.planVersion() + 1)
	}
}

// BenchmarkRefreshNothingNew is what a poll costs an endpoint beside the network.
func BenchmarkRefreshNothingNew(b *testing.B) {
	w := newWorld(b)
	c := w.client(b.TempDir())
	w.mustRefresh(c)
	for b.Loop() {
		if w.mustRefresh(c) {
			b.Fatal("changed")
		}
	}
}

// BenchmarkRefreshNewPlan includes the two fsynced writes of the trust file.
func BenchmarkRefreshNewPlan(b *testing.B) {
	w := newWorld(b)
	c := w.client(b.TempDir())
	w.mustRefresh(c)
	for b.Loop() {
		w.plan(w.planVersion() + 1)
		w.mustRefresh(c)
	}
}
