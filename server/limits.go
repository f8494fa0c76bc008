package server

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// SetTenantLimits implements AccountService. A tenant's own token may, for its own.
func (s accountService) SetTenantLimits(ctx context.Context, req *connect.Request[headgatev1.SetTenantLimitsRequest]) (*connect.Response[headgatev1.SetTenantLimitsResponse], error) {
	c, m := from(ctx), req.Msg
	if err := c.owns(store.ScopeTenant, m.Tenant); err != nil {
		return nil, err
	}
	if m.BaseRevision < 0 {
		return nil, invalid(fmt.Errorf("base_revision: %d is negative", m.BaseRevision))
	}
	l, err := rollout.ParseLimits([]byte(m.Json), time.LoadLocation)
	if err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	document := "" // in one form, so that the same limits are the same text
	if !l.Empty() {
		b, err := json.Marshal(l)
		if err != nil {
			return nil, fmt.Errorf("json: %w", err)
		}
		document = string(b)
	}
	got, err := s.store.SetTenantLimits(ctx, m.Tenant, document, m.BaseRevision, c.actor(), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.SetTenantLimitsResponse{Limits: limitsOut(got)}), nil
}

// GetTenantLimits implements AccountService.
func (s accountService) GetTenantLimits(ctx context.Context, req *connect.Request[headgatev1.GetTenantLimitsRequest]) (*connect.Response[headgatev1.GetTenantLimitsResponse], error) {
	if err := from(ctx).owns(store.ScopeTenant, req.Msg.Tenant); err != nil {
		return nil, err
	}
	got, err := s.store.TenantLimits(ctx, req.Msg.Tenant)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.GetTenantLimitsResponse{Limits: limitsOut(got)}), nil
}

func limitsOut(l store.TenantLimits) *headgatev1.TenantLimits {
	return &headgatev1.TenantLimits{Tenant: l.Tenant, Revision: l.Revision, Json: l.Document}
}

// ExplainEndpoint implements FleetService. Another tenant's endpoint is not found.
func (s fleetService) ExplainEndpoint(ctx context.Context, req *connect.Request[headgatev1.ExplainEndpointRequest]) (*connect.Response[headgatev1.ExplainEndpointResponse], error) {
	id, err := ids.Parse("E", req.Msg.Id)
	if err != nil {
		return nil, invalid(fmt.Errorf("id: %w", err))
	}
	if req.Msg.Product != "" {
		if _, _, err := release.SplitProduct(req.Msg.Product); err != nil {
			return nil, fmt.Errorf("product: %w", err)
		}
	}
	e, err := s.store.Endpoint(ctx, id)
	if err == nil && from(ctx).owns(store.ScopeTenant, e.Tenant) != nil {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", req.Msg.Id, err)
	}
	all, err := s.store.Why(ctx, id, req.Msg.Product, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ExplainEndpointResponse{}
	for _, x := range all {
		out.Standings = append(out.Standings, &headgatev1.EndpointStanding{
			Product: x.Product, Runs: x.Runs, Rollout: x.Rollout, Version: x.Version, State: string(x.State),
			Delays: delaysOut(x.Delays), Overridden: delaysOut(x.Overridden), Has: x.Has,
		})
	}
	return connect.NewResponse(out), nil
}

func delaysOut(all []rollout.Delay) (out []*headgatev1.Delay) {
	for _, d := range all {
		out = append(out, &headgatev1.Delay{Code: d.Code, Detail: d.Detail, By: d.By, UntilUs: micros(d.Until)})
	}
	return out
}
