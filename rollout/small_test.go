package rollout

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
)

// played is one endpoint of a fleet in memory.
type played struct {
	id      string
	rung    int64 // of its grant; -1 is coverage
	granted time.Time
	state   health.State // empty: not exposed
	fails   time.Duration
}

// play rolls a release out to a fleet where everybody is there, asks when it is
// its turn and is proven after probation, but for those that fail at an age. It
// observes as the store does, and returns how the rollout stands in the end.
type play struct {
	s      Snapshot
	fleet  []played
	chosen int // of the fleet's beginning, for coverage
	seed   []byte
	now    time.Time
	every  time.Duration // between looks
	last   Decision
	labels func(endpoint int) fleet.Labels // nil: segments are not looked at
}

func newPlay(p Policy, n int, seed uint64) *play {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	longest := p.Budget.Horizons[len(p.Budget.Horizons)-1].Age.Std()
	g := &play{now: start, every: max(10*time.Second, longest/60), seed: binary.BigEndian.AppendUint64(nil, seed)}
	g.s = Snapshot{Rollout: 1, Product: "acme/rules", Version: "2.0.0", State: Running, Policy: p, Rules: Rules, Started: start, RungSince: start, Observed: &Observed{}}
	for i := range n {
		g.fleet = append(g.fleet, played{id: fmt.Sprintf("E-%08d", i)})
	}
	g.chosen = int(p.Budget.coverOf(int64(n)))
	return g
}

// step is one look, and what endpoints do until the next.
func (g *play) step(t interface{ Fatalf(string, ...any) }) {
	g.observe()
	d, err := Decide(g.s, g.now)
	if err != nil {
		t.Fatalf("%v", err)
	}
	g.s.State, g.s.Pace, g.s.HeldBy, g.s.Observed.Knowledge, g.last = d.State, d.Pace, d.HeldBy, *d.Knowledge, d
	g.s.Observed.Halted = append(g.s.Observed.Halted, d.HaltSegments...)
	if d.NewRung {
		g.s.RungSince = g.now
	}
	g.now = g.now.Add(g.every)
	gate := Gate{Rollout: 1, State: g.s.State, Pace: g.s.Pace, Counts: g.s.Counts, Digest: "d", Seed: g.seed, Holdback: g.s.Policy.Budget.Holdback, Halted: haltedLabels(g.s.Observed.Halted)}
	for i := range g.fleet {
		gate.Covered += count(g.fleet[i].state != "" && g.fleet[i].rung < 0)
	}
	for i := range g.fleet {
		e := &g.fleet[i]
		switch {
		case e.state == "":
			a := Ask{Endpoint: e.id, Digest: "d", Coverage: i < g.chosen && gate.Covers()}
			if g.labels != nil {
				a.Labels = g.labels(i)
			}
			if gate.Admit(a).New {
				e.state, e.granted, e.rung = health.Open, g.now, g.s.Pace.Rung
				if a.Coverage {
					e.rung = -1
				}
			}
		case e.fails > 0 && g.now.Sub(e.granted) >= e.fails:
			e.state = e.state.Next(health.Harmed)
		case g.now.Sub(e.granted) >= g.s.Policy.Probation.Std():
			e.state = e.state.Next(health.Proven)
		}
	}
}

