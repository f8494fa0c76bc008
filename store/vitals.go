package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/headgate/headgate/health"
)

// Whom exposed endpoints' vitals are compared with. A process remembers what
// endpoints said last, so that no beacon is written for it: after a restart, what
// cannot be compared yet is compared at a later beacon.
const (
	// sampleRoom is how many endpoints of a product are remembered, those heard from
	// last: about 150 bytes each. An exact sample of 4,096 puts the 95th percentile's
	// limit within a percent of the fleet's, so that a sketch of all would save nothing.
	sampleRoom = 4096
	// sampledProducts bounds the samples.
	sampledProducts = 64
	// sampleError is the error with which more than a twentieth of the controls lie
	// above the limit that is found.
	sampleError = 1e-3
)

// What became of a comparison, as stored.
const (
	measuredFast = 1
	measuredSlow = 2
)

var listMeasured = &list{
	of: "BIGINT", head: `UPDATE exposure SET measured = $2 WHERE rollout = $1 AND endpoint IN (`, row: `?`, tail: `)`, fixed: 2, pad: true,
}

// use is what an endpoint needs: both are more than 0.
type use struct{ cpu, rss float64 }

// saidUse is what an endpoint's last beacon said.
type saidUse struct {
	use
	says     bool // what it uses
	measures []Measure
	at       time.Time
	digest   string  // of the product that runs
	tried    []int64 // rollouts of which it has an attempt
}

// sample is what a product's endpoints said last.
type sample = lru.Cache[int64, saidUse]

func newSamples() *lru.Cache[string, *sample] {
	c, err := lru.New[string, *sample](sampledProducts)
	if err != nil {
		panic("store: the list of samples has no room: " + err.Error())
	}
	return c
}

// sampleFor is a product's sample; it begins with the first call.
func (s *Store) sampleFor(product string) *sample {
	if c, ok := s.samples.Get(product); ok {
		return c
	}
	c, err := lru.New[int64, saidUse](sampleRoom)
	if err != nil {
		panic("store: a sample has no room: " + err.Error())
	}
	if first, ok, _ := s.samples.PeekOrAdd(product, c); ok {
		return first
	}
	return c
}

// useOf is what a beacon says an endpoint needs; false if it does not say both.
func useOf(b BeaconReport) (use, bool) {
	return use{float64(b.CPU), float64(b.RSS)}, b.CPU > 0 && b.RSS > 0
}

// sampleBeacons remembers what the authentic beacons of a committed batch said of
// products that are compared.
func (s *Store) sampleBeacons(beacons []BeaconReport, latest map[int64]int, now time.Time) {
	if s.samples.Len() == 0 {
		return
	}
	for endpoint, i := range latest {
		b := beacons[i]
		u, says := useOf(b)
		for _, in := range b.Installations {
			c, ok := s.samples.Peek(in.Product)
			if !ok || !in.Healthy {
				continue
			}
			said := saidUse{use: u, says: says, measures: b.measures(in.Product), at: now, digest: in.Digest}
			if !says && len(said.measures) == 0 {
				continue
			}
			for _, a := range b.Attempts {
				if a.State != AttemptStaged && a.State != AttemptPreflightFailed {
					said.tried = append(said.tried, a.Rollout)
				}
			}
			c.Add(endpoint, said)
		}
	}
}

// ceiling is what at most a twentieth of concurrent controls exceed.
type ceiling struct {
	typical use // the controls' medians
	limit   float64
	of      int64 // controls; 0 is too few to compare
}

// score is an endpoint's need beside that of typical controls, of CPU or of
// memory, whichever is more of it: one comparison, so that one in twenty healthy
// endpoints exceeds the limit and not one in ten.
func (c ceiling) score(u use) float64 { return max(u.cpu/c.typical.cpu, u.rss/c.typical.rss) }

// ceilingOf finds the limit from controls.
func ceilingOf(controls []use) ceiling {
	if mostAbove(int64(len(controls))) < 0 {
		return ceiling{}
	}
	of := func(f func(use) float64) []float64 {
		all := make([]float64, len(controls))
		for i, u := range controls {
			all[i] = f(u)
		}
		return all
	}
	median := func(all []float64) float64 {
		slices.Sort(all)
		return all[len(all)/2]
	}
	c := ceiling{typical: use{median(of(func(u use) float64 { return u.cpu })), median(of(func(u use) float64 { return u.rss }))}}
	b := barOf(of(c.score))
	c.limit, c.of = b.limit, b.of
	return c
}

