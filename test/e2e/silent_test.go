package e2e

import (
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Silence counts: an endpoint that is cut off after its grant is silent when its
// deadline is over, and the rollout stops for it.
func TestEndpointUnpluggedAfterItsGrantCountsAsSilentAndStopsTheRollout(t *testing.T) {
	t.Parallel()
	var w *wire
	s := running(t, 3, nil, func(s *site) { w = wired(s) })
	var out atomic.Pointer[agent] // the one that was granted first, and has no cable since
	unplugged := func(r *http.Request) bool { a := out.Load(); return a != nil && a.from(r) }
	w.set(func(r *http.Request) bool { return !unplugged(r) }, func(r *http.Response) bool {
		if isGrant(r.Request) && out.Load() == nil && s.show("R-2").Counts.Exposed == 1 {
			for _, a := range s.agents {
				if a.from(r.Request) && len(a.show().Exposures) == 2 { // not one that was told to wait
					return out.CompareAndSwap(nil, a) // it has heard, and cannot speak
				}
			}
		}
		return !unplugged(r.Request)
	})
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", policy(map[string]any{"grant_ttl": "6s", "probation": "1s", "grace": "1s"}))
	until(t, "the rollout stops", func() bool { st := s.show("R-2").State; return st == "reverting" || st == "reverted" })
	r := s.show("R-2")
	if r.Counts != (counts{Exposed: 1, Silent: 1}) {
		t.Errorf("counts %+v", r.Counts)
	}
	a := out.Load()
	for _, other := range s.agents {
		if e := other.show(); other != a && (e.runs() != "1.0.0" || len(e.Exposures) != 1) {
			t.Errorf("%s, never called, runs %q", e.Name, e.runs())
		}
	}
	if x := a.show().Exposures[0]; x.State != "silent" {
		t.Errorf("the unplugged one's exposure is %+v", x)
	}
	out.Store(nil)
	w.set(nil, nil)
	s.become("R-2", "reverted")
	until(t, "it is back on 1.0.0", func() bool { return a.show().runs() == "1.0.0" })
	s.verify()
}

// An endpoint that was granted and never heard of it has nothing to report. A
// revert does not wait for it: what it runs says that it is back.
func TestRevertDoesNotWaitForAGrantThatWasNeverUsed(t *testing.T) {
	t.Parallel()
	var w *wire
	s := running(t, 1, nil, func(s *site) { w = wired(s) })
	a := s.agents[0]
	old := a.engine()
	w.set(nil, func(r *http.Response) bool { return !isGrant(r.Request) }) // no answer arrives
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", policy(map[string]any{"grant_ttl": "1s", "grace": "10m"}))
	until(t, "it is counted", func() bool { return s.show("R-2").Counts.Exposed == 1 })
	s.do("rollout", "revert", "R-2", "--why", "a doubt")
	w.set(nil, nil)
	r := s.become("R-2", "reverted")
	if r.Reverted != 1 || r.Counts != (counts{Exposed: 1, Open: 1}) {
		t.Errorf("%d reverted, counts %+v; want the one, and that it is neither proof nor harm", r.Reverted, r.Counts)
	}
	if x := a.show().Exposures[0]; !x.Reverted || x.Reason != "runs-another" {
		t.Errorf("its exposure is %+v", x)
	}
	if now := a.engine(); now != old {
		t.Errorf("%v runs instead of %v", now, old)
	}
	s.verify()
}

// An engine that hangs is found by its watchdog: the agent goes back by itself,
// and what it reports stops the rollout.
func TestEngineThatFallsSilentIsRevertedAndStopsTheRollout(t *testing.T) {
	t.Parallel()
	s := running(t, 2, nil)
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", policy(map[string]any{"probation": "60s"}))
	var a *agent
	until(t, "one is in probation, and its engine works", func() bool {
		for _, x := range s.agents {
			if x.show().runs() == "1.1.0" {
				a = x
			}
		}
		return a != nil
	})
	hung := a.engine()
	check(t, syscall.Kill(hung.pid, syscall.SIGSTOP))
	until(t, "the rollout stops", func() bool { return strings.HasPrefix(s.show("R-2").State, "revert") })
	if r := s.show("R-2"); r.Counts != (counts{Exposed: 1, Harmed: 1}) {
		t.Errorf("counts %+v", r.Counts)
	}
	if x := a.show().Exposures[0]; x.State != "harmed" || x.Reason != "watchdog" {
		t.Errorf("its exposure is %+v", x)
	}
	until(t, "it is back on 1.0.0", func() bool { return a.show().runs() == "1.0.0" })
	if now := a.engine(); now.pid == hung.pid {
		t.Errorf("the hung engine still lives")
	}
	s.verify()
}
