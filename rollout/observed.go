package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
)

// Observed is what a budgeted rollout must know beyond the counts. All failures
// are cumulative since the start and leave out endpoints in halted segments.
type Observed struct {
	// Cohorts are the endpoints granted at random, by the rung of their grant.
	Cohorts []Cohort `json:"cohorts"`
	// Coverage are those chosen to cover the fleet; until Rules 4 without ByAge.
	Coverage Cohort     `json:"coverage"`
	Control  health.Arm `json:"control"` // not granted, on the same beacon schedule
	// Cells are the segments in which anything failed, by rising id; CellsTested is
	// how many segments are watched in all.
	Cells       []health.CellLook `json:"cells,omitempty"`
	CellsTested int64             `json:"cells_tested"`
	// Failures are what Segment makes Cells of, in the order in which their labels
	// first failed. They are not recorded.
	Failures []Failures `json:"-"`
	// Vitals tells whether the product reports any.
	Vitals bool `json:"vitals"`
	// Measures are how many controls there were by each of the policy's measures when
	// the first exposed endpoint was compared; 0 is too few to compare.
	Measures []int64 `json:"measures,omitempty"`
	// Halted are the segments halted so far; HaltedShare is their union's part of
	// the fleet.
	Halted      []HaltedSegment `json:"halted,omitempty"`
	HaltedShare float64         `json:"halted_share"`
	// Knowledge is what the last decision left.
	Knowledge Knowledge `json:"knowledge"`
}

// Cohort is one step's endpoints.
type Cohort struct {
	Granted int64      `json:"granted"` // in all
	Size    int64      `json:"size"`    // of those, in no halted segment
	Last    time.Time  `json:"last"`    // its youngest grant
	Arm     health.Arm `json:"arm"`
	// ByAge are failures of either channel seen, for each horizon of the policy, by
	// the time that the youngest member reached its age (until then, so far).
	ByAge []int64 `json:"by_age"`
	// Slow of Measured exceeded the controls' concurrent 95th percentile at their
	// first outcome.
	Slow     int64 `json:"slow"`
	Measured int64 `json:"measured"`
	// Measures are the same by the policy's measures, in its order.
	Measures []Compared `json:"measures,omitempty"`
}

// HaltedSegment is a segment that the rollout leaves out.
type HaltedSegment struct {
	ID     uint32       `json:"id"`
	Labels fleet.Labels `json:"labels"`
	Share  float64      `json:"share"` // of the fleet
	Rung   int64        `json:"rung"`  // at which it was halted
	// AtUS, microseconds since 1970, is when that was committed; 0 in records of older
	// servers.
	AtUS int64 `json:"at_us,omitempty"`
}

// Knowledge is what one decision leaves for the next: evidence that depends on
// the order of events. A decision that is not committed loses nothing, for the
// counts that it starts from are cumulative.
type Knowledge struct {
	Evidence health.Evidence `json:"evidence"`
	Cells    []health.Cell   `json:"cells,omitempty"`
	Gates    []Gated         `json:"gates,omitempty"`
	// AlarmAt, microseconds since 1970, is when evidence first called for a halt
	// that is not carried out yet: 0 is none. Relieved means that a segment was
	// halted since.
	AlarmAt  int64 `json:"alarm_at_us,omitempty"`
	Relieved bool  `json:"relieved,omitempty"`
	// Tested is the most segments that were ever watched: a threshold never falls
	// because the fleet became more alike.
	Tested int64 `json:"tested,omitempty"`
	// Returning is the first cohort that was opened when everyone who was there had
	// the release: it and the later ones are of endpoints that came back. 0 is none.
	Returning int64 `json:"returning,omitempty"`
}

// Gated is what was to be expected of a cohort when its youngest member reached
// a horizon: it is looked at once.
type Gated struct {
	Cohort   int             `json:"cohort"`
	Horizon  int             `json:"horizon"`
	Size     int64           `json:"size"`
	Expected health.Expected `json:"expected"`
}

// Numbers are behind the reasons of a decision.
type Numbers struct {
	Bounds  []Bound `json:"bounds"`
	Allowed float64 `json:"allowed"` // endpoints exposed in all
	Target  int64   `json:"target"`  // everyone but holdback and halted segments
	// LogE halts at LogHalt, LogSlow at LogHaltSlow.
	LogE        float64 `json:"log_e"`
	LogHalt     float64 `json:"log_halt"`
	LogSlow     float64 `json:"log_slow"`
	LogHaltSlow float64 `json:"log_halt_slow"`
	// Measures are what LogSlow is the mean of, beside vitals.
	Measures []MeasureEvidence `json:"measures,omitempty"`
	// Ladder is the plan from the start; GatesLimit is how many gates any policy
	// needs that keeps the same budget.
	Ladder     []int64 `json:"ladder,omitempty"`
	GatesUsed  int64   `json:"gates_used"`
	GatesLimit int64   `json:"gates_limit,omitempty"`
}

