package rollout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

// Bounds of a tenant's limits.
const (
	MaxLimits       = 16 << 10 // bytes of the document
	MaxLimitRules   = 32
	MaxLimitWindows = 14 // of one rule
	MaxDefer        = 365 * 24 * time.Hour
)

// Limits are what a tenant asks of every rollout to its endpoints. They only ever
// delay or withhold: an endpoint is granted a release when the vendor's floor, the
// platform's policy and each matching rule allow it, so that the strictest wins.
type Limits struct {
	Rules []Limit `json:"rules"`
	// broken says why a stored document cannot be followed: nothing is granted then.
	broken string
}

// Limit is one rule. All rules that match a product hold together.
type Limit struct {
	// Product is whose releases it limits, content included; empty is all of them.
	Product string `json:"product,omitempty"`
	// OptOut takes no release at all.
	OptOut bool `json:"opt_out,omitempty"`
	// Pin takes no version that is newer than this one.
	Pin string `json:"pin,omitempty"`
	// Previous stays one version behind: a release is taken once a newer one has
	// finished elsewhere (N-1).
	Previous bool `json:"previous,omitempty"`
	// Defer waits so long after a rollout's start.
	Defer span.Duration `json:"defer,omitzero"`
	// Proven waits until this share of the endpoints elsewhere is proven, or the
	// rollout has finished there.
	Proven float64 `json:"proven,omitempty"`
	// Windows are the only times at which a release is taken; none is any time.
	Windows []Window `json:"windows,omitempty"`
	// Emergency is "follow" if an emergency's policy may override Defer, Proven and
	// Windows, and "ignore" or empty if not.
	Emergency string `json:"emergency,omitempty"`
}

// What a tenant may say to an emergency, and what its policy may override.
const (
	EmergencyFollow = "follow"
	EmergencyIgnore = "ignore"
	OverrideDefer   = "defer" // and Proven
	OverrideWindow  = "window"
)

// Zones finds a time zone by its IANA name: time.LoadLocation, which reads files
// and is the caller's to call.
type Zones func(name string) (*time.Location, error)

