package rollout

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

// MaxMeasures is how many measures a policy may name.
const MaxMeasures = 8

// vitals is the measure that every policy with a slow_share has: the CPU and the
// memory of the agent and its engines.
const vitals = "vitals"

// Measure is something that endpoints say of the product and that the release may
// make worse. Each exposed endpoint is compared once with its concurrent controls.
type Measure struct {
	// Name is "crashes", "start", or what the product's check command says.
	Name string `json:"measure"`
	// Over makes it a count: how many there were in this span, which an endpoint must
	// have run the version for. Without it it is a value, as last said.
	Over span.Duration `json:"over,omitempty"`
	// Worse is by how much it may grow, or with a minus sign fall, and not be worse:
	// "20%", "-10%".
	Worse string `json:"worse"`
}

// Factor is what a measure may be multiplied by and not be worse; fewer means that
// less of it is worse.
func (m Measure) Factor() (by float64, fewer bool) {
	n, err := strconv.ParseFloat(strings.TrimSuffix(m.Worse, "%"), 64)
	if err != nil {
		return 1, false
	}
	return 1 + n/100, strings.HasPrefix(m.Worse, "-")
}

func (m Measure) check() (field string, err error) {
	if err := release.CheckMeasure(m.Name); err != nil {
		return "measure", err
	}
	if m.Name == vitals {
		return "measure", fmt.Errorf("vitals are compared by slow_share itself")
	}
	if m.Over != 0 && !slices.Contains(release.MeasureSpans, m.Over.Std()) {
		return "over", fmt.Errorf("%s; want one of %v for a count, and none for a value", m.Over, release.MeasureSpans)
	}
	if m.Name == release.MeasureCrashes && m.Over == 0 {
		return "over", fmt.Errorf("crashes are counted; want one of %v", release.MeasureSpans)
	}
	if m.Name == release.MeasureStart && m.Over != 0 {
		return "over", fmt.Errorf("start is a value; want none")
	}
	number, percent := strings.CutSuffix(m.Worse, "%")
	n, err := strconv.ParseFloat(number, 64)
	least := -99.0
	if m.Over != 0 {
		least = 0
	}
	if !percent || err != nil || !(n >= least && n <= 1000) || m.Over != 0 && strings.HasPrefix(number, "-") {
		return "worse", fmt.Errorf("%.20q; want %v%% to 1000%%, such as \"20%%\"", m.Worse, least)
	}
	return "", nil
}

func (b Budget) checkMeasures() (field string, err error) {
	if len(b.Measures) > MaxMeasures {
		return "measures", fmt.Errorf("%d of them; limit %d", len(b.Measures), MaxMeasures)
	}
	if len(b.Measures) > 0 && b.SlowShare == 0 {
		return "measures", fmt.Errorf("they need a slow_share, which is the budget of each")
	}
	for i, m := range b.Measures {
		if field, err := m.check(); err != nil {
			return fmt.Sprintf("measures[%d].%s", i, field), err
		}
		for _, o := range b.Measures[:i] {
			if o.Name == m.Name && o.Over == m.Over {
				return fmt.Sprintf("measures[%d].measure", i), fmt.Errorf("%s is named twice", m.called())
			}
		}
	}
	return "", nil
}

// called is a measure as people read it.
func (m Measure) called() string {
	if m.Over == 0 {
		return m.Name
	}
	return fmt.Sprintf("%s over %s", m.Name, short(m.Over.Std()))
}