func count(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

func (g *play) observe() {
	o := Observed{Knowledge: g.s.Observed.Knowledge, Halted: g.s.Observed.Halted}
	horizons := g.s.Policy.Budget.Horizons
	if g.s.Pace.Ceiling > 0 {
		o.Cohorts = make([]Cohort, g.s.Pace.Rung+1)
	}
	for i := range o.Cohorts {
		o.Cohorts[i] = Cohort{Last: g.s.RungSince, ByAge: make([]int64, len(horizons))}
	}
	c := health.Counts{}
	for i := range g.fleet {
		e := &g.fleet[i]
		if e.state == "" {
			continue
		}
		c.Grant()
		c.Move(health.Open, e.state)
		k := &o.Coverage
		if e.rung >= 0 {
			k = &o.Cohorts[e.rung]
		}
		if k.Granted++; k.Granted == 1 || e.granted.After(k.Last) {
			k.Last = e.granted
		}
		k.Size++
		if e.state == health.Harmed {
			k.Arm.Harmed++
			for j := range k.ByAge {
				k.ByAge[j]++
			}
		} else {
			k.Arm.AtRisk++
			k.Arm.AtLeast++
		}
		if e.state == health.Open {
			for j := range k.ByAge {
				k.ByAge[j]++
			}
		}
	}
	n := int64(len(g.fleet))
	o.Control = health.Arm{AtRisk: n - c.Exposed, AtLeast: n - c.Exposed}
	g.s.Counts, g.s.Observed = c, &o
	g.s.Control = health.Control{Fit: n, Online: n, Unexposed: n - c.Exposed, Heard: n - c.Exposed}
	if g.labels != nil {
		g.segments()
	}
}

// TestAGoodUpdateAlwaysFinishes, in a fleet of any size, by every preset, with
// nobody to help it.
func TestAGoodUpdateAlwaysFinishes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(Presets()).Draw(t, "preset")
		n := rapid.IntRange(1, 2000).Draw(t, "endpoints")
		finishes(t, name, n, rapid.Uint64().Draw(t, "seed"))
	})
	for n := 1; n <= 2000; n += 1 + n/5 {
		finishes(t, "standard", n, uint64(n))
	}
	// Where the later horizons' budgets are about the least, looks are scarce.
	for _, n := range []int{4000, 5000, 7000} {
		finishes(t, "safe", n, 1)
	}
	finishes(t, "driver", 7000, 1)
}

func finishes(t interface{ Fatalf(string, ...any) }, name string, n int, seed uint64) {
	p, err := Preset(name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	g := newPlay(p, n, seed)
	longest := p.Budget.Horizons[len(p.Budget.Horizons)-1].Age.Std()
	limit := 9*longest + time.Hour
	for g.s.State != Finished {
		if g.step(t); g.now.Sub(g.s.Started) > limit || g.s.State == Halted || g.s.State == Reverting {
			t.Fatalf("%s, %d endpoints, seed %d: after %s it is %s: %+v, %+v", name, n, seed, g.now.Sub(g.s.Started), g.s.State, g.s.Counts, g.last.Reasons)
		}
	}
	for range 20 {
		g.step(t)
	}
	if c := g.s.Counts; c.Proven != int64(n) {
		t.Fatalf("%s, %d endpoints: finished, and %+v", name, n, c)
	}
}

// TestASmallFleetKeepsItsBudgetToo: whatever share of the fleet a release harms,
// it harms no more than the budget before it is stopped. The seeds are fixed, for
// one rollout in a thousand may.
func TestASmallFleetKeepsItsBudgetToo(t *testing.T) {
	over, played := 0, 0
	for seed := range uint64(60) {
		p, err := Preset(Presets()[seed%5])
		if err != nil {
			t.Fatal(err)
		}
		g := newPlay(p, []int{20, 60, 150, 400, 1000, 2000}[seed%6], seed)
		rate := []float64{0.01, 0.03, 0.08, 0.2, 1}[seed/6%5]
		for i := range g.fleet {
			if fleet.InTurn(fleet.Rank([]byte("fault"), fmt.Sprint(seed, " ", i)), rate) {
				g.fleet[i].fails = 30 * time.Second
			}
		}
		for g.s.State.Active() && g.now.Sub(g.s.Started) < 24*time.Hour {
			g.step(t)
		}
		played++
		if harmed := g.s.Counts.Harmed; float64(harmed) > p.Budget.Horizons[0].Budget(int64(len(g.fleet))) {
			over++
			t.Logf("%s, %d endpoints, rate %v, seed %d: %d harmed", p.Name, len(g.fleet), rate, seed, harmed)
		}
	}
	if over > 0 {
		t.Errorf("%d of %d rollouts harmed more than their budget", over, played)
	}
}
