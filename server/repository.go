package server

import (
	"context"
	"encoding/json"
	"fmt"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/control"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/store"
)

// repositoryService is RepositoryService.
type repositoryService struct{ *Server }

// GetOnlineKeys implements RepositoryService.
func (s repositoryService) GetOnlineKeys(ctx context.Context, _ *connect.Request[headgatev1.GetOnlineKeysRequest]) (*connect.Response[headgatev1.GetOnlineKeysResponse], error) {
	state, err := s.publisher.State(ctx)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.GetOnlineKeysResponse{LedgerKey: s.keys.ledgerPublic, RootVersion: state.Version(tuf.Root), TargetsVersion: state.Version(tuf.Targets)}
	for _, k := range []struct {
		key tuf.Signer
		to  *[]byte
	}{{s.keys.online.Timestamp, &out.TimestampKey}, {s.keys.online.Snapshot, &out.SnapshotKey}, {s.keys.online.Rollout, &out.RolloutKey}} {
		if *k.to, err = json.Marshal(k.key.Public()); err != nil {
			return nil, fmt.Errorf("online keys: %w", err)
		}
	}
	return connect.NewResponse(out), nil
}

// PublishRoot implements RepositoryService.
func (s repositoryService) PublishRoot(ctx context.Context, req *connect.Request[headgatev1.PublishRootRequest]) (*connect.Response[headgatev1.PublishRootResponse], error) {
	state, err := s.publish(ctx, tuf.Root, func(step *control.Step) (tuf.Change, error) { return step.Repo().SetRoot(req.Msg.Root, step.Now) })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.PublishRootResponse{Version: state.Version(tuf.Root)}), nil
}

// PublishTargets implements RepositoryService. Vendors that are recorded get
// their new threshold and keys in the same transaction.
func (s repositoryService) PublishTargets(ctx context.Context, req *connect.Request[headgatev1.PublishTargetsRequest]) (*connect.Response[headgatev1.PublishTargetsResponse], error) {
	state, err := s.publish(ctx, tuf.Targets, func(step *control.Step) (tuf.Change, error) {
		ch, err := step.Repo().SetTargets(req.Msg.Targets, step.Now)
		if err != nil || len(ch.Files) == 0 {
			return ch, err
		}
		known, err := s.knownVendors(ctx, step.State.With(ch))
		step.Record(known, nil, nil)
		return ch, err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.PublishTargetsResponse{Version: state.Version(tuf.Targets)}), nil
}

// publish makes one step of a role that people sign, with its ledger entry, and
// has the plan published after it.
func (s repositoryService) publish(ctx context.Context, role string, f func(*control.Step) (tuf.Change, error)) (tuf.State, error) {
	actor := from(ctx).actor()
	err := s.publisher.Change(ctx, s.jobs.EnqueuePublish, func(step *control.Step) (tuf.Change, error) {
		ch, err := f(step)
		if err != nil || len(ch.Files) == 0 {
			return ch, err
		}
		return ch, step.Note("repository."+role, role, actor, map[string]any{"version": step.State.With(ch).Version(role)})
	})
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", role, err)
	}
	return s.publisher.State(ctx)
}

func (s repositoryService) knownVendors(ctx context.Context, state tuf.State) ([]store.Vendor, error) {
	recorded, err := s.store.ListVendors(ctx)
	if err != nil {
		return nil, err
	}
	is := map[string]bool{}
	for _, v := range recorded {
		is[v.Name] = true
	}
	all, err := delegated(state)
	if err != nil {
		return nil, err
	}
	known := all[:0]
	for _, v := range all {
		if is[v.Name] {
			known = append(known, v)
		}
	}
	return known, nil
}
