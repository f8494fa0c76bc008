package health

import (
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

var test12k = CellTest{Tested: 12014, Alpha: 1e-3, MaxShare: 0.05}

// TestASegmentIsNamedAndTheFleetIsNot: five deaths of a 0.05 % segment name it
// and what coincides with it; the same deaths all over the fleet name nothing.
func TestASegmentIsNamedAndTheFleetIsNot(t *testing.T) {
	looks := []CellLook{
		{ID: 1, Failed: 5, ControlFailed: 1, AtRisk: 6, ControlAtRisk: 4200, Exposed: 8, Share: 0.0005},
		{ID: 2, Failed: 5, ControlFailed: 60, AtRisk: 500, ControlAtRisk: 600_000, Exposed: 600, Share: 0.04},
		{ID: 3, Failed: 5, ControlFailed: 900, AtRisk: 5000, ControlAtRisk: 5_000_000, Exposed: 6000, Share: 0.6},
	}
	cells := NextCells(nil, looks, 0.5, false)
	if got := test12k.Alarms(cells, looks); !reflect.DeepEqual(got, []uint32{1}) {
		t.Errorf("alarms of %v", got)
	}
	got := test12k.Diagnose(looks, Whole{Failed: 6, ControlFailed: 2500, Exposed: 10_000})
	if len(got) != 1 || got[0].Look.ID != 1 {
		t.Errorf("diagnosed %+v", got)
	}
	everywhere := []CellLook{{ID: 1, Failed: 2, ControlFailed: 1, AtRisk: 8, ControlAtRisk: 4200, Exposed: 8, Share: 0.0005}, {ID: 2, Failed: 30, Exposed: 600, Share: 0.04}}
	if got := test12k.Diagnose(everywhere, Whole{Failed: 700, ControlFailed: 2500, Exposed: 10_000}); got != nil {
		t.Errorf("a global fault was pinned on %+v", got)
	}
}

// TestEnoughDeathsRaiseTheAlarm of a segment of 4,000 to 5,000 endpoints, though
// two of its controls fail meanwhile; one death fewer does not.
func TestEnoughDeathsRaiseTheAlarm(t *testing.T) {
	for _, size := range []int64{4000, 5000} {
		alarms := func(deaths int64) int {
			look := CellLook{ID: 1, AtRisk: Enough + 1, ControlAtRisk: size - Enough, Exposed: Enough, Share: 0.0005, Failed: deaths, ControlFailed: 2}
			return len(test12k.Alarms(NextCells(nil, []CellLook{look}, 0.5, false), []CellLook{look}))
		}
		if alarms(Enough) != 1 || alarms(Enough-1) != 0 {
			t.Errorf("%d endpoints: %d deaths give %d alarms, %d give %d", size, Enough, alarms(Enough), Enough-1, alarms(Enough-1))
		}
	}
}

// TestAnUnstableModelIsNotASegmentFault: a model that fails ten times as often
// as the rest with or without the update.
func TestAnUnstableModelIsNotASegmentFault(t *testing.T) {
	looks := []CellLook{{ID: 9, Failed: 4, ControlFailed: 250, AtRisk: 100, ControlAtRisk: 80_000, Exposed: 100, Share: 0.01}}
	if got := test12k.Diagnose(looks, Whole{Failed: 40, ControlFailed: 2500, Exposed: 10_000}); got != nil {
		t.Errorf("the baseline's own pattern was named: %+v", got)
	}
}

// TestCellEvidenceDoesNotDependOnLooksWithoutNews, nor changes what it got.
func TestCellEvidenceDoesNotDependOnLooksWithoutNews(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := func(label string, hi int64) int64 { return rapid.Int64Range(0, hi).Draw(t, label) }
		a := CellLook{ID: 4, Failed: n("failed", 5), ControlFailed: n("control failed", 50), AtRisk: n("at risk", 1000), ControlAtRisk: n("controls", 1e7)}
		b := a
		b.Failed += n("more failed", 5)
		b.ControlFailed += n("more control failed", 50)
		cells := NextCells(nil, []CellLook{a}, 0.5, false)
		before := append([]Cell{}, cells...)
		direct := NextCells(cells, []CellLook{b}, 0.8, false)
		idle := NextCells(NextCells(cells, []CellLook{a}, 0.6, false), nil, 0.7, false)
		if via := NextCells(idle, []CellLook{b}, 0.8, false); !reflect.DeepEqual(direct, via) {
			t.Fatalf("%v without, %v with looks that brought nothing", direct, via)
		}
		if len(cells) > 0 && !reflect.DeepEqual(before, cells) {
			t.Fatal("a look changed the cells it started from")
		}
		for _, c := range direct {
			if v := c.Log(); math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("log e-value %g", v)
			}
		}
	})
}
