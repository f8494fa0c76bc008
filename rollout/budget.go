package rollout

import (
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/span"
)

// Budget makes a rollout pace itself by evidence instead of by the ladder:
// upper bound of the excess failure rate × endpoints exposed <= harm budget, for
// each horizon (docs/decisions/0010).
type Budget struct {
	// Horizons, by rising age: how many endpoints a fault that shows by that age
	// may harm.
	Horizons []Horizon `json:"horizons"`
	// Delta is the probability with which any horizon's budget may be overrun.
	Delta float64 `json:"delta"`
	// Alpha is the probability of halting a good release, AlphaSegment of halting
	// any segment of it wrongly.
	Alpha        float64 `json:"alpha"`
	AlphaSegment float64 `json:"alpha_segment"`
	// Gates is the least number of gates before everyone; 0 is as few as the
	// budget needs.
	Gates int64 `json:"gates"`
	// Cover is how many endpoints go with the second cohort because together they
	// cover the fleet's pairs of labels; at most a fiftieth of the fleet. They count
	// as exposed and prove nothing.
	Cover int64 `json:"cover"`
	// CoverPerTenant is how many of those may be one tenant's; 0 is any number.
	CoverPerTenant int64 `json:"cover_per_tenant,omitempty"`
	// Critical are combinations of labels, each as "arch=arm64 & driver=X", that
	// coverage must have a member of, whatever their size.
	Critical []string `json:"critical,omitempty"`
	// Segments halts a segment alone where its labels explain the harm: at most
	// MaxSegment of the fleet each and MaxExcluded in all.
	Segments    bool    `json:"segments"`
	MaxSegment  float64 `json:"max_segment"`
	MaxExcluded float64 `json:"max_excluded"`
	// SlowShare is the part of the fleet that the release may slow down, in vitals
	// beyond the controls' 95th percentile, and at least LeastSlow endpoints or what
	// a fifth of the fleet can show; 0 is not to judge vitals.
	SlowShare float64 `json:"slow_share"`
	// SlowDoubt is the probability with which a good release may be doubted for its
	// vitals. While it is, each step exposes at most doubtedStep times what is exposed
	// already: enough to settle the doubt. 0 is never to doubt, only to halt.
	SlowDoubt float64 `json:"slow_doubt,omitempty"`
	// Measures are compared like vitals, with the same budget for each; all together
	// share the evidence's alpha and the doubt.
	Measures []Measure `json:"measures,omitempty"`
	// Holdback is the part of the fleet that stays control until the finish.
	Holdback float64 `json:"holdback"`
	// Baseline is the share of healthy endpoints that fail within the first horizon
	// all the same. It plans the cohorts and judges nothing.
	Baseline float64 `json:"baseline"`
}

// Horizon is a harm budget for faults that show by an age.
type Horizon struct {
	Age span.Duration `json:"age"`
	// Harm is the budget in endpoints, 0 for no such limit; Share in parts of the
	// fleet. The smaller rules. In a small fleet Share allows at least LeastHarm:
	// with less nothing could be concluded.
	Harm  int64   `json:"harm"`
	Share float64 `json:"share"`
}

// LeastHarm is the smallest budget that a share comes to.
const LeastHarm = 30

// LeastSlow is the smallest budget of endpoints slowed down: one in twenty
// exceeds the percentile in any case, and slowness is undone by a revert.
const LeastSlow = 300

// slowBudget is the vitals' budget in a fleet of n: never less than what a cohort
// of a fifth of the fleet can show beyond that noise, 4.1·sqrt(0.05·0.95·5·n).
// With less a good release to some 100,000 endpoints would end in a hold.
func (b Budget) slowBudget(n int64) float64 {
	return max(LeastSlow, b.SlowShare*float64(n), 2*math.Sqrt(float64(n)))
}

// Budget is what the horizon allows in a fleet of n.
func (h Horizon) Budget(n int64) float64 {
	b := max(LeastHarm, h.Share*float64(n))
	if h.Harm > 0 {
		b = min(b, float64(h.Harm))
	}
	return b
}

// spending divides delta among the cohorts. Three gates are enough for 8.5
// million endpoints, so the first three cohorts get most of it; the first, whose
// size is the harm of a release that kills everything, gets the largest part.
var spending = [health.MaxCohorts]float64{0.45, 0.25, 0.2, 0.02, 0.02, 0.02, 0.02, 0.01, 0.01}

// delta is the error that the look at a cohort at a horizon may make: with
// several horizons four fifths for the first, which sets the cohorts' sizes.
func (b Budget) delta(cohort, horizon int) float64 {
	d := b.Delta * spending[cohort]
	switch {
	case len(b.Horizons) == 1:
		return d
	case horizon == 0:
		return d * 4 / 5
	}
	return d / 5 / float64(len(b.Horizons)-1)
}

// controlDelta is the error of what is subtracted as the baseline: half of
// delta again, divided over all looks.
func (b Budget) controlDelta() float64 {
	return b.Delta / 2 / float64(health.MaxCohorts*len(b.Horizons))
}

// coverOf is how many coverage endpoints a fleet of n gets.
func (b Budget) coverOf(n int64) int64 { return min(b.Cover, n/50) }

// The evidence of failures and that of vitals share alpha.
func (b Budget) alphaFailures() float64 { return 0.9 * b.Alpha }
func (b Budget) alphaSlow() float64     { return 0.1 * b.Alpha }