// short writes one of release.MeasureSpans as policies do: "10m".
func short(d time.Duration) string {
	if d >= time.Hour {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

// Compared counts endpoints by one measure: Worse of Measured. Expected is how many
// of those measured would be worse at most without the release, by an upper
// confidence limit of the controls' share; Usual by that share itself.
type Compared struct {
	Measured int64   `json:"measured"`
	Worse    int64   `json:"worse"`
	Expected float64 `json:"expected"`
	Usual    float64 `json:"usual"`
}

func (c Compared) plus(o Compared, sign int64) Compared {
	f := float64(sign)
	return Compared{c.Measured + sign*o.Measured, c.Worse + sign*o.Worse, c.Expected + f*o.Expected, c.Usual + f*o.Usual}
}

func (c Compared) valid() bool {
	return c.Worse >= 0 && c.Worse <= c.Measured && c.Expected >= 0 && c.Expected <= 1e15 && c.Usual >= 0 && c.Usual <= 1e15
}

// Sum adds what cohorts have of each measure.
func Sum(all ...[]Compared) (out []Compared) {
	for _, one := range all {
		for i, c := range one {
			if i == len(out) {
				out = append(out, Compared{})
			}
			out[i] = out[i].plus(c, 1)
		}
	}
	return out
}

// comparison is one measure in a look.
type comparison struct {
	name string
	// judged: controls have it, so that endpoints that do not say are not proven good.
	judged bool
	of     func(Cohort) Compared
	total  Compared // of all cohorts, since people accepted what there was
	log    float64  // of the e-value
}

// comparisons are those of a look: vitals first, then the policy's measures.
func (p *pacing) comparisons() []comparison {
	v := p.o.vitals(p.s.Accepted)
	out := []comparison{{
		name: vitals, judged: p.b.SlowShare > 0 && p.o.Vitals, log: health.LogExceedance(v.Slow, v.Measured),
		total: Compared{Measured: v.Measured, Worse: v.Slow, Expected: health.Exceeding * float64(v.Measured)},
		of:    func(c Cohort) Compared { return Compared{Measured: c.Measured, Worse: c.Slow} },
	}}
	for i, m := range p.b.Measures {
		c := comparison{name: m.called(), judged: i < len(p.o.Measures) && p.o.Measures[i] > 0, of: func(c Cohort) Compared { return at(c.Measures, i) }}
		c.total = at(p.o.Coverage.Measures, i)
		for _, k := range p.o.Cohorts {
			c.total = c.total.plus(at(k.Measures, i), 1)
		}
		if a := p.s.Accepted; a != nil {
			c.total = c.total.plus(at(a.Measures, i), -1)
		}
		if c.total.valid() { // fewer than were accepted, where a segment was halted since
			c.log = health.LogWorse(c.total.Worse, c.total.Expected)
		}
		out = append(out, c)
	}
	return out
}

func at(all []Compared, i int) (c Compared) {
	if i < len(all) {
		c = all[i]
	}
	return c
}

// judges tells whether controls have vitals or any measure.
func (p *pacing) judges() bool {
	return p.o.Vitals || slices.ContainsFunc(p.o.Measures, func(controls int64) bool { return controls > 0 })
}

// bound is what one measure's budget pays for after each cohort's look.
func (p *pacing) bound(c comparison) Bound {
	b := Bound{Age: c.name, Measure: c.name != vitals, Budget: p.b.slowBudget(p.s.Control.Fit), Upper: 1, Cohort: -1}
	for _, g := range p.k.Gates {
		if g.Horizon != 0 {
			continue
		}
		n, delta := c.of(p.o.Cohorts[g.Cohort]), p.b.delta(g.Cohort, 0)
		by := Bound{Upper: health.UpperExceedance(n.Worse, n.Measured, delta), Cohort: g.Cohort, Failed: n.Worse, Size: n.Measured, Expected: 0.05 * float64(n.Measured)}
		if b.Measure {
			by.Upper, by.Expected = health.UpperWorse(n.Worse, n.Measured, n.Usual, delta), n.Usual
		}
		p.improve(&b, by)
	}
	return b
}

// weigh finds what all measures together say: the mean of their e-values is one.
func (p *pacing) weigh() {
	p.compared = p.comparisons()
	var logs []float64
	for _, c := range p.compared {
		logs = append(logs, c.log)
		if c.name != vitals {
			p.n.Measures = append(p.n.Measures, MeasureEvidence{c.name, c.log})
		}
	}
	p.n.LogSlow, p.n.LogHaltSlow = health.LogMean(logs...), -math.Log(p.b.alphaSlow())
}

// against is the measure that speaks loudest against the release, in words: is
// says how, "are" or "seem".
func (p *pacing) against(is string) (code, text string) {
	most := p.compared[0]
	for _, c := range p.compared {
		if c.log > most.log {
			most = c
		}
	}
	if most.name == vitals {
		return vitals, "endpoints " + is + " slower than their controls"
	}
	return "measure", fmt.Sprintf("endpoints %s worse than their controls by %s, %d of %d where at most %.1f were to be expected", is, most.name, most.total.Worse, most.total.Measured, most.total.Expected)
}

// unjudged says which measures cannot be compared.
func (o Observed) unjudged(b Budget) (out []string) {
	if b.SlowShare > 0 && !o.Vitals {
		out = append(out, "vitals are not judged: too few controls report any to compare with")
	}
	for i, m := range b.Measures {
		if i >= len(o.Measures) || o.Measures[i] == 0 {
			out = append(out, m.called()+" is not judged: too few controls report it to compare with")
		}
	}
	return out
}

// measures is how many of a cohort are worse by each measure; nothing of those by
// which none was compared.
func (c Cohort) measures(b *Budget) (text string) {
	for i, n := range c.Measures {
		if b != nil && i < len(b.Measures) && n.Measured > 0 {
			text += fmt.Sprintf("; %s of %d compared, %d worse, %.1f were to be expected", b.Measures[i].called(), n.Measured, n.Worse, n.Usual)
		}
	}
	return text
}

// checkCompared refuses what cannot have been compared by so many measures.
func checkCompared(all []Compared, measures int) error {
	if len(all) > measures {
		return fmt.Errorf("compared by %d measures; the policy names %d", len(all), measures)
	}
	for i, c := range all {
		if !c.valid() {
			return fmt.Errorf("measure %d: %+v; want counts", i, c)
		}
	}
	return nil
}
