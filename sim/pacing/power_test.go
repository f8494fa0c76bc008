package pacing

import (
	"flag"
	"fmt"
	"testing"

	"github.com/headgate/headgate/health"
)

var power = flag.Int("power", 1, "play each fault so many times and count detections")

// interval is Clopper and Pearson's for k of n, 95 %.
func interval(k, n int) string {
	lo := max(0, 1-health.UpperRate(int64(n-k), int64(n), 0.025))
	return fmt.Sprintf("%.2g to %.2g (95 %%, Clopper and Pearson)", lo, health.UpperRate(int64(k), int64(n), 0.025))
}

func TestTheIntervalIsClopperAndPearsons(t *testing.T) {
	// 0 of 30: 1-0.025^(1/30); 5 of 20: R's binom.test.
	for k, want := range map[[2]int]string{{0, 30}: "0 to 0.12 (95 %, Clopper and Pearson)", {5, 20}: "0.087 to 0.49 (95 %, Clopper and Pearson)"} {
		if got := interval(k[0], k[1]); got != want {
			t.Errorf("%d of %d: %s, want %s", k[0], k[1], got, want)
		}
	}
}

// TestDetectionPower: every fault that shows is halted, whole or in its segment;
// one rollout each, or more by
//
//	go test ./sim/pacing -run DetectionPower -power 100 -v -timeout 2h
func TestDetectionPower(t *testing.T) {
	for _, x := range Faults() {
		p := preset(t, "flash-1")
		if x.Counts > 0 {
			p = measuring(p)
		}
		if x.Good() || *power == 1 && x.Median > 3600 {
			continue
		}
		found, harmed := 0, 0.0
		for seed := range *power {
			r := p.Play(large(), x, 20_000+uint64(seed))
			if r.Halted || r.Segment {
				found++
			}
			harmed = max(harmed, r.Harmed)
		}
		t.Logf("%s: %d of %d found, power %s; at most %.0f harmed", x.Name, found, *power, interval(found, *power), harmed)
		if 10*found < 9**power {
			t.Errorf("%s: %d of %d found", x.Name, found, *power)
		}
	}
}
