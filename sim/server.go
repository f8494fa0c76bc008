package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// Start begins a rollout of a version that has a fault.
func (w *World) Start(version string, f Fault, p rollout.Policy) (*Rollout, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	id := int64(len(w.rollouts) + 1)
	for _, o := range w.rollouts {
		if o.Snapshot.State.Active() {
			return nil, fmt.Errorf("start rollout of %s: R-%d is %s", version, o.Snapshot.Rollout, o.Snapshot.State)
		}
	}
	sum := sha256.Sum256([]byte(version))
	r := &Rollout{
		Digest: hex.EncodeToString(sum[:]), Seed: binary.BigEndian.AppendUint64(nil, w.rng.Uint64()), first: map[string]bool{},
		Snapshot: rollout.Snapshot{Rollout: id, Product: Product, Version: version, State: rollout.Running, Policy: p, Rules: rollout.Rules, Started: w.Now, RungSince: w.Now},
	}
	for _, c := range p.Canaries {
		r.first[c] = true
	}
	w.faults[r.Digest] = f
	w.retire(rollout.Running)
	w.rollouts = append(w.rollouts, r)
	w.observe(r)
	w.record("rollout.started", fmt.Sprint("R-", id), "operator:alice", p)
	return r, nil
}

// retire ends older rollouts when a newer one comes to state s.
func (w *World) retire(s rollout.State) {
	for _, o := range w.rollouts {
		if s.Retires(o.Snapshot.State) {
			o.Snapshot.State = rollout.Superseded
		}
	}
}

// decide is one round of the control loop.
func (w *World) decide() {
	w.after(w.tick, w.decide)
	if w.Dead {
		return
	}
	for _, r := range w.rollouts {
		if r.Snapshot.State != rollout.Superseded {
			w.decideOne(r)
		}
	}
}

func (w *World) decideOne(r *Rollout) {
	w.sweep(r)
	w.observe(r)
	s := r.Snapshot
	d, err := rollout.Decide(s, w.Now)
	if err != nil {
		panic("sim: " + err.Error())
	}
	if d.Action == r.Last.Action && d.State == s.State && d.Pace == s.Pace && d.Reasons[0].Code == r.Last.Reasons[0].Code {
		r.Last = d
		return
	}
	if d.State == rollout.Finished && s.State != rollout.Finished {
		w.retire(rollout.Finished)
	}
	r.Snapshot.State, r.Snapshot.Pace, r.Snapshot.HeldBy, r.Last = d.State, d.Pace, d.HeldBy, d
	r.Snapshot.Revision++
	if d.NewRung {
		r.Snapshot.RungSince = w.Now
	}
	if !d.State.Active() && s.State.Active() {
		r.Ended = w.Now
	}
	w.record("rollout.decided", fmt.Sprint("R-", s.Rollout), "engine", struct {
		Snapshot rollout.Snapshot `json:"snapshot"`
		Decision rollout.Decision `json:"decision"`
	}{s, d})
	w.publish()
	if w.OnDecision != nil {
		w.OnDecision(r, d)
	}
}

// verbs are the orders by which people bring a rollout to a state.
var verbs = map[rollout.State]rollout.Verb{
	rollout.Held: rollout.VerbHold, rollout.Running: rollout.VerbResume, rollout.Halted: rollout.VerbHalt, rollout.Reverting: rollout.VerbRevert,
}

// Order is what a person does to a rollout: it takes effect at once, by the rule
// of the real server.
func (w *World) Order(r *Rollout, to rollout.State, who string) error {
	s := &r.Snapshot
	got, err := rollout.Obey(rollout.Standing{
		State: s.State, Pace: s.Pace, HeldBy: s.HeldBy, ResumeAskedBy: r.resumeAskedBy, Counts: s.Counts, PreflightFailed: s.PreflightFailed, Policy: s.Policy,
	}, rollout.Order{Verb: verbs[to], Operator: who})
	if err != nil {
		return fmt.Errorf("rollout R-%d: %w", s.Rollout, err)
	}
	if !got.Changed {
		return nil
	}
	r.resumeAskedBy = got.ResumeAskedBy
	if d := got.Decision; got.Acts {
		s.State, s.HeldBy, s.Pace = d.State, d.HeldBy, d.Pace
		if d.Accepted != nil {
			s.Accepted = d.Accepted
		}
		if d.NewRung {
			s.RungSince = w.Now
		}
	}
	w.record("rollout.ordered", fmt.Sprint("R-", s.Rollout), "operator:"+who, to)
	w.publish()
	return nil
}

