package store

import (
	"context"
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
	return Token{}, errUnbuilt
}

// TokenByHash finds the token in force with this hash; ErrNotFound if there is
// none or it is revoked.
func (s *Store) TokenByHash(ctx context.Context, hash Hash) (Token, error) {
	return Token{}, errUnbuilt
}

// ListTokens lists all access tokens by name.
func (s *Store) ListTokens(ctx context.Context) ([]Token, error) { return nil, errUnbuilt }

// RevokeToken ends a token at once; repeating it changes nothing. ErrNotFound.
func (s *Store) RevokeToken(ctx context.Context, name, actor string, now time.Time) error {
	return errUnbuilt
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
	return errUnbuilt
}
