package store

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"fmt"
	"strconv"
	"time"
	"unique"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/rollout"
)

// What the hot path remembers of endpoints, so that a beacon that says nothing
// new reads no row of its endpoint.
const (
	// identityRoom bounds it: about 220 bytes each, 230 MB for a million endpoints. Fewer would
	// be of no use to a larger fleet, whose endpoints come round in turn.
	identityRoom = 1 << 20
	// identityLife is how long one is believed. Token, tenant, labels and domain
	// never change, but vitals do, and another server may have written them.
	identityLife = 10 * time.Minute
)

var (
	listEndpoints = &list{of: "BIGINT", head: `SELECT id, tenant, secret, labels, domain, rss, sandbox, trouble FROM endpoint WHERE id IN (`, row: `?`, tail: `)`, pad: true}
	listTenants   = &list{of: "BIGINT", head: `SELECT id, name, paused, opacity, limits_revision FROM tenant WHERE id IN (`, row: `?`, tail: `)`, pad: true}
)

// identity is what the hot path knows of an endpoint. Batches share it: nobody
// changes one, a new one takes its place.
type identity struct {
	id     int64
	tenant int64
	secret Hash
	labels unique.Handle[string] // as stored: JSON
	domain string
	vitals vitals
	read   time.Time // from the database
}

// vitals are what beacons say of an endpoint and the store seldom writes.
type vitals struct {
	rss     int64
	sandbox unique.Handle[string]
	trouble string
}

// near tells whether v says nothing new beside what is stored: memory counts to
// an eighth.
func (v vitals) near(stored vitals) bool {
	diff := max(v.rss-stored.rss, stored.rss-v.rss)
	return diff <= stored.rss/8 && v.sandbox == stored.sandbox && v.trouble == stored.trouble
}

// standing is what may change of a tenant: it is read for each batch.
type standing struct {
	name     string
	paused   bool
	opacity  psirt.Opacity
	revision int64           // of the limits
	limits   *rollout.Limits // nil is none
}

func newIdentities() *lru.Cache[int64, *identity] {
	c, err := lru.New[int64, *identity](identityRoom)
	if err != nil {
		panic("store: the list of identities has no room: " + err.Error())
	}
	return c
}

// authentic compares in constant time.
func (id *identity) authentic(secret Hash) bool {
	return id != nil && subtle.ConstantTimeCompare(id.secret[:], secret[:]) == 1
}

// domainKey names its failure domain in the database.
func (id *identity) domainKey() string {
	if id.domain == "" {
		return ""
	}
	return strconv.FormatInt(id.tenant, 10) + "/" + id.domain
}

// loadEndpoints finds who the endpoints are, and how their tenants stand.
func (r *batchRun) loadEndpoints(ctx context.Context, endpoints []any) error {
	var unknown []any
	for _, e := range endpoints {
		id, ok := r.c.s.identities.Get(e.(int64))
		if !ok || r.now.Sub(id.read) > identityLife {
			unknown = append(unknown, e)
			continue
		}
		r.endpoints[id.id] = id
	}
	err := r.c.queryList(ctx, listEndpoints, nil, unknown, func(rows *sql.Rows) error {
		id := &identity{read: r.now}
		var secret []byte
		var labels, sandbox string
		if err := rows.Scan(&id.id, &id.tenant, &secret, &labels, &id.domain, &id.vitals.rss, &sandbox, &id.vitals.trouble); err != nil {
			return err
		}
		copy(id.secret[:], secret)
		id.labels, id.vitals.sandbox = unique.Make(labels), unique.Make(sandbox)
		r.endpoints[id.id] = id
		r.c.s.identities.Add(id.id, id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("load endpoints: %w", err)
	}
	if err := r.loadTenants(ctx); err != nil {
		return fmt.Errorf("load tenants: %w", err)
	}
	return nil
}

func (r *batchRun) loadTenants(ctx context.Context) error {
	r.tenants = map[int64]standing{}
	var of []any
	for _, id := range r.endpoints {
		if _, ok := r.tenants[id.tenant]; !ok {
			r.tenants[id.tenant] = standing{}
			of = append(of, id.tenant)
		}
	}
	err := r.c.queryList(ctx, listTenants, nil, distinct(of), func(rows *sql.Rows) error {
		var id int64
		var t standing
		if err := rows.Scan(&id, &t.name, &t.paused, &t.opacity, &t.revision); err != nil {
			return err
		}
		r.tenants[id] = t
		return nil
	})
	if err != nil {
		return err
	}
	return r.loadLimits(ctx)
}
