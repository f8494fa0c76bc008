package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

const (
	maxWhy       = 1000 // bytes
	maxRequestID = 128
	seedBytes    = 32
	// watchEvery is how soon a watcher sees a change, whoever made it.
	watchEvery = 250 * time.Millisecond
	maxWatches = 256
)

// rolloutService is RolloutService.
type rolloutService struct{ *Server }

// StartRollout implements RolloutService.
func (s rolloutService) StartRollout(ctx context.Context, req *connect.Request[headgatev1.StartRolloutRequest]) (*connect.Response[headgatev1.StartRolloutResponse], error) {
	m := req.Msg
	if _, _, err := release.SplitProduct(m.Product); err != nil {
		return nil, err
	}
	if err := release.CheckVersion(m.Version); err != nil {
		return nil, err
	}
	if len(m.RequestId) > maxRequestID {
		return nil, invalid(fmt.Errorf("request_id: %d bytes, limit %d", len(m.RequestId), maxRequestID))
	}
	of, err := s.ofCase(ctx, m.Case, m.Product, m.Version)
	if err != nil {
		return nil, err
	}
	policy, revision, choice, err := s.startLane(ctx, m, of)
	if err != nil {
		return nil, err
	}
	reach, fit, err := s.cover(ctx, m.Product, m.Version, policy)
	if err != nil {
		return nil, err
	}
	looked, err := s.mayStart(ctx, m.Product, m.Version)
	if err != nil {
		return nil, err
	}
	plan, err := s.planned(policy, reach, fit, of)
	if err != nil {
		return nil, err
	}
	if m.DryRun {
		return connect.NewResponse(&headgatev1.StartRolloutResponse{Plan: plan}), nil
	}
	seed := make([]byte, seedBytes)
	rand.Read(seed) // never fails: it aborts the program instead
	r, err := s.store.StartRollout(ctx, store.Start{
		RequestID: m.RequestId, Product: m.Product, Version: m.Version, Policy: policy, PolicyRevision: revision, Choice: choice, Seed: seed, Actor: from(ctx).actor(), Coverage: reach, Looked: looked, For: of,
	}, s.cfg.Now(), s.jobs.EnqueuePublish)
	if err != nil {
		return nil, err // it says what it was of
	}
	s.decider.Wake()
	return connect.NewResponse(&headgatev1.StartRolloutResponse{Rollout: s.out(r), Plan: plan}), nil
}

// GetRollout implements RolloutService.
func (s rolloutService) GetRollout(ctx context.Context, req *connect.Request[headgatev1.GetRolloutRequest]) (*connect.Response[headgatev1.GetRolloutResponse], error) {
	r, err := s.read(ctx, req.Msg.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.GetRolloutResponse{Rollout: r}), nil
}

func (s rolloutService) read(ctx context.Context, id int64) (*headgatev1.Rollout, error) {
	r, err := s.store.Rollout(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.out(r), nil
}

// ListRollouts implements RolloutService.
func (s rolloutService) ListRollouts(ctx context.Context, req *connect.Request[headgatev1.ListRolloutsRequest]) (*connect.Response[headgatev1.ListRolloutsResponse], error) {
	all, err := s.store.ListRollouts(ctx, req.Msg.Product)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListRolloutsResponse{}
	for _, r := range all {
		out.Rollouts = append(out.Rollouts, s.out(r))
	}
	return connect.NewResponse(out), nil
}

// WatchRollout implements RolloutService. It looks at the database, so that it
// sees what any server did.
func (s rolloutService) WatchRollout(ctx context.Context, req *connect.Request[headgatev1.WatchRolloutRequest], stream *connect.ServerStream[headgatev1.WatchRolloutResponse]) error {
	if s.watching.Add(1) > maxWatches {
		s.watching.Add(-1)
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("%d watchers are connected already", maxWatches))
	}
	defer s.watching.Add(-1)
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	var last *headgatev1.Rollout
	for {
		r, err := s.read(ctx, req.Msg.Id)
		if err != nil {
			return err
		}
		if !proto.Equal(r, last) {
			if err := stream.Send(&headgatev1.WatchRolloutResponse{Rollout: r}); err != nil {
				return err
			}
			last = r
		}
		if st := rollout.State(r.State); !st.Active() && st != rollout.Reverting {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.watches.Done():
			return connect.NewError(connect.CodeUnavailable, errors.New("the server is stopping; watch again"))
		case <-t.C:
		}
	}
}

// order carries out an operator's order; it is durable before the answer.
func (s rolloutService) order(ctx context.Context, id int64, o rollout.Order) (*headgatev1.Rollout, error) {
	if len(o.Why) > maxWhy {
		return nil, invalid(fmt.Errorf("why: %d bytes, limit %d", len(o.Why), maxWhy))
	}
	o.Operator = from(ctx).Name
	r, err := s.store.OrderRollout(ctx, id, o, s.cfg.Now(), s.jobs.EnqueuePublish)
	if err != nil {
		return nil, fmt.Errorf("%s rollout R-%d: %w", o.Verb, id, err)
	}
	s.decider.Wake()
	return s.out(r), nil
}

