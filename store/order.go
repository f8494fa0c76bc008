package store

import (
	"context"
	"time"
)

// Verb is what an operator orders of a rollout.
type Verb string

// The verbs.
const (
	VerbHold   Verb = "hold"
	VerbResume Verb = "resume"
	VerbHalt   Verb = "halt"
	VerbRevert Verb = "revert"
)

// Order is an operator's order to a rollout.
type Order struct {
	Rollout  int64
	Verb     Verb
	Operator string // token name
	Why      string
}

// OrderRollout carries an order out and records who gave it. An order that is
// fulfilled already changes nothing. Resuming a halted rollout takes two
// operators: the first call records the wish (ResumeAskedBy), another
// operator's call resumes. ErrState if the rollout's state does not allow it;
// ErrNotFound.
func (s *Store) OrderRollout(ctx context.Context, o Order, now time.Time, inTx InTx) (Rollout, error) {
	return Rollout{}, errUnbuilt
}
