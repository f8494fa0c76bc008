package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/ids"
)

// Enrolment is an endpoint's wish to exist. The caller has checked the limits
// of package fleet.
type Enrolment struct {
	Token        Hash // of the tenant's enrolment token
	Secret       Hash // of the endpoint's own secret
	Name         string
	Labels       fleet.Labels
	Domain       string // failure domain; empty is none
	Products     []string
	AgentVersion string
}

// Enrolled says who an endpoint is.
type Enrolled struct {
	ID     int64
	Tenant string // name
	New    bool   // false: a repeat
}

// EnrolAnswer is the answer to one enrolment of several. Err is
// ErrUnauthenticated or nil.
type EnrolAnswer struct {
	Enrolled
	Err error
}

// Enrol makes an endpoint. A repeat with the same secret in the same tenant
// returns the same endpoint and uses nothing up, even after the token has
// expired. ErrUnauthenticated if the token is unknown, expired or used up.
func (s *Store) Enrol(ctx context.Context, e Enrolment, now time.Time) (Enrolled, error) {
	answers, err := s.EnrolAll(ctx, []Enrolment{e}, now)
	if err != nil {
		return Enrolled{}, err
	}
	return answers[0].Enrolled, answers[0].Err
}

// EnrolAll makes endpoints as Enrol does, in one transaction with one ledger
// entry. It answers each in its order; one that is refused harms no other.
func (s *Store) EnrolAll(ctx context.Context, all []Enrolment, now time.Time) ([]EnrolAnswer, error) {
	// One order of tokens for all servers: each token's row is a lock.
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return bytes.Compare(all[a].Token[:], all[b].Token[:]) })
	var answers []EnrolAnswer
	err := s.inWrite(ctx, "enrol endpoints", func(c conn) error {
		answers = make([]EnrolAnswer, len(all))
		for _, i := range order {
			who, err := c.enrol(ctx, all[i], now)
			if err != nil && !errors.Is(err, ErrUnauthenticated) {
				return err
			}
			answers[i] = EnrolAnswer{who, err}
		}
		return c.noteEnrolled(ctx, answers, now)
	})
	return answers, err
}

// enrolledEntry is the body of the ledger entry of many enrolments.
type enrolledEntry struct {
	// Members is the SHA-256 of the facts, one a line, sorted: "E-01K3... tenant".
	Members string           `json:"members_sha256"`
	Tenants map[string]int64 `json:"tenants"` // how many of each
}

// noteEnrolled appends the ledger entry of those who are new: one by itself is
// named, many are by their digest.
func (c conn) noteEnrolled(ctx context.Context, answers []EnrolAnswer, now time.Time) error {
	var members []string
	var one EnrolAnswer
	e := enrolledEntry{Tenants: map[string]int64{}}
	for _, a := range answers {
		if a.New {
			one = a
			members = append(members, ids.Format("E", a.ID)+" "+a.Tenant)
			e.Tenants[a.Tenant]++
		}
	}
	switch len(members) {
	case 0:
		return nil
	case 1:
		id := ids.Format("E", one.ID)
		return c.note(ctx, now, "endpoint.enrolled", id, "tenant:"+one.Tenant, map[string]any{"endpoint": id, "tenant": one.Tenant})
	}
	e.Members = digestOf(members)
	actor := "server"
	if len(e.Tenants) == 1 {
		actor = "tenant:" + one.Tenant
	}
	return c.note(ctx, now, "endpoints.enrolled", "endpoints", actor, e)
}

func (c conn) enrol(ctx context.Context, e Enrolment, now time.Time) (Enrolled, error) {
	var tenant, uses, expires int64
	var who Enrolled
	// The token's row is the lock of all who enrol with it.
	err := c.row(ctx, `SELECT tenant, uses, expires FROM enrolment_token WHERE hash = $1`+c.s.dialect.lock, e.Token[:]).Scan(&tenant, &uses, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return who, fmt.Errorf("enrolment token: %w", ErrUnauthenticated)
	}
	if err != nil {
		return who, fmt.Errorf("find enrolment token: %w", err)
	}
	if err := c.row(ctx, `SELECT name FROM tenant WHERE id = $1`, tenant).Scan(&who.Tenant); err != nil {
		return who, fmt.Errorf("find tenant: %w", err)
	}
	var of int64
	err = c.row(ctx, `SELECT id, tenant FROM endpoint WHERE secret = $1`, e.Secret[:]).Scan(&who.ID, &of)
	if err == nil && of == tenant {
		return who, nil
	}
	if err == nil {
		return Enrolled{}, fmt.Errorf("this secret is another tenant's endpoint: %w", ErrUnauthenticated)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return who, fmt.Errorf("find endpoint: %w", err)
	}
	if uses == 0 || micros(now) >= expires {
		return Enrolled{}, fmt.Errorf("enrolment token has expired or is used up: %w", ErrUnauthenticated)
	}
	if _, err := c.exec(ctx, `UPDATE enrolment_token SET uses = uses - 1 WHERE hash = $1 AND uses > 0`, e.Token[:]); err != nil {
		return who, fmt.Errorf("use enrolment token: %w", err)
	}
	if who.ID, err = c.insertEndpoint(ctx, tenant, e, now); err != nil {
		return who, err
	}
	who.New = true
	return who, nil
}

func (c conn) insertEndpoint(ctx context.Context, tenant int64, e Enrolment, now time.Time) (id int64, err error) {
	if e.Labels == nil {
		e.Labels = fleet.Labels{}
	}
	labels, err := json.Marshal(e.Labels) // sorted by key
	if err != nil {
		return 0, fmt.Errorf("labels: %w", err)
	}
	for inserted := int64(0); inserted == 0; {
		id = ids.New(now)
		inserted, err = c.exec(ctx, `INSERT INTO endpoint (id, tenant, secret, labels, domain, rss, sandbox, name, agent_version, enrolled)
			VALUES ($1, $2, $3, $4, $5, 0, '', $6, $7, $8) ON CONFLICT (id) DO NOTHING`, id, tenant, e.Secret[:], string(labels), e.Domain, e.Name, e.AgentVersion, micros(now))
		if err != nil {
			return 0, fmt.Errorf("insert endpoint: %w", err)
		}
	}
	for _, p := range e.Products {
		_, err := c.exec(ctx, `INSERT INTO installation (product, endpoint, version, digest, healthy, crashes, last_seen, goodbye)
			VALUES ($1, $2, '', '', FALSE, 0, 0, FALSE) ON CONFLICT (product, endpoint) DO NOTHING`, p, id)
		if err != nil {
			return 0, fmt.Errorf("insert installation of %s: %w", p, err)
		}
	}
	return id, nil
}
