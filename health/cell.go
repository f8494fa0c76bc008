package health

import (
	"cmp"
	"math"
	"slices"

	"github.com/headgate/headgate/fleet"
)

// CellLook is what one segment has shown by one instant. Segments in which
// nothing ever failed need not be listed: they say nothing.
type CellLook struct {
	ID     uint32       `json:"id"` // the caller's; the same for the rollout's life
	Labels fleet.Labels `json:"labels,omitempty"`
	// Failed and ControlFailed are first failures of treated and control endpoints
	// in it that are in no halted segment.
	Failed        int64 `json:"failed"`
	ControlFailed int64 `json:"control_failed"`
	// ControlBefore of ControlFailed failed before any of its treated could be seen
	// to fail: they speak for nobody.
	ControlBefore int64   `json:"control_before,omitempty"`
	AtRisk        int64   `json:"at_risk"`         // treated, failed ones too, rounded up
	ControlAtRisk int64   `json:"control_at_risk"` // rounded down
	Exposed       int64   `json:"exposed"`
	Share         float64 `json:"share"` // of the fleet
	// Weight is its part of alpha, by prior suspicion; 0 is an equal part. All
	// weights sum to at most 1.
	Weight float64 `json:"weight,omitempty"`
}

// Cell is a segment's evidence, carried from look to look like Evidence.
type Cell struct {
	ID            uint32               `json:"id"`
	Failed        int64                `json:"failed"`
	ControlFailed int64                `json:"control_failed"`
	Started       float64              `json:"started"`
	LogS          [len(ratios)]float64 `json:"log_s"`
}

// Log is the log of the segment's e-value.
func (c Cell) Log() float64 {
	rest := math.Log(max(1e-300, 1-c.Started))
	total := math.Inf(-1)
	for _, v := range c.LogS {
		total = logAdd(total, logAdd(v, rest))
	}
	return total - math.Log(float64(len(ratios)))
}

// NextCells is the segments' evidence after one more look; started is the
// Evidence's Started after the same look. Both lists are sorted by id, and the
// result is. A segment without new failures is not touched: its factor is 1, and
// the weight that started meanwhile is added when something fails. Exact counts who
// failed before as no longer at risk, and ties among few as what they are.
func NextCells(cells []Cell, looks []CellLook, started float64, exact bool) []Cell {
	if !news(cells, looks) {
		return cells
	}
	out := make([]Cell, 0, max(len(cells), len(looks)))
	unborn := Cell{LogS: fresh(started)[0], Started: started}
	i := 0
	for _, l := range looks {
		for i < len(cells) && cells[i].ID < l.ID {
			out = append(out, cells[i])
			i++
		}
		unborn.ControlFailed = min(l.ControlBefore, l.ControlFailed)
		c, known := &unborn, i < len(cells) && cells[i].ID == l.ID
		if known {
			c = &cells[i]
			i++
		}
		if treated, others := l.Failed-c.Failed, l.ControlFailed-c.ControlFailed; treated != 0 || others > 0 {
			out = append(out, c.next(l, float64(treated), float64(others), started, exact))
		} else if known {
			out = append(out, *c)
		}
	}
	return append(out, cells[i:]...)
}

// news tells whether any look differs from what its cell has seen.
func news(cells []Cell, looks []CellLook) bool {
	i := 0
	for _, l := range looks {
		for i < len(cells) && cells[i].ID < l.ID {
			i++
		}
		if i == len(cells) || cells[i].ID != l.ID {
			if l.Failed != 0 || l.ControlFailed > 0 {
				return true
			}
		} else if l.Failed != cells[i].Failed || l.ControlFailed > cells[i].ControlFailed {
			return true
		}
	}
	return false
}

func (c Cell) next(l CellLook, treated, others, started float64, exact bool) Cell {
	logW := math.Log(max(0, started-c.Started))
	atRisk := float64(l.AtRisk)
	if exact {
		atRisk = max(atRisk-float64(c.Failed), treated)
	}
	share := 0.0
	if atRisk > 0 {
		share = atRisk / (atRisk + float64(max(0, l.ControlAtRisk)))
	}
	for i, r := range ratios {
		f := logFactor(r, treated, others, share)
		if exact {
			f = tiedFactor(r, treated, others, atRisk, share)
		}
		c.LogS[i] = logAdd(c.LogS[i], logW) + f
	}
	c.ID, c.Failed, c.ControlFailed, c.Started = l.ID, l.Failed, l.ControlFailed, started
	return c
}

