// Package rollout is the decision core: Decide says what a rollout does next,
// Admit says who is granted now. Both are pure: everything they know is in
// their arguments, and the same arguments give the same answer for ever.
//
// Its words: rollout, policy, window, grant, decision. It never counts, stores
// or sends anything.
package rollout

import (
	"time"

	"github.com/headgate/headgate/health"
)

// State is where a rollout stands.
type State string

// The states of a rollout. Only people lead out of halted; only a newer rollout
// of the same product leads to superseded.
const (
	Running    State = "running"
	Held       State = "held"
	Halted     State = "halted"
	Reverting  State = "reverting"
	Reverted   State = "reverted"
	Finished   State = "finished"
	Superseded State = "superseded"
)

// States lists all states.
var States = []State{Running, Held, Halted, Reverting, Reverted, Finished, Superseded}

// next lists the states that may follow each state.
var next = map[State][]State{
	Running:   {Held, Halted, Reverting, Finished, Superseded},
	Held:      {Running, Halted, Reverting, Superseded},
	Halted:    {Running, Reverting, Superseded},
	Reverting: {Reverted, Superseded},
	Reverted:  {Superseded},
	Finished:  {Halted, Reverting, Superseded},
}

// CanBecome tells whether a rollout in state s may come to state to.
func (s State) CanBecome(to State) bool {
	for _, n := range next[s] {
		if n == to {
			return true
		}
	}
	return false
}

// Active tells whether another rollout of the same product must wait. A
// reverting one is not waited for: an endpoint that is dead never comes back,
// and the fix must not wait for it. Its revert order stays in the plan.
func (s State) Active() bool { return s == Running || s == Held }

// Retires tells whether an older rollout of the same product in state older
// ends as superseded when a newer one comes to state s: at the newer one's start
// what was halted, at its finish everything. So the newest finished rollout
// stays on offer, and revert orders stay in force, until something better is
// everywhere.
func (s State) Retires(older State) bool {
	if s == Finished {
		return older.CanBecome(Superseded)
	}
	return s == Running && older == Halted
}

// Grants tells whether endpoints may be granted in this state. A finished
// rollout still serves endpoints that come back or enrol later.
func (s State) Grants() bool { return s == Running || s == Finished }

// Pace is how far a rollout may go just now: what Decide sets and Admit obeys.
type Pace struct {
	Rung int64 `json:"rung"`
	// Window is how many exposed-but-unproven endpoints there may be at once.
	Window int64 `json:"window"`
	// Ceiling is how many endpoints may be exposed in all.
	Ceiling int64 `json:"ceiling"`
	// Turn is the share of ranks that may ask (fleet.InTurn); Boost widens it when
	// too few of those called are there.
	Turn  float64 `json:"turn"`
	Boost float64 `json:"boost"`
	// QuietUntil, microseconds since 1970, is when silence counts again after the
	// controls were silent too: endpoints that come back from an outage need time
	// to speak. 0 is always.
	QuietUntil int64 `json:"quiet_until_us,omitempty"`
	// AcceptedHarm and AcceptedRefusals are the harmed and silent, and the refusals
	// in preflight, that two people saw when they resumed a halted rollout: the
	// limits count from there.
	AcceptedHarm     int64 `json:"accepted_harm,omitempty"`
	AcceptedRefusals int64 `json:"accepted_refusals,omitempty"`
	// Cover is how many of Ceiling are for endpoints chosen for coverage.
	Cover int64 `json:"cover,omitempty"`
	// Small means that the fleet is too small to hold anyone back as a control: all
	// may ask in their turn.
	Small bool `json:"small,omitempty"`
}

// Accept is the pace after people resumed a halted rollout in the face of this
// evidence. Without it the next look would halt again for the same reason.
func (p Pace) Accept(c health.Counts, refusals int64) Pace {
	p.AcceptedHarm, p.AcceptedRefusals = c.Harmed+c.Silent, refusals
	return p
}

