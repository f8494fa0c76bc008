package rollout

import (
	"math"
	"testing"
	"time"
)

// TestAllAtOnceIsRationalOnlyUnderHeavyAttack: with costs alike and one bad
// release in a thousand, only above about one endpoint in a hundred an hour.
func TestAllAtOnceIsRationalOnlyUnderHeavyAttack(t *testing.T) {
	lanes := []Lane{AllAtOnce(reachable, time.Minute)}
	for _, name := range []string{"emergency", "flash", "standard", "safe"} {
		p, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		l, err := p.Lane(reachable)
		if err != nil {
			t.Fatal(err)
		}
		lanes = append(lanes, l)
	}
	trade := Trade{Bad: 1e-3, CostCompromised: 1, CostHarmed: 1}
	for i, l := range lanes[1:] {
		if l.Exposure() < lanes[i].Exposure() {
			t.Errorf("%s is faster than %s", l.Name, lanes[i].Name)
		}
	}
	if h := Indifferent(lanes[0], lanes[2], trade); h < 0.005 || h > 0.03 {
		t.Errorf("all at once instead of flash above %g an hour", h)
	}
	_, best := Curve(lanes, []float64{1e-7, 1e-4, 0.5}, trade)
	if lanes[best[0]].Name == "all-at-once" || lanes[best[1]].Name == "all-at-once" || lanes[best[2]].Name != "all-at-once" {
		t.Errorf("cheapest %v", best)
	}
	if h := Indifferent(lanes[2], lanes[0], trade); h != 0 && !math.IsInf(h, 1) {
		t.Errorf("a lane that is slower and harms less: %g", h)
	}
	flash := lanes[2].Steps
	if last := flash[len(flash)-1].After; last > 7*time.Minute {
		t.Errorf("flash takes %s", last)
	}
}
