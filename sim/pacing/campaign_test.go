package pacing

import (
	"flag"
	"os"
	"runtime"
	"testing"
)

var (
	seeds    = flag.Int("seeds", 0, "play the comparison with so many seeds")
	policyFl = flag.String("policies", "", "only these, comma separated")
	faultFl  = flag.String("faults", "", "only these, comma separated")
)

// TestCampaign plays the comparison and prints the table:
//
//	go test ./sim/pacing -run Campaign -seeds 20 -v -timeout 2h
func TestCampaign(t *testing.T) {
	if *seeds == 0 {
		t.Skip("with -seeds N")
	}
	presets, err := Presets()
	if err != nil {
		t.Fatal(err)
	}
	policies, err := ByName(append(presets, Rivals()...), func(p Policy) string { return p.Name }, *policyFl)
	if err != nil {
		t.Fatal(err)
	}
	faults, err := ByName(Faults(), func(f Fault) string { return f.Name }, *faultFl)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFleet(8_500_000, 2500)
	rows, err := Compare(t.Context(), f, policies, faults, Options{Seeds: *seeds, First: 1, Workers: runtime.GOMAXPROCS(0)})
	if err != nil {
		t.Fatal(err)
	}
	if err := Table(os.Stdout, rows); err != nil {
		t.Fatal(err)
	}
}
