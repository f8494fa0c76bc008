package health

import (
	"math"
	"slices"
	"time"
)

// ratios are the hazard ratios that the evidence bets on; a fault between two
// of them loses little.
var ratios = [...]float64{1.5, 3, 10, 100, 3000}

// channels of failure that are bet on apart: reported, silent, and both.
const (
	reported = iota
	silent
	either
	channels
)

// Weights of the mixture over streams: the pooled treated arm, and each cohort
// and the coverage cohort by themselves. Pooled evidence fades when nearly
// everyone is treated; the first cohorts against everyone later keep theirs.
const (
	pooledWeight = 0.3
	streamWeight = 0.07
	// MaxCohorts is how many random cohorts fit the mixture.
	MaxCohorts = 9
)

// Arm is what one group of endpoints has shown since the start. Failures are
// first failures; the at-risk numbers are of now.
type Arm struct {
	Harmed int64 `json:"harmed"` // reported
	Silent int64 `json:"silent"` // not heard from by the deadline, without a goodbye
	// AtRisk is how many could be seen to fail now, rounded up for what is reported
	// late; AtLeast is the same rounded down.
	AtRisk  int64 `json:"at_risk"`
	AtLeast int64 `json:"at_least"`
	// Young is how many of AtRisk were granted so lately that their silence could
	// not be seen yet: a baseline that could not show lowers no bound.
	Young int64 `json:"young,omitempty"`
}

// Failed is the failures of every channel.
func (a Arm) Failed() int64 { return a.Harmed + a.Silent }

// valid tells whether the numbers can be counts.
func (a Arm) valid() bool {
	return min(a.Harmed, a.Silent, a.AtLeast, a.Young) >= 0 && a.AtRisk >= max(a.AtLeast, a.Young) && max(a.Harmed, a.Silent, a.AtRisk) < 1<<53
}

// Look is what all groups have shown by one instant.
type Look struct {
	At      time.Duration // since the rollout's start
	Cohorts []Arm         // granted at random, in order of exposure
	// Coverage was chosen, not drawn: its baseline may be higher than the fleet's
	// by CoverageMargin and the evidence still holds.
	Coverage Arm
	Control  Arm
	// Joined means that the last cohort takes everybody who comes, such as laptops
	// that were away when its turn was drawn: it is no draw any more, and nothing is
	// bet on it by itself. All treated together still are what the controls are.
	Joined bool
	// Returning is the first cohort that was opened when everyone who was there had
	// the release; 0 is none. It and those after it are of endpoints that came back:
	// no draw from those they are compared with. Their baseline may be higher by
	// ReturningMargin and the evidence still holds.
	Returning int
}

// CoverageMargin is how much higher the coverage cohort's baseline may be.
const CoverageMargin = 3

// ReturningMargin is the same for endpoints that came back. Laptops that fall asleep
// without a goodbye are two to three times as often silent as the fleet at night.
const ReturningMargin = 10

// Valid tells whether a look can be true; At may not lie before zero.
func (l Look) Valid() bool {
	if len(l.Cohorts) > MaxCohorts || l.At < 0 || !l.Coverage.valid() || !l.Control.valid() {
		return false
	}
	for _, c := range l.Cohorts {
		if !c.valid() {
			return false
		}
	}
	return true
}

// Stream is one comparison's log wealth by channel and ratio.
type Stream [channels][len(ratios)]float64

// Evidence is an e-process against "the update makes no failure more likely":
// the anytime-valid logrank test of ter Schure, Pérez-Ortiz, Ly and Grünwald
// (NEJSDS 2024, arXiv 2011.06931) in exponential-ratio form, restarted by a
// prior over the time of trouble, mixed over cohorts, channels and ratios.
//
// P(Log ever reaches ln(1/alpha)) <= alpha without a fault, for any number of
// looks at any times, and whatever the hazard does that both arms share
// (Ville). It is data: carried from look to look, the same on every machine.
type Evidence struct {
	At       time.Duration `json:"at_ns"`
	Started  float64       `json:"started"` // of the prior over start times
	Cohorts  []Arm         `json:"cohorts"`
	Coverage Arm           `json:"coverage"`
	Control  Arm           `json:"control"`
	// Streams are pooled, coverage, then the cohorts.
	Streams []Stream `json:"streams"`
	// Expected failures of each cohort by Breslow's estimate.
	Expected []Expected `json:"expected"`
}

// startedBy is the prior probability that trouble starts within t: half at the
// start, a quarter spread over 24 h, a quarter with a heavy tail.
func startedBy(t time.Duration) float64 {
	s := t.Seconds()
	return 0.5 + 0.25*min(1, s/86400) + 0.25*s/(s+10)
}

