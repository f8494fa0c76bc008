package psirt

import (
	"fmt"
	"strings"
)

// State is where a case stands in the model of Householder and Spring, "A
// State-Based Model for Multi-Party Coordinated Vulnerability Disclosure" (2021),
// which CERT/CC's Vultron builds on: vendor aware (V), fix ready (F), fix deployed
// (D), public (P), exploit public (X), attacks observed (A). What has happened
// stays so: a bit is set and never cleared.
type State uint8

// The events, each also the bit that it sets.
const (
	VendorAware    State = 1 << iota // V
	FixReady                         // F
	FixDeployed                      // D
	Public                           // P
	ExploitPublic                    // X
	AttackObserved                   // A
)

// Events lists the events in the order in which a state is written.
var Events = []State{VendorAware, FixReady, FixDeployed, Public, ExploitPublic, AttackObserved}

// needs is what must have happened before an event can.
var needs = map[State]State{FixReady: VendorAware, FixDeployed: FixReady}

const letters = "vfdpxa"

var eventNames = map[State]string{
	VendorAware: "vendor aware", FixReady: "fix ready", FixDeployed: "fix deployed",
	Public: "public", ExploitPublic: "exploit public", AttackObserved: "attacks observed",
}

// Has tells whether all of the events have happened.
func (s State) Has(events State) bool { return s&events == events }

// Legal tells whether the state can be reached: no fix without a vendor who
// knows, none deployed that is not ready. 32 of the 64 are legal.
func (s State) Legal() bool {
	for event, before := range needs {
		if s.Has(event) && !s.Has(before) {
			return false
		}
	}
	return s < 1<<len(letters)
}

// Next is the state after an event. An event that has happened changes nothing.
// ErrIllegal if what must come before has not.
func (s State) Next(event State) (State, error) {
	if before := needs[event]; !s.Has(before) {
		return s, illegal("%s in state %s: %s must come first", eventNames[event], s, eventNames[before])
	}
	return s | event, nil
}

// Unstable says what must follow at once, or is empty. The model allows no other
// transition there; we record what happens in the world in whatever order it is
// learned, and ask for what is missing.
func (s State) Unstable() string {
	switch {
	case s.Has(ExploitPublic) && !s.Has(Public):
		return "an exploit is public, so the vulnerability is: record that it is public"
	case s.Has(Public) && !s.Has(VendorAware):
		return "it is public, so the vendor can know: tell the vendor and record it"
	}
	return ""
}

// String writes the state as the model does: "VFdpxa".
func (s State) String() string {
	b := []byte(letters)
	for i, event := range Events {
		if s.Has(event) {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

// ParseState reads what String wrote.
func ParseState(text string) (State, error) {
	var s State
	if len(text) != len(letters) || !strings.EqualFold(text, letters) {
		return 0, invalid("state %q: want the letters %s, capital for what has happened", text, letters)
	}
	for i, event := range Events {
		if text[i] < 'a' {
			s |= event
		}
	}
	if !s.Legal() {
		return 0, invalid("state %q: cannot be reached", text)
	}
	return s, nil
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *State) UnmarshalText(b []byte) (err error) {
	if *s, err = ParseState(string(b)); err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	return nil
}
