package server

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// policyService is PolicyService.
type policyService struct{ *Server }

// ApplyPolicy implements PolicyService. What a server could not follow is refused
// here, not only when somebody starts a rollout by it in the night.
func (s policyService) ApplyPolicy(ctx context.Context, req *connect.Request[headgatev1.ApplyPolicyRequest]) (*connect.Response[headgatev1.ApplyPolicyResponse], error) {
	p, err := s.readPolicy(req.Msg.Json)
	if err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	if err := rollout.CheckName(p.Name); err != nil {
		return nil, fmt.Errorf("json: name: %w", err)
	}
	if req.Msg.BaseRevision < 0 {
		return nil, invalid(fmt.Errorf("base_revision: %d is negative", req.Msg.BaseRevision))
	}
	applied, changed, err := s.store.ApplyPolicy(ctx, p, req.Msg.BaseRevision, from(ctx).actor(), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	out, err := policyOut(applied)
	return connect.NewResponse(&headgatev1.ApplyPolicyResponse{Policy: out, Changed: changed}), err
}

// readPolicy reads a document that this server can follow.
func (s *Server) readPolicy(text string) (rollout.Policy, error) {
	p, err := rollout.ParsePolicy([]byte(text))
	if err != nil {
		return p, err
	}
	return p, s.canFollow(p)
}

// canFollow refuses a policy that asks for what this server does not have.
func (s *Server) canFollow(p rollout.Policy) error {
	if len(p.Signals) > 0 && s.prometheus == nil {
		return fmt.Errorf("policy %q: signals: this server has no prometheus configured in which to look them up: %w", p.Name, rollout.ErrInvalid)
	}
	return checkObserved(p)
}

// ListPolicies implements PolicyService.
func (s policyService) ListPolicies(ctx context.Context, _ *connect.Request[headgatev1.ListPoliciesRequest]) (*connect.Response[headgatev1.ListPoliciesResponse], error) {
	all, err := s.store.ListPolicies(ctx)
	if err != nil {
		return nil, err
	}
	res := &headgatev1.ListPoliciesResponse{}
	for _, p := range all {
		out, err := policyOut(p)
		if err != nil {
			return nil, err
		}
		res.Policies = append(res.Policies, out)
	}
	return connect.NewResponse(res), nil
}

// GetPolicy implements PolicyService.
func (s policyService) GetPolicy(ctx context.Context, req *connect.Request[headgatev1.GetPolicyRequest]) (*connect.Response[headgatev1.GetPolicyResponse], error) {
	if req.Msg.Revision < 0 {
		return nil, invalid(fmt.Errorf("revision: %d is negative", req.Msg.Revision))
	}
	p, err := s.store.Policy(ctx, rollout.Ref{Name: req.Msg.Name, Revision: req.Msg.Revision})
	if err != nil {
		return nil, err
	}
	out, err := policyOut(p)
	return connect.NewResponse(&headgatev1.GetPolicyResponse{Policy: out}), err
}

func policyOut(p store.AppliedPolicy) (*headgatev1.Policy, error) {
	doc, err := p.Policy.Document()
	return &headgatev1.Policy{Name: p.Name, Revision: p.Revision, Json: string(doc), AppliedUs: micros(p.At), AppliedBy: p.By}, err
}

// startPolicy is the policy that a start asks for, and its revision if it is an
// applied one.
func (s *Server) startPolicy(ctx context.Context, m *headgatev1.StartRolloutRequest) (p rollout.Policy, revision int64, err error) {
	if m.Policy == "" {
		if p, err = s.readPolicy(m.PolicyJson); err != nil {
			return p, 0, fmt.Errorf("policy_json: %w", err)
		}
		return p, 0, nil
	}
	if m.PolicyJson != "" {
		return p, 0, invalid(fmt.Errorf("policy and policy_json: %q and a document; want one of them", m.Policy))
	}
	return s.appliedPolicy(ctx, m.Policy)
}

// appliedPolicy finds an applied policy by "name" or "name@revision".
func (s *Server) appliedPolicy(ctx context.Context, name string) (p rollout.Policy, revision int64, err error) {
	ref, err := rollout.ParseRef(name)
	if err != nil {
		return p, 0, err
	}
	applied, err := s.store.Policy(ctx, ref)
	if err != nil {
		return p, 0, fmt.Errorf("policy: %w", err)
	}
	// An older release may have applied what this one refuses.
	if err := applied.Policy.Check(); err != nil {
		return p, 0, fmt.Errorf("policy %s@%d: %w", applied.Name, applied.Revision, err)
	}
	return applied.Policy, applied.Revision, s.canFollow(applied.Policy)
}