// controls are what the controls of a rollout said last: endpoints that run another
// artifact of the product, never tried this one, and were heard from lately.
func (r *batchRun) controls(g *gate) (out []saidUse) {
	since := r.now.Add(-3 * g.static.policy.Beacon.Std())
	for _, said := range r.c.s.sampleFor(g.static.product).Values() {
		if said.digest != g.static.digest && !said.at.Before(since) && !slices.Contains(said.tried, g.gate.Rollout) {
			out = append(out, said)
		}
	}
	return out
}

// ceiling is the limit of a rollout's controls now.
func (r *batchRun) ceiling(g *gate) ceiling {
	if c, known := r.ceilings[g.gate.Rollout]; known {
		return c
	}
	var all []use
	for _, said := range r.controls(g) {
		if said.says {
			all = append(all, said.use)
		}
	}
	c := ceilingOf(all)
	r.ceilings[g.gate.Rollout] = c
	return c
}

// takeMeasures compares endpoints that are proven with their controls, each once by
// vitals and by each measure: at its first beacon from the proof on that can be
// compared.
func (r *batchRun) takeMeasures() error {
	for _, b := range r.batch.Beacons {
		id := r.endpoints[b.Endpoint]
		if !id.authentic(b.Secret) {
			continue
		}
		for _, a := range b.Attempts {
			g := r.gates[a.Rollout]
			if a.State != AttemptProven || g == nil || !g.watched.compares() || g.static.digest != a.Digest {
				continue
			}
			x := g.exposures[b.Endpoint]
			if x == nil || x.state != health.Proven || x.reverted || x.comparedBy(1+len(g.watched.policy.Budget.Measures)) {
				continue
			}
			if err := r.measure(g, id, x, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure compares one endpoint by all that it was not compared by yet.
func (r *batchRun) measure(g *gate, id *identity, x *exposure, b BeaconReport) error {
	labels, err := r.c.s.labelsOf(id.labels.Value())
	if err != nil || g.watched.leftOut(labels) {
		return err
	}
	if verdict(x.measured, 0) == 0 {
		r.measureVitals(g, x, b)
	}
	said := b.measures(g.static.product)
	for i := range g.watched.policy.Budget.Measures {
		if verdict(x.measured, i+1) == 0 {
			r.measureBy(g, i, x, said)
		}
	}
	return nil
}

// measureVitals counts one endpoint's vitals. That controls can be compared is kept
// too: then exposed endpoints that say nothing are not proven fast.
func (r *batchRun) measureVitals(g *gate, x *exposure, b BeaconReport) {
	c := r.ceiling(g)
	if c.of == 0 {
		return
	}
	w := g.watched
	if k := w.cohorts[rungControl]; k == nil || k.measured == 0 {
		w.cohort(rungControl).measured = c.of
	}
	u, ok := useOf(b)
	if !ok {
		return
	}
	n, slow := w.cohort(x.rung), c.score(u) > c.limit
	n.measured++
	if slow {
		n.slow++
	}
	x.compare(0, slow)
}

// measures are what a beacon says of a product.
func (b BeaconReport) measures(product string) []Measure {
	for i, in := range b.Installations {
		if in.Product == product && i < len(b.Measures) {
			return b.Measures[i]
		}
	}
	return nil
}

// compares tells whether a rollout's budget asks for vitals, without which it has
// no measures either.
func (w *watched) compares() bool { return w != nil && w.policy.Budget.SlowShare > 0 }

// saveMeasured writes which exposures were measured.
func (r *batchRun) saveMeasured(ctx context.Context, g *gate) error {
	by := map[int64][]any{}
	for endpoint, x := range g.exposures {
		if x.isMeasured {
			by[x.measured] = append(by[x.measured], endpoint)
		}
	}
	for _, how := range slices.Sorted(maps.Keys(by)) {
		if _, err := r.c.execList(ctx, listMeasured, []any{g.gate.Rollout, how}, distinct(by[how])); err != nil {
			return fmt.Errorf("record who was compared: %w", err)
		}
	}
	return nil
}
