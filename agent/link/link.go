// Package link is the agent's only role that speaks to the network, and it has
// no privilege: it refreshes the signed plan, fetches artifacts into its spool,
// asks for grants, and reports. What it fetched it hands to keeper, who alone
// writes slots and starts anything.
//
// It never activates, never sees events, and trusts no clock: only the expiry of
// signed metadata depends on one, and says so. Without a server it asks for
// nothing and disturbs nothing that runs.
//
// Its words: plan, want, stage, grant, beacon.
package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
)

// Config is what a link needs. Zero values are defaults where there is one.
type Config struct {
	Identity Identity
	// Dir is link's own folder: verified metadata, the spool, the beacon number.
	Dir    string
	Keeper *ipc.Client
	// Labels are those that the endpoint enrolled with; nil is what WriteLabels
	// left in Dir.
	Labels fleet.Labels
	// Poll is how often to ask for a plan until the first plan says; default 60s.
	Poll time.Duration
	// MinBackoff and MaxBackoff bound the pause after a failure; default 1s, 5m.
	MinBackoff, MaxBackoff time.Duration
	// Seed makes jitter repeatable; 0 is random.
	Seed uint64
	Log  *slog.Logger
}

func (c *Config) defaults() {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&c.Poll, time.Minute}, {&c.MinBackoff, time.Second}, {&c.MaxBackoff, 5 * time.Minute}} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// goodbyeTimeout bounds the last beacon: a stop must not wait for a dead server.
const goodbyeTimeout = 3 * time.Second

// lane is one kind of work: at most one job of it runs, and not before due.
type lane struct {
	busy bool
	due  time.Time
	back *backoff.ExponentialBackOff
}

// link is the loop's state; only the loop touches it, jobs hand back closures.
type link struct {
	Config
	repo  *tuf.Client
	api   headgatev1connect.AgentServiceClient
	spool string
	rnd   *rand.Rand
	done  chan func()
	jobs  int

	poll, beacon, work, check lane

	plan   release.Plan // the last verified; Schema is empty before the first
	status ipc.Status
	// products holds what to remember of each product between tries.
	products map[string]*memory
	refused  map[string]bool      // digests; true is for good, false until the next plan
	deferred map[string]time.Time // digests that the tenant's limits keep from here, until then or the next plan
	seen     map[int64]time.Time  // when this link first saw each rollout offered
	switched map[int64]time.Time  // when each rollout's release was switched to

	seq      *counter
	rate     Rate              // the beacon lane's own
	unacked  int64             // number of the beacon that was sent and not acknowledged; 0 if none
	last     time.Time         // when the last beacon was built
	reported string            // attempts as last reported
	heard    int64             // statuses taken so far
	acked    map[string]string // by product: the attempt that the server has acknowledged
	floors   *floors
	troubles *troubles
	current  *job                // what the work lane does
	checks   map[string]*checked // by id: what the server asks to be checked
	runs     string              // what ran when the checks were last set due
}

// memory is what link keeps of a product's tries.
type memory struct {
	notBefore time.Time
	back      *backoff.ExponentialBackOff
	code      string // of the last Want, to log changes only
}

// Run polls, stages, asks and beacons until ctx ends or keeper wants it to stop
// (then it says goodbye and returns nil), or until keeper is gone (ipc.ErrClosed).
func Run(ctx context.Context, c Config) error {
	c.defaults()
	l, err := open(c)
	if err != nil {
		return err
	}
	st, err := c.Keeper.Status(ctx)
	if err != nil {
		return fmt.Errorf("ask keeper for its status: %w", err)
	}
	l.status = st
	return l.run(ctx)
}

