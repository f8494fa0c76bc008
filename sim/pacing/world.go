package pacing

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

func (w *run) poisson(mean float64) float64 {
	if mean <= 0 {
		return 0
	}
	return distuv.Poisson{Lambda: mean, Src: w.r}.Rand()
}

// binomial draws from a binomial distribution, by its normal limit where both
// tails are long.
func (w *run) binomial(n, p float64) float64 {
	switch {
	case n <= 0 || p <= 0:
		return 0
	case p >= 1:
		return n
	case n < 50:
		k := 0.0
		for range int(n) {
			if w.r.Float64() < p {
				k++
			}
		}
		return k
	case n*p < 30:
		return min(n, w.poisson(n*p))
	}
	return max(0, min(n, math.Round(n*p+math.Sqrt(n*p*(1-p))*w.r.NormFloat64())))
}

// strike lets the fault progress and reverts take effect; it tells whether
// anybody is doomed still.
func (w *run) strike() (active bool) {
	for _, b := range w.batches {
		if b.in+b.out == 0 {
			continue
		}
		active = true
		age := float64(w.t-b.t) * second
		before, after := w.fault.by(age), w.fault.by(age+second)
		hit := 1.0
		if before < 1 {
			hit = min(1, (after-before)/(1-before))
		}
		back := w.reverted(w.haltAt)
		backIn := back
		if w.spared {
			backIn = max(back, w.reverted(w.spareAt))
		}
		in, out := w.binomial(b.in, hit), w.binomial(b.out, hit)
		w.res.Harmed += in + out
		for side, n := range [2]float64{in, out} {
			quiet := w.binomial(n, w.fault.Silent)
			w.becomeVisible(b.cohort, side, 1, quiet, age)
			w.becomeVisible(b.cohort, side, 0, n-quiet, age)
		}
		b.in -= in + w.binomial(b.in-in, backIn)
		b.out -= out + w.binomial(b.out-out, back)
	}
	return active
}

// reverted is the chance that an endpoint reverts in this tick, after an order
// given at a tick: uniform over one poll.
func (w *run) reverted(from int) float64 {
	if from < 0 {
		return 0
	}
	k := w.t - from - revertLag
	switch {
	case k < 0:
		return 0
	case k < w.ch.Poll:
		return 1 / float64(w.ch.Poll-k)
	}
	return 1
}

// becomeVisible schedules when the server can know of failures: crashes after a
// restart, silence when the next beacon is overdue.
func (w *run) becomeVisible(cohort, side, channel int, n, age float64) {
	for part := max(1, math.Ceil(n/20)); n > 0; n -= part {
		late := w.ch.Crash[0] + w.r.IntN(w.ch.Crash[1])
		if channel == 1 {
			// Everybody beacons on one schedule: if some were heard from oftener, an
			// outage would show in them first and look like harm.
			late = w.ch.Lag + w.r.IntN(w.ch.Poll+1)
			if ticks := int(age / second); ticks < w.ch.Age-4 || ticks < 2 {
				late = max(1, w.ch.Age-ticks-1)
			}
		}
		d := w.due[w.t+late]
		if d == nil {
			d = &tally{}
			w.due[w.t+late] = d
		}
		d[cohort][channel][side] += min(part, n)
		if age < float64(w.ch.Age)*second {
			e := w.early[w.t+late]
			e[channel] += min(part, n)
			w.early[w.t+late] = e
		}
	}
}

// observe counts what the server sees in this tick: the baseline of both arms,
// the fault's failures that are due, vitals, and the cells of all of these.
func (w *run) observe() {
	if w.fault.Noise { // a slow random walk of the whole fleet's failure rate, and bursts
		w.drift = 0.995*w.drift + 0.06*w.r.NormFloat64()
	}
	rate := math.Exp(w.drift)
	controls := w.controls()
	w.cells.begin(w)
	w.drop(controls)
	n := [2]float64{w.poisson(controls * crashRate * second * rate), w.poisson(controls*quietRate*second*rate) + w.presence.silentControls*(1-w.union)}
	n[1] = math.Floor(n[1])
	w.compare()
	w.control[0] += n[0]
	w.control[1] += n[1]
	w.cells.controls(w, n[0]+n[1])
	due := w.due[w.t]
	if due == nil {
		due = &tally{}
	}
	delete(w.due, w.t)
	all := 0.0
	for k := range cohorts {
		a := w.atRisk(k, w.ch.Lag)
		base := [2]float64{w.poisson(a * crashRate * second * rate), w.poisson(a * quietRate * second * rate)}
		if w.granted[k] > 0 { // of those who could be seen silent by now
			base[1] += w.binomial(w.presence.silent[k], w.at(k, w.ch.Lag)/w.granted[k]*w.kept[k]/w.granted[k])
		}
		for channel := range base {
			in, elsewhere := due[k][channel][0], due[k][channel][1]
			if w.spared {
				in = 0 // seen, and nobody's evidence any more
			}
			w.failed[k][channel] += base[channel] + in + elsewhere
			all += base[channel] + in + elsewhere
			w.cells.treated(w, k, channel, base[channel], in, elsewhere)
		}
		w.measure(k)
		w.seen.crashes += base[0] + due[k][0][0] + due[k][0][1]
	}
	w.seen.count(w, n, all, controls)
}

// measure takes the vitals of endpoints at their first outcome.
func (w *run) measure(cohort int) {
	n := w.at(cohort, w.ch.Age-1) - w.at(cohort, w.ch.Age)
	slow := 0.05
	if w.fault.Slow {
		slow = 0.065
	}
	w.vitals[cohort][0] += w.binomial(n, slow)
	w.vitals[cohort][1] += n
}

// count keeps what rival policies look at.
func (s *seen) count(w *run, control [2]float64, treated, controls float64) {
	e := w.early[w.t]
	delete(w.early, w.t)
	fresh := w.atAll(w.ch.Age) - w.atAll(w.ch.Age+1)
	s.crashes1 += e[0] + w.binomial(fresh, crashRate*100)
	s.silent1 += e[1] + w.binomial(fresh, quietRate*60)
	at := w.atAll(w.ch.Lag)
	s.window = append(s.window, [2]float64{treated, at * (control[0] + control[1]) / controls})
	s.crashWindow = append(s.crashWindow, [2]float64{s.crashes, at * crashRate * second})
}
