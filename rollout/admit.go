package rollout

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
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
}

// Ask is one endpoint's request for a grant.
type Ask struct {
	Endpoint     string // id
	Tenant       string
	TenantPaused bool
	Domain       string // failure domain; empty is none
	Digest       string // what the endpoint has staged
	Labels       fleet.Labels
	Coverage     bool // the endpoint is one of those chosen for coverage
	// Exposure is the endpoint's exposure under this rollout, empty if none; Age
	// is how long ago it was granted first.
	Exposure health.State
	Age      time.Duration
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

// Admit answers one ask and, for a new exposure, takes its place in the gate:
// asks of one batch see each other.
func (g *Gate) Admit(a Ask) Answer {
	if why, detail := g.refuse(a); why != "" {
		return Answer{Verdict: Refused, Code: why, Detail: detail}
	}
	if why, detail := g.wait(a); why != "" {
		return Answer{Verdict: Wait, Code: why, Detail: detail, Retry: g.Retry}
	}
	again := a.Exposure != ""
	if !again {
		g.Counts.Grant()
		if a.Coverage {
			g.Covered++
		}
		if a.Domain != "" {
			if g.BusyDomains == nil {
				g.BusyDomains = map[string]bool{}
			}
			g.BusyDomains[DomainKey(a.Tenant, a.Domain)] = true
		}
	}
	return Answer{Verdict: Granted, Code: "granted", New: !again, TTL: g.TTL}
}

// DomainKey names a failure domain across tenants.
func DomainKey(tenant, domain string) string { return tenant + "\x00" + domain }

// refuse finds what no waiting would change.
func (g *Gate) refuse(a Ask) (code, detail string) {
	switch {
	case a.Digest != g.Digest:
		return "wrong-digest", fmt.Sprintf("rollout R-%d is of artifact %s, not %s", g.Rollout, g.Digest, a.Digest)
	case a.Exposure == health.Harmed:
		return "already-harmed", "this endpoint failed on this release already"
	case g.State == Halted, g.State == Reverting, g.State == Reverted, g.State == Superseded:
		return string(g.State), fmt.Sprintf("rollout R-%d is %s", g.Rollout, g.State)
	}
	for _, h := range g.Halted {
		if a.Labels.Match(h) {
			return "segment-halted", fmt.Sprintf("rollout R-%d leaves out %s", g.Rollout, h)
		}
	}
	return "", ""
}

// wait finds what may change with time. An exposure that is counted already
// gets its grant again without a new place in the window, while the rollout runs.
func (g *Gate) wait(a Ask) (code, detail string) {
	switch {
	case !g.State.Grants():
		return string(g.State), fmt.Sprintf("rollout R-%d is %s", g.Rollout, g.State)
	case a.TenantPaused:
		return "tenant-paused", "tenant " + a.Tenant + " is paused"
	case a.Exposure != "":
		return "", ""
	case a.Coverage && g.Covered >= g.Pace.Cover:
		return "not-your-turn", fmt.Sprintf("%d of %d endpoints chosen for coverage are exposed", g.Covered, g.Pace.Cover)
	case !a.Coverage && g.Counts.Exposed-g.Covered >= g.Pace.Ceiling-g.Pace.Cover:
		return "window-full", fmt.Sprintf("%d of %d endpoints are exposed", g.Counts.Exposed-g.Covered, g.Pace.Ceiling-g.Pace.Cover)
	case !a.Coverage && !g.First[a.Endpoint] && !fleet.InTurn(fleet.Rank(g.Seed, a.Endpoint), g.Pace.Turn):
		return "not-your-turn", "the rollout has not come to this endpoint yet"
	case !a.Coverage && g.State == Running && !g.Pace.Small && g.Holdback > 0 && !fleet.InTurn(fleet.Rank(g.Seed, a.Endpoint), 1-g.Holdback):
		return "held-back", fmt.Sprintf("this endpoint is one of the %.3g %% that are compared with until the finish", 100*g.Holdback)
	case g.Counts.Exposed >= g.Pace.Ceiling:
		return "window-full", fmt.Sprintf("%d of %d endpoints are exposed", g.Counts.Exposed, g.Pace.Ceiling)
	case g.Counts.Unproven() >= g.Pace.Window:
		return "window-full", fmt.Sprintf("%d of %d are exposed and unproven", g.Counts.Unproven(), g.Pace.Window)
	case a.Domain != "" && g.BusyDomains[DomainKey(a.Tenant, a.Domain)]:
		return "domain-busy", "another endpoint of failure domain " + a.Domain + " is exposed and unproven"
	}
	return "", ""
}