func open(c Config) (*link, error) {
	l := &link{
		Config: c, spool: filepath.Join(c.Dir, "spool"), done: make(chan func()),
		rnd:      rand.New(rand.NewPCG(c.Seed, 0x6c696e6b)),
		products: map[string]*memory{}, refused: map[string]bool{}, deferred: map[string]time.Time{}, seen: map[int64]time.Time{}, switched: map[int64]time.Time{},
	}
	if err := os.MkdirAll(l.spool, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	t, err := Transport(c.Identity.Pin, 4)
	if err != nil {
		return nil, err
	}
	hc := &http.Client{Transport: t}
	l.api = API(hc, c.Identity.Server, c.Identity.Token)
	l.repo, err = tuf.Open(filepath.Join(c.Dir, "tuf"), c.Identity.Root, tuf.NewHTTP(c.Identity.Server+"/tuf/", hc))
	if err != nil {
		return nil, fmt.Errorf("open the trusted metadata: %w", err)
	}
	if l.seq, err = openCounter(c.Dir); err != nil {
		return nil, err
	}
	if l.floors, err = openFloors(c.Dir); err != nil {
		return nil, err
	}
	if err := l.loadLabels(); err != nil {
		return nil, err
	}
	l.acked, l.troubles = map[string]string{}, &troubles{path: troublePath(c.Dir), of: map[string]Trouble{}}
	l.grumble(l.troubles.save()) // the last link's are not ours
	for _, ln := range []*lane{&l.poll, &l.beacon, &l.work, &l.check} {
		ln.back = l.newBackoff()
	}
	if plan, err := l.repo.Plan(); err == nil {
		l.plan = plan
		l.grumble(l.floors.meet(plan, time.Now()))
	}
	return l, l.tidySpool()
}

func (l *link) newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = l.MinBackoff, l.MaxBackoff, 2
	return b
}

func (l *link) run(ctx context.Context) error {
	jobs, stop := context.WithCancel(ctx)
	defer stop()
	start := time.Now()
	// A fleet that comes back from a power cut must not arrive in one second.
	spread := min(l.Poll/10, 5*time.Second)
	l.poll.due = start.Add(time.Duration(l.rnd.Float64() * float64(spread)))
	l.beacon.due = start.Add(time.Duration(l.rnd.Float64() * float64(spread)))
	l.work.due, l.check.due = start, start.Add(never)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.dispatch(jobs, time.Now())
		timer.Reset(max(0, time.Until(l.nextDue())))
		select {
		case <-timer.C:
		case apply := <-l.done:
			l.jobs--
			apply()
		case st := <-l.Keeper.Updates():
			l.took(st)
		case <-l.Keeper.Gone():
			l.drain(stop)
			return ipc.ErrClosed
		case <-l.Keeper.Shutdown():
			l.drain(stop)
			select {
			case <-l.Keeper.Gone(): // a crash of keeper, not a stop of the agent
				return ipc.ErrClosed
			default:
			}
			return l.goodbye()
		case <-ctx.Done():
			l.drain(stop)
			return l.goodbye()
		}
	}
}

// drain ends all jobs and waits for them.
func (l *link) drain(stop func()) {
	stop()
	for ; l.jobs > 0; l.jobs-- {
		(<-l.done)()
	}
}

// start runs a job outside the loop; what it returns runs inside.
func (l *link) start(ln *lane, f func() func()) {
	ln.busy = true
	l.jobs++
	go func() {
		apply := f()
		l.done <- func() { ln.busy = false; apply() }
	}()
}

// never is a due time that does not come.
const never = 365 * 24 * time.Hour

func (l *link) nextDue() time.Time {
	next := time.Now().Add(never)
	for _, ln := range []*lane{&l.poll, &l.beacon, &l.work, &l.check} {
		if !ln.busy && ln.due.Before(next) {
			next = ln.due
		}
	}
	return next
}

// dispatch starts what is due.
func (l *link) dispatch(ctx context.Context, now time.Time) {
	if !l.poll.busy && !now.Before(l.poll.due) {
		first := l.plan.Schema == ""
		l.start(&l.poll, func() func() { return l.refresh(ctx, first) })
	}
	if !l.beacon.busy && !now.Before(l.beacon.due) {
		l.sendBeacon(ctx, now)
	}
	if !l.work.busy && !now.Before(l.work.due) {
		l.nextWork(ctx, now)
	}
	if !l.check.busy && !now.Before(l.check.due) {
		l.nextCheck(ctx, now)
	}
}

// failed says when to try again: as the server asked, else by back-off. most, if
// not 0, is how often it is done when all is well: to do it no less often when it
// failed costs a server that comes back nothing more, and the server gives those
// who fell silent in an outage only some beacons' time to speak again.
func (l *link) failed(b *backoff.ExponentialBackOff, err error, most time.Duration) time.Duration {
	if d := RetryAfter(err); d > 0 {
		return Jitter(d+d/10, 1.0/11, l.rnd.Float64()) // never earlier than asked
	}
	pause := b.NextBackOff()
	if most > 0 {
		pause = min(pause, Jitter(max(l.MinBackoff, most), 0.1, l.rnd.Float64()))
	}
	return pause
}

