package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/notify"
)

// Contact is how a tenant is written to. An empty address: not on that channel.
type Contact struct {
	Tenant   string
	Language notify.Language
	Email    string
	Second   string // told when nobody acknowledges
	OpenPGP  string // armored public key that mail is encrypted to
	Webhook  string // https URL
	Secret   []byte // of the webhook; never read back to a caller but once
	HasFeed  bool
	Changed  time.Time
}

// channels lists what Headgate sends on.
func (k Contact) channels() (out []notify.Channel) {
	if k.Email != "" {
		out = append(out, notify.Email)
	}
	if k.Webhook != "" {
		out = append(out, notify.Webhook)
	}
	return out
}

// mayTenant refuses whoever is not of this tenant, an operator, or the engine.
// Somebody else's tenant reads as one that does not exist.
func (v Viewer) mayTenant(name string) error {
	if v.engine || v.Scope == ScopeOperator || (v.Scope == ScopeTenant && v.Of == name) {
		return nil
	}
	return fmt.Errorf("tenant %q: %w", name, ErrNotFound)
}

// SetContact replaces how a tenant is written to. A webhook whose address stays
// keeps its secret if k.Secret is empty; a feed stays as it is. What waits to be
// sent goes to the new address. ErrNotFound for a tenant that is not the viewer's.
func (s *Store) SetContact(ctx context.Context, v Viewer, k Contact, now time.Time) (out Contact, err error) {
	err = s.inWrite(ctx, fmt.Sprintf("set contact of tenant %q", k.Tenant), func(c conn) error {
		if err := v.mayTenant(k.Tenant); err != nil {
			return err
		}
		t, err := c.tenant(ctx, k.Tenant)
		if err != nil {
			return err
		}
		before, err := c.contact(ctx, t.ID)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if len(k.Secret) == 0 && k.Webhook == before.Webhook {
			k.Secret = before.Secret
		}
		if k.Webhook == "" {
			k.Secret = nil
		} else if len(k.Secret) == 0 {
			return fmt.Errorf("a webhook needs a secret: %w", ErrInvalid)
		}
		if k.Secret == nil {
			k.Secret = []byte{}
		}
		_, err = c.exec(ctx, `INSERT INTO tenant_contact (tenant, language, email, second, openpgp, webhook, secret, feed, changed) VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, $8) ON CONFLICT (tenant) DO UPDATE SET language = excluded.language, email = excluded.email, second = excluded.second, openpgp = excluded.openpgp, webhook = excluded.webhook, secret = excluded.secret, changed = excluded.changed`,
			t.ID, string(k.Language), k.Email, k.Second, k.OpenPGP, k.Webhook, k.Secret, micros(now))
		if err != nil {
			return err
		}
		if out, err = c.contact(ctx, t.ID); err != nil {
			return err
		}
		out.Tenant = k.Tenant
		// A tenant that gained a channel is told on it what it was not told yet.
		if _, err := c.exec(ctx, `UPDATE notice SET look = $2 WHERE tenant = $1 AND ended = FALSE`, t.ID, micros(now)); err != nil {
			return err
		}
		// The ledger is read by operators of all tenants: it says which channels, and
		// no address.
		return c.note(ctx, now, "contact.set", k.Tenant, v.Actor, map[string]any{
			"tenant": k.Tenant, "language": k.Language, "email": k.Email != "", "second": k.Second != "", "openpgp": k.OpenPGP != "", "webhook": k.Webhook != "",
		})
	})
	return out, err
}

// ReadContact reads how a tenant is written to, without the webhook's secret.
// ErrNotFound if the tenant is not the viewer's or has none.
func (s *Store) ReadContact(ctx context.Context, v Viewer, tenant string) (k Contact, err error) {
	err = s.inRead(ctx, fmt.Sprintf("read contact of tenant %q", tenant), func(c conn) error {
		if err := v.mayTenant(tenant); err != nil {
			return err
		}
		t, err := c.tenant(ctx, tenant)
		if err != nil {
			return err
		}
		k, err = c.contact(ctx, t.ID)
		k.Tenant, k.Secret = tenant, nil
		return err
	})
	return k, err
}

// SetFeed gives a tenant a feed under the secret that hashes to hash, in place of
// the one before. ErrNotFound as in ReadContact.
func (s *Store) SetFeed(ctx context.Context, v Viewer, tenant string, hash Hash, now time.Time) error {
	return s.inWrite(ctx, fmt.Sprintf("set feed of tenant %q", tenant), func(c conn) error {
		if err := v.mayTenant(tenant); err != nil {
			return err
		}
		t, err := c.tenant(ctx, tenant)
		if err != nil {
			return err
		}
		n, err := c.exec(ctx, `UPDATE tenant_contact SET feed = $2, changed = $3 WHERE tenant = $1`, t.ID, hash[:], micros(now))
		if err != nil {
			return err
		}
		if n == 0 {
			_, err = c.exec(ctx, `INSERT INTO tenant_contact (tenant, language, email, second, openpgp, webhook, secret, feed, changed) VALUES ($1, $2, '', '', '', '', $3, $4, $5)`,
				t.ID, string(notify.English), []byte{}, hash[:], micros(now))
			if err != nil {
				return err
			}
		}
		return c.note(ctx, now, "feed.set", tenant, v.Actor, map[string]any{"tenant": tenant})
	})
}

const contactColumns = `language, email, second, openpgp, webhook, secret, feed, changed`

func (c conn) contact(ctx context.Context, tenant int64) (Contact, error) {
	return scanContact(c.row(ctx, `SELECT `+contactColumns+` FROM tenant_contact WHERE tenant = $1`, tenant))
}

func scanContact(row interface{ Scan(...any) error }) (k Contact, err error) {
	var feed []byte
	var changed int64
	err = row.Scan(&k.Language, &k.Email, &k.Second, &k.OpenPGP, &k.Webhook, &k.Secret, &feed, &changed)
	k.HasFeed, k.Changed = len(feed) > 0, fromMicros(changed)
	return k, found(err)
}

// contacts reads the contacts of all tenants that have one, by tenant id, and the
// tenants' ids by name.
func (c conn) contacts(ctx context.Context) (by map[int64]Contact, names map[string]int64, err error) {
	by, names = map[int64]Contact{}, map[string]int64{}
	rows, err := c.rows(ctx, `SELECT t.id, t.name, k.language, k.email, k.second, k.webhook FROM tenant t LEFT JOIN tenant_contact k ON k.tenant = t.id`)
	err = each(rows, err, func() error {
		var id int64
		var name string
		var language, email, second, webhook sql.NullString
		if err := rows.Scan(&id, &name, &language, &email, &second, &webhook); err != nil {
			return err
		}
		names[name] = id
		by[id] = Contact{Tenant: name, Language: notify.Language(language.String), Email: email.String, Second: second.String, Webhook: webhook.String}
		return nil
	})
	return by, names, err
}
