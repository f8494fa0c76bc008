package pacing

import "math"

// Presence by the hour: a part of the fleet are laptops, of which more are there
// at noon than at night. Those that leave say goodbye, but for a few. Who was
// away when the rollout began and comes back later is a stratum of its own:
// nothing that was proven was proven on such endpoints.
const (
	laptops   = 0.4  // of the fleet
	noon      = 0.9  // of the laptops are there at 13:00
	midnight  = 0.2  // and at 1:00
	unclean   = 0.03 // of those that leave say no goodbye
	dwell     = 3600 // seconds: how fast presence follows the hour
	peakHour  = 13
	dayLength = 86400
)

// presence is who is there, as counts. The zero value is a fleet that never
// leaves.
type presence struct {
	start float64          // second of the day at which the rollout began
	here  [cohorts]float64 // granted laptops by cohort that are there
	away  [cohorts]float64
	// Of those not granted yet: laptops here, laptops away, and those here that
	// were away when the rollout began.
	free, gone, back float64
	held, heldAway   float64          // laptops held back as controls
	silent           [cohorts]float64 // left without a goodbye in this tick
	silentControls   float64
}

// there is the part of the laptops that belongs to a second of the day.
func there(second float64) float64 {
	return (noon+midnight)/2 + (noon-midnight)/2*math.Cos(2*math.Pi*(second/dayLength-peakHour/24.0))
}

// begin draws the hour, and who is there.
func (p *presence) begin(w *run) {
	p.start = w.r.Float64() * dayLength
	n := w.reachable() * laptops
	p.free = w.binomial(n, there(p.start))
	p.gone = n - p.free
	n = (w.f.Size - w.reachable()) * laptops
	p.held = w.binomial(n, there(p.start))
	p.heldAway = n - p.held
}

// move lets laptops come and go for one tick.
func (p *presence) move(w *run) {
	on := there(p.start + float64(w.t)*second)
	leave, enter := (1-on)*second/dwell, on*second/dwell
	for k := range p.here {
		out, in := w.binomial(p.here[k], leave), w.binomial(p.away[k], enter)
		p.here[k] += in - out
		p.away[k] += out - in
		p.silent[k] = w.binomial(out, unclean)
	}
	out, in := w.binomial(p.free, leave), w.binomial(p.gone, enter)
	p.back = max(0, p.back+in-w.binomial(p.back, leave))
	p.free += in - out
	p.gone += out - in
	heldOut, heldIn := w.binomial(p.held, leave), w.binomial(p.heldAway, enter)
	p.held += heldIn - heldOut
	p.heldAway += heldOut - heldIn
	p.silentControls = w.binomial(out+heldOut, unclean)
}

// grant moves laptops among n granted endpoints to their cohort, and returns how
// many of the n had been away.
func (p *presence) grant(w *run, cohort int, n float64) (returned float64) {
	present := max(n, w.fast+w.slow+n-p.gone)
	l := min(p.free, w.binomial(n, min(1, p.free/present)))
	returned = min(p.back, w.binomial(n, min(1, p.back/present)))
	p.free -= l
	p.back -= returned
	p.here[cohort] += l
	return returned
}

// part is the part of a cohort that is there.
func (p *presence) part(w *run, cohort int) float64 {
	if w.granted[cohort] <= 0 {
		return 1
	}
	return max(0, 1-p.away[cohort]/w.granted[cohort])
}

// absent is how many of those not granted are away.
func (p *presence) absent() float64 { return p.gone + p.heldAway }

// controls are the endpoints that are there, not granted, and in no halted
// segment.
func (w *run) controls() float64 {
	return max(0, max(w.f.Size-w.exposed(), w.f.Size-w.reachable())-w.presence.absent()) * (1 - w.union)
}

// outage is a region of which a part drops off the network in one tick.
type outage struct {
	t, region int
	part      float64 // of the region's endpoints
}

// outages draws when regions fail: one known outage, or three an hour for six
// hours, each of which may hit neighbouring regions together.
func (x Fault) outages(w *run) (out []outage) {
	if x.Outage {
		out = append(out, outage{t: 15, region: w.f.regionOf(0.06), part: 0.3})
	}
	for t := 0.0; x.Outages; {
		t += w.r.ExpFloat64() * 1200 / second
		if t >= 6*360 {
			break
		}
		region, part := w.r.IntN(cardinality[regionLabel]), 0.1+0.5*w.r.Float64()
		for i := range 1 + w.r.IntN(3) {
			out = append(out, outage{t: int(t), region: (region + i) % cardinality[regionLabel], part: part})
		}
	}
	return out
}

// drop lets what fails in this tick's outages fall silent, in both arms alike and
// with the region among its labels.
func (w *run) drop(controls float64) {
	for _, o := range w.dropping {
		if o.t != w.t {
			continue
		}
		share := o.part * w.f.regions[o.region]
		n := w.poisson(controls * share)
		w.control[1] += n
		w.cells.dropped(w, -1, n, o.region)
		for k := range cohorts {
			of := share
			if k == coverage {
				of = o.part * w.covered.in(o.region)
			}
			n := w.poisson(w.atRisk(k, w.ch.Lag) * of)
			w.failed[k][1] += n
			w.cells.dropped(w, k, n, o.region)
		}
	}
}
