package server

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/store"
)

const (
	enrolmentLife    = 30 * 24 * time.Hour
	maxEnrolmentLife = 366 * 24 * time.Hour
	maxUses          = 10_000_000
)

var (
	tenantName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	holderName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._@-]{0,62}[a-z0-9])?$`)
)

// accountService is AccountService.
type accountService struct{ *Server }

func tenantOut(t store.Tenant) *headgatev1.Tenant {
	return &headgatev1.Tenant{Name: t.Name, Paused: t.Paused, Endpoints: t.Endpoints, Opacity: string(t.Opacity)}
}

// AddTenant implements AccountService.
func (s accountService) AddTenant(ctx context.Context, req *connect.Request[headgatev1.AddTenantRequest]) (*connect.Response[headgatev1.AddTenantResponse], error) {
	if !tenantName.MatchString(req.Msg.Name) {
		return nil, invalid(fmt.Errorf("name: tenant %q: want 1 to 40 of a-z, 0-9 and inner hyphens", req.Msg.Name))
	}
	t, err := s.store.AddTenant(ctx, req.Msg.Name, from(ctx).actor(), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.AddTenantResponse{Tenant: tenantOut(t)}), nil
}

// ListTenants implements AccountService. A tenant sees itself only.
func (s accountService) ListTenants(ctx context.Context, _ *connect.Request[headgatev1.ListTenantsRequest]) (*connect.Response[headgatev1.ListTenantsResponse], error) {
	all, err := s.store.ListTenants(ctx)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListTenantsResponse{}
	for _, t := range all {
		if from(ctx).owns(store.ScopeTenant, t.Name) == nil {
			out.Tenants = append(out.Tenants, tenantOut(t))
		}
	}
	return connect.NewResponse(out), nil
}

// SetTenant implements AccountService.
func (s accountService) SetTenant(ctx context.Context, req *connect.Request[headgatev1.SetTenantRequest]) (*connect.Response[headgatev1.SetTenantResponse], error) {
	c := from(ctx)
	if err := c.owns(store.ScopeTenant, req.Msg.Name); err != nil {
		return nil, err
	}
	t, err := s.store.PauseTenant(ctx, req.Msg.Name, req.Msg.Paused, c.actor(), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.SetTenantResponse{Tenant: tenantOut(t)}), nil
}

// NewEnrolmentToken implements AccountService.
func (s accountService) NewEnrolmentToken(ctx context.Context, req *connect.Request[headgatev1.NewEnrolmentTokenRequest]) (*connect.Response[headgatev1.NewEnrolmentTokenResponse], error) {
	c, m := from(ctx), req.Msg
	if err := c.owns(store.ScopeTenant, m.Tenant); err != nil {
		return nil, err
	}
	if m.Uses < 0 || m.Uses > maxUses {
		return nil, invalid(fmt.Errorf("uses: %d; want 0 to %d", m.Uses, maxUses))
	}
	if m.TtlUs < 0 || m.TtlUs > maxEnrolmentLife.Microseconds() {
		return nil, invalid(fmt.Errorf("ttl_us: %d; want 0 to %d (%s)", m.TtlUs, maxEnrolmentLife.Microseconds(), maxEnrolmentLife))
	}
	life := time.Duration(m.TtlUs) * time.Microsecond
	or(&life, enrolmentLife)
	now := s.cfg.Now()
	token, hash := newToken(prefixEnrol)
	t := store.EnrolmentToken{Hash: hash, Tenant: m.Tenant, Uses: m.Uses, Expires: now.Add(life)}
	if err := s.store.AddEnrolmentToken(ctx, t, c.actor(), now); err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.NewEnrolmentTokenResponse{Token: token, ExpiresUs: t.Expires.UnixMicro()}), nil
}

var scopesIn = map[headgatev1.Scope]store.Scope{
	headgatev1.Scope_SCOPE_OPERATOR: store.ScopeOperator,
	headgatev1.Scope_SCOPE_VENDOR:   store.ScopeVendor,
	headgatev1.Scope_SCOPE_TENANT:   store.ScopeTenant,
}

func tokenOut(t store.Token) *headgatev1.Token {
	out := &headgatev1.Token{Name: t.Name, Of: t.Of, CreatedUs: t.Created.UnixMicro(), Revoked: t.Revoked}
	for wire, scope := range scopesIn {
		if scope == t.Scope {
			out.Scope = wire
		}
	}
	return out
}

// AddToken implements AccountService.
func (s accountService) AddToken(ctx context.Context, req *connect.Request[headgatev1.AddTokenRequest]) (*connect.Response[headgatev1.AddTokenResponse], error) {
	m := req.Msg
	if !holderName.MatchString(m.Name) {
		return nil, invalid(fmt.Errorf("name: token %q: want 1 to 64 of a-z, 0-9, and inner . _ @ -", m.Name))
	}
	scope, ok := scopesIn[m.Scope]
	if !ok {
		return nil, invalid(fmt.Errorf("scope: %s; want operator, vendor or tenant", m.Scope))
	}
	if err := s.checkOf(ctx, scope, m.Of); err != nil {
		return nil, err
	}
	secret, hash := newToken(prefixAccess)
	t, err := s.store.AddToken(ctx, store.Token{Name: m.Name, Scope: scope, Of: m.Of}, hash, from(ctx).actor(), s.cfg.Now())
	if err != nil {
		return nil, fmt.Errorf("token %q: %w", m.Name, err)
	}
	return connect.NewResponse(&headgatev1.AddTokenResponse{Secret: secret, Token: tokenOut(t)}), nil
}

// checkOf refuses a token of nobody: a misspelt name would open nothing, or
// later somebody else's.
func (s accountService) checkOf(ctx context.Context, scope store.Scope, of string) error {
	switch scope {
	case store.ScopeOperator:
		if of != "" {
			return invalid(fmt.Errorf("of: %q; an operator's token is of nobody", of))
		}
		return nil
	case store.ScopeVendor:
		if err := release.CheckVendor(of); err != nil {
			return invalid(fmt.Errorf("of: %w", err))
		}
		all, err := s.store.ListVendors(ctx)
		for _, v := range all {
			if v.Name == of {
				return nil
			}
		}
		return orMissing(err, "vendor", of)
	}
	all, err := s.store.ListTenants(ctx)
	for _, t := range all {
		if t.Name == of {
			return nil
		}
	}
	return orMissing(err, "tenant", of)
}

func orMissing(err error, what, name string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("of: %s %q: %w", what, name, store.ErrNotFound)
}

// ListTokens implements AccountService.
func (s accountService) ListTokens(ctx context.Context, _ *connect.Request[headgatev1.ListTokensRequest]) (*connect.Response[headgatev1.ListTokensResponse], error) {
	all, err := s.store.ListTokens(ctx)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListTokensResponse{}
	for _, t := range all {
		out.Tokens = append(out.Tokens, tokenOut(t))
	}
	return connect.NewResponse(out), nil
}

// RevokeToken implements AccountService.
func (s accountService) RevokeToken(ctx context.Context, req *connect.Request[headgatev1.RevokeTokenRequest]) (*connect.Response[headgatev1.RevokeTokenResponse], error) {
	if err := s.store.RevokeToken(ctx, req.Msg.Name, from(ctx).actor(), s.cfg.Now()); err != nil {
		return nil, fmt.Errorf("token %q: %w", req.Msg.Name, err)
	}
	return connect.NewResponse(&headgatev1.RevokeTokenResponse{}), nil
}
