package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

var (
	firstSeed = flag.Uint64("first-seed", 1, "the first seed of kills")
	seeds     = flag.Uint64("seeds", 2, "how many seeds")
	rounds    = flag.Int("rounds", 4, "updates under each seed")
)

// Rule 1 with the whole agent: whatever of it is killed while an update is under
// way, exactly one engine runs afterwards, of the last known good or of the
// candidate, and the server has counted the update once.
func TestKilledAgentRunsExactlyOneEngineAndCountsOnce(t *testing.T) {
	t.Parallel()
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			chaos(t, seed, *rounds)
		})
	}
}

func chaos(t *testing.T, seed uint64, rounds int) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := running(t, 1, nil)
	a := s.agents[0]
	stop := watchForTwo(t, a)
	defer stop()
	runs := "1.0.0"
	for i := range rounds {
		version, content := fmt.Sprintf("1.%d.0", i+1), good
		if i%4 == 2 {
			content = bad
		}
		s.publish(version, content)
		id := s.rollOut(version, everyone(map[string]any{"max_harmed": 100, "probation": "1200ms", "grace": "30s"}))
		for range 1 + rnd.IntN(3) {
			time.Sleep(time.Duration(rnd.IntN(700)) * time.Millisecond)
			t.Logf("%s: %s", version, a.killOne(rnd))
		}
		var e endpoint
		until(t, version+" is proven or left", func() bool {
			e = a.show()
			x := e.Exposures[0]
			return fmt.Sprintf("R-%d", x.Rollout) == id && (x.State == "proven" || x.State == "harmed") && e.runs() != ""
		})
		x := e.Exposures[0]
		t.Logf("%s: %s %s", version, x.State, x.Reason)
		want := version
		if x.State == "harmed" {
			want = runs
		}
		if runs = e.runs(); runs != want {
			t.Fatalf("%s is %s (%s %s), and %s runs; want %s", version, x.State, x.Reason, x.Detail, runs, want)
		}
		if content == bad && x.State != "harmed" {
			t.Errorf("%s, which crashes, is %s", version, x.State)
		}
		until(t, "an engine runs", func() bool { return len(engines(t, a.home)) == 1 }) // a new keeper has just begun
		if c := s.show(id).Counts; c.Exposed != 1 || c.Proven+c.Harmed != 1 {
			t.Errorf("%s is counted %+v", id, c)
		}
		if s.show(id).State == "running" {
			s.do("rollout", "halt", id)
		}
	}
	stop()
	s.verify()
}

// killOne is kill -9 of one of the agent's processes; a killed keeper is started
// again, as an init system would.
func (a *agent) killOne(rnd *rand.Rand) string {
	a.s.t.Helper()
	victims := engines(a.s.t, a.home)
	switch rnd.IntN(3) {
	case 0:
		a.kill()
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
		a.start()
		return "keeper killed"
	case 1:
		victims = links(a.home)
	}
	for _, v := range victims {
		_ = syscall.Kill(v.pid, syscall.SIGKILL) // it may be gone
	}
	return fmt.Sprintf("killed %v", victims)
}

// watchForTwo looks for two engines at once, until it is stopped.
func watchForTwo(t *testing.T, a *agent) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		twice := 0
		for {
			select {
			case <-end:
				return
			case <-time.After(10 * time.Millisecond):
			}
			if all := engines(t, a.home); len(all) < 2 {
				twice = 0
			} else if twice++; twice == 3 { // one that was killed may take a moment to go
				t.Errorf("engines at once: %v", all)
			}
		}
	}()
	done := false
	return func() {
		if !done {
			done = true
			close(end)
			<-ended
		}
	}
}
