package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/pgtest"
)

// Rule 3: a dead control plane activates nothing, stops nothing, and goes on
// when it is back.
func TestDeadServerActivatesNothingStopsNothingAndGoesOn(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); deadServer(t, nil) })
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		deadServer(t, map[string]any{"database": pgtest.Start(t).NewDatabase(t)})
	})
}

func deadServer(t *testing.T, change map[string]any) {
	s := running(t, 3, change)
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", policy(map[string]any{"probation": "2s"}))
	until(t, "the first endpoint is exposed", func() bool { return s.show("R-2").Counts.Exposed == 1 })
	s.server.kill()
	quiet(700 * time.Millisecond) // a grant that was answered is on its way
	before := map[*agent]seen{}
	turned := map[*agent]int64{}
	on := map[string]int{}
	for _, a := range s.agents {
		e := a.engine()
		before[a], turned[a] = e, turns(t, e.pid)
		on[strings.ReplaceAll(e.command, a.home, "")]++
	}
	if len(on) != 2 {
		t.Fatalf("want one engine on 1.1.0 and two on 1.0.0: %v", on)
	}
	quiet(3 * time.Second) // beyond the probation of the first, when the second would go
	for a, e := range before {
		if now := a.engine(); now != e {
			t.Errorf("%s: %v runs instead of %v though the server is dead", a.id, now, e)
		}
		if n := turns(t, e.pid) - turned[a]; n < 20 {
			t.Errorf("%s: the engine woke %d times in 3 s: it does not work", a.id, n)
		}
	}
	s.start()
	r := s.become("R-2", "finished")
	if want := (counts{Exposed: 3, Proven: 3}); r.Counts != want {
		t.Errorf("counts %+v, want %+v", r.Counts, want)
	}
	for _, a := range s.agents {
		if e := a.show(); e.runs() != "1.1.0" || len(e.Exposures) != 2 {
			t.Errorf("%s runs %q after %d exposures", a.id, e.runs(), len(e.Exposures))
		}
		a.engine()
	}
	s.verify()
}