// observe fills the snapshot with what the server knows now: who beaconed
// lately, not who is there.
func (w *World) observe(r *Rollout) {
	c := health.Control{Fit: int64(len(w.Endpoints))}
	since := w.Now.Add(-2 * w.plan.Beacon.Std())
	for _, e := range w.Endpoints {
		heard := !e.lastSeen.Before(since)
		exposed := e.exposures[r.Snapshot.Rollout] != nil
		c.Online += count(heard)
		c.Unexposed += count(!exposed)
		c.Heard += count(heard && !exposed)
		c.Gone += count(!heard && !exposed && e.lastSeen.After(r.Snapshot.Started.Add(-2*w.plan.Beacon.Std())))
	}
	r.Snapshot.Control = c
}

func count(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// sweep finds exposures whose deadline passed in silence.
func (w *World) sweep(r *Rollout) {
	for _, e := range w.Endpoints {
		x := e.exposures[r.Snapshot.Rollout]
		if x != nil && x.state == health.Open && w.Now.After(r.Snapshot.Policy.Deadline(x.granted)) {
			w.settle(r, x, health.Silent)
		}
	}
}

// settle counts a report on an exposure.
func (w *World) settle(r *Rollout, x *exposure, to health.State) {
	from := x.state
	x.state = from.Next(to)
	if x.state != from {
		r.Snapshot.Counts.Move(from, x.state)
	}
}

func (w *World) publish() {
	var all []rollout.Offered
	for _, r := range w.rollouts {
		s := r.Snapshot
		all = append(all, rollout.Offered{
			Rollout: s.Rollout, Product: s.Product, Version: s.Version, Digest: r.Digest, State: s.State, Pace: s.Pace, Policy: s.Policy, Seed: r.Seed,
		})
	}
	w.plan = rollout.Plan(w.plan.Version+1, w.Now, rollout.DefaultCadence(), all)
}

// ask is one endpoint's request for a grant.
func (w *World) ask(r *Rollout, e *Endpoint) rollout.Answer {
	s := &r.Snapshot
	g := rollout.Gate{
		Rollout: s.Rollout, State: s.State, Pace: s.Pace, Counts: s.Counts, Digest: r.Digest, Seed: r.Seed, First: r.first,
		TTL: s.Policy.GrantTTL.Std(), Retry: s.Policy.Poll.Std() / 4, BusyDomains: w.busyDomains(r, e),
	}
	a := rollout.Ask{Endpoint: e.ID, Tenant: e.Tenant, Domain: e.Domain, Digest: e.staged}
	if x := e.exposures[s.Rollout]; x != nil {
		a.Exposure = x.state
	}
	answer := g.Admit(a)
	if answer.New {
		s.Counts = g.Counts
		e.exposures[s.Rollout] = &exposure{state: health.Open, granted: w.Now}
		r.MaxUnproven = max(r.MaxUnproven, s.Counts.Unproven())
	}
	return answer
}

func (w *World) busyDomains(r *Rollout, e *Endpoint) map[string]bool {
	busy := map[string]bool{}
	if e.Domain == "" {
		return busy
	}
	for _, o := range w.Endpoints {
		if x := o.exposures[r.Snapshot.Rollout]; o.Domain == e.Domain && o != e && x != nil && x.state == health.Open {
			busy[rollout.DomainKey(o.Tenant, o.Domain)] = true
		}
	}
	return busy
}
