package link

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/release"
)

// Do is what the plan wants of one product on one endpoint.
type Do string

// What there is to do.
const (
	// DoNothing: wait for another plan.
	DoNothing Do = "nothing"
	// DoStage: have it ready, do not ask.
	DoStage Do = "stage"
	// DoAsk: stage it if that was not done, ask for a grant, activate.
	DoAsk Do = "ask"
	// DoRevert: leave what runs for the last known good.
	DoRevert Do = "revert"
)

// Want is the plan's wish for one product, with its reason.
type Want struct {
	Product string
	Do      Do
	Offer   release.Offer // for DoStage, DoAsk and DoRevert
	// Drop is the digest of a staged release that is not wanted any more; empty if
	// none.
	Drop string
	// Code is stable: "no-offer", "up-to-date", "older", "not-your-turn",
	// "quarantined", "refused", "in-probation", "stopped", "held", "floor-unknown",
	// "vendor-floor", "deferred", "segment-halted", "offered", "ordered-back".
	Code   string
	Detail string
	// Wait is after which to choose again, for "vendor-floor" and "deferred".
	Wait time.Duration
}

// Have is what an endpoint knows of one product when it chooses.
type Have struct {
	ipc.Product
	// Refused holds the digests that are not to be tried again with this plan: the
	// server refused the grant, or preflight the content.
	Refused map[string]bool
	// Deferred is until when an offer's digest is not to be asked for, since the
	// tenant's limits keep this endpoint from it: an older offer may be allowed.
	Deferred map[string]time.Time
	// Floors is what is known of the releases' floors, by digest, and Now the time
	// to hold them against. Nil is for who follows none: simulated endpoints.
	Floors map[string]Floor
	Now    time.Time
	// Labels are those that this endpoint enrolled with.
	Labels fleet.Labels
}

// Choose says what to do about each product. It depends on its arguments only.
//
// An order to go back comes first. Else the newest offer wins that the endpoint
// may take: in turn, newer than what runs, not failed here before, and due by the
// vendor's floor and the tenant's limits. An offer that is held, or not due yet, is
// staged only if no other can be had meanwhile. An offer never leads to an
// older version: going back is the keeper's and the revert order's business, and
// nobody with a stolen online key may bring old holes back.
func Choose(plan release.Plan, endpoint string, have []Have) []Want {
	wants := make([]Want, 0, len(have))
	for _, h := range have {
		w := choose(plan, endpoint, h)
		if s := h.Staged; s != nil && (w.Do != DoAsk && w.Do != DoStage || s.Digest != w.Offer.Digest) && w.Code != "in-probation" {
			w.Drop = s.Digest
		}
		wants = append(wants, w)
	}
	return wants
}

func choose(plan release.Plan, endpoint string, h Have) Want {
	offers := offersFor(plan, h.Product.Product)
	want := func(do Do, o release.Offer, code, format string, a ...any) Want {
		return Want{Product: h.Product.Product, Do: do, Offer: o, Code: code, Detail: fmt.Sprintf(format, a...)}
	}
	for _, o := range offers {
		if o.Action == release.ActionRevert && h.Digest == o.Digest && h.Digest != "" {
			return want(DoRevert, o, "ordered-back", "rollout R-%d orders %s back", o.Rollout, o.Version)
		}
		if segment := leftOut(o, h.Labels); segment != nil && h.Digest == o.Digest && h.Digest != "" {
			return want(DoRevert, o, "segment-halted", "rollout R-%d leaves out %s and orders %s back there", o.Rollout, segment, o.Version)
		}
	}
	if a := h.Attempt; a != nil && a.State == ipc.AttemptProbation {
		return want(DoNothing, release.Offer{}, "in-probation", "rollout R-%d is in probation here", a.Rollout)
	}
	best := want(DoNothing, release.Offer{}, "no-offer", "the plan has no offer for this product")
	for i, o := range offers {
		code, detail := barred(o, endpoint, h)
		var wait time.Duration
		if code == "" {
			code, detail, wait = floored(o, endpoint, h)
		}
		if until := h.Deferred[o.Digest]; code == "" && h.Now.Before(until) {
			code, detail, wait = "deferred", "the tenant's limits keep "+o.Version+" from this endpoint", until.Sub(h.Now)
		}
		switch {
		case stageable[code] && best.Do == DoNothing:
			best = want(DoStage, o, code, "%s", detail)
			best.Wait = wait
		case code == "":
			return want(DoAsk, o, "offered", "rollout R-%d offers %s", o.Rollout, o.Version)
		case i == 0: // the newest offer's reason is the one that people ask for
			best.Code, best.Detail = code, detail
		}
	}
	return best
}

// stageable are the reasons for which a release is not asked for yet and may be
// had ready.
var stageable = map[string]bool{"held": true, "floor-unknown": true, "vendor-floor": true, "deferred": true}

// offersFor are a product's offers, newest rollout first.
func offersFor(plan release.Plan, product string) []release.Offer {
	var out []release.Offer
	for _, o := range plan.Offers {
		if o.Product == product {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b release.Offer) int { return cmp.Compare(b.Rollout, a.Rollout) })
	return out
}

// barred says why an offer cannot be taken now; an empty code means that it can.
func barred(o release.Offer, endpoint string, h Have) (code, detail string) {
	if o.Action != release.ActionOffer && o.Action != release.ActionHold {
		return "stopped", fmt.Sprintf("rollout R-%d is stopped", o.Rollout)
	}
	if h.Digest == o.Digest {
		return "up-to-date", o.Version + " runs"
	}
	if segment := leftOut(o, h.Labels); segment != nil {
		return "segment-halted", fmt.Sprintf("rollout R-%d leaves out %s", o.Rollout, segment)
	}
	if !release.Newer(o.Version, h.Version) {
		return "older", fmt.Sprintf("%s is not newer than %s", o.Version, h.Version)
	}
	for _, q := range h.Quarantine {
		if q.Digest == o.Digest {
			return "quarantined", o.Version + " failed here: " + q.Reason
		}
	}
	if _, ok := h.Refused[o.Digest]; ok {
		return "refused", fmt.Sprintf("rollout R-%d was refused", o.Rollout)
	}
	if !InTurn(o, endpoint) {
		return "not-your-turn", fmt.Sprintf("rollout R-%d has not come to this endpoint yet", o.Rollout)
	}
	if o.Action == release.ActionHold {
		return "held", fmt.Sprintf("rollout R-%d is held", o.Rollout)
	}
	return "", ""
}

// leftOut is the segment by which an offer leaves out an endpoint with these
// labels; nil if none.
func leftOut(o release.Offer, l fleet.Labels) fleet.Labels {
	for _, segment := range o.LeaveOut {
		if l.Match(segment) {
			return segment
		}
	}
	return nil
}

// InTurn tells whether the plan calls the endpoint for an offer.
func InTurn(o release.Offer, endpoint string) bool {
	return fleet.InTurn(fleet.Rank(o.Seed, endpoint), o.Turn) || slices.Contains(o.First, rankHex(o.Seed, endpoint))
}
