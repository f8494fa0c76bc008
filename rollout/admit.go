package rollout

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/psirt"
)

// Gate is what Admit must know of a rollout, read in the transaction that will
// record the grants.
type Gate struct {
	Rollout int64
	State   State
	Pace    Pace
	Counts  health.Counts
	Digest  string // of the artifact
	Seed    []byte
	First   map[string]bool // endpoint ids that may ask whatever Turn is
	TTL     time.Duration   // of a grant
	Retry   time.Duration   // after which an endpoint that must wait asks again
	// BusyDomains holds the failure domains with an open exposure, as
	// tenant + "\x00" + domain.
	BusyDomains map[string]bool
	// Covered counts the exposures among Counts that were chosen for coverage.
	Covered int64
	// Holdback is the share of ranks, the last ones, that are not granted until the
	// finish: they stay controls.
	Holdback float64
	// Halted lists the segments that the rollout leaves out.
	Halted []fleet.Labels
	// Now is the time of the asks; Floor is the vendor's, from Moment.Started until
	// everyone may have the release.
	Now   time.Time
	Floor time.Duration
	// Withheld is what the embargoes of cases that the release is a fix of allow.
	Withheld []psirt.Withheld
	// Moment is what tenants' limits are held against, but for Passed, which is each
	// tenant's own.
	Moment Moment

	barred map[string][]Bar // what limits say, by tenant: one of a batch asks for all
}

// Ask is one endpoint's request for a grant.
type Ask struct {
	Endpoint     string // id
	Tenant       string
	TenantPaused bool
	Domain       string        // failure domain; empty is none
	Digest       string        // what the endpoint has staged
	Limits       *Limits       // the tenant's; nil is none
	Passed       float64       // see Moment
	Opacity      psirt.Opacity // the tenant's
	Labels       fleet.Labels
	Coverage     bool // the endpoint is one of those chosen for coverage
	// Exposure is the endpoint's exposure under this rollout, empty if none; Age
	// is how long ago it was granted first.
	Exposure health.State
	Age      time.Duration
	// Back means that it went back since, and would switch again.
	Back bool
}

// Verdict is the answer to an ask.
type Verdict string

// The verdicts.
const (
	Granted Verdict = "granted"
	Wait    Verdict = "wait"
	Refused Verdict = "refused"
)

// Answer is what Admit says to one ask.
type Answer struct {
	Verdict Verdict
	Code    string // stable
	Detail  string
	// New means that this grant is a new exposure, to be counted.
	New   bool
	TTL   time.Duration // of a grant
	Retry time.Duration // of a wait
}

// maxRetry is the longest that an endpoint waits before it asks again: what keeps
// it from a release may end sooner than was foreseen.
const maxRetry = 10 * time.Minute

// Covers tells whether there is room for one more that was chosen for coverage.
// Who finds none waits for its turn like everyone.
func (g *Gate) Covers() bool { return g.State == Running && g.Covered < g.Pace.Cover }

// Admit answers one ask and, for a new exposure, takes its place in the gate:
// asks of one batch see each other.
func (g *Gate) Admit(a Ask) Answer {
	for b := range g.bars(a) {
		if b.Refuses {
			return Answer{Verdict: Refused, Code: b.Code, Detail: b.Detail}
		}
		return Answer{Verdict: Wait, Code: b.Code, Detail: b.Detail, Retry: g.retry(b)}
	}
	again := a.Exposure != ""
	if !again {
		g.Counts.Grant()
		if a.Coverage {
			g.Covered++
		}
	}
	if (!again || a.Back) && a.Domain != "" {
		if g.BusyDomains == nil {
			g.BusyDomains = map[string]bool{}
		}
		g.BusyDomains[DomainKey(a.Tenant, a.Domain)] = true
	}
	return Answer{Verdict: Granted, Code: "granted", New: !again, TTL: g.TTL}
}

// DomainKey names a failure domain across tenants.
func DomainKey(tenant, domain string) string { return tenant + "\x00" + domain }

// retry is when an endpoint that must wait should ask again. Rollouts move by
// themselves; what a tenant set seldom does.
func (g *Gate) retry(b Bar) time.Duration {
	if !strings.HasPrefix(b.Code, LimitPrefix) && b.Until.IsZero() {
		return g.Retry
	}
	if b.Until.IsZero() {
		return max(g.Retry, maxRetry)
	}
	return max(g.Retry, min(b.Until.Sub(g.Now), maxRetry))
}

// LimitPrefix begins the codes of all bars that are a tenant's.
const LimitPrefix = "tenant-"

// Bars lists all that keeps an endpoint from a grant now, each code once; what
// rules comes first, and nothing means that it would be granted.
func (g *Gate) Bars(a Ask) (out []Bar) {
	for b := range g.bars(a) {
		if !slices.ContainsFunc(out, func(o Bar) bool { return o.Code == b.Code }) {
			out = append(out, b)
		}
	}
	return out
}

// bars yields first what no waiting would change. Texts are made only of what
// holds: each ask of the fleet comes by here.
func (g *Gate) bars(a Ask) iter.Seq[Bar] {
	return func(yield func(Bar) bool) {
		switch {
		case !g.refuse(a, yield) || !g.standing(a, yield):
		case a.Exposure == "":
			_ = g.limits(a, yield) && g.line(a, yield) && g.room(a, yield) && g.domain(a, yield)
		case a.Back:
			g.domain(a, yield)
		}
	}
}

