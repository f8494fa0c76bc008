package wire

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/link"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
)

// endpoint is one simulated endpoint. One worker at a time touches it.
type endpoint struct {
	f         *Fleet
	i         int
	id, token string
	labels    map[string]string
	rnd       *rand.Rand

	offline, vanish, lie bool
	gone                 bool // never heard from again

	// When the endpoint is due next, and for what.
	due, pollAt, actAt, beaconAt time.Time
	pollFails, actFails, told    int // failures in a row

	etag     string
	plan     *release.Plan
	products []product
	refused  map[string]bool // digests, as link.Have.Refused
	seen     map[int64]time.Time
	checks   checks

	started, last time.Time // last is when the last beacon was built
	seq           int64
	used          usage
	rate          link.Rate
}

// product is one product's state on an endpoint: keeper's view, and what keeper
// would remember besides.
type product struct {
	ipc.Product
	goodVersion, goodDigest string // what a revert goes back to
	switched                time.Time
	crashes                 time.Time // when the engine has crashed twice; zero if it does not
	proves                  time.Time // when probation ends; zero if not in probation
	acks                    int       // beacons acknowledged since the switch
	ages                    link.Mark
}

func newEndpoint(f *Fleet, i int) *endpoint {
	e := &endpoint{f: f, i: i, rnd: rand.New(rand.NewPCG(f.Seed, uint64(i))), products: make([]product, len(f.Products))}
	e.offline, e.vanish, e.lie = e.rnd.Float64() < f.Offline, e.rnd.Float64() < f.Vanish, e.rnd.Float64() < f.Lie
	for j, p := range f.Products {
		e.products[j].Product = ipc.Product{Product: p, Healthy: true}
	}
	return e
}

// never is a time that does not come.
const never = 365 * 24 * time.Hour

// wake sets the first times, spread over one poll; false if it stays offline.
func (e *endpoint) wake(now time.Time) bool {
	e.started, e.actAt = now, now.Add(never)
	e.pollAt = now.Add(time.Duration(e.rnd.Float64() * float64(e.f.Poll)))
	e.beaconAt = now.Add(time.Duration(e.rnd.Float64() * float64(e.f.Poll)))
	e.due = e.pollAt
	return !e.offline
}

// step does what is due and sets when more will be.
func (e *endpoint) step(ctx context.Context, now time.Time) {
	if !now.Before(e.pollAt) {
		e.poll(ctx, now)
	}
	for i := range e.products {
		e.age(&e.products[i], now)
	}
	if !now.Before(e.actAt) && e.plan != nil {
		e.act(ctx, now)
	}
	if !e.gone && !now.Before(e.beaconAt) {
		e.report(ctx, now)
		for i := range e.products {
			e.age(&e.products[i], now) // the acknowledgement may be what proof waited for
		}
	}
	e.due = e.pollAt
	for _, at := range []time.Time{e.actAt, e.beaconAt} {
		if at.Before(e.due) {
			e.due = at
		}
	}
	for _, p := range e.products {
		for _, at := range []time.Time{p.crashes, p.proves} {
			if !at.IsZero() && at.After(now) && at.Before(e.due) {
				e.due = at
			}
		}
	}
}

// pause is how long to wait after a failure.
func (e *endpoint) pause(fails *int, err error) time.Duration {
	*fails++
	if !errors.Is(err, context.Canceled) {
		e.f.counters.errors.Add(1)
		e.f.Log.Debug("simulated endpoint failed", "endpoint", e.id, "err", err)
	}
	if d := link.RetryAfter(err); d > 0 {
		return d + time.Duration(e.rnd.Float64()*float64(d)/5)
	}
	return link.Jitter(min(time.Second<<min(*fails-1, 6), time.Minute), 0.5, e.rnd.Float64())
}

// poll asks for timestamp.json with this endpoint's own ETag.
func (e *endpoint) poll(ctx context.Context, now time.Time) {
	e.f.counters.polls.Add(1)
	every, jitter := e.f.Poll, 0.2
	_, etag, err := e.f.fetch.Fetch(ctx, "timestamp.json", tuf.MaxTimestamp, e.etag)
	switch {
	case errors.Is(err, tuf.ErrNotModified):
		e.f.counters.notModified.Add(1)
		err = nil
	case errors.Is(err, tuf.ErrNotFound):
		err = nil
	case err == nil:
		var plan *release.Plan
		if plan, err = e.f.site.current(ctx, etag); err == nil {
			e.etag = etag
			e.take(plan, now)
		}
	}
	if err != nil {
		e.pollAt = now.Add(e.pause(&e.pollFails, err))
		return
	}
	e.pollFails = 0
	if e.plan != nil {
		every, jitter = link.Pace(e.plan.Poll), e.plan.PollJitter
	}
	e.pollAt = now.Add(link.Jitter(every, jitter, e.rnd.Float64()))
}

