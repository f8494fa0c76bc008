package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/store"
)

// maxPage is the largest page of a list.
const maxPage = 1000

// fleetService is FleetService.
type fleetService struct{ *Server }

// ListEndpoints implements FleetService. A tenant sees its own only.
func (s fleetService) ListEndpoints(ctx context.Context, req *connect.Request[headgatev1.ListEndpointsRequest]) (*connect.Response[headgatev1.ListEndpointsResponse], error) {
	c, m := from(ctx), req.Msg
	q := store.EndpointQuery{Tenant: m.Tenant, Rollout: m.Rollout, State: health.State(m.State), Limit: int(m.PageSize)}
	if c.Scope == store.ScopeTenant {
		if m.Tenant != "" {
			if err := c.owns(store.ScopeTenant, m.Tenant); err != nil {
				return nil, err
			}
		}
		q.Tenant = c.Of
	}
	switch q.State {
	case "", health.Open, health.Proven, health.Harmed, health.Silent:
	default:
		return nil, invalid(fmt.Errorf("state: %q; want open, proven, harmed or silent", m.State))
	}
	if q.State != "" && q.Rollout == 0 {
		return nil, invalid(fmt.Errorf("state: %q says nothing without a rollout", m.State))
	}
	if q.Limit < 0 || q.Limit > maxPage {
		return nil, invalid(fmt.Errorf("page_size: %d; want 0 to %d", m.PageSize, maxPage))
	}
	or(&q.Limit, 100)
	if m.PageToken != "" {
		after, err := ids.Parse("E", m.PageToken)
		if err != nil {
			return nil, invalid(fmt.Errorf("page_token: %w", err))
		}
		q.After = after
	}
	list, err := s.store.ListEndpoints(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListEndpointsResponse{}
	for _, e := range list {
		out.Endpoints = append(out.Endpoints, endpointOut(e))
	}
	if len(list) == q.Limit {
		out.NextPageToken = ids.Format("E", list[len(list)-1].ID)
	}
	return connect.NewResponse(out), nil
}

// GetEndpoint implements FleetService. Another tenant's endpoint is not found:
// that it exists is not the caller's to know.
func (s fleetService) GetEndpoint(ctx context.Context, req *connect.Request[headgatev1.GetEndpointRequest]) (*connect.Response[headgatev1.GetEndpointResponse], error) {
	id, err := ids.Parse("E", req.Msg.Id)
	if err != nil {
		return nil, invalid(fmt.Errorf("id: %w", err))
	}
	e, err := s.store.Endpoint(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && from(ctx).owns(store.ScopeTenant, e.Tenant) != nil {
		err = store.ErrNotFound // in the same words
	}
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", req.Msg.Id, err)
	}
	return connect.NewResponse(&headgatev1.GetEndpointResponse{Endpoint: endpointOut(e)}), nil
}

func endpointOut(e store.Endpoint) *headgatev1.Endpoint {
	out := &headgatev1.Endpoint{
		Id: ids.Format("E", e.ID), Name: e.Name, Tenant: e.Tenant, Labels: e.Labels, FailureDomain: e.Domain,
		EnrolledUs: micros(e.Enrolled), LastSeenUs: micros(e.LastSeen), AgentVersion: e.AgentVersion, Sandbox: e.Sandbox, RssBytes: e.RSS, Trouble: e.Trouble,
	}
	for _, i := range e.Installations {
		out.Installations = append(out.Installations, &headgatev1.Installation{Product: i.Product, Version: i.Version, Digest: i.Digest, Healthy: i.Healthy, Crashes: i.Crashes})
	}
	for _, x := range e.Exposures {
		out.Exposures = append(out.Exposures, &headgatev1.Exposure{
			Rollout: x.Rollout, Product: x.Product, Version: x.Version, State: string(x.State), Reason: x.Reason, Detail: x.Detail,
			GrantedUs: micros(x.Granted), SettledUs: micros(x.Settled), DownUs: x.Down.Microseconds(), Reverted: x.Reverted,
		})
	}
	return out
}

// micros is a time on the wire; 0 is never.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
