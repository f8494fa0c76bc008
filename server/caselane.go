package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// defaultLane is the preset that a rollout of an exploited case's fix starts by if no
// policy is asked for.
const defaultLane = "emergency"

// ofCase is the case that a release is a fix of, as the caller may see it; nil if
// none is named. The caller is a member of it, and the fix is bound.
func (s *Server) ofCase(ctx context.Context, name, product, version string) (*store.CaseOf, error) {
	if name == "" {
		return nil, nil
	}
	id, err := parseCase(name)
	if err != nil {
		return nil, err
	}
	v := from(ctx).viewer()
	kase, err := s.store.ReadCase(ctx, v, id, s.cfg.Now())
	if err != nil {
		return nil, about(name, err)
	}
	if err := kase.Me.May(&psirt.RolloutBound{}); err != nil {
		return nil, about(name, err)
	}
	if !slices.Contains(kase.Work.Fixes, psirt.FixBound{Product: product, Version: version}) {
		return nil, fmt.Errorf("%s: %s %s is no fix of it; bind it first (fact fix.bound): %w", name, product, version, store.ErrState)
	}
	return &store.CaseOf{Viewer: v, Case: id, Why: kase.Exploited()}, nil
}

// exploitedWords is what everybody who reads the ledger learns of why a lane was
// taken: the case has the rest.
const exploitedWords = "a case says that the hole is exploited"

// laneWords are those words, if a case or a caller says so.
func laneWords(exploited bool) string {
	if exploited {
		return exploitedWords
	}
	return ""
}

// emergencyLane is the policy that a start goes by when the hole is exploited: the
// lane that the policy names, the default one if no policy was asked for, or the
// policy itself. by is the policy that named another.
func (s *Server) emergencyLane(ctx context.Context, p rollout.Policy, revision int64, asked bool) (lane rollout.Policy, of int64, by string, err error) {
	var name string
	switch {
	case p.Emergency != nil && p.Emergency.Lane != "":
		name, by = p.Emergency.Lane, p.Name
	case !asked:
		name, by = defaultLane, "default"
	default:
		return p, revision, "", nil
	}
	if lane, of, err = s.lanePolicy(ctx, name); err != nil {
		return p, 0, by, fmt.Errorf("policy %q: emergency.lane: %w", by, err)
	}
	return lane, of, by, lane.CheckLane()
}
