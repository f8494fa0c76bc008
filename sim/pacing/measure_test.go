package pacing

import (
	"testing"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/rollout"
)

// measuring is a policy with two measures more.
func measuring(p Policy) Policy {
	with, b := *p.Rollout, *p.Rollout.Budget
	b.Measures = []rollout.Measure{{Name: "false-positives", Over: span.Duration(time.Minute), Worse: "20%"}, {Name: "start", Worse: "20%"}}
	with.Budget = &b
	p.Rollout = &with
	return p
}

// TestAReleaseThatTriplesACountIsHaltedByItAlone: no check fails; a policy that does
// not measure it lets it through, and a good release passes one that does.
func TestAReleaseThatTriplesACountIsHaltedByItAlone(t *testing.T) {
	p := preset(t, "flash-1")
	for seed := range uint64(3) {
		if r := measuring(p).Play(large(), fault(t, "false-positives"), seed); !r.Halted || r.Harmed > 450_000 {
			t.Errorf("seed %d: %+v; want a halt before everyone", seed, r)
		}
		if r := measuring(p).Play(large(), fault(t, "good"), seed); r.Halted || r.Held || r.T99 == 0 {
			t.Errorf("seed %d, a good release: %+v", seed, r)
		}
	}
	if r := p.Play(large(), fault(t, "false-positives"), 1); r.Halted {
		t.Errorf("halted by what is not measured: %+v", r)
	}
}
