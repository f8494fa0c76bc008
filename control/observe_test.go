package control

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
	"github.com/headgate/headgate/store/storetest"
)

// paced is a fleet under a budgeted rollout, in virtual time: real store, real
// decider, endpoints that report every ten seconds unless they are dark.
type paced struct {
	*storetest.World
	d       *Decider
	now     time.Time
	id      int64
	granted map[int]time.Time
	dark    map[int]bool
}

func newPaced(t *testing.T, n int) *paced {
	s := storetest.Open(t, "sqlite:"+filepath.Join(t.TempDir(), "headgate.db"))
	p := &paced{World: storetest.NewWorld(t, s, n), now: storetest.Start, granted: map[int]time.Time{}, dark: map[int]bool{}}
	d := func(n int) span.Duration { return span.Duration(time.Duration(n) * time.Second) }
	policy, err := rollout.Preset("flash")
	check(t, err)
	policy.Beacon, policy.Grace, policy.Probation, policy.GrantTTL, policy.FillTimeout, policy.MinControls = d(10), d(20), d(10), d(10), d(60), 0.3
	policy.Budget.Horizons = []rollout.Horizon{{Age: d(60), Share: 0.25}}
	policy.Budget.SlowShare, policy.Budget.Cover, policy.Budget.Segments, policy.Budget.Baseline = 0, 0, false, 1e-5
	r, err := s.StartRollout(t.Context(), store.Start{Product: storetest.Product, Version: "1.0.0", Policy: policy, Seed: []byte("seed"), Actor: "operator:ann"}, p.now, nil)
	check(t, err)
	p.id = r.ID
	p.d = &Decider{Rollouts: s, Every: time.Second, Now: func() time.Time { return p.now }, Log: slog.New(slog.DiscardHandler)}
	p.d.init()
	return p
}

// pass lets five seconds pass: who is not dark reports, and asks if it has not.
func (p *paced) pass(t *testing.T) store.Rollout {
	t.Helper()
	p.now = p.now.Add(5 * time.Second)
	b := store.Batch{}
	var asked []int
	for i := range p.Endpoints {
		if p.dark[i] {
			continue
		}
		state := store.AttemptState("")
		at, is := p.granted[i]
		if !is {
			asked = append(asked, i)
			b.Asks = append(b.Asks, p.Ask(i, p.id))
		} else if p.now.Sub(at) >= 10*time.Second {
			state = store.AttemptProven
		}
		b.Beacons = append(b.Beacons, p.Beacon(i, p.id, state))
	}
	for k, a := range p.Commit(t, b, p.now).Asks {
		if a.Verdict == rollout.Granted {
			p.granted[asked[k]] = p.now
		}
	}
	p.d.tick(t.Context(), &complaints{log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	r, err := p.Store.Rollout(t.Context(), p.id)
	check(t, err)
	return r
}

func TestSilenceOfTheExposedAloneHaltsAndThatOfBothArmsDoesNot(t *testing.T) {
	const n = 400
	for name, c := range map[string]struct {
		falls func(p *paced, i int) bool
		want  rollout.State
	}{
		"nobody":                   {func(*paced, int) bool { return false }, rollout.Finished},
		"a third of both arms":     {func(_ *paced, i int) bool { return i%3 == 0 }, rollout.Finished},
		"a third of those exposed": {func(p *paced, i int) bool { return i%3 == 0 && !p.granted[i].IsZero() }, rollout.Reverting},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPaced(t, n)
			var r store.Rollout
			for s := 0; s < 600 && r.State != rollout.Finished && r.State != rollout.Reverting; s += 5 {
				if s == 30 { // the first cohort is proven, and its horizon not reached
					for i := range n {
						p.dark[i] = c.falls(p, i)
					}
				}
				if s == 150 {
					p.dark = map[int]bool{}
				}
				r = p.pass(t)
			}
			if r.State != c.want {
				t.Errorf("it is %s after %s, %+v: %v; want %s", r.State, p.now.Sub(storetest.Start), r.Counts, r.Reasons, c.want)
			}
			storetest.Healthy(t, p.Store)
		})
	}
}

// dear is a store of so many endpoints that to count the controls takes two seconds.
type dear struct {
	Rollouts
	p *paced
}

func (x dear) Presence(ctx context.Context, id int64, since, now time.Time) (health.Control, error) {
	x.p.now = x.p.now.Add(2 * time.Second)
	return x.Rollouts.Presence(ctx, id, since, now)
}

// A count of the controls is kept while it is dear. An outage that began since then
// makes both arms silent, and nobody is judged by the controls of before it.
func TestAnOutageIsNotJudgedByAnOldCountOfTheControls(t *testing.T) {
	p := newPaced(t, 400)
	policy := rollout.DefaultPolicy()
	policy.Ladder, policy.MinControls, policy.MaxHarmed = []int64{50}, 0.9, 2
	policy.Beacon, policy.Grace, policy.Probation, policy.GrantTTL = span.Duration(10*time.Second), span.Duration(20*time.Second), span.Duration(15*time.Second), span.Duration(10*time.Second)
	_, err := p.Store.OrderRollout(t.Context(), p.id, rollout.Order{Verb: rollout.VerbHalt, Operator: "ann"}, p.now, nil)
	check(t, err)
	r, err := p.Store.StartRollout(t.Context(), store.Start{Product: storetest.Product, Version: "1.0.0", Policy: policy, Seed: []byte("seed"), Actor: "operator:ann"}, p.now, nil)
	check(t, err)
	p.id = r.ID
	p.d.Rollouts = dear{p.Store, p}
	sweeper := Sweeper{Silences: p.Store, Every: time.Second, Now: func() time.Time { return p.now }, Log: p.d.Log}
	for s := 0; s < 120; s += 5 {
		for i := range p.Endpoints {
			p.dark[i] = len(p.granted) > 0 && s >= 15 // the network is gone
		}
		r = p.pass(t)
		check(t, sweeper.Sweep(t.Context()))
	}
	if r.State != rollout.Held || r.Counts.Silent < 10 {
		t.Errorf("it is %s with %+v: %v; want it held, with both arms silent", r.State, r.Counts, r.Reasons)
	}
}

// The last ranks are controls until the finish.
func TestHoldbackIsNotGrantedBeforeTheFinish(t *testing.T) {
	p := newPaced(t, 400)
	var r store.Rollout
	for s := 0; s < 600 && r.State != rollout.Finished; s += 5 {
		r = p.pass(t)
		if exposed := r.Counts.Exposed; r.State != rollout.Finished && exposed > 396 {
			t.Fatalf("%d of 400 are exposed before the finish; 1 %% is held back", exposed)
		}
	}
	for range 5 {
		r = p.pass(t)
	}
	if r.State != rollout.Finished || r.Counts.Exposed != 400 {
		t.Errorf("%s, %+v; want everyone once it finished", r.State, r.Counts)
	}
	for i, at := range p.granted {
		if at.IsZero() {
			t.Errorf("%s was never granted", ids.Format("E", p.Endpoints[i].ID))
		}
	}
}
