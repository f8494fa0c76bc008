package link

import (
	"testing"
	"time"

	"github.com/headgate/headgate/agent/ipc"
)

// TestRateIsTakenBetweenBeaconsFarEnoughApart: a beacon that follows another at once
// is measured from the one before it, and counters that went back begin anew.
func TestRateIsTakenBetweenBeaconsFarEnoughApart(t *testing.T) {
	var r Rate
	for i, x := range []struct{ up, cpu, want int64 }{
		{100, 10, 0}, {110, 11, 0}, {130, 13, 100_000}, {131, 23, 571_428}, {160, 23, 333_333}, {161, 5, 0}, {200, 5, 1},
	} {
		got := r.Next(ipc.Vitals{UptimeUS: x.up * 1e6, CPUUS: x.cpu * 1e6}, 20*time.Second)
		if got != x.want {
			t.Errorf("beacon %d: %d ppm; want %d", i, got, x.want)
		}
	}
	for i := range int64(1000) { // beacons that come much too often
		r.Next(ipc.Vitals{UptimeUS: 200e6 + i*1e5, CPUUS: 5e6 + i*1e4}, 20*time.Second)
	}
	if got := r.Next(ipc.Vitals{UptimeUS: 300e6, CPUUS: 15e6}, 20*time.Second); got != 100_000 || len(r.points) > 10 {
		t.Errorf("%d ppm from %d beacons remembered; want 100000 from at most 10", got, len(r.points))
	}
}
