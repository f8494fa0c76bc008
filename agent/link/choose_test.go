package link

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/release"
)

const me = "E-0000000000001"

func digest(n int) string { return strings.Repeat(fmt.Sprintf("%02x", n), 32) }

func offer(rollout int64, version string, action release.Action, turn float64) release.Offer {
	return release.Offer{Rollout: rollout, Product: "acme/rules", Version: version, Digest: digest(int(version[0] - '0')), Action: action, Seed: []byte{byte(rollout)}, Turn: turn}
}

func TestChoose(t *testing.T) {
	const ask, hold, stop, back = release.ActionOffer, release.ActionHold, release.ActionStop, release.ActionRevert
	runs := func(v string) Have {
		return Have{Product: ipc.Product{Product: "acme/rules", Version: v, Digest: digest(int(v[0] - '0'))}}
	}
	nothing := Have{Product: ipc.Product{Product: "acme/rules"}}
	with := func(h Have, f func(*Have)) Have { f(&h); return h }
	staged := func(v string) func(*Have) {
		return func(h *Have) { h.Staged = &ipc.Staged{Version: v, Digest: digest(int(v[0] - '0'))} }
	}
	deferred := func(h *Have) {
		h.Now = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
		h.Deferred = map[string]time.Time{digest(2): h.Now.Add(time.Hour)}
	}
	canary := offer(2, "2.0.0", ask, 0)
	canary.First = []string{fmt.Sprintf("%016x", fleet.Rank(canary.Seed, me))}
	other := offer(9, "9.0.0", ask, 1)
	other.Product = "acme/else"

	for _, c := range []struct {
		name   string
		have   Have
		offers []release.Offer
		do     Do
		of     int64
		code   string
		drop   string
	}{
		{"an empty plan asks nothing", runs("1.0.0"), nil, DoNothing, 0, "no-offer", ""},
		{"another product's offer asks nothing", runs("1.0.0"), []release.Offer{other}, DoNothing, 0, "no-offer", ""},
		{"an offer in turn is asked for", runs("1.0.0"), []release.Offer{offer(2, "2.0.0", ask, 1)}, DoAsk, 2, "offered", ""},
		{"a canary asks whatever the turn is", runs("1.0.0"), []release.Offer{canary}, DoAsk, 2, "offered", ""},
		{"out of turn waits", runs("1.0.0"), []release.Offer{offer(2, "2.0.0", ask, 0)}, DoNothing, 0, "not-your-turn", ""},
		{"out of turn takes the base offer", nothing, []release.Offer{offer(1, "1.0.0", ask, 1), offer(2, "2.0.0", ask, 0)}, DoAsk, 1, "offered", ""},
		{"out of turn with the base stays", runs("1.0.0"), []release.Offer{offer(1, "1.0.0", ask, 1), offer(2, "2.0.0", ask, 0)}, DoNothing, 0, "not-your-turn", ""},
		{"in turn goes past the base", nothing, []release.Offer{offer(1, "1.0.0", ask, 1), offer(2, "2.0.0", ask, 1)}, DoAsk, 2, "offered", ""},
		{"never back to the base by offer", runs("2.0.0"), []release.Offer{offer(1, "1.0.0", ask, 1), offer(2, "2.0.0", ask, 1)}, DoNothing, 0, "up-to-date", ""},
		{"an older version is no offer", runs("3.0.0"), []release.Offer{offer(4, "2.0.0", ask, 1)}, DoNothing, 0, "older", ""},
		{"held is staged, not asked for", runs("1.0.0"), []release.Offer{offer(2, "2.0.0", hold, 1)}, DoStage, 2, "held", ""},
		{"kept from it by the tenant, it takes the base", with(nothing, deferred), []release.Offer{offer(1, "1.0.0", ask, 1), offer(2, "2.0.0", ask, 1)}, DoAsk, 1, "offered", ""},
		{"kept from it with the base, it has it ready", with(runs("1.0.0"), deferred), []release.Offer{offer(1, "1.0.0", ask, 1), offer(2, "2.0.0", ask, 1)}, DoStage, 2, "deferred", ""},
		{"when the time is over it asks", with(runs("1.0.0"), func(h *Have) { deferred(h); h.Now = h.Now.Add(time.Hour) }), []release.Offer{offer(2, "2.0.0", ask, 1)}, DoAsk, 2, "offered", ""},
		{"held keeps what is staged", with(runs("1.0.0"), staged("2.0.0")), []release.Offer{offer(2, "2.0.0", hold, 1)}, DoStage, 2, "held", ""},
		{"held does not keep the base from a newcomer", nothing, []release.Offer{offer(1, "1.0.0", ask, 1), offer(2, "2.0.0", hold, 1)}, DoAsk, 1, "offered", ""},
		{"stop drops what is staged", with(runs("1.0.0"), staged("2.0.0")), []release.Offer{offer(2, "2.0.0", stop, 1)}, DoNothing, 0, "stopped", digest(2)},
		{"stop keeps what runs", runs("2.0.0"), []release.Offer{offer(2, "2.0.0", stop, 1)}, DoNothing, 0, "stopped", ""},
		{"revert leaves what runs", runs("2.0.0"), []release.Offer{offer(1, "1.0.0", ask, 1), offer(2, "2.0.0", back, 1)}, DoRevert, 2, "ordered-back", ""},
		{"revert reaches who was never in turn", runs("2.0.0"), []release.Offer{offer(2, "2.0.0", back, 0)}, DoRevert, 2, "ordered-back", ""},
		{"revert goes through probation", with(runs("2.0.0"), func(h *Have) { h.Attempt = &ipc.Attempt{Rollout: 2, State: ipc.AttemptProbation} }), []release.Offer{offer(2, "2.0.0", back, 1)}, DoRevert, 2, "ordered-back", ""},
		{"revert drops what is staged", with(runs("1.0.0"), staged("2.0.0")), []release.Offer{offer(2, "2.0.0", back, 1)}, DoNothing, 0, "stopped", digest(2)},
		{"revert of what does not run is nothing", runs("1.0.0"), []release.Offer{offer(2, "2.0.0", back, 1)}, DoNothing, 0, "stopped", ""},
		{"revert first, newer offer after", runs("2.0.0"), []release.Offer{offer(3, "3.0.0", ask, 1), offer(2, "2.0.0", back, 1)}, DoRevert, 2, "ordered-back", ""},
		{"probation is not disturbed by an offer", with(runs("2.0.0"), func(h *Have) { h.Attempt = &ipc.Attempt{Rollout: 2, State: ipc.AttemptProbation} }), []release.Offer{offer(3, "3.0.0", ask, 1)}, DoNothing, 0, "in-probation", ""},
		{"what failed here is not tried again", with(runs("1.0.0"), func(h *Have) { h.Quarantine = []ipc.Quarantined{{Digest: digest(2), Reason: "crash-loop"}} }), []release.Offer{offer(2, "2.0.0", ask, 1)}, DoNothing, 0, "quarantined", ""},
		{"a refusal is final", with(runs("1.0.0"), func(h *Have) { h.Refused = map[string]bool{digest(2): false} }), []release.Offer{offer(2, "2.0.0", ask, 1)}, DoNothing, 0, "refused", ""},
		{"a rollout that left the plan is dropped", with(runs("1.0.0"), staged("2.0.0")), nil, DoNothing, 0, "no-offer", digest(2)},
		{"a newer offer drops the older staged one", with(runs("1.0.0"), staged("2.0.0")), []release.Offer{offer(3, "3.0.0", ask, 1)}, DoAsk, 3, "offered", digest(2)},
		{"order in the plan does not matter", nothing, []release.Offer{offer(2, "2.0.0", ask, 1), offer(1, "1.0.0", ask, 1)}, DoAsk, 2, "offered", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Choose(release.Plan{Offers: c.offers}, me, []Have{c.have})
			if len(got) != 1 || got[0].Do != c.do || got[0].Offer.Rollout != c.of || got[0].Code != c.code || got[0].Drop != c.drop {
				t.Fatalf("got %+v; want %s of R-%d, %s, drop %q", got, c.do, c.of, c.code, c.drop)
			}
		})
	}
}
