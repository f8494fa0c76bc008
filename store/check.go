package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/release"
)

// AskedCheck is a check that one endpoint is asked to carry out, for a step of a
// notice that names the endpoint.
type AskedCheck struct {
	Endpoint int64
	Notice   int64
	Step     int // from 1
	Check    release.Check
}

// ChecksVersion changes whenever AskedChecks may give another answer. It costs
// little.
func (s *Store) ChecksVersion(ctx context.Context) (v string, err error) {
	err = s.inRead(ctx, "look for new checks", func(c conn) error {
		var n, editions, last int64
		err := c.row(ctx, `SELECT COUNT(*), COALESCE(SUM(edition), 0), COALESCE(MAX(edited), 0) FROM notice WHERE NOT ended`).Scan(&n, &editions, &last)
		v = fmt.Sprint(n, " ", editions, " ", last)
		return err
	})
	return v, err
}

// AskedChecks lists what endpoints are asked to check: each step with a check, of
// each notice that has not ended, on each endpoint that it names. A step that was
// verified is asked on: it opens again if it fails.
func (s *Store) AskedChecks(ctx context.Context) (out []AskedCheck, err error) {
	err = s.inRead(ctx, "list checks", func(c conn) error {
		out = nil
		rows, err := c.rows(ctx, `SELECT n.id, n.resources, w.content FROM notice n JOIN notice_wave w ON w.case_id = n.case_id AND w.number = n.wave WHERE NOT n.ended ORDER BY n.id`)
		return each(rows, err, func() error {
			var id int64
			var resources, content []byte
			if err := rows.Scan(&id, &resources, &content); err != nil {
				return err
			}
			asked, err := askedOf(id, resources, content)
			if err != nil {
				return fmt.Errorf("notice %s: %w", NoticeID(id), err)
			}
			out = append(out, asked...)
			return nil
		})
	})
	return out, err
}

// askedOf lists one notice's checks. What is no endpoint's id is a resource that
// no agent reports for.
func askedOf(id int64, resources, content []byte) (out []AskedCheck, err error) {
	var of []notify.Resource
	if err := json.Unmarshal(resources, &of); err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	what, err := notify.ParseContent(content)
	if err != nil {
		return nil, err
	}
	named := map[int64]bool{}
	for _, r := range of {
		endpoint, err := ids.Parse("E", r.ID)
		if err != nil || named[endpoint] {
			continue
		}
		named[endpoint] = true
		for i, step := range what.Steps {
			if k := step.Check; k != nil {
				out = append(out, AskedCheck{endpoint, id, i + 1, release.Check{Kind: release.CheckKind(k.Kind), Product: k.Product, Probe: k.Probe, Want: k.Want}})
			}
		}
	}
	return out, nil
}
