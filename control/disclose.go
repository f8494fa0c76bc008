package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/headgate/headgate/advisory"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// discloseBatch is how many cases are read at once.
const discloseBatch = 500

// Disclosures is what the discloser needs of the store.
type Disclosures interface {
	ListCases(ctx context.Context, v store.Viewer, q store.CaseQuery, now time.Time) ([]store.Case, error)
	CommitFacts(ctx context.Context, v store.Viewer, id, revision int64, drafts []psirt.Fact, now time.Time, inTx store.InTx) (store.Case, error)
	Lanes
}

// Discloser opens the rungs of each open case as its ladder says: it measures how
// far the case is fixed, decides, and records decision and measurement as facts.
type Discloser struct {
	Cases Disclosures
	As    store.Viewer // who reads and writes: the engine
	// Measure tells how far a case is fixed; nil is never measured.
	Measure func(ctx context.Context, id int64, now time.Time) (advisory.Protection, error)
	Every   time.Duration
	Now     func() time.Time
	Log     *slog.Logger
}

// Run discloses until ctx ends.
func (d *Discloser) Run(ctx context.Context) {
	c := &complaints{log: d.Log}
	every(ctx, d.Every, d.Every, nil, func(ctx context.Context) {
		c.about(ctx, 0, "cannot disclose", d.Disclose(ctx))
	})
}

// Disclose looks at each open case once. One case's trouble does not keep the
// others shut.
func (d *Discloser) Disclose(ctx context.Context) error {
	var errs []error
	for q := (store.CaseQuery{Limit: discloseBatch}); ; {
		cases, err := d.Cases.ListCases(ctx, d.As, q, d.Now())
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("list cases: %w", err))...)
		}
		for _, c := range cases {
			if err := d.look(ctx, c); err != nil && !errors.Is(err, store.ErrConflict) { // the next look decides anew
				errs = append(errs, err)
			}
			q.After = c.ID
		}
		if len(cases) < discloseBatch {
			return errors.Join(errs...)
		}
	}
}

// look measures and decides one case.
func (d *Discloser) look(ctx context.Context, c store.Case) error {
	now := d.Now().UTC().Truncate(time.Microsecond)
	p, err := d.Protection(ctx, c, now)
	if err != nil {
		return err
	}
	s := advisory.Of(ids.Format("C", c.ID), c.Case, p, now)
	decision, err := advisory.DecideRung(s, now)
	if err != nil {
		return fmt.Errorf("decide disclosure: %w", err)
	}
	facts, err := d.facts(c, advisory.Recorded{Snapshot: s, Decision: decision}, now)
	if err != nil {
		return err
	}
	if decision.Emergency {
		more, err := askLanes(ctx, d.Cases, c, now)
		if err != nil {
			return err
		}
		facts = append(facts, more...)
	}
	if len(facts) == 0 {
		return nil
	}
	if _, err := d.Cases.CommitFacts(ctx, d.As, c.ID, c.Revision, facts, now, nil); err != nil {
		return fmt.Errorf("commit disclosure: %w", err)
	}
	return nil
}

// Protection measures what has a fix; all else is unknown, which is never success.
func (d *Discloser) Protection(ctx context.Context, c store.Case, now time.Time) (advisory.Protection, error) {
	if d.Measure == nil || !c.State.Has(psirt.FixReady) {
		return advisory.Protection{}, nil
	}
	p, err := d.Measure(ctx, c.ID, now)
	if err != nil {
		return p, fmt.Errorf("measure protection: %w", err)
	}
	return p, nil
}

// facts are what a look has to record: a measurement that crossed a mark, or that
// a rung was opened by, and the rung.
func (d *Discloser) facts(c store.Case, r advisory.Recorded, now time.Time) (out []psirt.Fact, err error) {
	add := func(b psirt.Body) {
		f, e := psirt.Draft(b, now, psirt.Amber)
		out, err = append(out, f), errors.Join(err, e)
	}
	p, n := r.Snapshot.Protection, len(r.Decision.Opened)
	if p.At != 0 && p.Resources > 0 {
		m := psirt.FixMeasured{Lower: r.Decision.Lower, N: p.Resources, Verified: p.Verified, Stale: p.Stale}
		if was := c.Outcome.Fixed; was == nil || was.Mark() != m.Mark() || n > 0 && *was != m {
			add(&m)
		}
	}
	if n > 0 {
		raw, e := json.Marshal(r)
		if e != nil {
			return nil, e
		}
		add(&psirt.RungOpened{Rung: r.Decision.Rung, Decision: raw})
	}
	return out, err
}
