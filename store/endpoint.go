package store

import (
	"context"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
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

// Enrol makes an endpoint. A repeat with the same secret in the same tenant
// returns the same endpoint and uses nothing up, even after the token has
// expired. ErrUnauthenticated if the token is unknown, expired or used up.
func (s *Store) Enrol(ctx context.Context, e Enrolment, now time.Time) (Enrolled, error) {
	return Enrolled{}, errUnbuilt
}

// Endpoint is all that is known of an endpoint.
type Endpoint struct {
	ID            int64
	Name          string
	Tenant        string // name
	Labels        fleet.Labels
	Domain        string
	Enrolled      time.Time
	LastSeen      time.Time // to Batch.SeenGrain; zero if never
	AgentVersion  string
	RSS           int64 // bytes, to one eighth
	Sandbox       []string
	Installations []Installation
	Exposures     []Exposure // newest first; GetEndpoint only
}

// Installation is a product on an endpoint, as last reported.
type Installation struct {
	Product string
	Version string // empty if none runs
	Digest  string
	Healthy bool
	Crashes int64
}

// Exposure is an endpoint's part in a rollout.
type Exposure struct {
	Rollout  int64
	Product  string
	Version  string
	State    health.State
	Reason   string
	Detail   string
	Granted  time.Time
	Settled  time.Time     // zero while open
	Down     time.Duration // from the failure until the last known good ran
	Reverted bool          // went back by order
}

// EndpointQuery selects endpoints; zero fields select all.
type EndpointQuery struct {
	Tenant  string       // name
	Rollout int64        // only endpoints exposed to it
	State   health.State // with Rollout: only exposures in this state
	After   int64        // only ids above this one: the last of the page before
	Limit   int          // at most 1000; 100 if 0
}

// ListEndpoints lists endpoints by id.
func (s *Store) ListEndpoints(ctx context.Context, q EndpointQuery) ([]Endpoint, error) {
	return nil, errUnbuilt
}

// Endpoint finds one endpoint with its exposures. ErrNotFound.
func (s *Store) Endpoint(ctx context.Context, id int64) (Endpoint, error) {
	return Endpoint{}, errUnbuilt
}

// CountEndpoints counts all enrolled endpoints.
func (s *Store) CountEndpoints(ctx context.Context) (int64, error) { return 0, errUnbuilt }
