package release

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/headgate/headgate/internal/span"
)

// PlanTarget is the plan's TUF target path; the online role "rollout" signs it
// and nothing else.
const PlanTarget = "plan/plan.json"

// MaxPlan is the largest plan in bytes.
const MaxPlan = 1 << 20

// Plan says which releases are on offer and to whom. It is small, static and
// the same for everybody: an endpoint finds out by itself whether it is meant.
type Plan struct {
	Schema  string    `json:"schema"`  // "headgate.plan/1"
	Version int64     `json:"version"` // rises with each plan
	Issued  time.Time `json:"issued"`
	// Poll is how often an endpoint asks for timestamp.json; each endpoint varies
	// it by up to ±PollJitter of it.
	Poll       span.Duration `json:"poll"`
	PollJitter float64       `json:"poll_jitter"` // 0 to 1
	// Beacon is how often an endpoint with nothing to tell says that it lives.
	Beacon span.Duration `json:"beacon"`
	Offers []Offer       `json:"offers"`
}

// Action is what an offer asks of the endpoints that it addresses.
type Action string

// The actions of an offer.
const (
	// ActionOffer: stage, ask for a grant, activate.
	ActionOffer Action = "offer"
	// ActionHold: stage, but do not ask.
	ActionHold Action = "hold"
	// ActionStop: drop what is staged; whoever has it keeps it.
	ActionStop Action = "stop"
	// ActionRevert: whoever has it goes back to its last known good.
	ActionRevert Action = "revert"
)

// Offer is one rollout as the endpoints see it.
type Offer struct {
	Rollout int64  `json:"rollout"`
	Product string `json:"product"`
	Version string `json:"version"`
	Digest  string `json:"digest"` // SHA-256 of the artifact
	Action  Action `json:"action"`
	// Seed keys the rank: HMAC-SHA-256(seed, endpoint id), first 8 bytes, big
	// endian (fleet.Rank). Base64.
	Seed []byte `json:"seed"`
	// Turn is the share of ranks that may ask for a grant, 0 to 1.
	Turn float64 `json:"turn"`
	// First lists endpoints that may ask whatever Turn is (canaries), by rank in
	// 16 hex digits: ids stay private.
	First []string `json:"first,omitempty"`
	// LeaveOut lists segments that the rollout leaves out, each as the labels that
	// its endpoints have: they take no grant, and who runs the release goes back.
	LeaveOut []map[string]string `json:"leave_out,omitempty"`
	// Probation is how long a switched endpoint must stay healthy to be proven.
	Probation span.Duration `json:"probation"`
	// Ages are the ages after a switch at which an endpoint beacons, and likewise
	// an endpoint not yet granted (the controls); then every Plan.Beacon.
	Ages []span.Duration `json:"ages,omitempty"`
}

// ParsePlan reads a plan strictly and checks its values.
func ParsePlan(b []byte) (Plan, error) {
	var p Plan
	if len(b) > MaxPlan {
		return p, fmt.Errorf("plan: %d bytes, limit %d: %w", len(b), MaxPlan, ErrInvalid)
	}
	if err := json.Unmarshal(b, &p); err != nil { // unknown keys pass: an old agent meets a new server
		return p, fmt.Errorf("plan: %w: %w", err, ErrInvalid)
	}
	return p, p.check()
}

func (p Plan) check() error {
	if p.Schema != "headgate.plan/1" {
		return fmt.Errorf("plan: schema %q, want headgate.plan/1: %w", p.Schema, ErrInvalid)
	}
	if p.Poll <= 0 || p.Beacon <= 0 || !(p.PollJitter >= 0 && p.PollJitter <= 1) {
		return fmt.Errorf("plan %d: poll %s, beacon %s, poll_jitter %v: want positive times and a jitter of 0 to 1: %w", p.Version, p.Poll, p.Beacon, p.PollJitter, ErrInvalid)
	}
	for i, o := range p.Offers {
		if err := o.check(); err != nil {
			return fmt.Errorf("plan %d, offer %d: %w", p.Version, i, err)
		}
	}
	return nil
}

func (o Offer) check() error {
	if _, _, err := SplitProduct(o.Product); err != nil {
		return err
	}
	if err := CheckVersion(o.Version); err != nil {
		return err
	}
	if err := CheckDigest(o.Digest); err != nil {
		return err
	}
	if !(o.Turn >= 0 && o.Turn <= 1) || o.Probation < 0 {
		return fmt.Errorf("turn %v, probation %s: want a turn of 0 to 1 and a probation that is not negative: %w", o.Turn, o.Probation, ErrInvalid)
	}
	for _, segment := range o.LeaveOut {
		if len(segment) == 0 {
			return fmt.Errorf("leave_out: a segment without labels would be everyone or nobody: %w", ErrInvalid)
		}
	}
	switch o.Action {
	case ActionOffer, ActionHold, ActionStop, ActionRevert:
		return nil
	}
	return fmt.Errorf("action %q is unknown: %w", o.Action, ErrInvalid)
}