// Next is the evidence after one more look. A look no later than the last, or
// that cannot be true, changes nothing. Failures that are fewer than before were
// withdrawn (their endpoints are in a halted segment now): they only lower the
// evidence, so it stays valid.
func (e Evidence) Next(l Look) Evidence {
	first := len(e.Streams) == 0
	if !l.Valid() || !first && l.At <= e.At || len(l.Cohorts) < len(e.Cohorts) {
		return e
	}
	// Trouble that starts in this interval is given the weight that the time until
	// its beginning has earned: known before the interval's outcomes are.
	w := max(0, startedBy(e.At)-e.Started)
	n := Evidence{At: l.At, Started: e.Started + w, Cohorts: slices.Clone(l.Cohorts), Coverage: l.Coverage, Control: l.Control}
	n.Streams = make([]Stream, 2+len(l.Cohorts))
	n.Expected = make([]Expected, len(l.Cohorts))
	copy(n.Expected, e.Expected)
	d := l.since(e)
	for i := range n.Streams {
		last := fresh(e.Started)
		if i < len(e.Streams) {
			last = e.Streams[i]
		}
		b := d.bet(i)
		if l.Joined && i == len(n.Streams)-1 && len(l.Cohorts) > 0 {
			b = bet{}
		}
		n.Streams[i] = last.next(math.Log(w), b)
	}
	for i := range n.Expected {
		n.Expected[i].add(d.Cohorts[i].AtRisk-d.Cohorts[i].Young, d.Control)
	}
	return n
}

// fresh is a stream whose every factor was 1 so far.
func fresh(started float64) (s Stream) {
	for c := range s {
		for r := range s[c] {
			s[c][r] = math.Log(started)
		}
	}
	return s
}

// since is the look with failures counted since the last.
func (l Look) since(e Evidence) Look {
	d := Look{Cohorts: slices.Clone(l.Cohorts), Coverage: l.Coverage.since(e.Coverage), Control: l.Control.since(e.Control), Returning: l.Returning}
	for i, c := range e.Cohorts {
		d.Cohorts[i] = l.Cohorts[i].since(c)
	}
	return d
}

func (a Arm) since(b Arm) Arm {
	a.Harmed -= b.Harmed
	a.Silent -= b.Silent
	return a
}

// bet is what stream i compares: failures of the treated and of the others by
// channel, and the treated share of those at risk, never rounded down.
type bet struct {
	treated, others [channels]float64
	share           float64
}

func (d Look) bet(i int) bet {
	var t, o Arm
	switch i {
	case 0:
		for _, c := range d.Cohorts {
			t.plus(c)
		}
		o = d.Control
	case 1:
		t, o = d.Coverage, d.Control
		t.AtRisk *= CoverageMargin
	default:
		t, o = d.Cohorts[i-2], d.Control
		for _, later := range d.Cohorts[i-1:] {
			o.plus(later)
		}
		if d.Returning > 0 && i-2 >= d.Returning {
			t.AtRisk *= ReturningMargin
		}
	}
	b := bet{treated: t.byChannel(), others: o.byChannel()}
	if t.AtRisk > 0 {
		b.share = float64(t.AtRisk) / float64(t.AtRisk+o.AtLeast)
	}
	return b
}

func (a *Arm) plus(b Arm) {
	a.Harmed += b.Harmed
	a.Silent += b.Silent
	a.AtRisk += b.AtRisk
	a.AtLeast += b.AtLeast
}

func (a Arm) byChannel() [channels]float64 {
	return [channels]float64{reported: float64(a.Harmed), silent: float64(a.Silent), either: float64(a.Harmed + a.Silent)}
}

// next is the stream after one interval; logW is the log of the weight that
// starts betting with it.
func (s Stream) next(logW float64, b bet) Stream {
	for c := range s {
		for r := range s[c] {
			s[c][r] = logAdd(s[c][r], logW) + logFactor(ratios[r], b.treated[c], b.others[c], b.share)
		}
	}
	return s
}

// logFactor is the log of r^treated / (1+(r-1)·share)^(treated+others). Given
// how many failed in the interval, the treated among them are hypergeometric
// without a fault, and the mean of r^treated is at most the binomial's
// (Hoeffding 1963, Theorem 4), which is the denominator: ties are exact.
// Withdrawn failures (negative counts) lower it and never raise it.
func logFactor(r, treated, others, share float64) float64 {
	f := treated * math.Log(r)
	if n := max(0, treated) + max(0, others); n > 0 {
		f -= n * math.Log1p((r-1)*share)
	}
	return f
}

// add counts control failures of one interval towards what was to be expected:
// of as few treated among as many controls as there may have been, for what is
// expected is subtracted from what failed.
func (e *Expected) add(atRisk int64, control Arm) {
	if n := float64(control.Failed()); n > 0 && control.AtRisk > 0 {
		w := float64(atRisk) / float64(control.AtRisk)
		e.Mean += n * w
		e.Variance += n * w * w
	}
}

// Log is the log of the e-value: 0 or less says nothing, ln(1/alpha) is a halt.
func (e Evidence) Log() float64 {
	rest := math.Log(max(1e-300, 1-e.Started))
	total := math.Inf(-1)
	left := 1.0
	for i, s := range e.Streams {
		w := streamWeight
		if i == 0 {
			w = pooledWeight
		}
		left -= w
		lw := math.Log(w / float64(channels*len(ratios)))
		for _, channel := range s {
			for _, v := range channel {
				total = logAdd(total, lw+logAdd(v, rest))
			}
		}
	}
	if left > 0 {
		total = logAdd(total, math.Log(left))
	}
	return total
}