// take puts a plan in force.
func (e *endpoint) take(plan *release.Plan, now time.Time) {
	if plan == nil || e.plan != nil && plan.Version == e.plan.Version {
		return
	}
	e.plan = plan
	for d, good := range e.refused {
		if !good {
			delete(e.refused, d)
		}
	}
	seen := make(map[int64]time.Time, len(plan.Offers))
	for _, o := range plan.Offers {
		if at, ok := e.seen[o.Rollout]; ok {
			seen[o.Rollout] = at
			continue
		}
		seen[o.Rollout] = now
	}
	e.seen = seen
	e.actAt = now
	e.schedule()
}

// act follows the plan as link does.
func (e *endpoint) act(ctx context.Context, now time.Time) {
	e.actAt = now.Add(never)
	have := make([]link.Have, len(e.products))
	for i, p := range e.products {
		have[i] = link.Have{Product: p.Product, Refused: e.refused, Labels: e.labels}
	}
	for i, w := range link.Choose(*e.plan, e.id, have) {
		p := &e.products[i]
		if w.Drop != "" {
			p.Staged = nil
		}
		switch w.Do {
		case link.DoRevert:
			e.back(p, now, ipc.AttemptReverted, "ordered", w.Detail)
			e.f.counters.reverted.Add(1)
			e.actAt = now
		case link.DoStage, link.DoAsk:
			if retry := e.bring(ctx, p, w, now); retry > 0 && now.Add(retry).Before(e.actAt) {
				e.actAt = now.Add(retry)
			}
		}
		if e.gone {
			return
		}
	}
}

// bring stages a release and asks for a grant; it returns when to try again, 0
// for not before something changes.
func (e *endpoint) bring(ctx context.Context, p *product, w link.Want, now time.Time) time.Duration {
	o := w.Offer
	t, err := e.f.site.try(ctx, o)
	if err != nil {
		return e.pause(&e.actFails, err)
	}
	if t.preflight != "" {
		e.f.counters.preflightFailed.Add(1)
		e.refuse(o.Digest, true)
		p.Attempt = &ipc.Attempt{Rollout: o.Rollout, Digest: o.Digest, State: ipc.AttemptPreflightFailed, Reason: "preflight-failed", Detail: t.preflight}
		e.beaconAt = now
		return 0
	}
	if p.Staged == nil || p.Staged.Digest != o.Digest {
		p.Staged = &ipc.Staged{Version: o.Version, Digest: o.Digest, Rollout: o.Rollout}
		p.Attempt = &ipc.Attempt{Rollout: o.Rollout, Digest: o.Digest, State: ipc.AttemptStaged}
	}
	if w.Do != link.DoAsk {
		return 0
	}
	e.f.counters.asked.Add(1)
	req := connect.NewRequest(&v1.GrantRequest{Rollout: o.Rollout, Digest: o.Digest})
	req.Header().Set("Authorization", "Bearer "+e.token)
	resp, err := e.f.api.Grant(ctx, req)
	if err != nil {
		return e.pause(&e.actFails, err)
	}
	e.actFails = 0
	switch resp.Msg.Verdict {
	case v1.GrantVerdict_GRANT_VERDICT_GRANTED:
		e.f.counters.granted.Add(1)
		e.activate(p, o, t, time.Now())
		return 0
	case v1.GrantVerdict_GRANT_VERDICT_WAIT:
		e.f.counters.waited.Add(1)
		return link.Jitter(max(time.Duration(resp.Msg.RetryAfterUs)*time.Microsecond, 100*time.Millisecond), 0.2, e.rnd.Float64())
	}
	e.f.counters.refused.Add(1)
	e.refuse(o.Digest, false)
	p.Staged = nil
	return 0
}

func (e *endpoint) refuse(digest string, good bool) {
	if e.refused == nil {
		e.refused = map[string]bool{}
	}
	e.refused[digest] = good
}

// activate switches; what the engine did in the site's trial is this endpoint's
// fate, a second or so from now, unless it lies about it.
func (e *endpoint) activate(p *product, o release.Offer, t *trial, now time.Time) {
	e.f.counters.activated.Add(1)
	if e.vanish {
		e.gone = true
		e.f.counters.vanished.Add(1)
		return
	}
	p.goodVersion, p.goodDigest = p.Version, p.Digest
	e.f.counters.moved(p.Product.Product, p.Version, o.Version)
	p.Version, p.Digest, p.Staged, p.Healthy = o.Version, o.Digest, nil, true
	p.switched, p.acks, p.proves, p.crashes = now, 0, now.Add(o.Probation.Std()), time.Time{}
	p.ages = link.Mark{At: now, Ages: link.ProbationAges(o)}
	p.Attempt = &ipc.Attempt{Rollout: o.Rollout, Digest: o.Digest, State: ipc.AttemptProbation}
	crash := t.crash
	if crash == "" && e.f.Crashes != nil && e.f.Crashes(e.labels, o.Version) {
		crash = "crashes by configuration"
	}
	if crash != "" && !e.lie {
		p.crashes = now.Add(300*time.Millisecond + time.Duration(e.rnd.Float64()*float64(time.Second)))
		p.Attempt.Detail = crash
	}
	e.beaconAt = now
}

