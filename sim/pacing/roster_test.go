package pacing

import (
	"fmt"
	"testing"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// labels are a profile as an endpoint tells it.
func (p profile) labels() fleet.Labels {
	l := fleet.Labels{}
	for a, v := range p {
		l[fmt.Sprint("label", a)] = fmt.Sprint(v)
	}
	return l
}

// compared checks, at every look while all who are exposed have a roster, what is
// seen of segments against what the server makes of the same endpoints.
type compared struct {
	*budgeted
	t       *testing.T
	compare int
}

func (c *compared) decide(w *run) orders {
	o := c.budgeted.decide(w)
	if len(c.s.Observed.Cells) == 0 || len(w.halted) > 0 || w.exposed() > rostered {
		return o
	}
	var groups []rollout.Group
	var failures []rollout.Failures
	at := map[profile]int{}
	group := func(p profile, first, failed int64) {
		i, ok := at[p]
		if !ok {
			i, at[p] = len(groups), len(groups)
			groups = append(groups, rollout.Group{Labels: p.labels(), Fit: 1000})
		}
		groups[i].Exposed, groups[i].First = groups[i].Exposed+1, groups[i].First+first
		if failed > 0 {
			failures = append(failures, rollout.Failures{Labels: p.labels(), Treated: failed})
		}
	}
	for k := range w.cells.rosters {
		first := int64(0)
		if k == 0 {
			first = 1
		}
		for _, p := range append(append([]profile{}, w.cells.rosters[k].members...), w.cells.rosters[k].fated...) {
			group(p, first, 0)
		}
		for _, e := range w.events {
			if e.cohort == k {
				group(e.p, first, 1)
			}
		}
	}
	s := rollout.Snapshot{Policy: rollout.Policy{Budget: &rollout.Budget{Segments: true, MaxSegment: 1}}, Observed: &rollout.Observed{Failures: failures}}
	s.Counts.Exposed = int64(w.exposed())
	s.Segment(groups)
	server := map[string]health.CellLook{}
	for _, x := range s.Observed.Cells {
		server[x.Labels.String()] = x
	}
	for _, x := range c.s.Observed.Cells {
		k := w.f.key(int32(x.ID))
		l := fleet.Labels{fmt.Sprint("label", k.a): fmt.Sprint(k.va)}
		if k.b >= 0 {
			l[fmt.Sprint("label", k.b)] = fmt.Sprint(k.vb)
		}
		c.compare++
		if y, ok := server[l.String()]; !ok || y.Failed != x.Failed || y.Exposed != x.Exposed || y.AtRisk != x.AtRisk {
			c.t.Fatalf("tick %d, %s: %+v; the server's %+v", w.t, l, x, y)
		}
	}
	return o
}

// TestSegmentsShowWhatTheServerMakesOfThem: the same failures, exposed and at risk.
func TestSegmentsShowWhatTheServerMakesOfThem(t *testing.T) {
	p := preset(t, "flash-1")
	x := fault(t, "kill-segment-0.05%")
	x.Until = 21
	c := &compared{budgeted: newBudgeted(large(), *p.Rollout), t: t}
	play(large(), c, x, p.Channel, 2, false)
	if c.compare < 50 {
		t.Errorf("%d segments were compared", c.compare)
	}
}