// HoldRollout implements RolloutService.
func (s rolloutService) HoldRollout(ctx context.Context, req *connect.Request[headgatev1.HoldRolloutRequest]) (*connect.Response[headgatev1.HoldRolloutResponse], error) {
	r, err := s.order(ctx, req.Msg.Id, rollout.Order{Verb: rollout.VerbHold, Why: req.Msg.Why})
	return connect.NewResponse(&headgatev1.HoldRolloutResponse{Rollout: r}), err
}

// ResumeRollout implements RolloutService.
func (s rolloutService) ResumeRollout(ctx context.Context, req *connect.Request[headgatev1.ResumeRolloutRequest]) (*connect.Response[headgatev1.ResumeRolloutResponse], error) {
	o := rollout.Order{Verb: rollout.VerbResume, Why: req.Msg.Why}
	if text := req.Msg.Segment; text != "" {
		if len(text) > maxWhy {
			return nil, invalid(fmt.Errorf("segment: %d bytes, limit %d", len(text), maxWhy))
		}
		var err error
		if o.Segment, err = fleet.ParseSegment(text); err != nil {
			return nil, err
		}
		o.Verb = rollout.VerbLift
	}
	r, err := s.order(ctx, req.Msg.Id, o)
	return connect.NewResponse(&headgatev1.ResumeRolloutResponse{Rollout: r}), err
}

// HaltRollout implements RolloutService.
func (s rolloutService) HaltRollout(ctx context.Context, req *connect.Request[headgatev1.HaltRolloutRequest]) (*connect.Response[headgatev1.HaltRolloutResponse], error) {
	r, err := s.order(ctx, req.Msg.Id, rollout.Order{Verb: rollout.VerbHalt, Why: req.Msg.Why})
	return connect.NewResponse(&headgatev1.HaltRolloutResponse{Rollout: r}), err
}

// RevertRollout implements RolloutService.
func (s rolloutService) RevertRollout(ctx context.Context, req *connect.Request[headgatev1.RevertRolloutRequest]) (*connect.Response[headgatev1.RevertRolloutResponse], error) {
	r, err := s.order(ctx, req.Msg.Id, rollout.Order{Verb: rollout.VerbRevert, Why: req.Msg.Why})
	return connect.NewResponse(&headgatev1.RevertRolloutResponse{Rollout: r}), err
}

// out is a rollout on the wire. Fit and online are this server's newest count;
// 0 until it has counted.
func (s rolloutService) out(r store.Rollout) *headgatev1.Rollout {
	policy, err := json.Marshal(r.Policy)
	if err != nil {
		panic("server: a policy that was stored as JSON is none: " + err.Error())
	}
	c := s.decider.Kept(r.ID)
	out := &headgatev1.Rollout{
		Id: r.ID, Product: r.Product, Version: r.Version, State: string(r.State), Revision: r.Revision,
		Rung: r.Pace.Rung, Window: r.Pace.Window, Ceiling: r.Pace.Ceiling,
		Counts: &headgatev1.Counts{Exposed: r.Counts.Exposed, Proven: r.Counts.Proven, Harmed: r.Counts.Harmed, Silent: r.Counts.Silent, Open: r.Counts.Open},
		Fit:    c.Fit, Online: c.Online, PreflightFailed: r.PreflightFailed, Action: string(r.Action),
		DecidedUs: micros(r.Decided), StartedUs: micros(r.Started), EndedUs: micros(r.Ended), StartedBy: r.StartedBy,
		PolicyJson: string(policy), ResumeAskedBy: r.ResumeAskedBy, Reverted: r.Reverted, LiftAskedBy: r.LiftAskedBy, LiftAskedOf: r.LiftAskedOf,
		PolicyRevision: r.PolicyRevision, LaneJson: laneJSON(r.Lane), LaneAskedBy: r.LaneAskedBy,
	}
	for _, why := range r.Reasons {
		out.Reasons = append(out.Reasons, &headgatev1.Reason{Code: why.Code, Detail: why.Detail})
	}
	out.Coverage = coverageOut(r.Coverage)
	for _, h := range r.Halted {
		out.Halted = append(out.Halted, &headgatev1.HaltedSegment{Segment: h.Labels.String(), Labels: h.Labels, Share: h.Share})
	}
	if r.Policy.Budget != nil {
		out.GatesUsed, out.GatesLimit = r.Pace.Rung, r.Policy.Budget.GatesLimit(c.Fit)
	}
	return out
}
