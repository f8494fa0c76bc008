package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/rollout"
)

// Batch is what one transaction of the hot path answers: any number of asks
// and beacons; a few hundred is best.
type Batch struct {
	Asks    []GrantAsk
	Beacons []BeaconReport
	// SeenGrain is how old a stored "last seen" may grow before a beacon that says
	// nothing else new rewrites it; well below two beacon intervals. Zero rewrites
	// always.
	SeenGrain time.Duration
}

// GrantAsk is an endpoint's request for a grant.
type GrantAsk struct {
	Endpoint int64
	Secret   Hash // of the secret in its bearer token
	Rollout  int64
	Digest   string // of the artifact it has staged
}

// AttemptState is what became of an attempt to bring a release onto an
// endpoint, as the endpoint says.
type AttemptState string

// The states of an attempt.
const (
	AttemptStaged          AttemptState = "staged"
	AttemptPreflightFailed AttemptState = "preflight-failed"
	AttemptProbation       AttemptState = "probation"
	AttemptProven          AttemptState = "proven"
	AttemptHarmed          AttemptState = "harmed"
	AttemptReverted        AttemptState = "reverted" // by order
)

// AttemptReport is one attempt in a beacon.
type AttemptReport struct {
	Rollout int64
	Digest  string
	State   AttemptState
	Reason  string // stable code
	Detail  string // for people, at most 500 bytes
	Down    time.Duration
}

// BeaconReport is an endpoint's beacon.
type BeaconReport struct {
	Endpoint      int64
	Secret        Hash
	Seq           int64
	Installations []Installation
	Attempts      []AttemptReport
	Measures      [][]Measure // of each installation, in their order
	RSS           int64       // bytes; 0 is not known
	CPU           int64       // of the agent and its engines lately, millionths of a core; 0 is not known
	Sandbox       []string
	Trouble       string // what the agent cannot do, in words; empty if nothing
	Goodbye       bool
}

// GrantAnswer is the answer to an ask. Err is ErrUnauthenticated or nil.
type GrantAnswer struct {
	rollout.Answer
	Err error
}

// BeaconAnswer is the answer to a beacon. Err is ErrUnauthenticated or nil;
// nil means that what it reported is durable.
type BeaconAnswer struct{ Err error }

// BatchAnswer has one answer for each ask and beacon, in their order.
type BatchAnswer struct {
	Asks    []GrantAnswer
	Beacons []BeaconAnswer
}

// CommitBatch answers asks and beacons in one transaction: it authenticates
// the endpoints, admits, counts, and appends one ledger entry if anything was
// granted or settled. When it returns without error, all of it is durable;
// with an error, none of it happened. Asks of one batch see the grants before
// them; beacons are taken in before asks. Everything in it may be repeated.
//
// An ask for a rollout that does not exist is refused as "unknown-rollout".
//
// It runs to its end even if ctx is cancelled: it answers many callers.
func (s *Store) CommitBatch(ctx context.Context, b Batch, now time.Time) (BatchAnswer, error) {
	var answer BatchAnswer
	var changed []*identity
	var latest map[int64]int
	ctx = context.WithoutCancel(ctx)
	err := s.inWrite(ctx, "commit batch", func(c conn) error {
		r := &batchRun{
			c: c, batch: b, now: now.UTC().Truncate(time.Microsecond),
			gates: map[int64]*gate{}, endpoints: map[int64]*identity{}, latest: map[int64]int{}, fallen: map[int64][]any{}, spoke: map[int64]bool{}, ceilings: map[int64]ceiling{}, bars: map[barKey]bar{},
			answer: BatchAnswer{Asks: make([]GrantAnswer, len(b.Asks)), Beacons: make([]BeaconAnswer, len(b.Beacons))},
		}
		if err := r.load(ctx); err != nil {
			return err
		}
		r.takeBeacons()
		r.takeFallen()
		err := r.takeMeasures()
		if err == nil {
			err = r.answerAsks()
		}
		if err == nil {
			err = r.save(ctx)
		}
		answer, changed, latest = r.answer, r.changed, r.latest
		return err
	})
	if err != nil {
		return BatchAnswer{}, err
	}
	for _, id := range changed {
		s.identities.Add(id.id, id)
	}
	s.sampleBeacons(b.Beacons, latest, now)
	return answer, nil
}

