package server

import (
	"context"
	"errors"
)

// Step has each loop look once, in the order in which one's work is another's: for
// a server that is Stepped, whose clock stands still meanwhile.
func (s *Server) Step(ctx context.Context) error {
	var errs []error
	if s.signals.Querier != nil {
		errs = append(errs, s.signals.Round(ctx))
	}
	errs = append(errs, s.sweeper.Sweep(ctx))
	s.decider.Look(ctx)
	looks := []func(context.Context) error{
		s.publisher.PublishPlan, s.publisher.Renew, s.files.refresh,
		s.watchman.Look, s.duty.Look, s.follower.Follow, s.discloser.Disclose,
		s.herald.Tell, s.herald.Look, s.courier.Carry, s.checks.refresh, s.checkpoint,
	}
	for _, p := range s.postmen {
		looks = append(looks, p.Deliver)
	}
	for _, look := range looks {
		errs = append(errs, look(ctx))
	}
	return errors.Join(errs...)
}
