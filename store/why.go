package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/rollout"
)

// Standing is a rollout as one endpoint meets it; without a rollout, nothing of
// the product is rolled out.
type Standing struct {
	Product string
	Runs    string // version
	Rollout int64
	Version string
	State   rollout.State
	rollout.Position
}

// Why says what keeps releases from an endpoint at now, by product and then the
// newest rollout first; product "" is all that the endpoint has. It asks the gate
// that CommitBatch asks, and changes nothing. ErrNotFound.
func (s *Store) Why(ctx context.Context, endpoint int64, product string, now time.Time) (out []Standing, err error) {
	err = s.inRead(ctx, fmt.Sprintf("explain endpoint %s", ids.Format("E", endpoint)), func(c conn) error {
		out = nil
		found, err := c.endpoints(ctx, `SELECT e.id, e.name, t.name, e.labels, e.domain, e.enrolled, e.agent_version, e.rss, e.sandbox, e.trouble
			FROM endpoint e JOIN tenant t ON t.id = e.tenant WHERE e.id = $1`, endpoint)
		if err == nil && len(found) == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := c.addInstallations(ctx, found); err != nil {
			return err
		}
		e := found[0]
		if e.Exposures, err = c.exposuresOf(ctx, endpoint); err != nil {
			return err
		}
		for _, p := range e.products(product) {
			more, err := c.whyProduct(ctx, e, p, now)
			if err != nil {
				return err
			}
			out = append(out, more...)
		}
		return nil
	})
	return out, err
}

// products are those that an endpoint has, or the one that is asked for.
func (e Endpoint) products(only string) (out []string) {
	if only != "" {
		return []string{only}
	}
	for _, i := range e.Installations {
		out = append(out, i.Product)
	}
	return out
}

func (c conn) whyProduct(ctx context.Context, e Endpoint, product string, now time.Time) (out []Standing, err error) {
	base := Standing{Product: product}
	seen := rollout.Seen{LastSeen: e.LastSeen}
	for _, i := range e.Installations {
		if i.Product == product {
			base.Runs, seen.Runs, seen.RunsDigest = i.Version, i.Version, i.Digest
		}
	}
	open, err := c.rollouts(ctx, `SELECT `+rolloutColumns+fromRollout+`WHERE r.product = $1 AND r.state <> 'superseded' ORDER BY r.id DESC`, product)
	if err != nil {
		return nil, err
	}
	for _, ro := range open {
		x := base
		x.Rollout, x.Version, x.State = ro.ID, ro.Version, ro.State
		if x.Position, err = c.why(ctx, e, ro, seen, now); err != nil {
			return nil, fmt.Errorf("under R-%d: %w", ro.ID, err)
		}
		out = append(out, x)
	}
	if len(out) == 0 {
		base.Delays = []rollout.Delay{{Bar: rollout.Bar{Code: "not-offered", Detail: "nothing of " + product + " is rolled out"}, By: "operator"}}
		out = []Standing{base}
	}
	return out, nil
}

// why asks the gate of one rollout.
func (c conn) why(ctx context.Context, e Endpoint, ro Rollout, seen rollout.Seen, now time.Time) (rollout.Position, error) {
	ask := GrantAsk{Endpoint: e.ID, Rollout: ro.ID, Digest: ro.Digest}
	r := &batchRun{c: c, now: now, batch: Batch{Asks: []GrantAsk{ask}}, gates: map[int64]*gate{}, endpoints: map[int64]*identity{}}
	g, err := c.readGate(ctx, ro.ID, now, "")
	if err != nil || g == nil {
		return rollout.Position{}, errors.Join(err, rowMissing(g))
	}
	r.gates[ro.ID] = g
	if err := c.loadExposures(ctx, g, []any{e.ID}); err != nil {
		return rollout.Position{}, err
	}
	if err := r.loadEndpoints(ctx, []any{e.ID}); err != nil {
		return rollout.Position{}, err
	}
	if err := r.loadDomains(ctx); err != nil {
		return rollout.Position{}, err
	}
	asked, err := r.ask(g, r.endpoints[e.ID], ask)
	if err != nil {
		return rollout.Position{}, err
	}
	seen.Quiet, seen.HeldBy = 2*ro.Policy.Beacon.Std()+ro.Policy.Grace.Std(), ro.HeldBy
	if i := slices.IndexFunc(e.Exposures, func(x Exposure) bool { return x.Rollout == ro.ID }); i >= 0 {
		x := e.Exposures[i]
		seen.Harmed = x.Reason
		if x.State == health.Open {
			seen.Settles = ro.Policy.Deadline(x.Granted)
		}
	}
	err = c.row(ctx, `SELECT reason FROM preflight_failure WHERE rollout = $1 AND endpoint = $2`, ro.ID, e.ID).Scan(&seen.Refused)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return rollout.Position{}, fmt.Errorf("read refusal: %w", err)
	}
	return g.gate.Why(asked, seen), nil
}

func rowMissing(g *gate) error {
	if g == nil {
		return ErrNotFound
	}
	return nil
}