// Preset returns a policy by name: "flash" for content several times a day,
// "standard", "safe" for drivers and the boot path, "emergency" for a release
// that closes a hole under attack: flash with fewer late gates to wait for, and
// never without cohorts, silence and halt.
func Preset(name string) (Policy, error) {
	p := DefaultPolicy()
	s := func(d time.Duration) span.Duration { return span.Duration(d) }
	p.Name = name + "-1"
	p.Probation, p.Grace = s(time.Minute), s(40*time.Second)
	p.Beacon = s(time.Minute)
	p.Ages = []span.Duration{s(30 * time.Second), s(time.Minute)}
	b := Budget{
		Horizons: []Horizon{{Age: s(100 * time.Second), Harm: 1000, Share: 0.01}},
		Delta:    1e-3, Alpha: 1e-4, AlphaSegment: 1e-3, Cover: 2500, Segments: true, MaxSegment: 0.05, MaxExcluded: 0.1,
		SlowShare: 0.003, SlowDoubt: 0.1, Holdback: 0.01, Baseline: 2e-4,
	}
	later := []Horizon{{Age: s(15 * time.Minute), Share: 0.005}, {Age: s(2 * time.Hour), Share: 0.01}, {Age: s(12 * time.Hour), Share: 0.025}}
	switch name {
	case "flash":
	case "standard":
		b.Horizons, b.Cover = append(b.Horizons, later[:1]...), 1200
	case "safe":
		b.Horizons, b.Cover = append(b.Horizons, later[:2]...), 1200
	case "driver":
		b.Horizons, b.Cover = append(b.Horizons, later...), 1200
	case "emergency":
		b.Horizons[0].Harm, b.SlowShare, b.SlowDoubt = 2500, 0, 0
		p.Emergency = &Emergency{Overrides: []string{OverrideDefer, OverrideWindow}}
	default:
		return p, fmt.Errorf("policy preset %q: want one of %v: %w", name, Presets(), ErrInvalid)
	}
	p.Budget = &b
	return p, p.Check()
}

// Presets lists the names that Preset knows.
func Presets() []string { return []string{"flash", "standard", "safe", "driver", "emergency"} }

// check refuses a budget that cannot be followed; it names the field.
func (b Budget) check() (field string, err error) {
	if len(b.Horizons) == 0 || len(b.Horizons) > 8 {
		return "horizons", fmt.Errorf("want 1 to 8, got %d", len(b.Horizons))
	}
	for i, h := range b.Horizons {
		switch {
		case h.Age <= 0 || h.Age.Std() > 30*24*time.Hour:
			return "horizons", fmt.Errorf("age %s of horizon %d; want more than 0 and at most 720h", h.Age, i)
		case i > 0 && h.Age <= b.Horizons[i-1].Age:
			return "horizons", fmt.Errorf("age %s after %s; want rising ages", h.Age, b.Horizons[i-1].Age)
		case h.Harm < 0 || h.Harm > 1e9 || !(h.Share > 0 && h.Share <= 1):
			return "horizons", fmt.Errorf("harm %d and share %v at %s; want 0 to 1000000000, and more than 0 up to 1", h.Harm, h.Share, h.Age)
		}
	}
	for _, f := range []struct {
		name   string
		v      float64
		lo, hi float64
	}{
		{"delta", b.Delta, 1e-12, 0.1}, {"alpha", b.Alpha, 1e-12, 0.1}, {"alpha_segment", b.AlphaSegment, 1e-12, 0.1},
		{"max_segment", b.MaxSegment, 0, 0.5}, {"max_excluded", b.MaxExcluded, 0, 0.5}, {"slow_share", b.SlowShare, 0, 1}, {"slow_doubt", b.SlowDoubt, 0, 1},
		{"holdback", b.Holdback, 0, 0.5}, {"baseline", b.Baseline, 0, 0.1},
	} {
		if !(f.v >= f.lo && f.v <= f.hi) {
			return f.name, fmt.Errorf("%v; want %v to %v", f.v, f.lo, f.hi)
		}
	}
	if b.Gates < 0 || b.Gates >= health.MaxCohorts || b.Cover < 0 || b.Cover > 1e7 {
		return "gates, cover", fmt.Errorf("%d, %d; want 0 to %d, and 0 to 10000000", b.Gates, b.Cover, health.MaxCohorts-1)
	}
	if b.CoverPerTenant < 0 || len(b.Critical) > maxCritical {
		return "cover_per_tenant, critical", fmt.Errorf("%d, and %d combinations; want no negative number, and at most %d", b.CoverPerTenant, len(b.Critical), maxCritical)
	}
	for _, text := range b.Critical {
		if _, err := fleet.ParseSegment(text); err != nil {
			return "critical", err
		}
	}
	return b.checkMeasures()
}

// maxCritical is how many combinations a policy may declare.
const maxCritical = 100

// CriticalSegments are the declared combinations of a policy that was checked.
func (b Budget) CriticalSegments() (out []fleet.Labels) {
	for _, text := range b.Critical {
		if l, err := fleet.ParseSegment(text); err == nil {
			out = append(out, l)
		}
	}
	return out
}

// Coverage is what to ask of fleet.Choose for a fleet of n.
func (b Budget) Coverage(n int64) fleet.Coverage {
	want := fleet.Coverage{Most: int(b.coverOf(n)), LeastCell: int(LeastCell(n)), Quota: health.Enough, PerTenant: int(b.CoverPerTenant)}
	if l := b.Ladder(n); len(l) > 1 {
		k := min(len(l)-1, coverRung(len(l)-1))
		want.Beside = int(max(0, l[k]-l[k-1]-b.coverOf(n)))
	}
	return want
}
