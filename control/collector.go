package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// The bounds of a batch: a transaction takes at most MaxBatch requests, and a
// request waits at most MaxLinger for others to join.
const (
	MaxBatch  = 256
	MaxLinger = 2 * time.Millisecond
	// MaxWait is how old a request may be when its batch begins: whoever asked has
	// given up.
	MaxWait = 25 * time.Second
)

// ErrOverloaded means that the queue is full: nothing was done; ask again later.
var ErrOverloaded = errors.New("overloaded")

// ErrStopped means that the server is shutting down: nothing was done.
var ErrStopped = errors.New("stopping")

// Collector commits concurrent requests together (group commit), and answers
// each after the commit. An idle collector commits a lone request at once;
// while one batch commits, the next one gathers.
type Collector[Q, A any] struct {
	commit func(context.Context, []Q) ([]A, error)
	queue  chan *pending[Q, A]
	// Observe, if set before Run, is told of each batch.
	Observe func(size int, took time.Duration, err error)

	mu      sync.RWMutex // guards stopped against the queue's closing
	stopped bool
}

type pending[Q, A any] struct {
	ctx    context.Context
	asked  time.Time
	ask    Q
	answer A
	err    error
	done   chan struct{}
}

// NewCollector makes a collector with room for depth waiting requests. commit
// makes the whole batch durable and returns one answer per request, in order,
// or an error, in which case nothing of the batch may have taken effect.
func NewCollector[Q, A any](depth int, commit func(context.Context, []Q) ([]A, error)) *Collector[Q, A] {
	return &Collector[Q, A]{commit: commit, queue: make(chan *pending[Q, A], depth)}
}

// Do hands in one request and waits for its answer. When ctx ends first the
// request may still take effect: requests are idempotent, so the caller repeats.
func (c *Collector[Q, A]) Do(ctx context.Context, ask Q) (A, error) {
	var none A
	p := &pending[Q, A]{ctx: ctx, asked: time.Now(), ask: ask, done: make(chan struct{})}
	if err := c.enqueue(p); err != nil {
		return none, err
	}
	select {
	case <-p.done:
		return p.answer, p.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (c *Collector[Q, A]) enqueue(p *pending[Q, A]) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.stopped {
		return ErrStopped
	}
	select {
	case c.queue <- p:
		return nil
	default:
		return ErrOverloaded
	}
}

// Run commits batches until ctx ends; then it refuses new requests, commits
// what waits, and returns.
func (c *Collector[Q, A]) Run(ctx context.Context) {
	go func() {
		<-ctx.Done()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stopped = true
		close(c.queue)
	}()
	last := 1
	for {
		first, ok := <-c.queue
		if !ok {
			return
		}
		batch := c.gather(first, last)
		last = len(batch)
		c.flush(context.WithoutCancel(ctx), batch)
	}
}

// gather takes what waits. When the last batch had company, most of it asks
// again just now: waiting a moment for as many saves a whole transaction.
func (c *Collector[Q, A]) gather(first *pending[Q, A], expect int) []*pending[Q, A] {
	batch := append(make([]*pending[Q, A], 0, max(expect, 8)), first)
	var deadline <-chan time.Time
	for len(batch) < MaxBatch {
		select {
		case p, ok := <-c.queue:
			if !ok {
				return batch
			}
			batch = append(batch, p)
			continue
		default:
		}
		if len(batch) >= expect {
			return batch
		}
		if deadline == nil {
			deadline = time.After(MaxLinger)
		}
		select {
		case p, ok := <-c.queue:
			if !ok {
				return batch
			}
			batch = append(batch, p)
		case <-deadline:
			return batch
		}
	}
	return batch
}

func (c *Collector[Q, A]) flush(ctx context.Context, batch []*pending[Q, A]) {
	live, began := batch[:0], time.Now()
	for _, p := range batch {
		if p.err = p.ctx.Err(); p.err == nil && began.Sub(p.asked) > MaxWait {
			p.err = context.DeadlineExceeded
		}
		if p.err == nil {
			live = append(live, p)
			continue
		}
		close(p.done) // who has gone away will ask again
	}
	if len(live) == 0 {
		return
	}
	asks := make([]Q, len(live))
	for i, p := range live {
		asks[i] = p.ask
	}
	answers, err := c.commit(ctx, asks)
	if err == nil && len(answers) != len(asks) {
		err = fmt.Errorf("batch of %d got %d answers", len(asks), len(answers))
	}
	if c.Observe != nil {
		c.Observe(len(asks), time.Since(began), err)
	}
	for i, p := range live {
		if p.err = err; err == nil {
			p.answer = answers[i]
		}
		close(p.done)
	}
}