func because(code, format string, args ...any) Bar {
	return Bar{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func refusal(code, format string, args ...any) Bar {
	return Bar{Code: code, Detail: fmt.Sprintf(format, args...), Refuses: true}
}

// refuse yields what no waiting would change.
func (g *Gate) refuse(a Ask, yield func(Bar) bool) bool {
	if a.Digest != g.Digest && !yield(refusal("wrong-digest", "rollout R-%d is of artifact %s, not %s", g.Rollout, g.Digest, a.Digest)) {
		return false
	}
	if a.Exposure == health.Harmed && !yield(refusal("already-harmed", "this endpoint failed on this release already")) {
		return false
	}
	if !g.State.Grants() && g.State != Held && !yield(refusal(string(g.State), "rollout R-%d is %s", g.Rollout, g.State)) {
		return false
	}
	for _, h := range g.Halted {
		if a.Labels.Match(h) && !yield(refusal("segment-halted", "rollout R-%d leaves out %s", g.Rollout, h)) {
			return false
		}
	}
	return true
}

// standing yields what binds an exposure that is counted already, too. Beyond it
// such a one gets its grant again without a new place in the window: it would only
// turn silent.
func (g *Gate) standing(a Ask, yield func(Bar) bool) bool {
	if g.State == Held && !yield(because(string(g.State), "rollout R-%d is %s", g.Rollout, g.State)) {
		return false
	}
	return !a.TenantPaused || yield(because("tenant-paused", "tenant %s is paused", a.Tenant))
}

// limits yields what the tenant's limits say.
func (g *Gate) limits(a Ask, yield func(Bar) bool) bool {
	if a.Limits.Empty() {
		return true
	}
	bars, known := g.barred[a.Tenant]
	if !known {
		m := g.Moment
		m.Passed = a.Passed
		bars, _ = a.Limits.Bars(m, g.Now)
		if g.barred == nil {
			g.barred = map[string][]Bar{}
		}
		g.barred[a.Tenant] = bars
	}
	for _, b := range bars {
		if !yield(b) {
			return false
		}
	}
	return true
}

// line yields what the endpoint's place in line says: by the vendor's floor, and
// by the rollout's turn.
func (g *Gate) line(a Ask, yield func(Bar) bool) bool {
	for _, w := range g.Withheld {
		// The answer says no more than that of a rollout that has not come here: an
		// embargo is not for everybody to know of.
		if w.From(a.Opacity, g.Now) && !yield(because("not-your-turn", "the rollout has not come to this endpoint yet")) {
			return false
		}
	}
	if g.Floor > 0 && !g.First[a.Endpoint] {
		if due := g.Due(a.Endpoint); g.Now.Before(due) && !yield(Bar{Code: "vendor-floor", Until: due, Detail: fmt.Sprintf("the vendor lets it reach everyone no sooner than %s after the start; here it is due %s", g.Floor, due.UTC().Format(time.RFC3339))}) {
			return false
		}
	}
	if a.Coverage {
		return g.Covered < g.Pace.Cover || yield(because("not-your-turn", "%d of %d endpoints chosen for coverage are exposed", g.Covered, g.Pace.Cover))
	}
	if g.Counts.Exposed-g.Covered >= g.Pace.Ceiling-g.Pace.Cover && !yield(because("window-full", "%d of %d endpoints are exposed", g.Counts.Exposed-g.Covered, g.Pace.Ceiling-g.Pace.Cover)) {
		return false
	}
	rank := fleet.Rank(g.Seed, a.Endpoint)
	if !g.First[a.Endpoint] && !fleet.InTurn(rank, g.Pace.Turn) && !yield(because("not-your-turn", "the rollout has not come to this endpoint yet: its place is %.4g %% down the line, and %.4g %% are called", 100*fleet.Share(rank), 100*g.Pace.Turn)) {
		return false
	}
	held := g.State == Running && !g.Pace.Small && g.Holdback > 0 && !fleet.InTurn(rank, 1-g.Holdback)
	return !held || yield(because("held-back", "this endpoint is one of the %.3g %% that are compared with until the finish", 100*g.Holdback))
}

// Due is when the vendor's floor lets an endpoint have the release at the soonest,
// by the order that endpoints keep themselves.
func (g *Gate) Due(endpoint string) time.Time {
	return g.Moment.Started.Add(time.Duration(fleet.Share(fleet.Rank([]byte(g.Digest), endpoint)) * float64(g.Floor)))
}

// room yields what the window says.
func (g *Gate) room(a Ask, yield func(Bar) bool) bool {
	if g.Counts.Exposed >= g.Pace.Ceiling && !yield(because("window-full", "%d of %d endpoints are exposed", g.Counts.Exposed, g.Pace.Ceiling)) {
		return false
	}
	return g.Counts.Unproven() < g.Pace.Window || yield(because("window-full", "%d of %d are exposed and unproven", g.Counts.Unproven(), g.Pace.Window))
}

// domain yields what the failure domain says.
func (g *Gate) domain(a Ask, yield func(Bar) bool) bool {
	busy := a.Domain != "" && g.BusyDomains[DomainKey(a.Tenant, a.Domain)]
	return !busy || yield(because("domain-busy", "another endpoint of failure domain %s is exposed and unproven", a.Domain))
}
