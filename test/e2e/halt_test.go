package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Rule 6. Of five endpoints one has the release when an operator halts; one has
// been granted it, and its answer is late; one asks just before the halt, and
// its question is late; two come later.
func TestHaltStopsGrantsInFlightAndTwoOperatorsResume(t *testing.T) {
	t.Parallel()
	var w *wire
	s := running(t, 5, nil, func(s *site) { w = wired(s) })
	const life = 2 * time.Second
	first, answered, asked := s.agents[0], s.agents[1], s.agents[2]
	halted := make(chan struct{})
	granted, asking := make(chan struct{}), make(chan struct{})
	var onceGranted, onceAsking sync.Once
	w.set(func(r *http.Request) bool {
		switch {
		case !isGrant(r) || first.from(r) || answered.from(r):
			return true
		case asked.from(r):
			onceAsking.Do(func() { close(asking) })
			<-halted
			return true
		}
		select { // the other two
		case <-halted:
			return true
		default:
			return false
		}
	}, func(r *http.Response) bool {
		if isGrant(r.Request) && answered.from(r.Request) {
			onceGranted.Do(func() { close(granted) })
			<-halted
			time.Sleep(life + life/2) // longer than the grant lives
		}
		return true
	})
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", everyone(map[string]any{"grant_ttl": life.String(), "probation": "1s", "grace": "30s"}))
	<-granted
	<-asking
	until(t, "the first has it", func() bool { return s.show("R-2").Counts.Proven == 1 })
	s.do("rollout", "halt", "R-2", "--why", "a doubt")
	close(halted)
	before := map[*agent]seen{}
	for _, a := range s.agents {
		before[a] = a.engine()
	}
	quiet(2*life + 500*time.Millisecond)
	for a, e := range before {
		if now := a.engine(); now != e {
			t.Errorf("%s: %v runs instead of %v after the halt", a.id, now, e)
		}
	}
	r := s.show("R-2")
	if r.State != "halted" || r.Counts.Exposed != 2 {
		t.Fatalf("after the halt: %s, %+v; want halted, 2 exposed", r.State, r.Counts)
	}
	if e := first.show(); e.runs() != "1.1.0" {
		t.Errorf("the one that had it runs %q; a halt takes nothing away", e.runs())
	}
	w.set(nil, nil)
	s.do("rollout", "resume", "R-2", "--why", "no doubt")
	if r := s.show("R-2"); r.State != "halted" || r.Asked == "" {
		t.Fatalf("after one operator's word: %s, asked by %q", r.State, r.Asked)
	}
	s.do("rollout", "resume", "R-2") // the same operator again
	if r := s.show("R-2"); r.State != "halted" {
		t.Fatalf("one operator resumed alone: %s", r.State)
	}
	s.as2("rollout", "resume", "R-2")
	if r := s.become("R-2", "finished"); r.Counts != (counts{Exposed: 5, Proven: 5}) {
		t.Errorf("in the end %+v", r.Counts)
	}

	// And the way back, for all five, in the sight of the operator.
	s.do("rollout", "revert", "R-2", "--why", "it was no good after all")
	if r := s.become("R-2", "reverted"); r.Reverted != 5 {
		t.Errorf("%d of 5 are back", r.Reverted)
	}
	until(t, "all five are listed with 1.0.0, in health", func() bool {
		var list struct {
			Endpoints []endpoint `json:"endpoints"`
		}
		s.read(&list, "endpoint", "list")
		back := 0
		for _, e := range list.Endpoints {
			if e.runs() == "1.0.0" {
				back++
			}
		}
		return back == 5 && len(list.Endpoints) == 5
	})
	for _, a := range s.agents {
		if e := a.show(); !e.Exposures[0].Reverted || e.runs() != "1.0.0" {
			t.Errorf("%s: %+v, runs %q", e.Name, e.Exposures[0], e.runs())
		}
		a.engine()
	}
	if out := string(s.do("rollout", "show", "R-2")); !strings.Contains(out, "reverted") {
		t.Errorf("rollout show says %s", out)
	}
	s.verify()
}

// as2 runs a command as another operator.
func (s *site) as2(args ...string) {
	s.t.Helper()
	file := filepath.Join(s.dir, "bob.token")
	check(s.t, os.WriteFile(file, s.do("token", "add", "bob", "--scope", "operator"), 0o600))
	_, err := s.as(append(s.env, "HEADGATE_TOKEN_FILE="+file), args...)
	check(s.t, err)
}