// Rules is the version of the rules that new decisions are made by. Since 1 the
// plan of a budgeted rollout knows the budget of vitals; since 2 the last looks are
// not spent on cohorts that have not shown all they can; since 3 a segment's evidence
// counts who is at risk exactly, and begins anew when a segment is halted; since 4
// cohorts before a bound's count by what they failed beyond their controls, coverage by
// each horizon's age, and endpoints that came back are compared with a margin.
const Rules = 4

// Snapshot is all that a decision may depend on. It is recorded with it.
type Snapshot struct {
	Rollout  int64  `json:"rollout"`
	Product  string `json:"product"`
	Version  string `json:"version"`
	Revision int64  `json:"revision"` // of the rollout, for the compare-and-swap
	State    State  `json:"state"`
	Policy   Policy `json:"policy"`
	// Rules is the version of the rules to decide by: what was recorded is decided
	// again by its own.
	Rules   int64     `json:"rules,omitempty"`
	Pace    Pace      `json:"pace"`
	Started time.Time `json:"started"`
	// RungSince is when the present rung was reached, or last widened.
	RungSince time.Time     `json:"rung_since"`
	Floor     time.Duration `json:"floor"` // the vendor's, from the start until everyone may have it
	// HeldBy is who holds it: empty, "engine", or an operator.
	HeldBy string `json:"held_by,omitempty"`

	Counts          health.Counts            `json:"counts"`
	Segments        map[string]health.Counts `json:"segments,omitempty"` // by "key=value"
	Control         health.Control           `json:"control"`
	PreflightFailed int64                    `json:"preflight_failed"` // endpoints that refused it before activation
	// Reverted counts exposed endpoints that are known not to run the release any
	// more: by order or by themselves.
	Reverted int64 `json:"reverted"`
	// Waits: there are endpoints that may not have the release yet, and who the next
	// windows are kept for. What those who may have it prove is not enough to pass for
	// them all.
	Waits bool `json:"waits,omitempty"`
	// Signals are what the policy's queries answered last.
	Signals []Reading `json:"signals,omitempty"`
	// Accepted is what people accepted beside harm when they resumed it; nil if they
	// never did.
	Accepted *Accepted `json:"accepted,omitempty"`
	// Observed is what a policy with a budget must know; without it such a rollout
	// holds.
	Observed *Observed `json:"observed,omitempty"`
}

// Action is what a decision does.
type Action string

// The actions.
const (
	Advance Action = "advance"
	Hold    Action = "hold"
	Halt    Action = "halt"
	Revert  Action = "revert"
	Finish  Action = "finish"
	// HaltSegment leaves segments out and holds until the rest is judged without
	// them.
	HaltSegment Action = "halt-segment"
	// LiftSegment takes a segment in again: people only.
	LiftSegment Action = "lift-segment"
)

// Reason is one reason of a decision. Code is stable; Detail is for people.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Decision is what to do, why, and how the rollout stands after it.
type Decision struct {
	Action  Action   `json:"action"`
	Reasons []Reason `json:"reasons"`
	State   State    `json:"state"`
	Pace    Pace     `json:"pace"`
	HeldBy  string   `json:"held_by,omitempty"`
	// Widened or climbed: RungSince becomes the decision's time.
	NewRung bool `json:"new_rung,omitempty"`
	// Accepted is what is accepted from now on; nil is what was.
	Accepted *Accepted `json:"accepted,omitempty"`
	// With a budget: segments to leave out from now on, the knowledge to hand to
	// the next decision (even if this one changes nothing else), and the numbers.
	HaltSegments []HaltedSegment `json:"halt_segments,omitempty"`
	// LiftSegments are left out no longer, by people's order.
	LiftSegments []HaltedSegment `json:"lift_segments,omitempty"`
	Knowledge    *Knowledge      `json:"knowledge,omitempty"`
	Numbers      *Numbers        `json:"numbers,omitempty"`
}
