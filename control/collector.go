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
	MaxBatch  = 512
	MaxLinger = 10 * time.Millisecond
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
	depth  int
	// Observe, if set before Run, is told of each batch.
	Observe func(size int, took time.Duration, err error)

	again sync.Pool     // of *pending
	wake  chan struct{} // has room for one

	mu      sync.Mutex // guards what follows
	waiting []*pending[Q, A]
	target  int // how many must wait for Run to be woken: not once for each
	stopped bool
}

type pending[Q, A any] struct {
	ctx    context.Context
	asked  time.Time
	ask    Q
	answer A
	err    error
	done   chan struct{} // has room for one: whoever asked may have gone
}

// NewCollector makes a collector with room for depth waiting requests. commit
// makes the whole batch durable and returns one answer per request, in order,
// or an error, in which case nothing of the batch may have taken effect.
func NewCollector[Q, A any](depth int, commit func(context.Context, []Q) ([]A, error)) *Collector[Q, A] {
	c := &Collector[Q, A]{commit: commit, depth: depth, wake: make(chan struct{}, 1), target: 1}
	c.again.New = func() any { return &pending[Q, A]{done: make(chan struct{}, 1)} }
	return c
}

// Do hands in one request and waits for its answer. When ctx ends first the
// request may still take effect: requests are idempotent, so the caller repeats.
func (c *Collector[Q, A]) Do(ctx context.Context, ask Q) (A, error) {
	var none A
	p := c.again.Get().(*pending[Q, A])
	p.ctx, p.asked, p.ask = ctx, time.Now(), ask
	if err := c.enqueue(p); err != nil {
		return none, err
	}
	if gone := ctx.Done(); gone != nil {
		select {
		case <-p.done:
		case <-gone:
			return none, ctx.Err() // p is still the batch's
		}
	} else {
		<-p.done
	}
	answer, err := p.answer, p.err
	*p = pending[Q, A]{done: p.done}
	c.again.Put(p)
	return answer, err
}

func (c *Collector[Q, A]) enqueue(p *pending[Q, A]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return ErrStopped
	}
	if len(c.waiting) == c.depth {
		return ErrOverloaded
	}
	if c.waiting = append(c.waiting, p); len(c.waiting) == c.target {
		poke(c.wake)
	}
	return nil
}

// Run commits batches until ctx ends; then it refuses new requests, commits
// what waits, and returns.
func (c *Collector[Q, A]) Run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stopped = true
		poke(c.wake)
	})()
	expect := 1
	for c.await(1, nil) {
		if expect > 1 {
			// When the batches before had company, most of it asks again just now:
			// waiting a moment for as many saves whole transactions.
			linger := time.NewTimer(MaxLinger)
			c.await(expect, linger.C)
			linger.Stop()
		}
		batch := c.take()
		expect = max(len(batch), expect*3/4)
		c.flush(context.WithoutCancel(ctx), batch)
	}
}

// await waits until n requests wait, the time is up, or the collector stops; it
// tells whether any waits.
func (c *Collector[Q, A]) await(n int, enough <-chan time.Time) bool {
	for {
		c.mu.Lock()
		have, stopped := len(c.waiting), c.stopped
		c.target = n
		c.mu.Unlock()
		if have >= n || stopped {
			return have > 0
		}
		select {
		case <-c.wake:
		case <-enough:
			return true
		}
	}
}

// take takes the oldest requests.
func (c *Collector[Q, A]) take() []*pending[Q, A] {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.waiting), MaxBatch)
	batch := c.waiting[:n:n]
	c.waiting = append(make([]*pending[Q, A], 0, max(n, len(c.waiting)-n)), c.waiting[n:]...)
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
		p.done <- struct{}{} // who has gone away will ask again
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
		p.done <- struct{}{}
	}
}