// CellTest says which segments may be named and how sure one must be.
type CellTest struct {
	Tested   int64   // how many segments are tested in all
	Alpha    float64 // of naming any segment wrongly, over the whole rollout
	MaxShare float64 // a larger segment is no segment but the fleet
	Exact    bool    // in Diagnose, what it is in NextCells
}

// Enough is how many exposed endpoints of a small segment raise its alarm if all
// of them die: what coverage should expose of each (fleet.Coverage.Quota). Each
// death is worth the logarithm of controls to exposed, six or seven nats in a
// segment of some thousands, and twelve thousand segments at 1e-3 ask for
// sixteen; three would do, were there no controls that fail meanwhile.
const Enough = 4

// Threshold is what a segment's log e-value must reach (weighted Bonferroni on
// e-processes: valid at all times and under any dependence).
func (t CellTest) Threshold(weight float64) float64 {
	if weight <= 0 {
		weight = 1 / float64(max(1, t.Tested))
	}
	return -math.Log(t.Alpha * weight)
}

// Alarms returns the ids of the segments whose evidence is beyond its threshold.
// Both lists are sorted by id.
func (t CellTest) Alarms(cells []Cell, looks []CellLook) []uint32 {
	var out []uint32
	i := 0
	equal := t.Threshold(0)
	for _, l := range looks {
		for i < len(cells) && cells[i].ID < l.ID {
			i++
		}
		if l.Failed == 0 || l.Share > t.MaxShare || i == len(cells) || cells[i].ID != l.ID {
			continue
		}
		threshold := equal
		if l.Weight > 0 {
			threshold = t.Threshold(l.Weight)
		}
		// The mean of S+1-W is at most max(S)+1, which spares most logarithms.
		if slices.Max(cells[i].LogS[:]) >= threshold-1 && cells[i].Log() >= threshold {
			out = append(out, l.ID)
		}
	}
	return out
}

// Suspect is a segment that explains the harm better than "everywhere" does.
type Suspect struct {
	Look CellLook
	Log  float64 // of the specificity e-value
}

// diagnosis says how sure Diagnose must be, and how far below the best a
// segment may lie and still be in the confidence set.
const (
	specificity  = 1e-3
	confidence   = 4 // nats
	maxSuspects  = 6
	minExplained = 2
)

// Whole is what the fleet outside halted segments has shown: what a segment is
// compared with.
type Whole struct{ Failed, ControlFailed, Exposed int64 }

// Diagnose returns the segments that explain the treated failures, best first:
// the most likely one and all within four nats of it, none if no segment is more
// specific than chance over all tested segments allows. "Everywhere" may follow
// exposure or the baseline's own pattern, whichever explains more.
func (t CellTest) Diagnose(looks []CellLook, w Whole) []Suspect {
	var found []Suspect
	best := math.Log(float64(max(1, t.Tested)) / specificity)
	for _, l := range looks {
		if l.Failed < minExplained || l.Share > t.MaxShare || w.Exposed <= 0 {
			continue
		}
		s := Suspect{Look: l, Log: l.specific(w, t.Exact)}
		if s.Log >= best-confidence {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b Suspect) int { return cmp.Or(cmp.Compare(b.Log, a.Log), cmp.Compare(a.Look.ID, b.Look.ID)) })
	if len(found) == 0 || found[0].Log < best {
		return nil
	}
	n := 0
	for n < len(found) && n < maxSuspects && found[n].Log >= found[0].Log-confidence {
		n++
	}
	return found[:n]
}

// specific is the log e-value of "failures fall into this segment more often
// than its part of exposure and of the baseline": a binomial likelihood ratio
// mixed over how much more.
func (l CellLook) specific(w Whole, exact bool) float64 {
	part := float64(max(1, l.Exposed)) / float64(w.Exposed)
	ctl := float64(l.ControlFailed)
	// While few controls fail their pattern is not known: as if one had failed in
	// the segment, and as many elsewhere as exposure has it.
	part = min(1, max(part, (ctl+2*math.Sqrt(ctl)+1)/(float64(w.ControlFailed)+1/part)))
	k, n := float64(l.Failed), float64(max(l.Failed, w.Failed))
	total := math.Inf(-1)
	for _, r := range ratios[1:] {
		f := k*math.Log(r) - n*math.Log1p((r-1)*part)
		if exact {
			f = tiedFactor(r, k, n-k, float64(max(l.Exposed, l.Failed)), part)
		}
		total = logAdd(total, f)
	}
	return total - math.Log(float64(len(ratios)-1))
}
