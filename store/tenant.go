package store

import (
	"context"
	"time"
)

// Tenant is a customer.
type Tenant struct {
	ID        int64
	Name      string
	Paused    bool // none of its endpoints is granted anything
	Endpoints int64
	Created   time.Time
}

// AddTenant records a tenant; repeating it changes nothing. actor is who did
// it, as the ledger names it ("operator:alice").
func (s *Store) AddTenant(ctx context.Context, name, actor string, now time.Time) (Tenant, error) {
	return Tenant{}, errUnbuilt
}

// PauseTenant stops or allows grants to a tenant's endpoints. ErrNotFound.
func (s *Store) PauseTenant(ctx context.Context, name string, paused bool, actor string, now time.Time) (Tenant, error) {
	return Tenant{}, errUnbuilt
}

// ListTenants lists all tenants by name.
func (s *Store) ListTenants(ctx context.Context) ([]Tenant, error) { return nil, errUnbuilt }
