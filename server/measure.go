package server

import (
	"fmt"
	"slices"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/store"
)

// Limits of what an agent may say of a product's measures, beside release.CheckMeasure.
const (
	maxMeasures = release.MaxMeasures + 2 // what the product says, and the agent's own two
	maxSpans    = 8                       // of a count: a newer agent may know more spans than we do
)

// readMeasures checks what a beacon says of one product's measures; err begins with
// the place, as "[1].name: ...".
func readMeasures(all []*headgatev1.ProductMeasure) (out []store.Measure, err error) {
	if len(all) > maxMeasures {
		return nil, fmt.Errorf(": %d of them, limit %d", len(all), maxMeasures)
	}
	for i, m := range all {
		if err := release.CheckMeasure(m.GetName()); err != nil {
			return nil, fmt.Errorf("[%d].name: %w", i, err)
		}
		if slices.ContainsFunc(out, func(o store.Measure) bool { return o.Name == m.Name }) {
			return nil, fmt.Errorf("[%d].name: %s is said twice", i, m.Name)
		}
		if err := release.CheckMeasured(m.Value); err != nil {
			return nil, fmt.Errorf("[%d].value: %w", i, err)
		}
		if len(m.Lately) > maxSpans || slices.ContainsFunc(m.Lately, func(n int64) bool { return n < -1 }) {
			return nil, fmt.Errorf("[%d].lately: %v; want at most %d counts, or -1 where it is not known", i, m.Lately, maxSpans)
		}
		out = append(out, store.Measure{Name: m.Name, Value: m.Value, Lately: m.Lately})
	}
	return out, nil
}
