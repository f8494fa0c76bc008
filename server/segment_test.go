package server

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/sim/wire"
)

// badDriver is the configuration that the tests' release crashes: neither the
// processor nor the driver alone.
var badDriver = fleet.Labels{"arch": "arm64", "driver": "X"}

// mixed gives endpoint i its labels: a quarter arm64, a third with driver X.
func mixed(i int, _ *rand.Rand) map[string]string {
	return map[string]string{"arch": []string{"amd64", "arm64", "amd64", "amd64"}[i%4], "driver": []string{"X", "Y", "Z"}[i/4%3], "os": fmt.Sprint("os-", i/12%5)}
}

const segmentFleet = 600

// TestTheFleetIsCoveredBeforeEveryoneGetsIt: the start says who covers what; they
// go with the second cohort, are counted apart, and everyone is served in the end.
func TestTheFleetIsCoveredBeforeEveryoneGetsIt(t *testing.T) {
	w := newWorld(t, often)
	w.content("1.0.0")
	w.live(wire.Config{N: segmentFleet, Labels: mixed})
	p := patient(t)
	p.Budget.Cover, p.Budget.Critical = 2500, []string{badDriver.String(), "driver=none"}
	doc, err := p.Document()
	check(t, err)
	req := &headgatev1.StartRolloutRequest{Product: product, Version: "1.0.0", PolicyJson: string(doc), DryRun: true}
	var dry *connect.Response[headgatev1.StartRolloutResponse]
	for end := time.Now().Add(30 * time.Second); dry == nil || dry.Msg.Plan.Fit < segmentFleet && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		dry, err = w.rollout.StartRollout(t.Context(), connect.NewRequest(req))
		check(t, err)
	}
	planned := dry.Msg.Plan
	if c := planned.GetCoverage(); dry.Msg.Rollout != nil || c.GetChosen() != segmentFleet/50 || c.GetReached() == 0 || len(c.GetUncovered()) != 1 || c.GetUncovered()[0] != "driver=none" || planned.Fit != segmentFleet || planned.Gates < 2 {
		t.Fatalf("planned %v", planned)
	}
	id := w.start("1.0.0", p)
	if r := w.show(id); r.Coverage.GetChosen() != planned.Coverage.Chosen || r.Coverage.GetReached() != planned.Coverage.Reached {
		t.Errorf("the start covers %v; planned was %v", r.Coverage, planned.Coverage)
	}
	if c := w.untilStops(id, rollout.Finished).Counts; c.Harmed+c.Silent != 0 || c.Proven < segmentFleet*9/10 {
		t.Errorf("counts %v", c)
	}
	covered := int64(0)
	for _, d := range w.replays(id) {
		covered = max(covered, d.Snapshot.Observed.Coverage.Granted)
	}
	if covered < 6 || covered > segmentFleet/50 {
		t.Errorf("%d of %d were exposed for coverage", covered, segmentFleet/50)
	}
	w.healthy()
}

// patient gives a busy machine time to let its endpoints speak: what is late is
// silent, in both arms, and then nothing can be said.
func patient(t *testing.T) rollout.Policy {
	p := flashQuick(t)
	p.Grace = span.Duration(5 * time.Second)
	p.Budget.Horizons[0].Age = span.Duration(7 * time.Second)
	return p
}

func segmentPolicy(t *testing.T) rollout.Policy {
	p := patient(t)
	p.Name = "segments-quick"
	p.Budget.Segments, p.Budget.MaxSegment, p.Budget.MaxExcluded = true, 0.1, 0.2
	return p
}

// TestOneBadConfigurationIsHaltedAlone: everybody else gets the release, through
// the real server, and each decision comes out the same when it is made again. Of
// 600 endpoints the first cohort holds two or three of the bad ones, and in three
// of ten rollouts so many that everything is halted (docs/policies.md): chance may
// have it so three times, and then the harm ends with that cohort.
func TestOneBadConfigurationIsHaltedAlone(t *testing.T) {
	alone := false
	for i := 0; i < 4 && !alone && !t.Failed(); i++ {
		t.Run(fmt.Sprint(i), func(t *testing.T) { alone = haltedAlone(t) })
	}
	if !alone {
		t.Error("the segment was never halted alone")
	}
}

// haltedAlone plays one rollout, and tells whether the segment was halted alone.
func haltedAlone(t *testing.T) bool {
	w := newWorld(t, often)
	w.content("1.0.0")
	w.live(wire.Config{N: segmentFleet, Labels: mixed, Crashes: func(l map[string]string, _ string) bool { return fleet.Labels(l).Match(badDriver) }})
	id := w.start("1.0.0", segmentPolicy(t))
	r := w.untilStops(id, rollout.Finished, rollout.Reverting, rollout.Reverted)
	named := false
	for _, d := range w.replays(id) {
		for _, h := range d.Decision.HaltSegments {
			named = named || h.Labels.String() == badDriver.String()
		}
	}
	w.healthy()
	if r.State != string(rollout.Finished) {
		if c := r.Counts; c.Harmed+c.Silent == 0 || c.Exposed > segmentFleet/4 {
			w.Errorf("everything is halted with counts %v; want harm, and few exposed", c)
		}
		return false
	}
	if len(r.Halted) != 1 || r.Halted[0].Segment != badDriver.String() || !named {
		w.Errorf("left out: %v, named in a decision: %v; want %s", r.Halted, named, badDriver)
	}
	if c := r.Counts; c.Proven < segmentFleet*8/10 {
		w.Errorf("counts %v; want nearly all but the twelfth with the driver proven", c)
	}
	return true
}
