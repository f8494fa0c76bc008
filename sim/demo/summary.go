package demo

import (
	"fmt"
	"io"
	"time"
)

// Summary is what happened, for a program.
type Summary struct {
	// Endpoints is how many there were, real and simulated.
	Endpoints int       `json:"endpoints"`
	Agents    int       `json:"agents"`
	Simulated int       `json:"simulated"`
	Releases  []Release `json:"releases"`
	LedgerOK  bool      `json:"ledger_ok"`
	DoctorOK  bool      `json:"doctor_ok"`
	ReplayOK  bool      `json:"replay_ok"` // every decision made again came out the same
	Seconds   float64   `json:"seconds"`
	OK        bool      `json:"ok"`
	// Failures says what did not hold; empty if OK.
	Failures []string `json:"failures"`
}

// Release is what became of one release.
type Release struct {
	Version string `json:"version"`
	State   string `json:"state"` // of its rollout
	Granted int64  `json:"granted"`
	Proven  int64  `json:"proven"`
	Harmed  int64  `json:"harmed"`
	Silent  int64  `json:"silent"`
	// StillDown is how many of the granted are not up and healthy in the end.
	StillDown int64 `json:"still_down"`
	// NeverTouched is how many endpoints never activated it.
	NeverTouched int64 `json:"never_touched"`
	// SecondsToAll is the time from its start until everyone was proven; null if
	// it never reached everyone.
	SecondsToAll *float64 `json:"seconds_to_all"`
	// SecondsToStop is the time from its start until nobody else could get it;
	// null if it was not stopped.
	SecondsToStop *float64 `json:"seconds_to_stop"`
	Hurt          []Hurt   `json:"hurt"`
}

// Hurt is one endpoint that a release harmed.
type Hurt struct {
	Endpoint    string  `json:"endpoint"`
	Name        string  `json:"name"`
	Reason      string  `json:"reason"`
	DownSeconds float64 `json:"down_seconds"`
	RunsNow     string  `json:"runs_now"`
}

func (s *Summary) failf(format string, a ...any) {
	s.Failures = append(s.Failures, fmt.Sprintf(format, a...))
}

// write tells the summary in a reader's words.
func (s *Summary) write(w io.Writer) {
	say := func(format string, a ...any) { fmt.Fprintf(w, format+"\n", a...) }
	say("")
	say("What happened, on %d endpoints (%d real agents, %d simulated):", s.Endpoints, s.Agents, s.Simulated)
	for _, r := range s.Releases {
		say("")
		if r.SecondsToAll != nil {
			say("  %s reached all %d endpoints in %s; %d harmed, %d silent.", r.Version, r.Proven, seconds(*r.SecondsToAll), r.Harmed, r.Silent)
			continue
		}
		say("  %s touched %d endpoints and harmed %d of them, each for this long:", r.Version, r.Granted, r.Harmed)
		for _, h := range r.Hurt {
			say("    %-10s down for %-8s (%s), runs %s again", h.Name, seconds(h.DownSeconds), h.Reason, h.RunsNow)
		}
		say("  %d of them are still down. %d endpoints never touched it.", r.StillDown, r.NeverTouched)
		if r.SecondsToStop != nil {
			say("  It was stopped %s after its start, by the engine: nobody had to be awake.", seconds(*r.SecondsToStop))
		}
	}
	say("")
	say("  The ledger %s, and the doctor %s.", holds(s.LedgerOK, "holds from its first entry to its last", "DOES NOT HOLD"), holds(s.DoctorOK, "finds every count right", "FINDS FAULTS"))
	say("  Every decision, made again from what was recorded, %s.", holds(s.ReplayOK, "comes out the same", "COMES OUT OTHERWISE"))
	say("  All of it took %s.", seconds(s.Seconds))
	for _, f := range s.Failures {
		say("  FAILED: %s", f)
	}
}

func holds(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