// pace is how often to poll and to beacon when all is well.
func (l *link) pace() (poll, beacon time.Duration) {
	if l.plan.Schema == "" {
		return l.Poll, 5 * l.Poll
	}
	return Pace(l.plan.Poll), Pace(l.plan.Beacon)
}

// trouble keeps what cannot be done, or that it can be done again.
func (l *link) trouble(what string, err error) { l.grumble(l.troubles.note(what, err, time.Now())) }

// grumble logs that a note for later could not be written: work goes on without.
func (l *link) grumble(err error) {
	if err != nil {
		l.Log.Warn("a note is not on disk", "err", err)
	}
}

// refresh asks for the plan; it runs as a job.
func (l *link) refresh(ctx context.Context, first bool) func() {
	ctx, cancel := context.WithTimeout(ctx, 4*requestTimeout)
	defer cancel()
	changed, err := l.repo.Refresh(ctx, time.Now())
	var plan release.Plan
	if err == nil && (changed || first) {
		plan, err = l.repo.Plan()
		if errors.Is(err, tuf.ErrNotFound) { // nothing is rolled out yet
			err = nil
		}
	}
	if errors.Is(err, tuf.ErrExpired) { // either may be at fault
		err = fmt.Errorf("%w; the clock here says %s", err, time.Now().UTC().Format(time.RFC3339))
	}
	return func() {
		now := time.Now()
		if err != nil {
			poll, _ := l.pace()
			pause := l.failed(l.poll.back, err, poll)
			l.poll.due = now.Add(pause)
			if !errors.Is(err, context.Canceled) {
				l.trouble("plan", err)
				l.Log.Warn("could not refresh the plan", "err", err, "retry_in", pause)
			}
			return
		}
		l.poll.back.Reset()
		l.trouble("plan", nil)
		if plan.Schema != "" {
			l.tookPlan(plan, now)
		}
		every, _ := l.pace()
		jitter := 0.2
		if l.plan.Schema != "" {
			jitter = l.plan.PollJitter
		}
		l.poll.due = now.Add(Jitter(every, jitter, l.rnd.Float64()))
	}
}

// tookPlan puts a new plan in force.
func (l *link) tookPlan(p release.Plan, now time.Time) {
	if p.Version == l.plan.Version && l.plan.Schema != "" {
		return
	}
	l.plan = p
	l.grumble(l.floors.meet(p, now))
	// A resumed rollout may grant what it refused; preflight's word stands.
	clear(l.deferred)
	maps.DeleteFunc(l.refused, func(_ string, good bool) bool { return !good })
	seen := map[int64]time.Time{}
	for _, o := range p.Offers {
		seen[o.Rollout] = now
		if at, ok := l.seen[o.Rollout]; ok {
			seen[o.Rollout] = at
		}
	}
	l.seen = seen
	for _, m := range l.products {
		m.notBefore = time.Time{} // news: look again now
	}
	l.scheduleBeacon()
	l.reconsider()
	if !l.work.busy {
		if err := l.tidySpool(); err != nil {
			l.Log.Warn("spool not tidied", "err", err)
		}
	}
	l.work.due = now
	l.Log.Info("plan in force", "plan", p.Version, "offers", len(p.Offers))
}

// took remembers keeper's newest status, and beacons at once if an attempt
// changed.
func (l *link) took(st ipc.Status) {
	now := time.Now()
	l.status = st
	l.heard++
	l.versionsChanged(st)
	for _, p := range st.Products {
		a := p.Attempt
		if a == nil || a.AgeUS <= 0 && a.State != ipc.AttemptProbation {
			continue
		}
		if _, ok := l.switched[a.Rollout]; !ok {
			l.switched[a.Rollout] = now.Add(-time.Duration(a.AgeUS) * time.Microsecond)
		}
	}
	if attempts(st) != l.reported {
		l.beacon.due = now
	} else {
		l.scheduleBeacon()
	}
	l.work.due = now
}
