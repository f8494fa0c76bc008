package link

import (
	"slices"
	"time"

	"github.com/headgate/headgate/agent/ipc"
)

// Rate finds how much CPU is used between beacons.
type Rate struct {
	points []ratePoint // an eighth of least apart at least: about ten
	last   ratePoint
}

type ratePoint struct{ cpu, up int64 } // microseconds

// Next takes a beacon's vitals and returns the CPU used since the newest beacon
// that is at least as old as least, in millionths of a core: 1 or more, or 0 if
// none is so old. Counters that went back begin anew.
func (r *Rate) Next(v ipc.Vitals, least time.Duration) int64 {
	now := ratePoint{v.CPUUS, v.UptimeUS}
	if now.cpu < r.last.cpu || now.up < r.last.up {
		r.points = nil
	}
	r.last = now
	ppm := int64(0)
	for i, p := range slices.Backward(r.points) {
		if span := now.up - p.up; span > 0 && span >= least.Microseconds() {
			ppm = max(1, int64(float64(now.cpu-p.cpu)*1e6/float64(span)))
			r.points = slices.Delete(r.points, 0, i) // older ones are of no more use
			break
		}
	}
	if n := len(r.points); n == 0 || now.up-r.points[n-1].up >= max(1, least.Microseconds()/8) {
		r.points = append(r.points, now)
	}
	return ppm
}
