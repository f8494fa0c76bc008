package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/release"
)

// Delay is one thing that keeps a release from an endpoint, and whose word it is.
type Delay struct {
	Bar
	By string // "vendor", "policy", "tenant", "rollout", "endpoint", "operator"
}

// Seen is what is known of one endpoint with one product.
type Seen struct {
	Runs       string // version; empty if nothing runs
	RunsDigest string
	LastSeen   time.Time     // zero if never
	Quiet      time.Duration // not heard from for longer than this, it may be off
	// Refused is why preflight refused the release here; empty if it did not.
	Refused string
	// Harmed is why the endpoint says that the release failed here.
	Harmed string
	// Settles is when an open exposure turns silent; zero if none is open.
	Settles time.Time
	// HeldBy is who holds the rollout.
	HeldBy string
}

// Position is a rollout as one endpoint meets it.
type Position struct {
	Has    bool // it runs the release
	Delays []Delay
	// Overridden is what the tenant's limits would say if the rollout were no
	// emergency that the tenant follows.
	Overridden []Delay
}

// Why says what keeps a rollout's release from an endpoint, what rules first. It
// asks the gate that answers the endpoint; what it adds is what the endpoint does
// by itself. ask.Digest is not looked at: an endpoint that asks has the release.
func (g *Gate) Why(ask Ask, seen Seen) (s Position) {
	if s.Has = seen.RunsDigest != "" && seen.RunsDigest == g.Digest; s.Has && ask.Exposure != health.Open {
		return s
	}
	add := func(by string, b Bar) { s.Delays = append(s.Delays, Delay{b, by}) }
	if seen.Runs != "" && !s.Has && !release.Newer(g.Moment.Version, seen.Runs) {
		add("endpoint", because("runs-newer", "it runs %s; an offer never leads to an older version", seen.Runs))
	}
	if seen.Refused != "" {
		add("endpoint", refusal("preflight-failed", "it refused the release in preflight: %s", seen.Refused))
	}
	if ask.Exposure == health.Open {
		add("endpoint", Bar{Code: "in-probation", Detail: "it was granted the release and is not proven yet", Until: seen.Settles})
		s.Has = false
		return s
	}
	ask.Digest = g.Digest
	for _, b := range g.Bars(ask) {
		switch {
		case b.Code == "already-harmed":
			b.Code, b.Detail = "quarantined", "the release failed here: "+seen.Harmed
		case b.Code == string(Held):
			b.Detail += " by " + seen.HeldBy
		}
		add(owner(b, seen), b)
	}
	if away := g.Now.Sub(seen.LastSeen); seen.LastSeen.IsZero() {
		add("endpoint", because("not-heard-from", "it was never heard from"))
	} else if away > seen.Quiet {
		add("endpoint", because("not-heard-from", "it was last heard from %s ago", away.Round(time.Second)))
	}
	if !ask.Limits.Empty() {
		m := g.Moment
		m.Passed = ask.Passed
		_, over := ask.Limits.Bars(m, g.Now)
		for _, b := range over {
			b.Detail = fmt.Sprintf("%s; overridden: the rollout's policy is an emergency's, and the tenant follows it", b.Detail)
			s.Overridden = append(s.Overridden, Delay{b, "tenant"})
		}
	}
	return s
}

// owners say whose word a bar is, by its code; the rollout's if it is not here.
var owners = map[string]string{
	"vendor-floor": "vendor", "window-full": "policy", "held-back": "policy", "domain-busy": "endpoint",
	"quarantined": "endpoint", "wrong-digest": "endpoint",
}

func owner(b Bar, seen Seen) string {
	switch {
	case strings.HasPrefix(b.Code, LimitPrefix):
		return "tenant"
	case b.Code == string(Held) && seen.HeldBy != byEngine, b.Code == string(Halted):
		return "operator"
	case owners[b.Code] != "":
		return owners[b.Code]
	}
	return "rollout"
}