// ParseLimits reads a tenant's limits strictly; an empty document is none.
func ParseLimits(b []byte, zones Zones) (*Limits, error) {
	l := &Limits{}
	if len(b) == 0 {
		return l, nil
	}
	if len(b) > MaxLimits {
		return nil, fmt.Errorf("limits: %d bytes, limit %d: %w", len(b), MaxLimits, ErrInvalid)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(l); err != nil {
		return nil, fmt.Errorf("limits: %w: %w", err, ErrInvalid)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("limits: data after the JSON value: %w", ErrInvalid)
	}
	if len(l.Rules) > MaxLimitRules {
		return nil, fmt.Errorf("limits: %d rules, limit %d: %w", len(l.Rules), MaxLimitRules, ErrInvalid)
	}
	for i := range l.Rules {
		if err := l.Rules[i].check(zones); err != nil {
			return nil, fmt.Errorf("limits: rules[%d]: %w: %w", i, err, ErrInvalid)
		}
		if slices.ContainsFunc(l.Rules[:i], func(r Limit) bool { return r.Product == l.Rules[i].Product }) {
			return nil, fmt.Errorf("limits: rules[%d]: a second rule for %q: %w", i, l.Rules[i].Product, ErrInvalid)
		}
	}
	return l, nil
}

// BrokenLimits stand for stored limits that cannot be read any more: what a tenant
// asked for is not known, so nothing is granted.
func BrokenLimits(why error) *Limits { return &Limits{broken: why.Error()} }

// Empty tells whether the limits limit nothing.
func (l *Limits) Empty() bool { return l == nil || len(l.Rules) == 0 && l.broken == "" }

func (l *Limit) check(zones Zones) error {
	if l.Product != "" {
		if _, _, err := release.SplitProduct(l.Product); err != nil {
			return fmt.Errorf("product: %w", err)
		}
	}
	if l.Pin != "" {
		if err := release.CheckVersion(l.Pin); err != nil {
			return fmt.Errorf("pin: %w", err)
		}
	}
	if l.Defer < 0 || l.Defer.Std() > MaxDefer {
		return fmt.Errorf("defer: %s; want 0 to %s", l.Defer, MaxDefer)
	}
	if !(l.Proven >= 0 && l.Proven <= 1) {
		return fmt.Errorf("proven: %v; want a share of 0 to 1", l.Proven)
	}
	if l.Emergency != "" && l.Emergency != EmergencyFollow && l.Emergency != EmergencyIgnore {
		return fmt.Errorf("emergency: %q; want %s or %s", l.Emergency, EmergencyFollow, EmergencyIgnore)
	}
	if len(l.Windows) > MaxLimitWindows {
		return fmt.Errorf("windows: %d of them, limit %d", len(l.Windows), MaxLimitWindows)
	}
	for i := range l.Windows {
		if err := l.Windows[i].resolve(zones); err != nil {
			return fmt.Errorf("windows[%d]: %w", i, err)
		}
	}
	return nil
}

// Waits is the share of endpoints elsewhere that must be proven before the tenant
// takes a product's release; 0 if it does not wait for any.
func (l *Limits) Waits(product string) (share float64) {
	if l.Empty() {
		return 0
	}
	for _, r := range l.Rules {
		if r.Product == "" || r.Product == product {
			share = max(share, r.Proven)
		}
	}
	return share
}

// Moment is what a tenant's limits depend on besides the time.
type Moment struct {
	Product  string
	Version  string
	Started  time.Time // the rollout
	Finished bool      // it has: everyone else has it, and it is proven
	// NewerFinished: a newer version of the product has finished.
	NewerFinished bool
	// Passed is the greatest share proven elsewhere that this tenant's wait has seen.
	Passed float64
	// Overrides are what the rollout's policy overrides where the tenant follows
	// emergencies.
	Overrides []string
}

// Bar is one thing that keeps an endpoint from a release.
type Bar struct {
	// Code is stable; Detail is for people.
	Code   string
	Detail string
	// Until is when it ends by itself; zero if nobody knows.
	Until time.Time
	// Refuses: waiting will not end it.
	Refuses bool
}

// Bars lists what a tenant's limits have against a release at a moment, and what
// they would have if the rollout were no emergency that the tenant follows.
func (l *Limits) Bars(m Moment, now time.Time) (bars, overridden []Bar) {
	if l.Empty() {
		return nil, nil
	}
	if l.broken != "" {
		return []Bar{{Code: "tenant-limits-unreadable", Detail: "the tenant's limits cannot be read here: " + l.broken}}, nil
	}
	for i := range l.Rules {
		r := &l.Rules[i]
		if r.Product != "" && r.Product != m.Product {
			continue
		}
		for _, b := range r.bars(m, now) {
			if r.Emergency == EmergencyFollow && slices.Contains(m.Overrides, overrideOf[b.Code]) {
				overridden = append(overridden, b)
				continue
			}
			bars = append(bars, b)
		}
	}
	return bars, overridden
}

// overrideOf says which word of a policy's overrides covers a bar; the others
// cannot be overridden.
var overrideOf = map[string]string{"tenant-deferred": OverrideDefer, "tenant-unproven": OverrideDefer, "tenant-window": OverrideWindow}

func (l *Limit) bars(m Moment, now time.Time) (out []Bar) {
	add := func(code string, until time.Time, format string, a ...any) {
		out = append(out, Bar{Code: code, Detail: fmt.Sprintf(format, a...), Until: until})
	}
	if l.OptOut {
		add("tenant-opted-out", time.Time{}, "the tenant takes no release of %s", m.Product)
	}
	if l.Pin != "" && release.Newer(m.Version, l.Pin) {
		add("tenant-pinned", time.Time{}, "the tenant stays at %s; %s is newer", l.Pin, m.Version)
	}
	if l.Previous && !m.NewerFinished {
		add("tenant-previous", time.Time{}, "the tenant stays one version behind, and no version newer than %s has finished", m.Version)
	}
	if due := m.Started.Add(l.Defer.Std()); now.Before(due) {
		add("tenant-deferred", due, "the tenant waits %s after the start", l.Defer)
	}
	if l.Proven > 0 && m.Passed < l.Proven && !m.Finished {
		add("tenant-unproven", time.Time{}, "the tenant waits until %.4g %% are proven elsewhere", 100*l.Proven)
	}
	if len(l.Windows) > 0 && !openAt(l.Windows, now) {
		next := nextOpening(l.Windows, now)
		add("tenant-window", next, "the tenant's maintenance window is closed%s", openingText(l.Windows, next))
	}
	return out
}

// Keeps tells whether a tenant needs an older finished release to stay on offer
// beside a newer one: it may not take the newer one, for now or for good, and may
// take the older one, now or later.
func (l *Limits) Keeps(older, newer Moment, now time.Time) bool {
	behind := func(m Moment) bool {
		bars, _ := l.Bars(m, now)
		return slices.ContainsFunc(bars, func(b Bar) bool {
			return b.Code == "tenant-pinned" || b.Code == "tenant-previous" || b.Code == "tenant-deferred"
		})
	}
	never := func(m Moment) bool {
		bars, _ := l.Bars(m, now)
		return slices.ContainsFunc(bars, func(b Bar) bool {
			return b.Code == "tenant-pinned" || b.Code == "tenant-opted-out" || strings.HasSuffix(b.Code, "-unreadable")
		})
	}
	return behind(newer) && !never(older)
}
