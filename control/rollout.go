package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// Rollouts is what the decider needs of the store.
type Rollouts interface {
	OpenRollouts(ctx context.Context) ([]store.Rollout, error)
	Snapshot(ctx context.Context, id int64, now time.Time) (rollout.Snapshot, error)
	SweepQuiet(ctx context.Context, id int64, now time.Time, limit int) (int, error)
	SweepBack(ctx context.Context, id int64, now time.Time, limit int) (int, error)
	Presence(ctx context.Context, id int64, since, now time.Time) (health.Control, error)
	PassTenants(ctx context.Context, id int64, share float64, now time.Time) error
	Composition(ctx context.Context, id int64, since, now time.Time) ([]rollout.Group, error)
	CommitDecision(ctx context.Context, c store.DecisionCommit, now time.Time, inTx store.InTx) (store.Rollout, error)
}

// Decider has each live rollout decided again and again.
type Decider struct {
	Rollouts Rollouts
	// Every is the longest time between two looks.
	Every time.Duration
	// Publish is enqueued in the decision's own transaction.
	Publish store.InTx
	Now     func() time.Time
	Log     *slog.Logger
	// Observe, if set, is told of each look: the rollout after it, and whether the
	// decision was news.
	Observe func(r store.Rollout, d rollout.Decision, news bool)
	// Signals, if set, are the newest readings of a rollout's signals.
	Signals func(id int64) []rollout.Reading
	// Forget, if set, is told of rollouts that will not be looked at again.
	Forget func(id int64)

	once sync.Once
	wake chan struct{}

	mu       sync.Mutex // guards what follows
	presence map[int64]presence
	groups   map[int64]composition
	quiet    map[int64]swept
	back     map[int64]swept
	looked   map[int64]time.Time
	grain    time.Duration
}

// presence is a count of controls, and what it cost.
type presence struct {
	control health.Control
	at      time.Time
	took    time.Duration
}

// Actor is who decides, as the ledger names it.
const Actor = "engine"

// conflictTries bounds how often a decision is made anew because somebody else
// committed first; the next tick goes on.
const conflictTries = 5

// Run decides until ctx ends.
func (d *Decider) Run(ctx context.Context) {
	d.init()
	c := &complaints{log: d.Log}
	every(ctx, d.Every, d.Every/5, d.wake, func(ctx context.Context) { d.tick(ctx, c) })
}

// Look looks at each live rollout once, as Run does again and again.
func (d *Decider) Look(ctx context.Context) {
	d.init()
	d.tick(ctx, &complaints{log: d.Log})
}

func (d *Decider) init() { d.once.Do(func() { d.wake = make(chan struct{}, 1) }) }

// Wake has the decider look soon: there is new evidence.
func (d *Decider) Wake() { d.init(); poke(d.wake) }

// Looked is when the rollout was last looked at by this server; zero if never.
func (d *Decider) Looked(id int64) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.looked[id]
}

// Grain is how stale "last seen" may be in the store without changing what
// Presence counts: a quarter of the shortest beacon interval of any rollout.
func (d *Decider) Grain() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.grain
}

func (d *Decider) tick(ctx context.Context, c *complaints) {
	open, err := d.Rollouts.OpenRollouts(ctx)
	c.about(ctx, 0, "cannot list rollouts", err)
	if err != nil {
		return
	}
	d.settle(open)
	for _, r := range open {
		c.about(ctx, -r.ID, "cannot look at the endpoints", d.lookAt(ctx, r))
		if r.State != rollout.Halted && r.State != rollout.Reverted { // only people move these
			c.about(ctx, r.ID, "cannot decide", d.Decide(ctx, r.ID))
		}
	}
}

