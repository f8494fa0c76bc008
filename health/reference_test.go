package health

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// references are the lines of testdata/evidence.txt of one kind, by fields.
func references(t *testing.T, kind string) (out [][]string) {
	b, err := os.ReadFile("testdata/evidence.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == kind {
			out = append(out, f[1:])
		}
	}
	if len(out) == 0 {
		t.Fatalf("no %s in testdata/evidence.txt", kind)
	}
	return out
}

func numbers(t *testing.T, fields []string) (out []float64) {
	for _, f := range fields {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// TestEvidenceAgreesWithAnIndependentComputation: testdata/evidence.py multiplies
// out what Evidence adds up in logarithms.
func TestEvidenceAgreesWithAnIndependentComputation(t *testing.T) {
	all := map[string]Evidence{}
	for _, f := range references(t, "evidence") {
		n := numbers(t, f[1:])
		c := func(i int) int64 { return int64(n[i]) }
		e := all[f[0]].Next(Look{
			At:      time.Duration(n[0]) * time.Second,
			Cohorts: []Arm{{Harmed: c(1), Silent: c(2), AtRisk: c(3), AtLeast: c(3)}},
			Control: Arm{Harmed: c(4), Silent: c(5), AtRisk: c(6), AtLeast: c(6)},
		})
		if want := n[7]; math.Abs(e.Log()-want) > 1e-9*max(1, math.Abs(want)) {
			t.Errorf("%v: log e-value %.12g, want %.12g", f, e.Log(), want)
		}
		all[f[0]] = e
	}
}

func TestCellsAgreeWithAnIndependentComputation(t *testing.T) {
	all := map[string][]Cell{}
	for _, f := range references(t, "cell") {
		n := numbers(t, f[1:])
		c := func(i int) int64 { return int64(n[i]) }
		look := CellLook{ID: 1, Failed: c(1), ControlFailed: c(2), AtRisk: c(3), ControlAtRisk: c(4)}
		all[f[0]] = NextCells(all[f[0]], []CellLook{look}, n[0], false)
		if got, want := all[f[0]][0].Log(), n[5]; math.Abs(got-want) > 1e-9*max(1, math.Abs(want)) {
			t.Errorf("%v: log e-value %.12g, want %.12g", f, got, want)
		}
	}
}

// TestAlarmsKeepTheFalseDiscoveryRate: whatever segments alarm would be named by the
// e-BH procedure at the same level too, whose false discovery rate is at most alpha
// under any dependence (Wang and Ramdas 2022). Alarms are fewer, for they
// are valid at all times, which e-BH on running maxima is not.
func TestAlarmsKeepTheFalseDiscoveryRate(t *testing.T) {
	for _, f := range references(t, "ebh") {
		n := numbers(t, f)
		alpha, rejected, e := n[0], int(n[1]), n[2:]
		var cells []Cell
		var looks []CellLook
		for i, v := range e {
			cells = append(cells, Cell{ID: uint32(i), Failed: 1, Started: 1})
			for r := range cells[i].LogS {
				cells[i].LogS[r] = math.Log(v)
			}
			looks = append(looks, CellLook{ID: uint32(i), Failed: 1, Share: 0.01})
		}
		got := CellTest{Tested: int64(len(e)), Alpha: alpha, MaxShare: 1}.Alarms(cells, looks)
		var want []uint32
		for i, v := range e {
			if v >= float64(len(e))/alpha {
				want = append(want, uint32(i))
			}
		}
		if !slices.Equal(got, want) || len(got) > rejected {
			t.Errorf("%s: alarms %v, want %v, and no more than the first %d", fmt.Sprint(f), got, want, rejected)
		}
	}
}

// TestWorseIsAnEValue: its mean under chances of any kind, each at most what was
// expected, is at most 1, found by the sum over all outcomes.
func TestWorseIsAnEValue(t *testing.T) {
	for _, q := range [][]float64{{0.05}, {0.5}, {1}, {0.001, 0.2, 0.05}} {
		const n = 400
		law, expected := []float64{1}, 0.0 // of the number of worse ones
		for i := range n {
			p := q[i%len(q)]
			expected += p
			next := make([]float64, len(law)+1)
			for k, w := range law {
				next[k] += w * (1 - p)
				next[k+1] += w * p
			}
			law = next
		}
		mean := 0.0
		for k, w := range law {
			mean += math.Exp(math.Log(w) + LogWorse(int64(k), expected)) // in logs: w may be too small for a float
		}
		if !(mean <= 1+1e-9) {
			t.Errorf("chances %v: mean %v", q, mean)
		}
	}
	if got := LogMean(3); got != 3 {
		t.Errorf("the mean of one is %v", got)
	}
	if got, want := LogMean(math.Log(2), math.Log(6), 0), math.Log(3); math.Abs(got-want) > 1e-12 {
		t.Errorf("mean %v, want %v", got, want)
	}
	for _, v := range []float64{LogWorse(-1, 1), LogWorse(1, math.NaN()), LogWorse(1, math.Inf(1))} {
		if v != 0 {
			t.Errorf("nonsense speaks: %v", v)
		}
	}
}
