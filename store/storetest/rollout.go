package storetest

import (
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

func (w *World) decide(tb testing.TB, id int64, d rollout.Decision) (store.Rollout, error) {
	tb.Helper()
	snap, err := w.Store.Snapshot(tb.Context(), id, Start)
	if err != nil {
		tb.Fatal(err)
	}
	return w.Store.CommitDecision(tb.Context(), store.DecisionCommit{Snapshot: snap, Decision: d, Actor: "engine"}, Start, nil)
}

func advance(window int64) rollout.Decision {
	return rollout.Decision{
		Action: rollout.Advance, State: rollout.Running, NewRung: true, Reasons: []rollout.Reason{{Code: "proven", Detail: "enough"}},
		Pace: rollout.Pace{Rung: 1, Window: window, Ceiling: window, Turn: 0.5, Boost: 1},
	}
}

func twoDeciders(t *testing.T, newDSN func(testing.TB) string) {
	dsn := newDSN(t)
	w := NewWorld(t, Open(t, dsn), 1)
	id := w.Roll(t, 5).ID
	servers := []*store.Store{w.Store, Open(t, dsn)}
	const rounds = 20
	for range rounds {
		snap, err := w.Store.Snapshot(t.Context(), id, Start)
		if err != nil {
			t.Fatal(err)
		}
		var landed, conflicts atomic.Int64
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				d := store.DecisionCommit{Snapshot: snap, Decision: advance(int64(10 + i)), Actor: "engine"}
				_, err := servers[i%2].CommitDecision(t.Context(), d, Start, nil)
				switch {
				case err == nil:
					landed.Add(1)
				case errors.Is(err, store.ErrConflict):
					conflicts.Add(1)
				default:
					t.Errorf("commit decision: %v", err)
				}
			})
		}
		wg.Wait()
		if landed.Load() != 1 || conflicts.Load() != 3 {
			t.Fatalf("%d commits landed on one revision, %d conflicts", landed.Load(), conflicts.Load())
		}
	}
	r, err := w.Store.Rollout(t.Context(), id)
	if err != nil || r.Revision != 1+rounds {
		t.Fatalf("revision %d, %v", r.Revision, err)
	}
	Healthy(t, w.Store)
}

func idleDecision(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 1)
	id := w.Roll(t, 5).ID
	hold := rollout.Decision{
		Action: rollout.Hold, State: rollout.Running, Reasons: []rollout.Reason{{Code: "waiting", Detail: "1 of 5"}},
		Pace: rollout.Pace{Window: 5, Ceiling: 1 << 40, Turn: 1},
	}
	first, err := w.decide(t, id, hold)
	if err != nil || first.Revision != 2 {
		t.Fatalf("%+v, %v", first, err)
	}
	before, err := w.Store.LedgerHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hold.Reasons[0].Detail = "2 of 5" // the same reason with other numbers
	second, err := w.decide(t, id, hold)
	if err != nil || second.Revision != 2 {
		t.Fatalf("%+v, %v", second, err)
	}
	if after, err := w.Store.LedgerHead(t.Context()); err != nil || after != before {
		t.Fatalf("the ledger grew: %+v, %v", after, err)
	}
	hold.Reasons[0].Code = "window-full"
	if third, err := w.decide(t, id, hold); err != nil || third.Revision != 3 {
		t.Fatalf("a new reason is not recorded: %+v, %v", third, err)
	}
}

func (w *World) order(tb testing.TB, id int64, verb rollout.Verb, operator string) (store.Rollout, error) {
	tb.Helper()
	return w.Store.OrderRollout(tb.Context(), id, rollout.Order{Verb: verb, Operator: operator, Why: "test"}, Start, nil)
}

func resumeTakesTwo(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 1)
	id := w.Roll(t, 5).ID
	for i, step := range []struct {
		verb     rollout.Verb
		operator string
		state    rollout.State
		asked    string
	}{
		{rollout.VerbHold, "ann", rollout.Held, ""},
		{rollout.VerbResume, "ann", rollout.Running, ""}, // after a hold one is enough
		{rollout.VerbHalt, "ann", rollout.Halted, ""},
		{rollout.VerbHalt, "bob", rollout.Halted, ""},
		{rollout.VerbResume, "ann", rollout.Halted, "ann"},
		{rollout.VerbResume, "ann", rollout.Halted, "ann"},
		{rollout.VerbResume, "bob", rollout.Running, ""},
		{rollout.VerbRevert, "bob", rollout.Reverting, ""},
	} {
		r, err := w.order(t, id, step.verb, step.operator)
		if err != nil || r.State != step.state || r.ResumeAskedBy != step.asked {
			t.Fatalf("step %d, %s by %s: %s asked by %q, %v", i, step.verb, step.operator, r.State, r.ResumeAskedBy, err)
		}
	}
	if _, err := w.order(t, id, rollout.VerbResume, "ann"); !errors.Is(err, store.ErrState) {
		t.Fatalf("resumed what reverts: %v", err)
	}
	if _, err := w.order(t, 99, rollout.VerbHalt, "ann"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("halted what is not there: %v", err)
	}
	Healthy(t, w.Store)
}

