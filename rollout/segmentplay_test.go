package rollout

import (
	"testing"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
)

// labelled is the i-th endpoint's labels: one in twelve is arm64 with driver X.
func labelled(i int) fleet.Labels {
	return fleet.Labels{"arch": []string{"amd64", "arm64", "amd64", "amd64"}[i%4], "driver": []string{"X", "Y", "Z"}[i/4%3]}
}

// playSegment plays a release that fails on arm64 with driver X.
func playSegment(t *testing.T, p Policy, n int, seed uint64) *play {
	t.Helper()
	g := newPlay(p, n, seed)
	bad := fleet.Labels{"arch": "arm64", "driver": "X"}
	g.labels = labelled
	for i := range g.fleet {
		if labelled(i).Match(bad) {
			g.fleet[i].fails = 30 * time.Second
		}
	}
	for g.s.State.Active() && g.now.Sub(g.s.Started) < 24*time.Hour {
		g.step(t)
	}
	return g
}

// segments is what the store and the server know of labels, once observe is done.
func (g *play) segments() {
	o := g.s.Observed
	index := map[string]int{}
	var groups []Group
	var failures []Failures
	halted := haltedLabels(o.Halted)
	for i, e := range g.fleet {
		l := g.labels(i)
		at, known := index[l.String()]
		if !known {
			at = len(groups)
			index[l.String()] = at
			groups, failures = append(groups, Group{Labels: l}), append(failures, Failures{Labels: l})
		}
		groups[at].Fit++
		groups[at].Exposed += count(e.state != "")
		groups[at].Heard += count(e.state == "")
		failures[at].Treated += count(e.state == health.Harmed)
		if e.state == "" || !l.MatchAny(halted) {
			continue
		}
		k := &o.Coverage
		if e.rung >= 0 {
			k = &o.Cohorts[e.rung]
		}
		k.Size--
		switch e.state {
		case health.Harmed:
			k.Arm.Harmed--
		default:
			k.Arm.AtRisk--
			k.Arm.AtLeast--
		}
		for j := range k.ByAge {
			k.ByAge[j] -= count(e.state == health.Harmed || e.state == health.Open)
		}
	}
	o.Failures = failures
	g.s.Segment(groups)
}

func haltedLabels(all []HaltedSegment) (out []fleet.Labels) {
	for _, h := range all {
		out = append(out, h.Labels)
	}
	return out
}

// TestALooseBudgetHaltsABadTwelfthIfItHasGates: a segment shows its deaths beside
// controls like it. With two cohorts and a small fleet's last step there may be none
// left, and what the budget allows passes; a cohort in between halts the segment, or
// everything, on every seed.
func TestALooseBudgetHaltsABadTwelfthIfItHasGates(t *testing.T) {
	for _, gates := range []int64{0, 3} {
		alone, whole := 0, 0
		const seeds = 10
		for seed := range uint64(seeds) {
			p := preset(t, "flash")
			p.Budget.Horizons[0].Harm, p.Budget.Horizons[0].Share = 0, 0.25
			p.Budget.MaxSegment, p.Budget.Gates, p.Budget.Cover, p.Budget.SlowShare = 0.1, gates, 0, 0
			g := playSegment(t, p, 600, seed)
			switch halted := g.s.Observed.Halted; {
			case g.s.State == Reverting:
				whole++
			case len(halted) == 1 && halted[0].Labels.String() == "arch=arm64 & driver=X" && g.s.State == Finished:
				alone++
			case len(halted) > 0:
				t.Errorf("%d gates, seed %d: %s, halted %+v", gates, seed, g.s.State, halted)
			}
			if limit := int64(150); g.s.Counts.Harmed > limit {
				t.Errorf("%d gates, seed %d: %d harmed; the budget is %d", gates, seed, g.s.Counts.Harmed, limit)
			}
		}
		if alone < seeds/2 || gates == 3 && alone+whole < seeds {
			t.Errorf("%d gates: of %d rollouts %d halted the segment alone, %d everything", gates, seeds, alone, whole)
		}
	}
}