// MeasureEvidence is the log e-value of one of a policy's measures.
type MeasureEvidence struct {
	Measure string  `json:"measure"`
	Log     float64 `json:"log_e"`
}

// Bound is one horizon's budget inequality: Allowed = Before + (Budget -
// (BeforeFailed - BeforeUnharmed)) / Upper.
type Bound struct {
	Age      string  `json:"age"` // or "vitals", or with Measure a measure
	Budget   float64 `json:"budget"`
	Upper    float64 `json:"upper"`  // of the excess failure rate
	Cohort   int     `json:"cohort"` // whose look it is; -1 is none yet
	Failed   int64   `json:"failed"`
	Size     int64   `json:"size"`
	Expected float64 `json:"expected"`
	Allowed  float64 `json:"allowed"`
	// Before were exposed before the cohort, and BeforeFailed of them had failed by
	// the age: at least BeforeUnharmed by no fault of the release.
	Before         int64   `json:"before,omitempty"`
	BeforeFailed   int64   `json:"before_failed,omitempty"`
	BeforeUnharmed float64 `json:"before_unharmed,omitempty"`
	Measure        bool    `json:"measure,omitempty"`
}

// check refuses what cannot have been observed.
func (o Observed) check(b Budget) error {
	if len(o.Cohorts) > health.MaxCohorts {
		return fmt.Errorf("%d cohorts; at most %d", len(o.Cohorts), health.MaxCohorts)
	}
	for i, c := range append(slices.Clone(o.Cohorts), o.Coverage) {
		if len(c.ByAge) != len(b.Horizons) && (i < len(o.Cohorts) || len(c.ByAge) > 0) {
			return fmt.Errorf("cohort %d: failures by %d ages; the policy has %d horizons", i, len(c.ByAge), len(b.Horizons))
		}
		for _, f := range c.ByAge {
			if f < 0 || f > c.Size {
				return fmt.Errorf("cohort %d: %d failures among %d endpoints", i, f, c.Size)
			}
		}
		if c.Size < 0 || c.Size > c.Granted || c.Granted > 1<<40 || c.Slow < 0 || c.Slow > c.Measured {
			return fmt.Errorf("cohort %d: granted %d, size %d, slow %d of %d", i, c.Granted, c.Size, c.Slow, c.Measured)
		}
		if err := checkCompared(c.Measures, len(b.Measures)); err != nil {
			return fmt.Errorf("cohort %d: %w", i, err)
		}
	}
	for i, c := range o.Cells {
		if i > 0 && c.ID <= o.Cells[i-1].ID || min(c.Failed, c.ControlFailed, c.ControlBefore, c.AtRisk, c.ControlAtRisk, c.Exposed) < 0 || c.ControlBefore > c.ControlFailed || !(c.Share >= 0 && c.Share <= 1) || !(c.Weight >= 0 && c.Weight <= 1) {
			return fmt.Errorf("cell %d: %+v: want rising ids, counts, and shares of 0 to 1", i, c)
		}
	}
	if len(o.Measures) > len(b.Measures) {
		return fmt.Errorf("controls of %d measures; the policy names %d", len(o.Measures), len(b.Measures))
	}
	if o.CellsTested < int64(len(o.Cells)) && b.Segments || !(o.HaltedShare >= 0 && o.HaltedShare <= 1) {
		return fmt.Errorf("%d segments tested, %d listed, %v of the fleet halted", o.CellsTested, len(o.Cells), o.HaltedShare)
	}
	return o.Knowledge.check(len(o.Cohorts), len(b.Horizons))
}

func (k Knowledge) check(cohorts, horizons int) error {
	if k.Returning < 0 || k.Returning > health.MaxCohorts {
		return fmt.Errorf("endpoints came back from cohort %d on; at most %d", k.Returning, health.MaxCohorts)
	}
	e := k.Evidence
	if len(e.Cohorts) > cohorts || len(e.Expected) != len(e.Cohorts) || len(e.Streams) != 0 && len(e.Streams) != len(e.Cohorts)+2 || !(e.Started >= 0 && e.Started <= 1) {
		return fmt.Errorf("evidence of %d cohorts, %d streams, started %v; %d cohorts are observed", len(e.Cohorts), len(e.Streams), e.Started, cohorts)
	}
	for _, g := range k.Gates {
		if g.Cohort < 0 || g.Cohort >= cohorts || g.Horizon < 0 || g.Horizon >= horizons || g.Size < 0 {
			return fmt.Errorf("a look at cohort %d, horizon %d; there are %d and %d", g.Cohort, g.Horizon, cohorts, horizons)
		}
	}
	for i, c := range k.Cells {
		if i > 0 && c.ID <= k.Cells[i-1].ID || !(c.Started >= 0 && c.Started <= 1) {
			return fmt.Errorf("cell evidence %d: id %d, started %v", i, c.ID, c.Started)
		}
	}
	return nil
}
