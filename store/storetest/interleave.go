package storetest

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// twins are two worlds that are told the same, the second in another order within
// each instant and often twice.
type twins struct {
	worlds  [2]*World
	rollout [2]int64
	halted  []fleet.Labels
	now     time.Time
}

// interleavings: the order and repetition of beacons within an instant, cut into
// batches anyhow, change nothing of what is counted, by cohort and by segment, nor
// the decision. And whatever happens nobody is granted in a halted segment, nor the
// second half of a failure domain while the first is open or silent, nor anyone
// beyond the window.
func interleavings(t *testing.T, newDSN func(testing.TB) string) {
	w := &twins{now: Start}
	for i := range w.worlds {
		w.worlds[i] = NewWorld(t, Open(t, newDSN(t)), 2)
		w.worlds[i].pairs(t, 5)
	}
	rapid.Check(t, func(rt *rapid.T) {
		window := w.start(rt)
		defer func() { // makes room for the next, even if this one fails
			for i, x := range w.worlds {
				_, err1 := x.order(t, w.rollout[i], rollout.VerbHalt, "ann")
				_, err2 := x.Store.SweepQuiet(t.Context(), w.rollout[i], w.now.Add(time.Hour), 1000)
				if err := errors.Join(err1, err2); err != nil {
					t.Error(err)
				}
			}
			w.now = w.now.Add(time.Hour)
		}()
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 30).Draw(rt, "seconds")) * time.Second)
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				w.halt(rt, t)
			case 1, 2:
				w.sweep(rt)
			default:
				w.tell(rt, t)
			}
			w.ask(rt, t, window)
		}
		if a, b := w.outcome(rt, 0), w.outcome(rt, 1); a != b {
			rt.Fatalf("in order:\n%s\nshuffled and repeated:\n%s", a, b)
		}
		for _, x := range w.worlds {
			Healthy(t, x.Store)
		}
	})
}

// pairs enrols n failure domains of two.
func (w *World) pairs(t *testing.T, n int) {
	for i := range 2 * n {
		e := Endpoint{Secret: SecretOf(int64(1000 + i))}
		who, err := w.Store.Enrol(t.Context(), store.Enrolment{
			Token: sha256.Sum256([]byte("enrol")), Secret: e.Secret, Name: fmt.Sprintf("pair-%d", i), Domain: fmt.Sprintf("site-%d", i/2), Products: []string{Product},
			Labels: fleet.Labels{"os": []string{"linux", "windows"}[i%2], "region": []string{"eu", "us", "ap"}[i%3]},
		}, Start)
		if err != nil {
			t.Fatal(err)
		}
		e.ID = who.ID
		w.Endpoints = append(w.Endpoints, e)
	}
}

// start starts a rollout in both worlds.
func (w *twins) start(rt *rapid.T) (window int64) {
	window = rapid.Int64Range(3, 12).Draw(rt, "window")
	w.halted = nil
	p := budgetPolicy()
	p.Budget.Segments, p.Budget.MaxSegment, p.Budget.MaxExcluded, p.Budget.Cover = true, 0.5, 0.5, 2
	for i, x := range w.worlds {
		ro, err := x.Store.StartRollout(rt.Context(), store.Start{
			Product: Product, Version: "1.0.0", Policy: p, Seed: seedFor(x), Actor: "operator:ann",
			Pace:     rollout.Pace{Window: window, Ceiling: 12, Turn: 1, Cover: 2},
			Coverage: fleet.Reach{Members: []int64{x.Endpoints[0].ID, x.Endpoints[5].ID}, Chosen: 2},
		}, w.now, nil)
		if err != nil {
			rt.Fatal(err)
		}
		w.rollout[i] = ro.ID
	}
	return window
}

func (w *twins) sweep(rt *rapid.T) {
	for i, x := range w.worlds {
		if _, err := x.Store.SweepQuiet(rt.Context(), w.rollout[i], w.now, 1000); err != nil {
			rt.Fatal(err)
		}
	}
}

// halt leaves a segment out.
func (w *twins) halt(rt *rapid.T, t *testing.T) {
	l := rapid.SampledFrom([]fleet.Labels{{"os": "linux"}, {"region": "eu"}, {"os": "windows", "region": "us"}}).Draw(rt, "halted")
	if slices.ContainsFunc(w.halted, func(h fleet.Labels) bool { return h.String() == l.String() }) {
		return
	}
	w.halted = append(w.halted, l)
	for i, x := range w.worlds {
		ro, err := x.Store.Rollout(rt.Context(), w.rollout[i])
		if err != nil {
			rt.Fatal(err)
		}
		d := rollout.Decision{Action: rollout.HaltSegment, State: rollout.Running, Reasons: []rollout.Reason{{Code: "segment-evidence"}}, Pace: ro.Pace, Knowledge: &rollout.Knowledge{},
			HaltSegments: []rollout.HaltedSegment{{ID: uint32(len(w.halted)), Labels: l, Share: 0.3}}}
		if _, err := x.decide(t, w.rollout[i], d); err != nil {
			rt.Fatal(err)
		}
	}
}

