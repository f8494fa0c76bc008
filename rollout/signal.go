package rollout

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/span"
)

// Bounds of a policy's signals.
const (
	MaxSignals      = 20
	MaxSignalQuery  = 4 << 10 // bytes
	MaxSignalFor    = 24 * time.Hour
	MaxSignalSeries = 50 // of one query's result: more is an answer to another question
	signalSteps     = 20 // samples of For that are looked at
	// MaxSignalAge is how old a reading may be: an older one is none.
	MaxSignalAge = time.Minute
)

// Signal is something outside Headgate that a rollout looks at: a PromQL query
// whose result must keep to one side of a threshold. What cannot be read holds the
// rollout and never passes.
type Signal struct {
	Name string `json:"name"`
	// Query is PromQL; $product, $version and $rollout (its number) stand for the
	// rollout's own. Each series of the result is judged.
	Query string `json:"query"`
	// Is "above" or "below": the side of Threshold on which the signal is bad.
	Is        string  `json:"is"`
	Threshold float64 `json:"threshold"`
	// For is how long without a break it must be bad; until then it holds.
	For span.Duration `json:"for"`
	// Then is "halt" or "hold".
	Then string `json:"then"`
}

// What a signal may say.
const (
	SignalAbove = "above"
	SignalBelow = "below"
	SignalHalt  = "halt"
	SignalHold  = "hold"
)

// signalMissing is the code of a reading that is not known, accepted or not.
const signalMissing = "signal-missing"

var signalName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (s Signal) check() (field string, err error) {
	switch {
	case !signalName.MatchString(s.Name):
		return "name", fmt.Errorf("%q; want 1 to 63 of a-z, 0-9 and inner hyphens", s.Name)
	case s.Query == "" || len(s.Query) > MaxSignalQuery:
		return "query", fmt.Errorf("%d bytes; want 1 to %d", len(s.Query), MaxSignalQuery)
	case s.Is != SignalAbove && s.Is != SignalBelow:
		return "is", fmt.Errorf("%q; want %s or %s", s.Is, SignalAbove, SignalBelow)
	case s.For < 0 || s.For.Std() > MaxSignalFor:
		return "for", fmt.Errorf("%s; want 0 to %s", s.For, MaxSignalFor)
	case s.Then != SignalHalt && s.Then != SignalHold:
		return "then", fmt.Errorf("%q; want %s or %s", s.Then, SignalHalt, SignalHold)
	}
	return "", nil
}

func checkSignals(all []Signal) (field string, err error) {
	if len(all) > MaxSignals {
		return "", fmt.Errorf("%d of them; limit %d", len(all), MaxSignals)
	}
	for i, s := range all {
		if field, err := s.check(); err != nil {
			return fmt.Sprintf("[%d].%s", i, field), err
		}
		for _, o := range all[:i] {
			if o.Name == s.Name {
				return fmt.Sprintf("[%d].name", i), fmt.Errorf("%q is another signal's too", s.Name)
			}
		}
	}
	return "", nil
}

// For whom a signal is read.
type Subject struct {
	Rollout          int64
	Product, Version string
}

// Ask is the query for one rollout, and the step of the samples to read: one
// sample if the signal is bad at once, else about 20 over For.
func (s Signal) Ask(of Subject) (query string, step time.Duration) {
	query = strings.NewReplacer("$product", of.Product, "$version", of.Version, "$rollout", fmt.Sprint(of.Rollout)).Replace(s.Query)
	return query, max(time.Second, (s.For.Std() / signalSteps).Truncate(time.Second))
}

// want is how many samples For has at the step.
func (s Signal) want() int64 {
	_, step := s.Ask(Subject{})
	return int64(s.For.Std()/step) + 1
}

// Reading is what a signal's query answered: input to a decision, recorded with it.
type Reading struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"` // asked
	// Error says why there is no answer; Series are empty then.
	Error  string   `json:"error,omitempty"`
	Series []Series `json:"series,omitempty"`
}

// Series is one series of an answer over a signal's For.
type Series struct {
	Labels  string  `json:"labels,omitempty"` // as PromQL writes them
	Samples int64   `json:"samples"`          // that there are
	Latest  float64 `json:"latest"`           // at Reading.At
	Least   float64 `json:"least"`
	Most    float64 `json:"most"`
}

// bad tells whether a series is on the bad side now, and whether it has been for
// all of For.
func (s Signal) bad(x Series) (now, throughout bool) {
	if s.Is == SignalAbove {
		return x.Latest > s.Threshold, x.Least > s.Threshold && x.Samples >= s.want()
	}
	return x.Latest < s.Threshold, x.Most < s.Threshold && x.Samples >= s.want()
}

// signals judges what was read: halt is the first reason to halt, hold are the
// reasons not to go on. What is not known is a reason to hold.
func (s Snapshot) signals(now time.Time) (halt *Reason, hold []Reason) {
	for _, sig := range s.Policy.Signals {
		why, stops := sig.judge(s.Signals, now)
		switch {
		case why == nil, why.Code != signalMissing && s.accepts(sig.Name):
		case stops && halt == nil:
			halt = why
		default:
			hold = append(hold, *why)
		}
	}
	return halt, hold
}

func (s Signal) judge(all []Reading, now time.Time) (why *Reason, stops bool) {
	say := func(code, format string, args ...any) *Reason {
		return &Reason{code, fmt.Sprintf("signal %s: ", s.Name) + fmt.Sprintf(format, args...)}
	}
	var r *Reading
	for i := range all {
		if all[i].Name == s.Name {
			r = &all[i]
		}
	}
	switch {
	case r == nil:
		return say(signalMissing, "not read yet"), false
	case r.Error != "":
		return say(signalMissing, "%s", r.Error), false
	case now.Sub(r.At).Abs() > MaxSignalAge:
		return say(signalMissing, "last read %s ago", now.Sub(r.At).Round(time.Second)), false
	case len(r.Series) == 0:
		return say(signalMissing, "the query has no result"), false
	}
	for _, x := range r.Series {
		now, throughout := s.bad(x)
		if now && throughout {
			return say("signal-breached", "%s%.4g, %s %.4g for %s", lead(x.Labels), x.Latest, s.Is, s.Threshold, s.For), s.Then == SignalHalt
		}
		if now && why == nil {
			why = say("signal-pending", "%s%.4g is %s %.4g, and has not been for %s yet", lead(x.Labels), x.Latest, s.Is, s.Threshold, s.For)
		}
	}
	return why, false
}

func lead(labels string) string {
	if labels == "" || labels == "{}" {
		return ""
	}
	return labels + " "
}

// holdForSignals holds what would go on. A finished rollout is not held: there is
// nothing left to hold back.
func (s Snapshot) holdForSignals(hold []Reason) Decision {
	d := s.stay(Hold, hold...)
	if s.State == Running {
		d.State, d.HeldBy = Held, byEngine
	}
	return d
}

func (s Snapshot) checkSignals() error {
	if len(s.Signals) > MaxSignals {
		return fmt.Errorf("%d readings; at most %d", len(s.Signals), MaxSignals)
	}
	for _, r := range s.Signals {
		if len(r.Series) > MaxSignalSeries {
			return fmt.Errorf("%s: %d series; at most %d", r.Name, len(r.Series), MaxSignalSeries)
		}
	}
	return nil
}
