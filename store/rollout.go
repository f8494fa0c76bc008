package store

import (
	"context"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// Rollout is a rollout as it stands.
type Rollout struct {
	ID        int64
	Product   string
	Version   string
	Digest    string
	State     rollout.State
	Revision  int64 // rises with each decision and order
	Policy    rollout.Policy
	Pace      rollout.Pace
	Seed      []byte
	Floor     time.Duration
	HeldBy    string // "engine" or an operator's token name
	Started   time.Time
	StartedBy string // actor
	RungSince time.Time
	Ended     time.Time // zero while it moves
	// ResumeAskedBy is the operator who asked to resume after a halt and waits for
	// another one.
	ResumeAskedBy   string
	Counts          health.Counts
	PreflightFailed int64
	Reverted        int64
	// The last decision or order.
	Action  rollout.Action
	Reasons []rollout.Reason
	Decided time.Time
}

// Start is the wish to roll a release out.
type Start struct {
	RequestID string // idempotency key; empty is none
	Product   string
	Version   string
	Policy    rollout.Policy // checked by the caller
	Pace      rollout.Pace   // to begin with
	Seed      []byte         // random
	Actor     string
}

// StartRollout starts a rollout of a listed release; a repeat with the same
// request id returns the rollout that it made. It supersedes the product's
// older rollouts, but for the newest finished one, which stays on offer until
// this one finishes. ErrNotFound if there is no such listed release; ErrState
// if the product has an active rollout; ErrExists if the request id was used
// for another release.
func (s *Store) StartRollout(ctx context.Context, st Start, now time.Time, inTx InTx) (Rollout, error) {
	return Rollout{}, errUnbuilt
}

// Rollout finds one rollout. ErrNotFound.
func (s *Store) Rollout(ctx context.Context, id int64) (Rollout, error) {
	return Rollout{}, errUnbuilt
}

// ListRollouts lists the rollouts of a product, or all if product is empty,
// newest first.
func (s *Store) ListRollouts(ctx context.Context, product string) ([]Rollout, error) {
	return nil, errUnbuilt
}

// OpenRollouts lists the rollouts that are not superseded, oldest first: those
// the plan offers, and those a decision may concern.
func (s *Store) OpenRollouts(ctx context.Context) ([]Rollout, error) { return nil, errUnbuilt }

// Snapshot reads all that a decision depends on in one transaction, but for
// Control, which is Presence's.
func (s *Store) Snapshot(ctx context.Context, id int64) (rollout.Snapshot, error) {
	return rollout.Snapshot{}, errUnbuilt
}

// Presence counts the controls of a rollout: online is who was heard from at or
// after since. It reads a row for each endpoint of the product, so that
// callers cache it.
func (s *Store) Presence(ctx context.Context, id int64, since time.Time) (health.Control, error) {
	return health.Control{}, errUnbuilt
}

// DecisionCommit is a decision with the snapshot it was made from.
type DecisionCommit struct {
	Snapshot rollout.Snapshot
	Decision rollout.Decision
	Actor    string // "engine"
}

// CommitDecision records a decision, if the rollout is still at the snapshot's
// revision; else ErrConflict. The ledger entry carries decision and snapshot,
// so that it can be replayed. A decision that changes nothing (same action,
// reason codes, state, pace and holder as the last) writes nothing and does not
// call inTx.
func (s *Store) CommitDecision(ctx context.Context, c DecisionCommit, now time.Time, inTx InTx) (Rollout, error) {
	return Rollout{}, errUnbuilt
}