// batchRun is one try of a batch's transaction.
type batchRun struct {
	c         conn
	batch     Batch
	now       time.Time
	gates     map[int64]*gate
	endpoints map[int64]*identity
	tenants   map[int64]standing
	latest    map[int64]int // of each endpoint's beacons, the one with the highest Seq
	answer    BatchAnswer
	members   []string    // of the ledger entry
	changed   []*identity // whose vitals the batch rewrites
	// fallen are, by rollout with a budget, endpoints that report its product as
	// unhealthy and did not before; spoke are those who proved who they are.
	fallen map[int64][]any
	spoke  map[int64]bool
	// What exposed endpoints are held against, by rollout, found once.
	ceilings map[int64]ceiling
	bars     map[barKey]bar
}

// takeBeacons moves exposures as the beacons report.
func (r *batchRun) takeBeacons() {
	for i, b := range r.batch.Beacons {
		id := r.endpoints[b.Endpoint]
		if !id.authentic(b.Secret) {
			r.answer.Beacons[i].Err = ErrUnauthenticated
			continue
		}
		r.spoke[b.Endpoint] = true
		if j, ok := r.latest[b.Endpoint]; !ok || b.Seq >= r.batch.Beacons[j].Seq {
			r.latest[b.Endpoint] = i
		}
		for _, a := range b.Attempts {
			if g := r.gates[a.Rollout]; g != nil && g.static.digest == a.Digest {
				r.takeAttempt(g, id, a)
			}
		}
	}
}

// takeAttempt takes in what became of an attempt. An endpoint that was never
// granted is not evidence, whatever it says.
func (r *batchRun) takeAttempt(g *gate, id *identity, a AttemptReport) {
	x := g.exposures[id.id]
	switch {
	case a.State == AttemptPreflightFailed && x == nil:
		g.refused[id.id] = a
	case x == nil:
	case a.State == AttemptProven:
		// The server's clock says whether probation is over, not the endpoint. It
		// will say so again.
		if r.now.Sub(x.granted) >= g.static.policy.Probation.Std() {
			r.move(g, id, x, health.Proven, a)
		}
	case a.State == AttemptHarmed:
		r.move(g, id, x, health.Harmed, a)
		if x.state == health.Harmed && x.down == 0 && a.Down > 0 {
			x.down, x.changed = a.Down, true // it runs again only now
			x.reason, x.detail = a.Reason, a.Detail
		}
	case a.State == AttemptReverted && !x.reverted:
		r.goneBack(g, id, x, a)
	}
}

// goneBack notes that an exposed endpoint does not run the release any more.
func (r *batchRun) goneBack(g *gate, id *identity, x *exposure, a AttemptReport) {
	if x.state != health.Harmed {
		g.reverted++
	}
	x.reverted, x.changed = true, true
	x.reason, x.detail, x.down = a.Reason, a.Detail, a.Down
	r.member(g, id, "reverted")
}

// move changes an exposure's state, and the counts with it.
func (r *batchRun) move(g *gate, id *identity, x *exposure, to health.State, a AttemptReport) {
	next := x.state.Next(to)
	if next == x.state {
		return
	}
	g.gate.Counts.Move(x.state, next)
	g.delta(id.labels.Value()).Move(x.state, next)
	if next == health.Harmed && !x.reverted {
		g.reverted++ // it went back by itself
	}
	if w := g.watched; w != nil && x.state == health.Open {
		if labels, err := r.c.s.labelsOf(id.labels.Value()); err == nil && !w.leftOut(labels) {
			w.cohort(x.rung).unsettled--
		}
	}
	if next != health.Proven {
		g.fail(id.id, failure{x.rung, next, x.state == health.Open})
	}
	x.state, x.settled, x.changed = next, r.now, true
	x.reason, x.detail, x.down = a.Reason, a.Detail, a.Down
	r.member(g, id, string(next))
}

