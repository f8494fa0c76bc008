package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/fleet"
)

// What is affected is found from the rare to the many: the different versions and
// components that exist are judged first, and only the endpoints that have an
// affected one are read.
const (
	textVersions = `SELECT DISTINCT version FROM installation WHERE product = $1 AND version <> ''`
	textParts    = `SELECT s.product, s.version, s.endpoint, s.added, k.name, k.version FROM sbom_component k JOIN sbom s ON s.id = k.sbom WHERE k.name_key = $1`
	// textRunning gives who runs a version, and since when it is known to.
	textRunning = `SELECT i.endpoint, t.name, e.enrolled, COALESCE((SELECT MIN(x.granted) FROM rollout r JOIN exposure x ON x.rollout = r.id AND x.endpoint = i.endpoint
		WHERE r.product = i.product AND r.version = i.version AND NOT x.reverted AND x.state <> 'harmed'), 0)
		FROM installation i JOIN endpoint e ON e.id = i.endpoint JOIN tenant t ON t.id = e.tenant WHERE i.product = $1 AND i.version = $2`
	textOwner = `SELECT t.name FROM endpoint e JOIN tenant t ON t.id = e.tenant WHERE e.id = $1`
	// textSaid gives what the endpoints of open intervals run now.
	textSaid = `SELECT i.endpoint, i.product, i.version, i.healthy, i.last_seen, COALESCE((SELECT MAX(x.settled) FROM rollout r JOIN exposure x ON x.rollout = r.id AND x.endpoint = i.endpoint
		WHERE r.product = i.product AND r.version = i.version AND x.state = 'proven' AND NOT x.reverted), 0)
		FROM affected_interval v JOIN installation i ON i.product = v.product AND i.endpoint = v.endpoint WHERE v.case_id = $1 AND v.ended = 0`
)

// sighting is what was found of one component in one place, before it is known
// which endpoints have it.
type sighting struct {
	versions, ranges []string
	unknown          string
	since            time.Time // when an endpoint's own bill of materials was attached
}

func (s *sighting) add(version string, v *fleet.Verdict, m *fleet.Matcher) {
	if !slices.Contains(s.versions, version) {
		s.versions = append(s.versions, version)
	}
	for _, i := range v.Ranges {
		if r := m.Affected()[i].String(); !slices.Contains(s.ranges, r) {
			s.ranges = append(s.ranges, r)
		}
	}
	if v.Unknown != "" {
		s.unknown = v.Unknown
	}
}

// hit writes the sighting as a hit. What is affected for sure is, whatever else is
// unknown.
func (s *sighting) hit(p fleet.Place, tenant string) fleet.Hit {
	slices.Sort(s.versions)
	slices.Sort(s.ranges)
	h := fleet.Hit{Place: p, Tenant: tenant, Version: strings.Join(s.versions, ", "), Ranges: s.ranges}
	if len(s.ranges) == 0 {
		h.Unknown = s.unknown
	}
	return h
}

// carrier is a version of a product, or an endpoint, and a component that it has.
type carrier struct {
	product, version string
	endpoint         int64
	key              string
}

// match finds every place in the live inventory that the matcher's ranges hold, or
// of which nobody can tell.
func (c conn) match(ctx context.Context, m *fleet.Matcher) ([]fleet.Hit, error) {
	seen, memo := map[carrier]*sighting{}, m.Memo()
	at := func(k carrier) *sighting {
		if seen[k] == nil {
			seen[k] = &sighting{}
		}
		return seen[k]
	}
	for _, key := range m.Keys() {
		if !strings.Contains(key, ":") {
			if err := c.matchProduct(ctx, key, m, memo, at); err != nil {
				return nil, err
			}
		}
		if err := c.matchParts(ctx, key, m, memo, at); err != nil {
			return nil, err
		}
	}
	var out []fleet.Hit
	for _, k := range slices.SortedFunc(maps.Keys(seen), compareCarriers) {
		hits, err := c.whoCarries(ctx, k, seen[k])
		if err != nil {
			return nil, err
		}
		out = append(out, hits...)
	}
	return out, nil
}

func compareCarriers(a, b carrier) int {
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

func (c conn) matchProduct(ctx context.Context, product string, m *fleet.Matcher, memo *fleet.Memo, at func(carrier) *sighting) error {
	rows, err := c.rows(ctx, textVersions, product)
	return each(rows, err, func() error {
		var version string
		if err := rows.Scan(&version); err != nil {
			return err
		}
		if v := memo.Match(fleet.Component{Name: product, Version: version}); v != nil {
			at(carrier{product: product, version: version, key: product}).add(version, v, m)
		}
		return nil
	})
}

func (c conn) matchParts(ctx context.Context, key string, m *fleet.Matcher, memo *fleet.Memo, at func(carrier) *sighting) error {
	rows, err := c.rows(ctx, textParts, key)
	return each(rows, err, func() error {
		k := carrier{key: key}
		var added int64
		var name, version string
		if err := rows.Scan(&k.product, &k.version, &k.endpoint, &added, &name, &version); err != nil {
			return err
		}
		if v := memo.Match(fleet.Component{Name: name, Version: version}); v != nil {
			s := at(k)
			s.add(version, v, m)
			s.since = fromMicros(added)
		}
		return nil
	})
}

// whoCarries gives the hits of everyone who has a carrier.
func (c conn) whoCarries(ctx context.Context, k carrier, s *sighting) (out []fleet.Hit, err error) {
	if k.endpoint != 0 {
		var tenant string
		if err := c.row(ctx, textOwner, k.endpoint).Scan(&tenant); err != nil {
			return nil, fmt.Errorf("owner of an endpoint with a bill of materials: %w", err)
		}
		h := s.hit(fleet.Place{Endpoint: k.endpoint, Key: k.key}, tenant)
		h.Since, h.Basis = s.since, fleet.BasisListed
		return []fleet.Hit{h}, nil
	}
	rows, err := c.rows(ctx, textRunning, k.product, k.version)
	err = each(rows, err, func() error {
		var endpoint, enrolled, granted int64
		var tenant string
		if err := rows.Scan(&endpoint, &tenant, &enrolled, &granted); err != nil {
			return err
		}
		h := s.hit(fleet.Place{Endpoint: endpoint, Product: k.product, Key: k.key}, tenant)
		h.Runs, h.Since, h.Basis = k.version, fromMicros(enrolled), fleet.BasisEnrolled
		if granted != 0 {
			h.Since, h.Basis = fromMicros(granted), fleet.BasisGranted
		}
		out = append(out, h)
		return nil
	})
	return out, err
}

// reports reads what the endpoints of a case's open intervals last said.
func (c conn) reports(ctx context.Context, caseID int64) (fleet.Reports, error) {
	type on struct {
		endpoint int64
		product  string
	}
	said := map[on]fleet.Report{}
	rows, err := c.rows(ctx, textSaid, caseID)
	err = each(rows, err, func() error {
		var k on
		var r fleet.Report
		var seen, proven int64
		if err := rows.Scan(&k.endpoint, &k.product, &r.Version, &r.Healthy, &seen, &proven); err != nil {
			return err
		}
		r.Seen, r.Proven = fromMicros(seen), fromMicros(proven)
		said[k] = r
		return nil
	})
	return func(endpoint int64, product string) fleet.Report { return said[on{endpoint, product}] }, err
}
