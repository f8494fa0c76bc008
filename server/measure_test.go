package server

import (
	"fmt"
	"math"
	"strings"
	"testing"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
)

func TestAMeasureThatCannotBeIsRefusedByItsPlace(t *testing.T) {
	good := func(i int) *headgatev1.ProductMeasure {
		return &headgatev1.ProductMeasure{Name: fmt.Sprintf("m%d", i), Value: 1, Lately: []int64{-1, 0, 3}}
	}
	var most []*headgatev1.ProductMeasure
	for i := range maxMeasures {
		most = append(most, good(i))
	}
	for name, c := range map[string]struct {
		measures []*headgatev1.ProductMeasure
		want     string
	}{
		"none":          {nil, ""},
		"as many":       {most, ""},
		"too many":      {append(most, good(99)), "measures: 19"},
		"no name":       {[]*headgatev1.ProductMeasure{good(0), {}}, "measures[1].name"},
		"nothing":       {[]*headgatev1.ProductMeasure{nil}, "measures[0].name"},
		"said twice":    {[]*headgatev1.ProductMeasure{good(0), good(0)}, "measures[1].name"},
		"no number":     {[]*headgatev1.ProductMeasure{{Name: "a", Value: math.NaN()}}, "measures[0].value"},
		"less than 0":   {[]*headgatev1.ProductMeasure{{Name: "a", Value: -1}}, "measures[0].value"},
		"a count of -2": {[]*headgatev1.ProductMeasure{{Name: "a", Lately: []int64{-2}}}, "measures[0].lately"},
		"nine spans":    {[]*headgatev1.ProductMeasure{{Name: "a", Lately: make([]int64, 9)}}, "measures[0].lately"},
	} {
		r, err := readBeacon(&headgatev1.BeaconRequest{Products: []*headgatev1.ProductState{{Product: "acme/rules", Measures: c.measures}}})
		if c.want == "" && (err != nil || len(r.Measures) != 1 || len(r.Measures[0]) != len(c.measures)) || c.want != "" && (err == nil || !strings.Contains(err.Error(), "products[0]."+c.want)) {
			t.Errorf("%s: %v, %v; want %q", name, r.Measures, err, c.want)
		}
	}
}
