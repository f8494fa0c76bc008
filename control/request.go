package control

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/store"
)

// commitTimeout is how long a batch may take before it is given up, and its
// requests answered with an error.
const commitTimeout = 30 * time.Second

// Batches is what the hot path needs of the store.
type Batches interface {
	CommitBatch(ctx context.Context, b store.Batch, now time.Time) (store.BatchAnswer, error)
}

// Requests is the hot path: grants and beacons of all endpoints, committed
// together.
type Requests struct {
	*Collector[request, reply]
	batches Batches
	now     func() time.Time
	grain   func() time.Duration
	news    func()
	// Waiting is how many requests are in a queue or a batch now.
	Waiting atomic.Int64
}

type request struct {
	grant  *store.GrantAsk
	beacon *store.BeaconReport
}

type reply struct {
	grant  store.GrantAnswer
	beacon store.BeaconAnswer
}

// NewRequests makes the hot path with room for depth waiting requests. grain is
// Decider.Grain; news is called when a batch may have settled something.
func NewRequests(depth int, b Batches, now func() time.Time, grain func() time.Duration, news func()) *Requests {
	r := &Requests{batches: b, now: now, grain: grain, news: news}
	r.Collector = NewCollector(depth, r.commit)
	return r
}

// Grant asks for a grant; the answer is durable. ErrOverloaded, ErrStopped,
// store.ErrUnauthenticated.
func (r *Requests) Grant(ctx context.Context, a store.GrantAsk) (store.GrantAnswer, error) {
	got, err := r.do(ctx, request{grant: &a})
	if err != nil {
		return got.grant, err
	}
	return got.grant, got.grant.Err
}

// Beacon takes a beacon in; without an error what it reports is durable.
// ErrOverloaded, ErrStopped, store.ErrUnauthenticated.
func (r *Requests) Beacon(ctx context.Context, b store.BeaconReport) error {
	got, err := r.do(ctx, request{beacon: &b})
	if err != nil {
		return err
	}
	return got.beacon.Err
}

func (r *Requests) do(ctx context.Context, q request) (reply, error) {
	r.Waiting.Add(1)
	defer r.Waiting.Add(-1)
	return r.Do(ctx, q)
}

func (r *Requests) commit(ctx context.Context, asked []request) ([]reply, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	b := store.Batch{SeenGrain: r.grain()}
	for _, q := range asked {
		if q.grant != nil {
			b.Asks = append(b.Asks, *q.grant)
		} else {
			b.Beacons = append(b.Beacons, *q.beacon)
		}
	}
	got, err := r.batches.CommitBatch(ctx, b, r.now())
	if err != nil {
		return nil, err
	}
	out := make([]reply, len(asked))
	asks, beacons := 0, 0
	for i, q := range asked {
		if q.grant != nil {
			out[i].grant = got.Asks[asks]
			asks++
		} else {
			out[i].beacon = got.Beacons[beacons]
			beacons++
		}
	}
	if settles(b.Beacons) {
		r.news()
	}
	return out, nil
}

// settles tells whether any beacon may have settled an exposure.
func settles(beacons []store.BeaconReport) bool {
	for _, b := range beacons {
		for _, a := range b.Attempts {
			if a.State != store.AttemptStaged && a.State != store.AttemptProbation {
				return true
			}
		}
	}
	return false
}

// Enrolments is what NewEnrolments needs of the store.
type Enrolments interface {
	EnrolAll(ctx context.Context, all []store.Enrolment, now time.Time) ([]store.EnrolAnswer, error)
}

// NewEnrolments makes the collector of enrolments: a fleet that is rolled out
// enrols at once.
func NewEnrolments(depth int, e Enrolments, now func() time.Time) *Collector[store.Enrolment, store.EnrolAnswer] {
	return NewCollector(depth, func(ctx context.Context, all []store.Enrolment) ([]store.EnrolAnswer, error) {
		ctx, cancel := context.WithTimeout(ctx, commitTimeout)
		defer cancel()
		return e.EnrolAll(ctx, all, now())
	})
}