// tell sends what endpoints report in one instant: to the first world in order, to
// the second shuffled, some of it twice, in up to three batches.
func (w *twins) tell(rt *rapid.T, t *testing.T) {
	who := some(rt, "beacons")
	// Whether the product runs is one thing in one instant, and to fall ill before
	// one is proven or goes back is another thing than after.
	sick := map[int]bool{}
	states := []store.AttemptState{"", store.AttemptProven, store.AttemptHarmed, store.AttemptReverted, store.AttemptProbation}
	var said []int
	var what []store.AttemptState
	for _, i := range who {
		if _, known := sick[i]; !known {
			sick[i] = rapid.IntRange(0, 3).Draw(rt, "sick") == 0
		}
		said, what = append(said, i), append(what, rapid.SampledFrom(states).Draw(rt, "state"))
	}
	for k, i := range said {
		sick[i] = sick[i] && what[k] == ""
	}
	order := make([]int, 0, 2*len(said))
	for k := range said {
		for range rapid.IntRange(1, 2).Draw(rt, "times") {
			order = append(order, k)
		}
	}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "shuffle"), 1))
	r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	var first store.Batch
	cut := make([]store.Batch, 3)
	beacon := func(world, k int) store.BeaconReport {
		b := w.worlds[world].Beacon(said[k], w.rollout[world], what[k])
		b.Installations[0].Healthy = !sick[said[k]]
		return b
	}
	for k := range said {
		first.Beacons = append(first.Beacons, beacon(0, k))
	}
	for _, k := range order {
		b := &cut[r.IntN(len(cut))]
		b.Beacons = append(b.Beacons, beacon(1, k))
	}
	w.worlds[0].Commit(t, first, w.now)
	for _, b := range cut {
		w.worlds[1].Commit(t, b, w.now)
	}
}

// some draws endpoints, a few of them twice. Evenly: small numbers first, as rapid
// likes them, would hardly ever wake both halves of a pair.
func some(rt *rapid.T, what string) []int {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, what), 2))
	return append(r.Perm(12)[:r.IntN(13)], r.Perm(12)[:r.IntN(4)]...)
}

// ask asks for grants, in the second world twice.
func (w *twins) ask(rt *rapid.T, t *testing.T, window int64) {
	who := some(rt, "asks")
	var granted [2][]bool
	for i, x := range w.worlds {
		var b store.Batch
		for _, e := range who {
			b.Asks = append(b.Asks, x.Ask(e, w.rollout[i]))
		}
		fresh := map[int]bool{}
		for range i + 1 {
			granted[i] = nil
			for k, a := range x.Commit(t, b, w.now).Asks {
				granted[i] = append(granted[i], a.Verdict == rollout.Granted)
				if a.Verdict == rollout.Granted {
					fresh[who[k]] = fresh[who[k]] || a.New
				}
			}
		}
		if i == 0 {
			w.mayBeGranted(rt, fresh) // the other's answers are the same
		}
		ro, err := x.Store.Rollout(rt.Context(), w.rollout[i])
		if err != nil {
			rt.Fatal(err)
		}
		if slices.Contains(slices.Collect(maps.Values(fresh)), true) && (ro.Counts.Unproven() > window || ro.Counts.Exposed > ro.Pace.Ceiling) {
			rt.Fatalf("a grant, and %d are unproven in a window of %d, %d exposed of %d", ro.Counts.Unproven(), window, ro.Counts.Exposed, ro.Pace.Ceiling)
		}
	}
	if !slices.Equal(granted[0], granted[1]) {
		rt.Fatalf("%v were granted %v; asked twice, %v", who, granted[0], granted[1])
	}
}

// mayBeGranted checks grants, true if they are new exposures, against what was
// halted and the failure domains.
func (w *twins) mayBeGranted(rt *rapid.T, granted map[int]bool) {
	if len(granted) == 0 {
		return
	}
	all := make([]store.Endpoint, len(w.worlds[0].Endpoints))
	down := map[string][]int{}
	for i, e := range w.worlds[0].Endpoints {
		var err error
		if all[i], err = w.worlds[0].Store.Endpoint(rt.Context(), e.ID); err != nil {
			rt.Fatal(err)
		}
		for _, x := range all[i].Exposures { // who went back is up
			if all[i].Domain != "" && x.Rollout == w.rollout[0] && !x.Reverted && (x.State == health.Open || x.State == health.Silent) {
				down[all[i].Domain] = append(down[all[i].Domain], i)
			}
		}
	}
	for i, fresh := range granted {
		if all[i].Labels.MatchAny(w.halted) {
			rt.Fatalf("endpoint %d, %s, was granted; halted are %v", i, all[i].Labels, w.halted)
		}
		if both := down[all[i].Domain]; fresh && len(both) > 1 {
			rt.Fatalf("endpoint %d was granted, and both halves of %s are open or silent: %v", i, all[i].Domain, both)
		}
	}
}

// outcome is all that is counted and what is decided, with failures and segments
// by their labels instead of the order in which they came up.
func (w *twins) outcome(rt *rapid.T, i int) string {
	x := w.worlds[i]
	s, err1 := x.Store.Snapshot(rt.Context(), w.rollout[i], w.now)
	groups, err2 := x.Store.Composition(rt.Context(), w.rollout[i], w.now.Add(-time.Minute), w.now)
	var err3 error
	s.Control, err3 = x.Store.Presence(rt.Context(), w.rollout[i], w.now.Add(-time.Minute), w.now)
	if err := errors.Join(err1, err2, err3); err != nil {
		rt.Fatal(err)
	}
	failures := s.Observed.Failures
	s.Segment(groups)
	d, refused := rollout.Decide(s, w.now)
	slices.SortFunc(failures, func(a, b rollout.Failures) int { return cmp.Compare(a.Labels.String(), b.Labels.String()) })
	cells := slices.Clone(s.Observed.Cells)
	slices.SortFunc(cells, func(a, b health.CellLook) int { return cmp.Compare(a.Labels.String(), b.Labels.String()) })
	for k := range cells {
		cells[k].ID = 0
	}
	o := *s.Observed
	o.Cells = nil
	b, err := json.MarshalIndent([]any{s.Counts, s.Segments, s.Reverted, s.Control, o, failures, cells, d.Action, d.State, d.Pace, d.Reasons, fmt.Sprint(refused)}, "", " ")
	if err != nil {
		rt.Fatal(err)
	}
	return string(b)
}