// age carries out what time brings: a crash loop, or proof.
func (e *endpoint) age(p *product, now time.Time) {
	switch {
	case p.proves.IsZero():
	case !p.crashes.IsZero() && !now.Before(p.crashes):
		p.Quarantine = append(p.Quarantine, ipc.Quarantined{Digest: p.Digest, Reason: "crash-loop"})
		e.back(p, now, ipc.AttemptHarmed, "crash-loop", p.Attempt.Detail)
		e.f.counters.harmed.Add(1)
		e.actAt = now
	case p.crashes.IsZero() && !now.Before(p.proves) && p.acks >= 2:
		p.Attempt.State, p.proves = ipc.AttemptProven, time.Time{}
		e.f.counters.proven.Add(1)
		e.beaconAt, e.actAt = now, now
	}
}

// back goes to the last known good.
func (e *endpoint) back(p *product, now time.Time, state ipc.AttemptState, reason, detail string) {
	a := &ipc.Attempt{Digest: p.Digest, State: state, Reason: reason, Detail: detail, AgeUS: now.Sub(p.switched).Microseconds()}
	if p.Attempt != nil {
		a.Rollout = p.Attempt.Rollout
	}
	if state == ipc.AttemptHarmed {
		a.DownUS = now.Sub(p.switched).Microseconds()
	}
	e.f.counters.moved(p.Product.Product, p.Version, p.goodVersion)
	p.Version, p.Digest, p.Attempt = p.goodVersion, p.goodDigest, a
	p.goodVersion, p.goodDigest = "", ""
	p.proves, p.crashes, p.ages = time.Time{}, time.Time{}, link.Mark{}
	e.beaconAt = now
}

// every is how often to beacon.
func (e *endpoint) every() time.Duration {
	if e.plan != nil {
		return link.Pace(e.plan.Beacon)
	}
	return 5 * e.f.Poll
}

// schedule sets the next beacon by the plan.
func (e *endpoint) schedule() {
	if e.last.IsZero() || e.told > 0 {
		return
	}
	every := e.every()
	var marks []link.Mark
	for i := range e.products {
		p := &e.products[i]
		marks = append(marks, p.ages)
		if e.plan == nil {
			continue
		}
		for _, o := range e.plan.Offers {
			if o.Product == p.Product.Product && o.Digest != p.Digest && o.Action == release.ActionOffer {
				marks = append(marks, link.Mark{At: e.seen[o.Rollout], Ages: o.Ages})
			}
		}
	}
	e.beaconAt = link.NextBeacon(e.last, link.Jitter(every, 0.1, e.rnd.Float64()), marks...)
}

func (e *endpoint) report(ctx context.Context, now time.Time) {
	if err := e.beacon(ctx, now, false); err != nil {
		e.beaconAt = now.Add(e.pause(&e.told, err))
		return
	}
	e.told = 0
	e.schedule()
	if len(e.results()) > 0 {
		e.beaconAt = now // the server waits for it
	}
}

// beacon sends the present status.
func (e *endpoint) beacon(ctx context.Context, now time.Time, goodbye bool) error {
	st := ipc.Status{Products: make([]ipc.Product, len(e.products)), Vitals: e.vitals(now)}
	for i, p := range e.products {
		st.Products[i] = p.Product
		if a := p.Attempt; a != nil && (a.State == ipc.AttemptProbation || a.State == ipc.AttemptProven) {
			aged := *a
			aged.AgeUS, aged.Detail = now.Sub(p.switched).Microseconds(), ""
			st.Products[i].Attempt = &aged
		}
	}
	e.seq++
	e.last = now
	req := connect.NewRequest(link.BeaconOf(e.seq, st, goodbye, now))
	req.Msg.Vitals.CpuPpm = e.rate.Next(st.Vitals, e.every()/3)
	req.Msg.CheckResults = e.results()
	req.Header().Set("Authorization", "Bearer "+e.token)
	res, err := e.f.api.Beacon(ctx, req)
	if err != nil {
		return err
	}
	e.f.counters.beacons.Add(1)
	for i := range e.products {
		if p := &e.products[i]; !p.proves.IsZero() {
			p.acks++
		}
	}
	e.took(res.Msg.Checks, req.Msg.CheckResults)
	return nil
}
