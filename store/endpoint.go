package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
)

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
	Trouble       string // what the agent cannot do, as last reported
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
func (s *Store) ListEndpoints(ctx context.Context, q EndpointQuery) (out []Endpoint, err error) {
	err = s.inRead(ctx, "list endpoints", func(c conn) error {
		const columns = `SELECT e.id, e.name, t.name, e.labels, e.domain, e.enrolled, e.agent_version, e.rss, e.sandbox, e.trouble FROM endpoint e JOIN tenant t ON t.id = e.tenant `
		limit := pageSize(q.Limit)
		switch {
		case q.Rollout == 0 && q.Tenant == "":
			out, err = c.endpoints(ctx, columns+`WHERE e.id > $1 ORDER BY e.id LIMIT $2`, q.After, limit)
		case q.Rollout == 0:
			out, err = c.endpoints(ctx, columns+`WHERE e.id > $1 AND e.tenant = (SELECT id FROM tenant WHERE name = $3) ORDER BY e.id LIMIT $2`, q.After, limit, q.Tenant)
		default:
			out, err = c.endpoints(ctx, columns+`JOIN exposure x ON x.endpoint = e.id WHERE x.rollout = $3 AND x.endpoint > $1
				AND ($4 = '' OR x.state = $4) AND ($5 = '' OR t.name = $5) ORDER BY x.endpoint LIMIT $2`,
				q.After, limit, q.Rollout, string(q.State), q.Tenant)
		}
		if err != nil {
			return err
		}
		return c.addInstallations(ctx, out)
	})
	return out, err
}

func (c conn) endpoints(ctx context.Context, text string, args ...any) (out []Endpoint, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var e Endpoint
		var labels []byte
		var sandbox string
		var enrolled int64
		if err := rows.Scan(&e.ID, &e.Name, &e.Tenant, &labels, &e.Domain, &enrolled, &e.AgentVersion, &e.RSS, &sandbox, &e.Trouble); err != nil {
			return err
		}
		if err := json.Unmarshal(labels, &e.Labels); err != nil {
			return fmt.Errorf("labels of %s: %w", ids.Format("E", e.ID), err)
		}
		e.Enrolled, e.Sandbox = fromMicros(enrolled), strings.Fields(sandbox)
		out = append(out, e)
		return nil
	})
	return out, err
}

var listInstallations = &list{
	of:   "BIGINT",
	head: `SELECT i.endpoint, i.product, i.version, ` + installedDigest + `, i.healthy, i.crashes, i.last_seen FROM product p JOIN installation i ON i.product = p.name WHERE i.endpoint IN (`,
	row:  `?`, tail: `) ORDER BY i.endpoint, i.product`, pad: true,
}

// addInstallations fills in what the endpoints run, of the products known.
func (c conn) addInstallations(ctx context.Context, endpoints []Endpoint) error {
	at, keys := map[int64]*Endpoint{}, []any{}
	for i := range endpoints {
		at[endpoints[i].ID] = &endpoints[i]
		keys = append(keys, endpoints[i].ID)
	}
	return c.queryList(ctx, listInstallations, nil, keys, func(rows *sql.Rows) error {
		var in Installation
		var id, seen int64
		if err := rows.Scan(&id, &in.Product, &in.Version, &in.Digest, &in.Healthy, &in.Crashes, &seen); err != nil {
			return err
		}
		e := at[id]
		e.Installations = append(e.Installations, in)
		if t := fromMicros(seen); t.After(e.LastSeen) {
			e.LastSeen = t
		}
		return nil
	})
}

// Endpoint finds one endpoint with its exposures. ErrNotFound.
func (s *Store) Endpoint(ctx context.Context, id int64) (e Endpoint, err error) {
	err = s.inRead(ctx, "read endpoint", func(c conn) error {
		out, err := c.endpoints(ctx, `SELECT e.id, e.name, t.name, e.labels, e.domain, e.enrolled, e.agent_version, e.rss, e.sandbox, e.trouble
			FROM endpoint e JOIN tenant t ON t.id = e.tenant WHERE e.id = $1`, id)
		if err == nil && len(out) == 0 {
			err = fmt.Errorf("endpoint %s: %w", ids.Format("E", id), ErrNotFound)
		}
		if err != nil {
			return err
		}
		if err := c.addInstallations(ctx, out); err != nil {
			return err
		}
		e = out[0]
		e.Exposures, err = c.exposuresOf(ctx, id)
		return err
	})
	return e, err
}

func (c conn) exposuresOf(ctx context.Context, id int64) (out []Exposure, err error) {
	rows, err := c.rows(ctx, `SELECT x.rollout, r.product, r.version, x.state, x.reason, x.detail, x.granted, x.settled, x.down, x.reverted
		FROM rollout r JOIN exposure x ON x.rollout = r.id AND x.endpoint = $1 ORDER BY r.id DESC`, id)
	err = each(rows, err, func() error {
		var x Exposure
		var granted, settled, down int64
		if err := rows.Scan(&x.Rollout, &x.Product, &x.Version, &x.State, &x.Reason, &x.Detail, &granted, &settled, &down, &x.Reverted); err != nil {
			return err
		}
		x.Granted, x.Settled, x.Down = fromMicros(granted), fromMicros(settled), time.Duration(down)*time.Microsecond
		out = append(out, x)
		return nil
	})
	return out, err
}

// CountEndpoints counts all enrolled endpoints.
func (s *Store) CountEndpoints(ctx context.Context) (n int64, err error) {
	err = s.inRead(ctx, "count endpoints", func(c conn) error {
		return c.row(ctx, `SELECT COUNT(*) FROM endpoint`).Scan(&n)
	})
	return n, err
}
