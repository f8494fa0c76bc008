package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/psirt"
)

// Tenant is a customer.
type Tenant struct {
	ID        int64
	Name      string
	Paused    bool // none of its endpoints is granted anything
	Opacity   psirt.Opacity
	Endpoints int64
	Created   time.Time
}

// AddTenant records a tenant; repeating it changes nothing. actor is who did
// it, as the ledger names it ("operator:alice").
func (s *Store) AddTenant(ctx context.Context, name, actor string, now time.Time) (t Tenant, err error) {
	err = s.inWrite(ctx, fmt.Sprintf("add tenant %q", name), func(c conn) error {
		if t, err = c.tenant(ctx, name); !errors.Is(err, ErrNotFound) {
			return err
		}
		id, err := c.next(ctx, "tenant")
		if err != nil {
			return err
		}
		n, err := c.exec(ctx, `INSERT INTO tenant (id, name, paused, created) VALUES ($1, $2, FALSE, $3) ON CONFLICT (name) DO NOTHING`, id, name, micros(now))
		if err != nil {
			return err
		}
		if t, err = c.tenant(ctx, name); err != nil || n == 0 {
			return err
		}
		return c.note(ctx, now, "tenant.added", name, actor, map[string]any{"tenant": name})
	})
	return t, err
}

// PauseTenant stops or allows grants to a tenant's endpoints. ErrNotFound.
func (s *Store) PauseTenant(ctx context.Context, name string, paused bool, actor string, now time.Time) (t Tenant, err error) {
	err = s.inWrite(ctx, fmt.Sprintf("pause tenant %q", name), func(c conn) error {
		if t, err = c.tenant(ctx, name); err != nil || t.Paused == paused {
			return err
		}
		t.Paused = paused
		if _, err := c.exec(ctx, `UPDATE tenant SET paused = $2 WHERE id = $1`, t.ID, paused); err != nil {
			return err
		}
		return c.note(ctx, now, "tenant.changed", name, actor, map[string]any{"tenant": name, "paused": paused})
	})
	return t, err
}

// ListTenants lists all tenants by name.
func (s *Store) ListTenants(ctx context.Context) (out []Tenant, err error) {
	err = s.inRead(ctx, "list tenants", func(c conn) error {
		out, err = c.tenants(ctx, `SELECT t.id, t.name, t.paused, t.created, t.opacity, (SELECT COUNT(*) FROM endpoint e WHERE e.tenant = t.id) FROM tenant t ORDER BY t.name`)
		return err
	})
	return out, err
}

func (c conn) tenant(ctx context.Context, name string) (Tenant, error) {
	out, err := c.tenants(ctx, `SELECT t.id, t.name, t.paused, t.created, t.opacity, (SELECT COUNT(*) FROM endpoint e WHERE e.tenant = t.id) FROM tenant t WHERE t.name = $1`, name)
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("tenant %q: %w", name, ErrNotFound)
	}
	if err != nil {
		return Tenant{}, err
	}
	return out[0], nil
}

func (c conn) tenants(ctx context.Context, text string, args ...any) (out []Tenant, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var t Tenant
		var created int64
		if err := rows.Scan(&t.ID, &t.Name, &t.Paused, &created, &t.Opacity, &t.Endpoints); err != nil {
			return err
		}
		t.Created = fromMicros(created)
		out = append(out, t)
		return nil
	})
	return out, err
}
