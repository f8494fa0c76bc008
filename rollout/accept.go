package rollout

import (
	"fmt"
	"slices"
	"time"
)

// Accepted is what two people accepted beside harm when they resumed a halted
// rollout. What comes after it is evidence again, and halts like any other.
type Accepted struct {
	// Vitals are the measurements that were known: the evidence of slowness counts
	// from there.
	Vitals
	// Measures are the same of the policy's measures, in its order.
	Measures []Compared `json:"measures,omitempty"`
	// Signals neither halt nor hold while they stay on the bad side: each is struck
	// off when it is seen on the good side, and halts from then on.
	Signals []string `json:"signals,omitempty"`
}

// Vitals counts exposed endpoints whose vitals were compared: Slow of Measured
// exceeded their controls.
type Vitals struct {
	Slow     int64 `json:"slow"`
	Measured int64 `json:"measured"`
}

// accept is what resuming accepts. Which signals were bad need not be known: the
// next look strikes off those that are not.
func (s Standing) accept() *Accepted {
	a := Accepted{Vitals: s.Vitals, Measures: s.Measures}
	for _, sig := range s.Policy.Signals {
		if sig.Then == SignalHalt {
			a.Signals = append(a.Signals, sig.Name)
		}
	}
	return &a
}

// accepts tells whether a signal's breach is accepted.
func (s Snapshot) accepts(signal string) bool {
	return s.Accepted != nil && slices.Contains(s.Accepted.Signals, signal)
}

// strike takes the signals that are good again off what is accepted.
func (s Snapshot) strike(d Decision, now time.Time) Decision {
	if s.Accepted == nil || len(s.Accepted.Signals) == 0 {
		return d
	}
	left := *s.Accepted
	left.Signals = nil
	for _, sig := range s.Policy.Signals {
		if why, _ := sig.judge(s.Signals, now); why != nil && s.accepts(sig.Name) {
			left.Signals = append(left.Signals, sig.Name)
		}
	}
	if len(left.Signals) < len(s.Accepted.Signals) {
		d.Accepted = &left
	}
	return d
}

// vitals are the measurements of all cohorts since people accepted what there was.
func (o Observed) vitals(since *Accepted) Vitals {
	v := Vitals{Slow: o.Coverage.Slow, Measured: o.Coverage.Measured}
	for _, c := range o.Cohorts {
		v.Slow, v.Measured = v.Slow+c.Slow, v.Measured+c.Measured
	}
	if since != nil {
		v.Slow, v.Measured = v.Slow-since.Slow, v.Measured-since.Measured
	}
	return v
}

func (a *Accepted) check() error {
	if a == nil {
		return nil
	}
	if a.Slow < 0 || a.Slow > a.Measured || len(a.Signals) > MaxSignals {
		return fmt.Errorf("%d slow of %d, %d signals; want counts, and at most %d signals", a.Slow, a.Measured, len(a.Signals), MaxSignals)
	}
	return checkCompared(a.Measures, MaxMeasures)
}

// known says what was accepted, a line for each thing.
func (a *Accepted) known() (out []string) {
	if a == nil {
		return nil
	}
	if a.Measured > 0 {
		out = append(out, fmt.Sprintf("accepted when it was resumed: vitals of %d compared, %d above the controls' 95th percentile; the evidence counts from there", a.Measured, a.Slow))
	}
	for _, c := range a.Measures {
		if c.Measured > 0 {
			out = append(out, fmt.Sprintf("accepted when it was resumed: of %d compared by a measure %d were worse; the evidence counts from there", c.Measured, c.Worse))
		}
	}
	for _, name := range a.Signals {
		out = append(out, "accepted when it was resumed: signal "+name+", until it is good again")
	}
	return out
}
