package store

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
)

// What an exposed endpoint is compared by: vitals are comparison 0, the policy's
// measures the next ones, in its order. exposure.measured has two bits for each.

// Measure is what an endpoint says of a product by one measure.
type Measure struct {
	Name string
	// Value is what is measured; Lately, of a count, how many there were in each of
	// release.MeasureSpans, -1 if the version has not run for so long.
	Value  float64
	Lately []int64
}

// verdict is what became of one comparison: measuredFast, measuredSlow, or 0.
func verdict(measured int64, i int) int64 { return measured >> (2 * i) & 3 }

// compare notes what became of a comparison.
func (x *exposure) compare(i int, worse bool) {
	v := int64(measuredFast)
	if worse {
		v = measuredSlow
	}
	x.measured, x.isMeasured = x.measured|v<<(2*i), true
}

// comparedBy tells whether each of the first n comparisons was made.
func (x *exposure) comparedBy(n int) bool {
	for i := range n {
		if verdict(x.measured, i) == 0 {
			return false
		}
	}
	return true
}

// compared is what a cohort has of one of the policy's measures; the expected and
// the usual are millionths of an endpoint, whose sums do not depend on their order.
type compared struct {
	Measured int64 `json:"measured"`
	Worse    int64 `json:"worse"`
	Expected int64 `json:"expected_ppm"`
	Usual    int64 `json:"usual_ppm"`
}

// verdicts counts endpoints by what became of one comparison.
type verdicts struct{ measured, worse int64 }

func (v *verdicts) add(verdict, n int64) {
	if verdict != 0 {
		v.measured += n
	}
	if verdict == measuredSlow {
		v.worse += n
	}
}

// compare counts n endpoints by what became of all their comparisons.
func (t *tally) compare(measured, n int64) {
	for i := range t.compared {
		t.compared[i].add(verdict(measured, i), n)
	}
}

// by is a cohort's entry for a measure of the policy.
func (n *cohort) by(i int) *compared {
	for len(n.measures) <= i {
		n.measures = append(n.measures, compared{})
	}
	return &n.measures[i]
}

// compared is what a cohort has of the policy's measures.
func (n *cohort) compared(p rollout.Policy) (out []rollout.Compared) {
	for _, m := range n.measures[:min(len(n.measures), len(p.Budget.Measures))] {
		out = append(out, rollout.Compared{Measured: m.Measured, Worse: m.Worse, Expected: float64(m.Expected) / 1e6, Usual: float64(m.Usual) / 1e6})
	}
	return out
}

// controls are how many the first comparison by each of the policy's measures had.
func (n *cohort) controls(p rollout.Policy) (out []int64) {
	for _, m := range n.compared(p) {
		out = append(out, m.Measured)
	}
	return out
}

// countOut takes what was compared in a segment out of a cohort (sign -1), or in
// again. What was to be expected goes with the number compared: whose was how much
// is not kept.
func (n *cohort) countOut(t *tally, sign int64) {
	n.measured, n.slow = max(0, n.measured+sign*t.compared[0].measured), max(0, n.slow+sign*t.compared[0].worse)
	for i := range n.measures {
		m, v := &n.measures[i], t.compared[i+1]
		if v.measured == 0 {
			continue
		}
		after := max(0, m.Measured+sign*v.measured)
		part := float64(after) / float64(max(1, m.Measured))
		m.Measured, m.Worse = after, max(0, m.Worse+sign*v.worse)
		m.Expected, m.Usual = int64(float64(m.Expected)*part), int64(float64(m.Usual)*part)
	}
}

// examine compares a cohort with its rows.
func (n *cohort) examine(rung int64, rows *tally, measures int) (wrong []string) {
	kept := []verdicts{{n.measured, n.slow}}
	for i := range measures {
		m := compared{}
		if i < len(n.measures) {
			m = n.measures[i]
		}
		kept = append(kept, verdicts{m.Measured, m.Worse})
	}
	for i, k := range kept {
		if f := rows.compared[i]; k != f {
			wrong = append(wrong, fmt.Sprintf("cohort %d: comparison %d: kept %d worse of %d measured; its rows are %d of %d", rung, i, k.worse, k.measured, f.worse, f.measured))
		}
	}
	return wrong
}

