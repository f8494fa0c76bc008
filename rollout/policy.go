package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/span"
)

// MaxGrantTTL is the longest that a grant may live: a halt is final after it.
const MaxGrantTTL = 60 * time.Second

// MaxPolicy is the largest policy document in bytes.
const MaxPolicy = 64 << 10

// ErrInvalid marks input that breaks a rule of this package.
var ErrInvalid = errors.New("invalid")

// Policy is the rules that a rollout moves by: versioned data, recorded with
// the rollout that used it.
type Policy struct {
	Name string `json:"name"`
	// Ladder is the window of each rung: how many endpoints it may add. Past its
	// end each rung is Growth times the last.
	Ladder []int64 `json:"ladder"`
	Growth int64   `json:"growth"`
	// Canaries are endpoint ids that go first: with any, rung 0 is exactly them.
	Canaries []string `json:"canaries,omitempty"`
	// Probation is how long an endpoint must stay healthy after its switch.
	Probation span.Duration `json:"probation"`
	// GrantTTL is how long a grant lives; at most 60s.
	GrantTTL span.Duration `json:"grant_ttl"`
	// Grace is added to grant TTL and probation: an exposure not settled by then
	// is silent.
	Grace span.Duration `json:"grace"`
	// MaxHarmed and MaxHarmedShare: the rollout halts when harmed and silent reach
	// the greater of the number and the share of the exposed.
	MaxHarmed      int64   `json:"max_harmed"`
	MaxHarmedShare float64 `json:"max_harmed_share"`
	// MaxPreflightFailed halts when so many endpoints refused it in preflight.
	MaxPreflightFailed int64 `json:"max_preflight_failed"`
	// MinProven is the share of a rung's exposures that must be proven to climb.
	MinProven float64 `json:"min_proven"`
	// MinControls is the share of unexposed endpoints that must be heard from;
	// below it the rollout holds.
	MinControls float64 `json:"min_controls"`
	// FillTimeout is how long a rung may stay unfilled before more endpoints are
	// called.
	FillTimeout span.Duration `json:"fill_timeout"`
	// RevertOnHalt orders everybody back when the engine halts the rollout.
	RevertOnHalt bool `json:"revert_on_halt"`
	// Poll, PollJitter, Beacon and Ages go into the plan.
	Poll       span.Duration   `json:"poll"`
	PollJitter float64         `json:"poll_jitter"`
	Beacon     span.Duration   `json:"beacon"`
	Ages       []span.Duration `json:"ages"`
	// Evidence names the kinds of test evidence that a release must have, each by a
	// signed attestation, before a rollout of it may start: "compatibility",
	// "data-integrity", "regression".
	Evidence []string `json:"evidence,omitempty"`
	// Budget, if set, paces the rollout by evidence instead of by the ladder, growth
	// and harm limits above. It is not for use with canaries, who are not random.
	Budget *Budget `json:"budget,omitempty"`
	// Signals are looked at outside, in a Prometheus.
	Signals []Signal `json:"signals,omitempty"`
	// Emergency says what the policy may do where a hole is exploited; nil is nothing.
	Emergency *Emergency `json:"emergency,omitempty"`
	// Declared is what the author promises; headgate policy check compares.
	Declared *Declared `json:"declared,omitempty"`
}

// DefaultPolicy is a cautious ladder for content.
func DefaultPolicy() Policy {
	s := func(d time.Duration) span.Duration { return span.Duration(d) }
	return Policy{
		Name: "ladder-1", Ladder: []int64{5, 25, 100}, Growth: 4,
		Probation: s(2 * time.Minute), GrantTTL: s(MaxGrantTTL), Grace: s(time.Minute),
		MaxHarmed: 2, MaxHarmedShare: 0.01, MaxPreflightFailed: 3, MinProven: 0.95, MinControls: 0.9,
		FillTimeout: s(3 * time.Minute), RevertOnHalt: true,
		Poll: s(time.Minute), PollJitter: 0.2, Beacon: s(5 * time.Minute),
		Ages: []span.Duration{s(30 * time.Second), s(time.Minute), s(2 * time.Minute)},
	}
}

