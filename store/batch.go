package store

import (
	"context"
	"time"

	"github.com/headgate/headgate/rollout"
)

// Batch is what one transaction of the hot path answers: any number of asks
// and beacons; a few hundred is best.
type Batch struct {
	Asks    []GrantAsk
	Beacons []BeaconReport
	// SeenGrain is how old a stored "last seen" may grow before a beacon that says
	// nothing else new rewrites it; well below two beacon intervals. Zero rewrites
	// always.
	SeenGrain time.Duration
}

// GrantAsk is an endpoint's request for a grant.
type GrantAsk struct {
	Endpoint int64
	Secret   Hash // of the secret in its bearer token
	Rollout  int64
	Digest   string // of the artifact it has staged
}

// AttemptState is what became of an attempt to bring a release onto an
// endpoint, as the endpoint says.
type AttemptState string

// The states of an attempt.
const (
	AttemptStaged          AttemptState = "staged"
	AttemptPreflightFailed AttemptState = "preflight-failed"
	AttemptProbation       AttemptState = "probation"
	AttemptProven          AttemptState = "proven"
	AttemptHarmed          AttemptState = "harmed"
	AttemptReverted        AttemptState = "reverted" // by order
)

// AttemptReport is one attempt in a beacon.
type AttemptReport struct {
	Rollout int64
	Digest  string
	State   AttemptState
	Reason  string // stable code
	Detail  string // for people, at most 500 bytes
	Down    time.Duration
}

// BeaconReport is an endpoint's beacon.
type BeaconReport struct {
	Endpoint      int64
	Secret        Hash
	Seq           int64
	Installations []Installation
	Attempts      []AttemptReport
	RSS           int64 // bytes
	Sandbox       []string
	Goodbye       bool
}

// GrantAnswer is the answer to an ask. Err is ErrUnauthenticated or nil.
type GrantAnswer struct {
	rollout.Answer
	Err error
}

// BeaconAnswer is the answer to a beacon. Err is ErrUnauthenticated or nil;
// nil means that what it reported is durable.
type BeaconAnswer struct{ Err error }

// BatchAnswer has one answer for each ask and beacon, in their order.
type BatchAnswer struct {
	Asks    []GrantAnswer
	Beacons []BeaconAnswer
}

// CommitBatch answers asks and beacons in one transaction: it authenticates
// the endpoints, admits, counts, and appends one ledger entry if anything was
// granted or settled. When it returns without error, all of it is durable;
// with an error, none of it happened. Asks of one batch see the grants before
// them; beacons are taken in before asks. Everything in it may be repeated.
//
// An ask for a rollout that does not exist is refused as "unknown-rollout".
func (s *Store) CommitBatch(ctx context.Context, b Batch, now time.Time) (BatchAnswer, error) {
	return BatchAnswer{}, errUnbuilt
}

// SweepSilent turns at most limit open exposures past their deadline to
// silent, and returns how many it turned.
func (s *Store) SweepSilent(ctx context.Context, now time.Time, limit int) (int, error) {
	return 0, errUnbuilt
}