// answerAsks admits the asks in their order.
func (r *batchRun) answerAsks() error {
	for i, a := range r.batch.Asks {
		id := r.endpoints[a.Endpoint]
		if !id.authentic(a.Secret) {
			r.answer.Asks[i].Err = ErrUnauthenticated
			continue
		}
		g := r.gates[a.Rollout]
		if g == nil {
			r.answer.Asks[i].Answer = rollout.Answer{Verdict: rollout.Refused, Code: "unknown-rollout", Detail: fmt.Sprintf("there is no rollout R-%d", a.Rollout)}
			continue
		}
		ask, err := r.ask(g, id, a)
		if err != nil {
			return err
		}
		answer := g.gate.Admit(ask)
		r.answer.Asks[i].Answer = answer
		if x := g.exposures[a.Endpoint]; x != nil && x.reverted && answer.Verdict == rollout.Granted {
			// It went back with its segment, which people have taken in again.
			x.reverted, x.again, x.granted = false, true, r.now
			g.reverted--
		}
		if answer.New {
			g.delta(id.labels.Value()).Grant()
			g.exposures[a.Endpoint] = &exposure{state: health.Open, granted: r.now, rung: g.rungOf(ask), isNew: true}
			if g.watched != nil {
				g.watched.grant(g.rungOf(ask), r.now)
			}
			r.member(g, id, "granted")
		}
	}
	return nil
}

// ask is an ask with all that the gate must know of who asks.
func (r *batchRun) ask(g *gate, id *identity, a GrantAsk) (ask rollout.Ask, err error) {
	tenant := r.tenants[id.tenant]
	ask = rollout.Ask{
		Endpoint: ids.Format("E", a.Endpoint), Tenant: tenant.name, TenantPaused: tenant.paused,
		Domain: id.domain, Digest: a.Digest, Opacity: tenant.opacity, Limits: tenant.limits, Passed: g.passed[id.tenant],
	}
	if g.watched != nil {
		if ask.Labels, err = r.c.s.labelsOf(id.labels.Value()); err != nil {
			return ask, err
		}
		ask.Coverage = g.static.covering[a.Endpoint] && g.gate.Covers()
	}
	if x := g.exposures[a.Endpoint]; x != nil {
		ask.Exposure, ask.Age, ask.Back = x.state, r.now.Sub(x.granted), x.reverted
	}
	return ask, nil
}

// member notes a fact for the ledger entry.
func (r *batchRun) member(g *gate, id *identity, what string) {
	g.noted[what]++
	r.members = append(r.members, "R-"+strconv.FormatInt(g.gate.Rollout, 10)+" "+ids.Format("E", id.id)+" "+what)
}

// batchEntry is the body of a batch's ledger entry.
type batchEntry struct {
	// Members is the SHA-256 of the facts, one a line, sorted:
	// "R-17 E-01K3... granted".
	Members  string                      `json:"members_sha256"`
	Rollouts map[string]map[string]int64 `json:"rollouts"` // how many of each
}

// batchDraft drafts the ledger entry of all facts noted.
func batchDraft(kind string, members []string, noted map[int64]map[string]int64) (ledger.Draft, error) {
	e := batchEntry{Members: digestOf(members), Rollouts: map[string]map[string]int64{}}
	subject := ""
	for id, n := range noted {
		if len(n) == 0 {
			continue
		}
		subject = subjectOf(id)
		e.Rollouts[subject] = n
	}
	if len(e.Rollouts) > 1 {
		subject = "rollouts"
	}
	return ledger.New(kind, subject, "server", e)
}

// digestOf is the digest of facts, one a line, sorted.
func digestOf(members []string) string {
	slices.Sort(members)
	h := sha256.New()
	for _, m := range members {
		h.Write([]byte(m))
		h.Write([]byte{'\n'})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// subjectOf names a rollout as the ledger does.
func subjectOf(id int64) string { return "R-" + strconv.FormatInt(id, 10) }
