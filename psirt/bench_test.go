package psirt

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/cputime"
)

// benchCases are cases in all phases, with and without embargo, parties and
// attacks.
func benchCases(tb testing.TB, n int) []Case {
	tb.Helper()
	var kinds []Case
	c := opened(tb)
	for _, b := range []Body{
		&ReportLinked{Report: "RP-0000000000001", Case: "C-0000000000001", Role: Original, Received: start},
		&PartyAdded{Party: "vendor:acme", As: "vendor"}, &EmbargoProposed{Until: "2026-03-01T00:00:00Z"}, &EmbargoAccepted{Party: "vendor:acme"},
		&ReportAcknowledged{How: "mail"}, &TriageScored{Scheme: "house", Score: 8.1, Scorer: "ann"}, &VendorIsAware{}, &AttackSeen{Where: "x"},
		&FixBound{Product: "acme/rules", Version: "2"}, &FixMeasured{Lower: 0.7, N: 100, Verified: 80}, &BecamePublic{Where: "x"}, &RecordPublished{ID: "CVE-1900-0001"},
	} {
		add(tb, c, start, b)
		kinds = append(kinds, *c)
	}
	out := make([]Case, n)
	for i := range out {
		out[i] = kinds[i%len(kinds)]
	}
	return out
}

// BenchmarkBoard recomputes the phase and the clocks of 100,000 open cases, as the
// board does: less than 1 s of one core's time.
func BenchmarkBoard(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("cases=%d", n), func(b *testing.B) {
			cases, p := benchCases(b, n), DefaultClocks()
			now := start.Add(48 * time.Hour)
			clocks, before := 0, cputime.Used()
			for b.Loop() {
				clocks = 0
				for i := range cases {
					phase, _, _ := cases[i].Phase()
					if phase == "" {
						b.Fatal("no phase")
					}
					clocks += len(cases[i].Clocks(&p, now))
				}
			}
			b.ReportMetric(float64(clocks)/float64(n), "clocks/case")
			unit := "cpu-s/op"
			if n == 100_000 {
				unit += "(goal<1)"
			}
			b.ReportMetric((cputime.Used()-before).Seconds()/float64(b.N), unit)
		})
	}
}

// BenchmarkFold folds a case of 200 facts from its stored form.
func BenchmarkFold(b *testing.B) {
	c := opened(b)
	facts := []Fact{record(b, &Case{}, start, &CaseOpened{Title: "x"})}
	for i := range 199 {
		f := record(b, &Case{Revision: int64(i + 1)}, start, &CaseTitled{Title: fmt.Sprint("title ", i)})
		facts = append(facts, f)
	}
	if _, err := json.Marshal(c); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Fold(facts); err != nil {
			b.Fatal(err)
		}
	}
}