// ParsePolicy reads a policy; what it leaves out is DefaultPolicy's, an unknown
// key is an error that names its place.
func ParsePolicy(b []byte) (Policy, error) {
	p := DefaultPolicy()
	if len(b) > MaxPolicy {
		return p, fmt.Errorf("policy: %d bytes, limit %d: %w", len(b), MaxPolicy, ErrInvalid)
	}
	if places := unknown(b); len(places) > 0 {
		return p, fmt.Errorf("policy: %s: unknown key: %w", strings.Join(places, ", "), ErrInvalid)
	}
	if len(b) > 0 {
		d := json.NewDecoder(strings.NewReader(string(b)))
		d.DisallowUnknownFields()
		if err := d.Decode(&p); err != nil {
			if field := misread(b); field != "" {
				err = fmt.Errorf("%s: %w", field, err)
			}
			return p, fmt.Errorf("policy: %w: %w", err, ErrInvalid)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return p, fmt.Errorf("policy: data after the JSON value: %w", ErrInvalid)
		}
	}
	return p, p.Check()
}

// Check refuses a policy that cannot be followed.
func (p Policy) Check() error {
	bad := func(field string, format string, a ...any) error {
		return fmt.Errorf("policy %q: %s: %s: %w", p.Name, field, fmt.Sprintf(format, a...), ErrInvalid)
	}
	if len(p.Ladder) == 0 || len(p.Ladder) > 100 {
		return bad("ladder", "want 1 to 100 rungs, got %d", len(p.Ladder))
	}
	for i, w := range p.Ladder {
		if w < 1 || w > 1e9 {
			return bad("ladder", "rung %d is %d; want 1 to 1000000000", i, w)
		}
	}
	if p.Growth < 2 || p.Growth > 1000 {
		return bad("growth", "%d; want 2 to 1000", p.Growth)
	}
	if len(p.Canaries) > 100 {
		return bad("canaries", "%d of them; limit 100", len(p.Canaries))
	}
	if p.GrantTTL <= 0 || p.GrantTTL.Std() > MaxGrantTTL {
		return bad("grant_ttl", "%s; want up to %s", p.GrantTTL, MaxGrantTTL)
	}
	for _, d := range []struct {
		name string
		v    span.Duration
	}{{"probation", p.Probation}, {"grace", p.Grace}, {"fill_timeout", p.FillTimeout}, {"poll", p.Poll}, {"beacon", p.Beacon}} {
		if d.v <= 0 || d.v.Std() > 30*24*time.Hour {
			return bad(d.name, "%s; want more than 0 and at most 720h", d.v)
		}
	}
	for _, f := range []struct {
		name string
		v    float64
	}{{"max_harmed_share", p.MaxHarmedShare}, {"min_proven", p.MinProven}, {"min_controls", p.MinControls}, {"poll_jitter", p.PollJitter}} {
		if !(f.v >= 0 && f.v <= 1) {
			return bad(f.name, "%v; want 0 to 1", f.v)
		}
	}
	if p.MaxHarmed < 1 || p.MaxPreflightFailed < 1 {
		return bad("max_harmed, max_preflight_failed", "%d, %d; want at least 1", p.MaxHarmed, p.MaxPreflightFailed)
	}
	if field, err := p.checkParts(); err != nil {
		return bad(field, "%v", err)
	}
	return nil
}

// checkParts checks what has rules of its own.
func (p Policy) checkParts() (field string, err error) {
	if err := p.checkEvidence(); err != nil {
		return "evidence", err
	}
	if p.Declared != nil {
		if field, err := p.Declared.check(); err != nil {
			return "declared." + field, err
		}
	}
	if field, err := checkSignals(p.Signals); err != nil {
		return "signals" + field, err
	}
	if p.Emergency != nil {
		if field, err := p.Emergency.check(); err != nil {
			return "emergency." + field, err
		}
	}
	if p.Budget == nil {
		return "", nil
	}
	if len(p.Canaries) > 0 {
		return "canaries", errors.New("with a budget the first cohort is drawn at random; use cover")
	}
	if field, err := p.Budget.check(); err != nil {
		return "budget." + field, err
	}
	return "", nil
}

// Window is the window of a rung.
func (p Policy) Window(rung int64) int64 {
	if len(p.Canaries) > 0 {
		if rung == 0 {
			return int64(len(p.Canaries))
		}
		rung--
	}
	if rung < int64(len(p.Ladder)) {
		return p.Ladder[rung]
	}
	w := p.Ladder[len(p.Ladder)-1]
	for range rung - int64(len(p.Ladder)) + 1 {
		if w > 1e9 {
			return w
		}
		w *= p.Growth
	}
	return w
}
