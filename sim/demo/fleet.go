package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/headgate/headgate/sim/wire"
)

// firstPoll is how often endpoints ask for a plan until there is one, which then
// says how often.
const firstPoll = 2 * time.Second

// sims are the simulated endpoints, while they live.
type sims struct {
	fleet  *wire.Fleet // nil: there are none
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ended  chan struct{}
	err    error // after ended
}

// startSims lets the simulated endpoints enrol and live.
func (d *demo) startSims(ctx context.Context, token string) (*sims, error) {
	s := &sims{ended: make(chan struct{}), cancel: func() {}}
	if d.Simulated == 0 {
		return s, nil
	}
	var err error
	s.fleet, err = wire.New(wire.Config{
		Server: lookup(d.env, "HEADGATE_SERVER"), Pin: lookup(d.env, "HEADGATE_PIN"), EnrolmentToken: token,
		N: d.Simulated, Products: []string{product}, Seed: 1, Poll: firstPoll, Dir: d.path("simulated"),
		Goodbye: d.Keep, // what is kept would take their silence for harm, rightly, and order the release back
	})
	if err != nil {
		return nil, fmt.Errorf("make simulated endpoints: %w", err)
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.wg.Go(func() {
		s.err = s.fleet.Run(ctx)
		close(s.ended)
	})
	return s, nil
}

// enrolled is how many there are so far.
func (s *sims) enrolled() int {
	if s.fleet == nil {
		return 0
	}
	return int(s.fleet.Stats().Enrolled)
}

// failed is why they ended before they were told to; nil while they live.
func (s *sims) failed() error {
	select {
	case <-s.ended:
		return fmt.Errorf("the simulated endpoints ended by themselves: %w", s.err)
	default:
		return nil
	}
}

// stop ends them and waits for it. It may be called again.
func (s *sims) stop() {
	s.cancel()
	s.wg.Wait()
}