// settle forgets rollouts that are gone and sets the grain.
func (d *Decider) settle(open []store.Rollout) {
	grain := rollout.DefaultPolicy().Beacon.Std() / 4
	alive := make(map[int64]bool, len(open))
	for _, r := range open {
		alive[r.ID] = true
		grain = min(grain, r.Policy.Beacon.Std()/4)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.grain = grain
	for id := range d.presence {
		if !alive[id] {
			delete(d.presence, id)
		}
	}
	for _, looks := range []map[int64]swept{d.quiet, d.back} {
		maps.DeleteFunc(looks, func(id int64, _ swept) bool { return !alive[id] })
	}
	for id := range d.groups {
		if !alive[id] {
			delete(d.groups, id)
		}
	}
	for id := range d.looked {
		if !alive[id] {
			delete(d.looked, id)
			if d.Forget != nil {
				d.Forget(id)
			}
		}
	}
}

// Decide has one rollout decided now and commits the decision. Somebody else's
// commit in between means a new snapshot and a new decision.
func (d *Decider) Decide(ctx context.Context, id int64) error {
	for try := 1; ; try++ {
		err := d.decide(ctx, id)
		if !errors.Is(err, store.ErrConflict) || try == conflictTries {
			return err
		}
	}
}

func (d *Decider) decide(ctx context.Context, id int64) error {
	now := d.Now().UTC().Truncate(time.Microsecond) // as the ledger keeps it, so that it can be replayed
	snap, err := d.Rollouts.Snapshot(ctx, id, now)
	if err != nil {
		return fmt.Errorf("decide R-%d: %w", id, err)
	}
	if snap.Control, err = d.Presence(ctx, id, snap.Policy); err != nil {
		return fmt.Errorf("decide R-%d: %w", id, err)
	}
	if err := d.letWaitingPass(ctx, snap, now); err != nil {
		return fmt.Errorf("decide R-%d: %w", id, err)
	}
	if d.Signals != nil {
		snap.Signals = d.Signals(id)
	}
	atRisk(&snap)
	if err := d.segment(ctx, &snap); err != nil {
		return fmt.Errorf("decide R-%d: %w", id, err)
	}
	dec, err := rollout.Decide(snap, now)
	if err != nil {
		return fmt.Errorf("decide R-%d: %w", id, err)
	}
	if stopsForSilence(snap, dec) && d.recount(id, now) {
		return d.decide(ctx, id)
	}
	after, err := d.Rollouts.CommitDecision(ctx, store.DecisionCommit{Snapshot: snap, Decision: dec, Actor: Actor}, now, d.Publish)
	if err != nil {
		return fmt.Errorf("commit decision %s of R-%d: %w", dec.Action, id, err)
	}
	news := after.Revision != snap.Revision
	if news {
		d.Log.LogAttrs(ctx, slog.LevelInfo, "rollout decided", slog.Int64("rollout", id), slog.String("action", string(dec.Action)),
			slog.String("state", string(dec.State)), slog.String("reason", dec.Reasons[0].Detail), slog.Int64("revision", after.Revision))
	}
	if d.Observe != nil {
		d.Observe(after, dec, news)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.looked == nil {
		d.looked = map[int64]time.Time{}
	}
	d.looked[id] = now
	return nil
}

// Presence counts a rollout's controls: heard from within two beacon intervals.
// The count reads a row for each endpoint, so it is kept until it is older than
// a tick and than fifty times what it cost.
func (d *Decider) Presence(ctx context.Context, id int64, p rollout.Policy) (health.Control, error) {
	now := d.Now()
	d.mu.Lock()
	kept, ok := d.presence[id]
	grain := d.grain
	d.mu.Unlock()
	if ok && now.Sub(kept.at) < max(d.Every*9/10, 50*kept.took) {
		return kept.control, nil
	}
	c, err := d.Rollouts.Presence(ctx, id, now.Add(-2*p.Beacon.Std()-grain), now)
	if err != nil {
		return c, fmt.Errorf("count controls: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.presence == nil {
		d.presence = map[int64]presence{}
	}
	d.presence[id] = presence{control: c, at: now, took: d.Now().Sub(now)}
	return c, nil
}

// stopsForSilence tells whether a decision stops a rollout for endpoints that are not
// heard from. It rests on the controls that are, and must not on those of a while
// ago: an outage that began since silenced both.
func stopsForSilence(s rollout.Snapshot, dec rollout.Decision) bool {
	stops := dec.State == rollout.Halted || dec.State == rollout.Reverting
	return stops && dec.State != s.State && s.Counts.Silent > 0
}

// recount has the controls counted anew; false if they were counted at now.
func (d *Decider) recount(id int64, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept, ok := d.presence[id]
	if !ok || !kept.at.Before(now) {
		return false
	}
	delete(d.presence, id)
	return true
}

// letWaitingPass lets tenants go on that wait until enough is proven elsewhere.
// Who is kept from the release by any tenant is not counted as elsewhere.
func (d *Decider) letWaitingPass(ctx context.Context, s rollout.Snapshot, now time.Time) error {
	c := s.Control
	if c.Deferred == 0 || c.Fit == 0 || s.Counts.Proven == 0 {
		return nil
	}
	return d.Rollouts.PassTenants(ctx, s.Rollout, min(1, float64(s.Counts.Proven)/float64(c.Fit)), now)
}

// Kept is the newest count of a rollout's controls, zero if there is none.
func (d *Decider) Kept(id int64) health.Control {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.presence[id].control
}
