package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

// Offered is what the plan must know of a rollout.
type Offered struct {
	Rollout int64
	Product string
	Version string
	Digest  string
	State   State
	Pace    Pace
	Policy  Policy
	Seed    []byte
	Halted  []HaltedSegment
	// Chosen are endpoint ids that go for coverage as soon as the pace has room for
	// them.
	Chosen []string
}

// Cadence is how often endpoints ask and report when no rollout says otherwise.
type Cadence struct {
	Poll       span.Duration
	PollJitter float64 // 0 to 1
	Beacon     span.Duration
}

// DefaultCadence is DefaultPolicy's.
func DefaultCadence() Cadence {
	p := DefaultPolicy()
	return Cadence{Poll: p.Poll, PollJitter: p.PollJitter, Beacon: p.Beacon}
}

// MaxBases is how many finished rollouts of a product are on offer at once: the
// newest for everyone, the others for tenants whose limits keep them behind.
const MaxBases = 8

// Plan makes the plan that offers these rollouts: for each product the newest
// rollout, the finished ones, so that late joiners get what was good last,
// and every revert order in force. The fastest poll and beacon among the
// policies and the cadence rule. Offers of one product stand newest first.
func Plan(version int64, now time.Time, c Cadence, all []Offered) release.Plan {
	p := release.Plan{
		Schema: "headgate.plan/1", Version: version, Issued: now.UTC().Truncate(time.Microsecond),
		Poll: c.Poll, PollJitter: c.PollJitter, Beacon: c.Beacon, Offers: []release.Offer{},
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Offered) int {
		return cmp.Or(cmp.Compare(a.Product, b.Product), cmp.Compare(b.Rollout, a.Rollout))
	})
	newest, bases := map[string]bool{}, map[string]int{}
	for _, o := range all {
		action, ok := offers[o.State]
		if !ok {
			continue
		}
		isBase := o.State == Finished && bases[o.Product] < MaxBases
		if newest[o.Product] && !isBase && action != release.ActionRevert {
			continue
		}
		newest[o.Product] = true
		if isBase {
			bases[o.Product]++
		}
		p.Offers = append(p.Offers, o.offer(action))
		if o.State.Grants() || o.State == Held {
			p.Poll, p.Beacon = min(p.Poll, o.Policy.Poll), min(p.Beacon, o.Policy.Beacon)
			p.PollJitter = o.Policy.PollJitter
		}
	}
	return p
}

// offers says what each state asks of endpoints; a superseded rollout asks
// nothing.
var offers = map[State]release.Action{
	Running: release.ActionOffer, Finished: release.ActionOffer, Held: release.ActionHold,
	Halted: release.ActionStop, Reverting: release.ActionRevert, Reverted: release.ActionRevert,
}

func (o Offered) offer(a release.Action) release.Offer {
	out := release.Offer{
		Rollout: o.Rollout, Product: o.Product, Version: o.Version, Digest: o.Digest, Action: a,
		Seed: o.Seed, Turn: o.Pace.Turn, Probation: o.Policy.Probation, Ages: slices.Clone(o.Policy.Ages),
	}
	if o.State == Finished {
		out.Turn = 1
	}
	first := o.Policy.Canaries
	if o.Pace.Cover > 0 && out.Turn < 1 {
		first = o.Chosen
	}
	for _, id := range first {
		out.First = append(out.First, RankHex(o.Seed, id))
	}
	for _, h := range o.Halted {
		out.LeaveOut = append(out.LeaveOut, h.Labels)
	}
	return out
}

// RankHex is a rank as the plan lists it.
func RankHex(seed []byte, endpointID string) string {
	return fmt.Sprintf("%016x", fleet.Rank(seed, endpointID))
}

// Quiet is how long after it was last heard from an endpoint counts as silent,
// exposed or not.
func (p Policy) Quiet() time.Duration { return p.Beacon.Std() + p.Grace.Std() }

// Deadline is when an exposure granted at t that is still open becomes silent.
func (p Policy) Deadline(t time.Time) time.Time {
	return t.Add(p.GrantTTL.Std() + p.Probation.Std() + p.Grace.Std())
}

// flight is how long what an agent says may be under way: it gives up after that.
const flight = 30 * time.Second

// GrantsOver is when no grant can live any more that was given until t, and all has
// arrived that was said while one did.
func (p Policy) GrantsOver(t time.Time) time.Time { return t.Add(p.GrantTTL.Std() + flight) }
