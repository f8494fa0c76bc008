package store

import (
	"context"
	"fmt"
	"time"
)

// Scope is what an access token opens.
type Scope string

// The scopes.
const (
	ScopeOperator Scope = "operator"
	ScopeVendor   Scope = "vendor" // of one vendor
	ScopeTenant   Scope = "tenant" // of one tenant
)

// Token is an access token of a person or program, without its secret.
type Token struct {
	Name    string // who holds it; unique for ever, revoked ones included
	Scope   Scope
	Of      string // the vendor or tenant of a scoped token
	Created time.Time
	Revoked bool
}

// AddToken records an access token by the hash of its secret. ErrExists if the
// name is taken.
func (s *Store) AddToken(ctx context.Context, t Token, hash Hash, actor string, now time.Time) (Token, error) {
	t.Created, t.Revoked = now.UTC().Truncate(time.Microsecond), false
	err := s.inWrite(ctx, fmt.Sprintf("add token %q", t.Name), func(c conn) error {
		n, err := c.exec(ctx, `INSERT INTO token (name, hash, scope, of_name, created, revoked) VALUES ($1, $2, $3, $4, $5, FALSE) ON CONFLICT (name) DO NOTHING`,
			t.Name, hash[:], string(t.Scope), t.Of, micros(now))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrExists
		}
		return c.note(ctx, now, "token.added", t.Name, actor, map[string]any{"token": t.Name, "scope": t.Scope, "of": t.Of})
	})
	return t, err
}

// TokenByHash finds the token in force with this hash; ErrNotFound if there is
// none or it is revoked.
func (s *Store) TokenByHash(ctx context.Context, hash Hash) (t Token, err error) {
	err = s.inRead(ctx, "find token", func(c conn) error {
		out, err := c.tokens(ctx, `SELECT name, scope, of_name, created, revoked FROM token WHERE hash = $1 AND NOT revoked`, hash[:])
		if err == nil && len(out) == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		t = out[0]
		return nil
	})
	return t, err
}

// ListTokens lists all access tokens by name.
func (s *Store) ListTokens(ctx context.Context) (out []Token, err error) {
	err = s.inRead(ctx, "list tokens", func(c conn) error {
		out, err = c.tokens(ctx, `SELECT name, scope, of_name, created, revoked FROM token ORDER BY name`)
		return err
	})
	return out, err
}

func (c conn) tokens(ctx context.Context, text string, args ...any) (out []Token, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var t Token
		var created int64
		if err := rows.Scan(&t.Name, &t.Scope, &t.Of, &created, &t.Revoked); err != nil {
			return err
		}
		t.Created = fromMicros(created)
		out = append(out, t)
		return nil
	})
	return out, err
}

// RevokeToken ends a token at once; repeating it changes nothing. ErrNotFound.
func (s *Store) RevokeToken(ctx context.Context, name, actor string, now time.Time) error {
	return s.inWrite(ctx, fmt.Sprintf("revoke token %q", name), func(c conn) error {
		var revoked bool
		if err := c.row(ctx, `SELECT revoked FROM token WHERE name = $1`, name).Scan(&revoked); err != nil || revoked {
			return found(err)
		}
		if _, err := c.exec(ctx, `UPDATE token SET revoked = TRUE WHERE name = $1`, name); err != nil {
			return err
		}
		return c.note(ctx, now, "token.revoked", name, actor, map[string]any{"token": name})
	})
}

// EnrolmentToken lets endpoints enrol into a tenant.
type EnrolmentToken struct {
	Hash    Hash
	Tenant  string // name
	Uses    int64  // endpoints that may still enrol; 0 is any number
	Expires time.Time
}

// AddEnrolmentToken records an enrolment token. ErrNotFound if there is no such
// tenant.
func (s *Store) AddEnrolmentToken(ctx context.Context, t EnrolmentToken, actor string, now time.Time) error {
	return s.inWrite(ctx, fmt.Sprintf("add enrolment token of tenant %q", t.Tenant), func(c conn) error {
		of, err := c.tenant(ctx, t.Tenant)
		if err != nil {
			return err
		}
		uses := t.Uses
		if uses == 0 {
			uses = -1
		}
		_, err = c.exec(ctx, `INSERT INTO enrolment_token (hash, tenant, uses, expires) VALUES ($1, $2, $3, $4)`, t.Hash[:], of.ID, uses, micros(t.Expires))
		if err != nil {
			return err
		}
		return c.note(ctx, now, "enrolment-token.added", t.Tenant, actor, map[string]any{"tenant": t.Tenant, "uses": t.Uses, "expires_us": micros(t.Expires)})
	})
}
