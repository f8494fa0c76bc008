package server

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/rollout"
)

// facts are a case's facts of a kind.
func (w *world) facts(kase, kind string) (bodies []string) {
	w.Helper()
	got, err := w.cases.GetCase(w.Context(), connect.NewRequest(&headgatev1.GetCaseRequest{Id: kase}))
	check(w, err)
	for _, f := range got.Msg.Case.Facts {
		if f.Kind == kind {
			bodies = append(bodies, f.Body)
		}
	}
	return bodies
}

// While a fix is rolled out its case turns out to be exploited: people are asked
// once and called; nothing switches by itself; with the case one operator's word is
// as much as the policy in force says.
func TestPeopleAreAskedForTheEmergencyLane(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DiscloseEvery = span.Duration(50 * time.Millisecond) })
	w.release("1.0.0")
	kase := w.embargo("Hole", "1.0.0")
	w.fact(kase, "embargo.ended", `{"why":"test"}`)
	standard, err := rollout.Preset("standard")
	check(t, err)
	id := w.start("1.0.0", standard)
	w.fact(kase, "attack.observed", `{"where":"a honeypot"}`)
	until(t, "people are asked", func() bool { return len(w.facts(kase, "lane.asked")) > 0 })
	before := w.show(id)
	if before.LaneJson != "" || before.LaneAskedBy != "" || !strings.Contains(before.PolicyJson, "standard") {
		t.Fatalf("something switched by itself: %v", before)
	}
	time.Sleep(300 * time.Millisecond) // several looks
	if asked := w.facts(kase, "lane.asked"); len(asked) != 1 || !strings.Contains(asked[0], "attacks were observed") {
		t.Errorf("asked %v; want once, and why", asked)
	}

	emergency, err := rollout.Preset("emergency")
	check(t, err)
	req := &headgatev1.SwitchLaneRequest{Id: id, PolicyJson: policyJSON(t, emergency), Trade: &headgatev1.Trade{HazardPerHour: 0.01, Bad: 0.01}, Case: kase}
	first, err := w.rollout.SwitchLane(t.Context(), connect.NewRequest(req))
	check(t, err)
	if first.Msg.Switched {
		t.Fatal("one operator switched a rollout whose policy names no lane")
	}
	bob := w.as("bob", headgatev1.Scope_SCOPE_OPERATOR, "")
	_, err = bob.rollout.SwitchLane(t.Context(), connect.NewRequest(req))
	wantCode(t, err, connect.CodeNotFound) // bob is no member of the case
	req.Case = ""
	second, err := bob.rollout.SwitchLane(t.Context(), connect.NewRequest(req))
	check(t, err)
	if !second.Msg.Switched {
		t.Error("two operators did not switch")
	}
}

func TestACaseThatIsNotExploitedOpensNoLane(t *testing.T) {
	w := newWorld(t)
	w.release("1.0.0")
	kase := w.embargo("Hole", "1.0.0")
	w.fact(kase, "fix.opaque", `{"product":"acme/rules","version":"1.0.0","why":"test"}`)
	w.fact(kase, "embargo.ended", `{"why":"test"}`)
	r, err := w.rollout.StartRollout(t.Context(), connect.NewRequest(&headgatev1.StartRolloutRequest{Product: product, Version: "1.0.0", Case: kase}))
	check(t, err)
	if r.Msg.Rollout.LaneJson != "" || r.Msg.Plan.Exploited != "" {
		t.Errorf("an emergency's lane: %v, %v", r.Msg.Rollout.LaneJson, r.Msg.Plan)
	}
	if bound := w.facts(kase, "rollout.bound"); len(bound) != 1 || bound[0] != `{"rollout":1}` {
		t.Errorf("bound: %v", bound)
	}
	_, err = w.rollout.SwitchLane(t.Context(), connect.NewRequest(&headgatev1.SwitchLaneRequest{Id: 1, PolicyJson: policyJSON(t, quick()), Trade: &headgatev1.Trade{HazardPerHour: 0.01, Bad: 0.01}, Case: kase}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition && connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a switch for a case that is not exploited: %v", err)
	}
}

// A lane that a policy took, with no trade from anybody, has its J all the same: by
// the policy's trade, else by one that is recorded as assumed.
func TestALaneThatAPolicyTookHasItsPrice(t *testing.T) {
	for _, c := range []struct {
		name, policy, whose string
		hazard              float64
	}{
		{"assumed", "", rollout.TradeAssumed, rollout.AssumedTrade.Hazard},
		{"the policy's", `{"name": "own", "emergency": {"lane": "emergency", "trade": {"hazard_per_hour": 0.02, "bad": 0.01}}}`, rollout.TradeOfPolicy, 0.02},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.release("1.0.0")
			kase := w.embargo("Hole", "1.0.0")
			w.fact(kase, "embargo.ended", `{"why":"test"}`)
			w.fact(kase, "attack.observed", `{"where":"a honeypot"}`)
			r, err := w.rollout.StartRollout(t.Context(), connect.NewRequest(&headgatev1.StartRolloutRequest{Product: product, Version: "1.0.0", Case: kase, PolicyJson: c.policy}))
			check(t, err)
			var got rollout.Choice
			check(t, json.Unmarshal([]byte(r.Msg.Rollout.LaneJson), &got))
			if got.TradeOf != c.whose || got.Trade.Hazard != c.hazard || got.Taken.Lane != "emergency-1" || got.Taken.Total <= 0 || got.Slower == nil || got.Slower.Total <= 0 || got.By == "" {
				t.Errorf("recorded %+v", got)
			}
		})
	}
}
