package pacing

import "math"

// rival is a policy as others publish it, in caricature: bakes and thresholds
// are assumptions where vendors state none (docs/decisions/0010).
type rival struct {
	rings   []float64 // parts of the fleet
	bake    float64   // seconds
	success float64   // advance at this share of reported success instead of a bake
	rate    float64   // endpoints a minute
	grow    bool      // double the rate for each 1000 more successes
	absent  float64   // part of each group that may be unready at a time
	stop    func(r *rival, w *run) bool

	stage, reached int
	target, proven float64
	bigAt          int
}

func (r *rival) segments() bool { return false }

func (r *rival) decide(w *run) orders {
	if w.t == 0 {
		r.reached, r.bigAt = -1, -1
	}
	if r.bigAt < 0 && w.res.Harmed > 1000 {
		r.bigAt = w.t
	}
	if r.stop(r, w) {
		return orders{halt: true}
	}
	switch {
	case r.absent > 0:
		r.groups(w)
	case r.rate > 0:
		r.ramp(w)
	case len(r.rings) > 0:
		r.ring(w)
	default:
		r.target = w.reachable()
	}
	return orders{random: r.target}
}

// ramp grows by a rate, doubled at most once a minute.
func (r *rival) ramp(w *run) {
	if r.grow && w.t%6 == 0 && w.t > 0 {
		if ok := w.atAll(w.ch.Age) - w.seen.crashes1 - w.seen.silent1; ok-r.proven >= 1000 {
			r.proven = ok
			r.rate *= 2
		}
	}
	r.target += r.rate * second / 60
}

// groups goes on in every group as endpoints report ready: what is granted and
// not ready, dead ones included, is at most a part of the group. All groups are
// alike in the end, so that they are played as one.
func (r *rival) groups(w *run) {
	ready := w.atAll(w.ch.Age) - w.seen.silent1 // who crashed restarts, and is ready
	r.target = max(r.target, ready+math.Floor(r.absent*w.reachable()))
}

func (r *rival) ring(w *run) {
	if r.target == 0 {
		r.target = math.Floor(r.rings[0] * w.reachable())
	}
	if r.reached < 0 && w.exposed() >= r.target {
		r.reached = w.t - 1
	}
	if r.reached < 0 || r.stage >= len(r.rings)-1 {
		return
	}
	if r.success > 0 && w.atAll(w.ch.Age)-w.seen.crashes1-w.seen.silent1 < r.success*r.target {
		return
	}
	if r.success == 0 && float64(w.t-r.reached)*second < r.bake {
		return
	}
	r.stage++
	r.target = math.Floor(r.rings[r.stage] * w.reachable())
	r.reached = -1
}

// byHand: people revert 78 minutes after harm passes 1000, as on 19 July 2024.
func byHand(r *rival, w *run) bool { return r.bigAt >= 0 && w.t >= r.bigAt+78*6 }

// never does not stop: what is not ready keeps its place.
func never(*rival, *run) bool { return false }

// reports stops at 5 % reported failures, looked at every five minutes. Silence
// is missing data.
func reports(_ *rival, w *run) bool {
	m := max(1, w.atAll(w.ch.Age))
	return w.t%30 == 0 && m >= 100 && w.seen.crashes/m > 0.05
}

// timeouts stops at 10 % failed or timed out after ten minutes, of at least 100.
func timeouts(_ *rival, w *run) bool {
	m := max(1, w.atAll(w.ch.Age))
	late := 0.0
	if w.t >= 60 {
		late = min(w.seen.silent1, w.atAll(60))
	}
	return m >= 100 && (w.seen.crashes1+late)/m > 0.10
}

// doubled stops when half an hour saw twice the expected crashes or silence.
func doubled(_ *rival, w *run) bool {
	m := w.atAll(w.ch.Age)
	if w.t%30 != 0 || m < 1000 {
		return false
	}
	all, expected := w.seen.recent(180)
	crashes, expectedCrashes := w.seen.recentCrashes(180)
	slow, measured := w.slow5()
	return crashes > 2*expectedCrashes && crashes-expectedCrashes >= 50 || all > 2*expected && all-expected >= max(50, 0.005*m) || w.fault.Slow && slow > 0.10*measured
}

// fourSigma stops at a z-score of 4 against the controls over the last hour.
func fourSigma(_ *rival, w *run) bool {
	m := w.atAll(w.ch.Age)
	if w.t%30 != 0 || m < 100 {
		return false
	}
	all, expected := w.seen.recent(360)
	slow, measured := w.slow5()
	noise := 4 * math.Sqrt(expected*(1+m/max(w.f.Size-w.exposed(), w.f.Size-w.reachable())))
	return all-expected >= max(10, noise) || w.fault.Slow && measured > 100 && slow-0.05*measured >= 4*math.Sqrt(0.0475*measured)
}

// slow5 is how many of the measured were slow.
func (w *run) slow5() (slow, measured float64) {
	for _, v := range w.vitals {
		slow += v[0]
		measured += v[1]
	}
	return slow, measured
}

func (s *seen) recent(ticks int) (n, expected float64) {
	for _, v := range s.window[max(0, len(s.window)-ticks):] {
		n += v[0]
		expected += v[1]
	}
	return n, expected
}

func (s *seen) recentCrashes(ticks int) (n, expected float64) {
	if len(s.crashWindow) == 0 {
		return 0, 0
	}
	first := max(0, len(s.crashWindow)-ticks)
	for _, v := range s.crashWindow[first:] {
		expected += v[1]
	}
	return s.crashWindow[len(s.crashWindow)-1][0] - s.crashWindow[first][0], expected
}