func haltStops(t *testing.T, newDSN func(testing.TB) string) {
	dsn := newDSN(t)
	w := NewWorld(t, Open(t, dsn), 60)
	id := w.Roll(t, 1000).ID
	other := Open(t, dsn)
	var wg sync.WaitGroup
	var halted atomic.Bool
	wg.Go(func() {
		for i := range 60 {
			already := halted.Load()
			a, err := other.CommitBatch(t.Context(), store.Batch{Asks: []store.GrantAsk{w.Ask(i, id)}}, Start)
			if err != nil {
				t.Errorf("commit: %v", err)
				return
			}
			if already && a.Asks[0].Verdict == rollout.Granted {
				t.Errorf("ask %d was granted after the halt", i)
			}
		}
	})
	if _, err := w.order(t, id, rollout.VerbHalt, "ann"); err != nil {
		t.Error(err)
	}
	halted.Store(true)
	exposed := w.counts(t, id).Exposed
	wg.Wait()
	if n := w.counts(t, id).Exposed; n != exposed {
		t.Fatalf("%d exposed at the halt, %d afterwards", exposed, n)
	}
}

func supersede(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 1)
	for _, v := range []string{"2.0.0", "3.0.0"} {
		if err := AddRelease(t.Context(), w.Store, v, Digest); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(version string) (store.Rollout, error) {
		return w.Store.StartRollout(t.Context(), store.Start{Product: Product, Version: version, Policy: Policy(), Seed: []byte("s"), Actor: "operator:ann"}, Start, nil)
	}
	start := func(version string) store.Rollout {
		t.Helper()
		r, err := begin(version)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	finish := func(id int64) {
		t.Helper()
		if _, err := w.decide(t, id, rollout.Decision{Action: rollout.Finish, State: rollout.Finished, Pace: rollout.Pace{Turn: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want ...rollout.State) {
		t.Helper()
		open, err := w.Store.OpenRollouts(t.Context())
		if err != nil || len(open) != len(want) {
			t.Fatalf("%d open rollouts, %v; want %v", len(open), err, want)
		}
		for i, r := range open {
			if r.State != want[i] {
				t.Fatalf("R-%d is %s, want %s", r.ID, r.State, want[i])
			}
		}
	}
	one := start("1.0.0")
	if _, err := begin("2.0.0"); !errors.Is(err, store.ErrState) {
		t.Fatalf("two rollouts of one product at once: %v", err)
	}
	finish(one.ID)
	two := start("2.0.0")
	expect(rollout.Finished, rollout.Running)
	if _, err := w.order(t, two.ID, rollout.VerbHalt, "ann"); err != nil {
		t.Fatal(err)
	}
	three := start("3.0.0")
	expect(rollout.Finished, rollout.Running) // the base and the third; the halted one is over
	finish(three.ID)
	expect(rollout.Finished)
	Healthy(t, w.Store)
}

func forwardOnly(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 1)
	if err := AddRelease(t.Context(), w.Store, "2.0.0", Digest); err != nil {
		t.Fatal(err)
	}
	start := func(version string) (store.Rollout, error) {
		return w.Store.StartRollout(t.Context(), store.Start{Product: Product, Version: version, Policy: Policy(), Seed: []byte("s"), Actor: "operator:ann"}, Start, nil)
	}
	two, err := start("2.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.decide(t, two.ID, rollout.Decision{Action: rollout.Finish, State: rollout.Finished, Pace: rollout.Pace{Turn: 1}}); err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{"1.0.0", "2.0.0"} {
		if _, err := start(old); !errors.Is(err, store.ErrState) {
			t.Fatalf("%s began after 2.0.0 finished; no endpoint would take it: %v", old, err)
		}
	}
	if all, err := w.Store.ListRollouts(t.Context(), Product); err != nil || len(all) != 1 || all[0].State != rollout.Finished {
		t.Fatalf("a refused start left something: %+v, %v", all, err)
	}
	if _, err := w.order(t, two.ID, rollout.VerbRevert, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := start("1.0.0"); err != nil { // what was in its way is going away
		t.Fatal(err)
	}
	Healthy(t, w.Store)
}

func startTwice(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 1)
	st := store.Start{RequestID: "r1", Product: Product, Version: "1.0.0", Policy: Policy(), Seed: []byte("s"), Actor: "operator:ann"}
	calls := 0
	inTx := func(*sql.Tx) error { calls++; return nil }
	first, err1 := w.Store.StartRollout(t.Context(), st, Start, inTx)
	again, err2 := w.Store.StartRollout(t.Context(), st, Start.Add(time.Hour), inTx)
	if err1 != nil || err2 != nil || first.ID != again.ID || calls != 1 {
		t.Fatalf("R-%d and R-%d, %v, %v, %d calls", first.ID, again.ID, err1, err2, calls)
	}
	st.Version = "9.9.9"
	if _, err := w.Store.StartRollout(t.Context(), st, Start, nil); !errors.Is(err, store.ErrExists) {
		t.Fatalf("the same request for another release: %v", err)
	}
	st.RequestID = ""
	if _, err := w.Store.StartRollout(t.Context(), st, Start, nil); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a release that is not there: %v", err)
	}
	refuse := errors.New("no")
	if _, err := w.order(t, first.ID, rollout.VerbHalt, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Store.StartRollout(t.Context(), store.Start{Product: Product, Version: "1.0.0", Policy: Policy(), Seed: []byte("s"), Actor: "x"}, Start, func(*sql.Tx) error { return refuse }); !errors.Is(err, refuse) {
		t.Fatalf("the caller's error is lost: %v", err)
	}
	if all, err := w.Store.ListRollouts(t.Context(), Product); err != nil || len(all) != 1 || all[0].State != rollout.Halted {
		t.Fatalf("a start that failed left something: %+v, %v", all, err)
	}
}
