package server

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

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
	s.settleKeys(ctx) // after a rotation by another server
	present, next := s.keys.online.sets()
	ledgerKey, err := s.ledgerPublic(ctx)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.GetOnlineKeysResponse{LedgerKey: ledgerKey, RootVersion: state.Version(tuf.Root), TargetsVersion: state.Version(tuf.Targets)}
	if out.TimestampKey, out.SnapshotKey, out.RolloutKey, err = onlineOut(present); err != nil {
		return nil, err
	}
	if out.NextTimestampKey, out.NextSnapshotKey, out.NextRolloutKey, err = onlineOut(next); err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// NewOnlineKeys implements RepositoryService.
func (s repositoryService) NewOnlineKeys(ctx context.Context, _ *connect.Request[headgatev1.NewOnlineKeysRequest]) (*connect.Response[headgatev1.NewOnlineKeysResponse], error) {
	s.settleKeys(ctx)
	next, err := s.keys.online.makeNext()
	if err != nil {
		return nil, err
	}
	out := &headgatev1.NewOnlineKeysResponse{}
	if out.TimestampKey, out.SnapshotKey, out.RolloutKey, err = onlineOut(next); err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// onlineOut is the public parts of a set of keys; nil for what is not in it.
func onlineOut(o tuf.Online) (timestamp, snapshot, rollout []byte, err error) {
	for role, to := range map[string]*[]byte{tuf.Timestamp: &timestamp, tuf.Snapshot: &snapshot, tuf.Rollout: &rollout} {
		key := o.Of(role)
		if key == nil {
			continue
		}
		if *to, err = json.Marshal(key.Public()); err != nil {
			return nil, nil, nil, fmt.Errorf("online key %s: %w", role, err)
		}
	}
	return timestamp, snapshot, rollout, nil
}

// PublishRoot implements RepositoryService.
func (s repositoryService) PublishRoot(ctx context.Context, req *connect.Request[headgatev1.PublishRootRequest]) (*connect.Response[headgatev1.PublishRootResponse], error) {
	m := req.Msg
	state, err := s.publish(ctx, tuf.Root, func(step *control.Step) (tuf.Change, error) {
		if len(m.Targets) == 0 {
			return step.Repo().SetRoot(m.Root, step.Now)
		}
		return step.Repo().SetRootAndTargets(m.Root, m.Targets, step.Now)
	})
	if err != nil {
		return nil, err
	}
	// Whoever published may read at once what it published.
	if err := s.files.refresh(ctx); err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.PublishRootResponse{Version: state.Version(tuf.Root), TargetsVersion: state.Version(tuf.Targets)}), nil
}

// PublishTargets implements RepositoryService.
func (s repositoryService) PublishTargets(ctx context.Context, req *connect.Request[headgatev1.PublishTargetsRequest]) (*connect.Response[headgatev1.PublishTargetsResponse], error) {
	state, err := s.publish(ctx, tuf.Targets, func(step *control.Step) (tuf.Change, error) {
		return step.Repo().SetTargets(req.Msg.Targets, step.Now)
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.PublishTargetsResponse{Version: state.Version(tuf.Targets)}), nil
}

// publish makes one step of what people sign, with a ledger entry for each role
// in it that says whose keys are trusted from then on, and has the plan published
// after it. With new targets, the vendors that are recorded get their new
// threshold and keys in the same transaction.
func (s repositoryService) publish(ctx context.Context, role string, f func(*control.Step) (tuf.Change, error)) (tuf.State, error) {
	actor := from(ctx).actor()
	err := s.publisher.Change(ctx, s.jobs.EnqueuePublish, func(step *control.Step) (tuf.Change, error) {
		ch, err := f(step)
		if err != nil || len(ch.Files) == 0 {
			return ch, err
		}
		state := step.State.With(ch)
		if ch.Latest[tuf.Root] != "" {
			if err := noteRoot(step, state, actor); err != nil {
				return ch, err
			}
		}
		if ch.Latest[tuf.Targets] == "" {
			return ch, nil
		}
		known, err := s.knownVendors(ctx, state)
		if err != nil {
			return ch, err
		}
		step.Record(known, nil, nil)
		return ch, noteTargets(step, state, actor)
	})
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", role, err)
	}
	s.settleKeys(ctx)
	return s.publisher.State(ctx)
}

// noteRoot records a root with the keys that it trusts.
func noteRoot(step *control.Step, state tuf.State, actor string) error {
	spec, err := tuf.ReadRoot(state[tuf.Root])
	if err != nil {
		return err
	}
	return step.Note("repository.root", tuf.Root, actor, map[string]any{
		"version": state.Version(tuf.Root), "operators": keyIDs(spec.Operators), "threshold": spec.Threshold,
		"timestamp": spec.Timestamp.ID(), "snapshot": spec.Snapshot.ID(),
	})
}

// delegation is whom targets trusts for a vendor, as the ledger has it.
type delegation struct {
	Keys      []string `json:"keys"`
	Threshold int      `json:"threshold"`
}

// noteTargets records targets with the delegations that it changes; a vendor that
// goes has no keys.
func noteTargets(step *control.Step, state tuf.State, actor string) error {
	before, err := delegations(step.State)
	if err != nil {
		return err
	}
	after, err := delegations(state)
	if err != nil {
		return err
	}
	changed := map[string]delegation{}
	for name, d := range after {
		if !reflect.DeepEqual(before[name], d) {
			changed[name] = d
		}
		delete(before, name)
	}
	for name := range before {
		changed[name] = delegation{Keys: []string{}}
	}
	rollout, err := state.OnlineKeys(tuf.Rollout)
	if err != nil {
		return err
	}
	return step.Note("repository.targets", tuf.Targets, actor, map[string]any{"version": state.Version(tuf.Targets), "rollout": rollout, "vendors": changed})
}

func delegations(state tuf.State) (map[string]delegation, error) {
	out := map[string]delegation{}
	if state[tuf.Targets] == nil {
		return out, nil
	}
	list, err := tuf.Vendors(state[tuf.Targets])
	if err != nil {
		return nil, fmt.Errorf("delegations: %w", err)
	}
	for _, v := range list {
		out[v.Name] = delegation{keyIDs(v.Keys), v.Threshold}
	}
	return out, nil
}

func keyIDs(keys []tuf.PublicKey) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.ID()
	}
	return out
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
