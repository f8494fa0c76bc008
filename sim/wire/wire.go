// Package wire runs thousands of simulated endpoints in one process, which speak
// the real wire protocol to a real server: TUF polls with an ETag each, grants,
// beacons. What they choose and report is made by agent/link's own functions;
// what a release does to them is found out by loading it into the real demo
// engine, once per digest.
//
// Simulated are the disk, the processes and the site: all endpoints share one
// verified TUF client and one download per release, as machines behind a mirror
// do. It measures nothing but its own counters (Stats).
//
// Its words: fleet (of simulated endpoints), site.
package wire

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/headgate/headgate/agent/link"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/release/tuf"
)

// Config is a fleet. Zero values are defaults where there is one.
type Config struct {
	Server         string // base URL
	Pin            string // SHA-256 of the server's certificate; empty: the system's roots
	EnrolmentToken string
	N              int
	Products       []string
	// Labels gives endpoint i its attributes; nil is DefaultLabels. rnd is the
	// endpoint's own and seeded.
	Labels func(i int, rnd *rand.Rand) map[string]string
	// Domain gives endpoint i its failure domain; nil is none.
	Domain func(i int) string
	// Seed decides everything that is left to chance: labels, who is offline,
	// vanishes or lies, jitter, and the endpoints' secrets, so that a second run
	// with the same seed enrols the same endpoints.
	Seed uint64
	// Concurrency is how many requests are under way at most; default 32, at most 64.
	Concurrency int
	Poll        time.Duration // until the first plan; default 5s
	Dir         string        // the site's folder
	// Shares of the fleet, 0 to 1.
	Offline float64 // enrols and is never heard from again
	Vanish  float64 // falls silent with its first grant
	Lie     float64 // reports proof whatever happened
	// Goodbye makes online endpoints say goodbye when Run ends.
	Goodbye bool
	// Crashes, if set, tells which endpoints a version crashes, by their labels,
	// whatever it did in the site's trial.
	Crashes func(labels map[string]string, version string) bool
	// Needs, if set, tells how many times the usual CPU and memory a version needs;
	// nil and an endpoint without a version need 1.
	Needs func(version string) (cpu, memory float64)
	Log   *slog.Logger
}

// MaxConcurrency bounds the connections to the server.
const MaxConcurrency = 64

func (c *Config) check() error {
	if c.Concurrency == 0 {
		c.Concurrency = 32
	}
	if c.Poll == 0 {
		c.Poll = 5 * time.Second
	}
	if c.Labels == nil {
		c.Labels = DefaultLabels
	}
	if c.Domain == nil {
		c.Domain = func(int) string { return "" }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.N < 1 || c.N > 1_000_000:
		return fmt.Errorf("simulate %d endpoints: want 1 to 1000000", c.N)
	case c.Concurrency < 1 || c.Concurrency > MaxConcurrency:
		return fmt.Errorf("simulate with %d requests at once: want 1 to %d", c.Concurrency, MaxConcurrency)
	case len(c.Products) == 0 || c.Dir == "":
		return errors.New("simulate: products and a folder are needed")
	case min(c.Offline, c.Vanish, c.Lie) < 0 || max(c.Offline, c.Vanish, c.Lie) > 1 || c.Poll < 0:
		return errors.New("simulate: offline, vanish and lie are shares of 0 to 1, poll is not negative")
	}
	return link.CheckServer(c.Server, c.Pin)
}

// Fleet is a fleet of simulated endpoints.
type Fleet struct {
	Config
	api       headgatev1connect.AgentServiceClient
	transport *http.Transport
	fetch     *tuf.HTTP
	site      *site // set when enrolled
	endpoints []*endpoint
	enrolled  chan struct{}
	counters  counters
}

// New prepares a fleet; nothing is sent yet.
func New(c Config) (*Fleet, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	t, err := link.Transport(c.Pin, c.Concurrency)
	if err != nil {
		return nil, err
	}
	hc := &http.Client{Transport: t, Timeout: 30 * time.Second}
	f := &Fleet{
		Config: c, api: link.API(hc, c.Server, ""), transport: t, fetch: tuf.NewHTTP(c.Server+"/tuf/", hc),
		endpoints: make([]*endpoint, c.N), enrolled: make(chan struct{}),
	}
	for i := range f.endpoints {
		f.endpoints[i] = newEndpoint(f, i)
	}
	return f, nil
}

// Run is New and Fleet.Run.
func Run(ctx context.Context, c Config) error {
	f, err := New(c)
	if err != nil {
		return err
	}
	return f.Run(ctx)
}

// Enrolled is closed when all endpoints are enrolled.
func (f *Fleet) Enrolled() <-chan struct{} { return f.enrolled }

// Endpoints are the ids of the fleet, once Enrolled.
func (f *Fleet) Endpoints() []string {
	out := make([]string, len(f.endpoints))
	for i, e := range f.endpoints {
		out[i] = e.id
	}
	return out
}

// Run enrols the fleet and lives its life until ctx ends; that is no error.
// It may be called once.
func (f *Fleet) Run(ctx context.Context) error {
	defer f.transport.CloseIdleConnections()
	root, err := f.enrol(ctx)
	if err != nil {
		return err
	}
	if f.site, err = newSite(f.Dir, root, f.fetch, f.Seed, f.Log); err != nil {
		return err
	}
	close(f.enrolled)
	f.live(ctx)
	if f.Goodbye {
		f.goodbye()
	}
	return nil
}

// queue orders endpoints by when they are due next.
type queue []*endpoint

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(*endpoint)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// live hands endpoints that are due to workers. An endpoint is either in the
// queue or with one worker, so nothing of it needs a lock.
func (f *Fleet) live(ctx context.Context) {
	work, back := make(chan *endpoint), make(chan *endpoint, f.Concurrency)
	var wg sync.WaitGroup
	for range f.Concurrency {
		wg.Go(func() {
			for e := range work {
				e.step(ctx, time.Now())
				back <- e
			}
		})
	}
	var q queue
	now := time.Now()
	for _, e := range f.endpoints {
		if e.wake(now) {
			q = append(q, e)
		}
	}
	heap.Init(&q)
	f.schedule(ctx, &q, work, back)
	close(work)
	stopped := make(chan struct{})
	go func() { wg.Wait(); close(stopped) }()
	for {
		select {
		case <-back:
		case <-stopped:
			return
		}
	}
}

// schedule is the one owner of the queue.
func (f *Fleet) schedule(ctx context.Context, q *queue, work chan<- *endpoint, back <-chan *endpoint) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var out chan<- *endpoint
		var next *endpoint
		if q.Len() > 0 {
			next = (*q)[0]
			if wait := time.Until(next.due); wait > 0 {
				timer.Reset(wait)
			} else {
				out = work
			}
		}
		select {
		case out <- next:
			heap.Pop(q)
		case e := <-back:
			if !e.gone {
				heap.Push(q, e)
			}
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// all runs f for each endpoint, Concurrency at a time, until one fails.
func (f *Fleet) all(ctx context.Context, do func(context.Context, *endpoint) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *endpoint)
	var wg sync.WaitGroup
	for range f.Concurrency {
		wg.Go(func() {
			for e := range work {
				if err := do(ctx, e); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, e := range f.endpoints {
		select {
		case work <- e:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}