// read is what an endpoint says by a measure, so that more of it is worse; false if
// it does not say.
func read(m rollout.Measure, said []Measure) (float64, bool) {
	i := slices.IndexFunc(said, func(s Measure) bool { return s.Name == m.Name })
	if i < 0 {
		return 0, false
	}
	s := said[i]
	if m.Over == 0 {
		if _, fewer := m.Factor(); fewer {
			return 1 / s.Value, len(s.Lately) == 0 // 0 is as bad as can be
		}
		return s.Value, len(s.Lately) == 0
	}
	at := slices.Index(release.MeasureSpans, m.Over.Std())
	if at < 0 || at >= len(s.Lately) || s.Lately[at] < 0 {
		return 0, false
	}
	return float64(s.Lately[at]), true
}

// bar is what exposed endpoints are held against by one measure: what exceeds it is
// worse.
type bar struct {
	of    int64 // controls; 0 is too few to compare
	limit float64
	// usual is the share of controls that exceed it, expected what that share may be
	// at most but for sampleError.
	usual, expected float64
}

// mostAbove is how many of n controls may lie above a limit, so that with
// sampleError at most more than a twentieth of all controls exceed it: -1 if n is
// fewer than about 135.
func mostAbove(n int64) int64 {
	if n == 0 {
		return -1
	}
	return int64(sort.Search(int(n/20+1), func(k int) bool { return health.UpperRate(int64(k), n, sampleError) > health.Exceeding })) - 1
}

// barOf finds the least limit that so few controls exceed. Where many controls are
// alike, fewer do than may: of counts that are nearly always 0, a few in a thousand.
func barOf(controls []float64) bar {
	n := int64(len(controls))
	above := mostAbove(n)
	if above < 0 {
		return bar{}
	}
	slices.Sort(controls)
	b := bar{of: n, limit: controls[n-1-above]}
	over := n - int64(sort.Search(int(n), func(i int) bool { return controls[i] > b.limit }))
	b.usual, b.expected = float64(over)/float64(n), health.UpperRate(over, n, sampleError)
	return b
}

// allow raises a bar by what the policy lets a measure grow, and not be worse. Of a
// count whose limit is 0, that is how many endpoints may have any: so many times the
// rate lets at most so many times as many have one. Of any other count it is the
// least number that is worse.
func (b bar) allow(m rollout.Measure) bar {
	by, fewer := m.Factor()
	switch {
	case m.Over == 0 && fewer:
		b.limit /= by
	case m.Over == 0:
		b.limit *= by
	case b.limit == 0:
		b.usual, b.expected = min(1, by*b.usual), min(1, by*b.expected)
	default:
		b.limit = math.Ceil(by*(b.limit+1)) - 1
	}
	return b
}

// bar is the limit of a rollout's controls now, by one of its policy's measures.
func (r *batchRun) bar(g *gate, i int) bar {
	k := barKey{g.gate.Rollout, i}
	if b, known := r.bars[k]; known {
		return b
	}
	m := g.watched.policy.Budget.Measures[i]
	var values []float64
	for _, said := range r.controls(g) {
		if v, ok := read(m, said.measures); ok {
			values = append(values, v)
		}
	}
	b := barOf(values).allow(m)
	r.bars[k] = b
	return b
}

// barKey is a rollout and one of its policy's measures.
type barKey struct {
	rollout int64
	measure int
}

// measureBy counts one endpoint's comparison by one of the policy's measures. That
// controls have it is kept too: then exposed endpoints that say nothing are not
// proven good.
func (r *batchRun) measureBy(g *gate, i int, x *exposure, said []Measure) {
	w := g.watched
	b := r.bar(g, i)
	if b.of == 0 {
		return
	}
	if k := w.cohorts[rungControl]; k == nil || k.by(i).Measured == 0 {
		w.cohort(rungControl).by(i).Measured = b.of
	}
	v, ok := read(w.policy.Budget.Measures[i], said)
	if !ok {
		return
	}
	n := w.cohort(x.rung).by(i)
	n.Measured++
	n.Expected += int64(math.Ceil(1e6 * b.expected))
	n.Usual += int64(math.Round(1e6 * b.usual))
	worse := v > b.limit
	if worse {
		n.Worse++
	}
	x.compare(i+1, worse)
}
