package control

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// run starts a collector and returns what stops it.
func run[Q, A any](c *Collector[Q, A]) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

func TestLoneRequestCommitsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCollector(10, func(_ context.Context, q []int) ([]int, error) { return q, nil })
		stop := run(c)
		defer stop()
		began := time.Now()
		for i := range 3 {
			if a, err := c.Do(t.Context(), i); err != nil || a != i {
				t.Fatalf("answer %d, %v; want %d", a, err, i)
			}
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("lone requests waited %s for company that does not come", waited)
		}
	})
}

func TestRequestsThatWaitCommitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		c := NewCollector(2*MaxBatch, func(_ context.Context, q []int) ([]int, error) {
			sizes = append(sizes, len(q))
			time.Sleep(time.Second)
			return q, nil
		})
		stop := run(c)
		var wg sync.WaitGroup
		for i := range MaxBatch + 10 {
			wg.Go(func() {
				if a, err := c.Do(context.Background(), i); err != nil || a != i {
					t.Errorf("answer %d, %v; want %d", a, err, i)
				}
			})
			if i == 0 {
				synctest.Wait() // the first is under way alone
			}
		}
		wg.Wait()
		stop()
		if len(sizes) != 3 || sizes[0] != 1 || sizes[1] != MaxBatch || sizes[2] != 9 {
			t.Errorf("batches of %v; want 1, %d, 9", sizes, MaxBatch)
		}
	})
}

func TestFullQueueRefusesInsteadOfWaiting(t *testing.T) {
	c := NewCollector(1, func(_ context.Context, q []int) ([]int, error) { return q, nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody runs the collector: the first request stays in the queue
	c.Do(ctx, 1)
	if _, err := c.Do(t.Context(), 2); !errors.Is(err, ErrOverloaded) {
		t.Errorf("got %v; want ErrOverloaded", err)
	}
}

func TestFailedCommitReachesEveryMember(t *testing.T) {
	boom := errors.New("disk full")
	c := NewCollector(10, func(context.Context, []int) ([]int, error) { return nil, boom })
	stop := run(c)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := c.Do(context.Background(), 1); !errors.Is(err, boom) {
				t.Errorf("got %v; want %v", err, boom)
			}
		})
	}
	wg.Wait()
	stop()
	if _, err := c.Do(t.Context(), 1); !errors.Is(err, ErrStopped) {
		t.Errorf("after the stop: got %v; want ErrStopped", err)
	}
}
