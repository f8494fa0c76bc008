package fleet

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// TestRankReference pins the rank to HMAC-SHA-256 as anybody can compute it:
// printf E-0000000000001 | openssl dgst -sha256 -hmac seed
func TestRankReference(t *testing.T) {
	if got := fmt.Sprintf("%016x", Rank([]byte("seed"), "E-0000000000001")); got != "151d7a89d962f708" {
		t.Errorf("rank %s, want %s", got, "151d7a89d962f708")
	}
}

func TestTurnAdmitsItsShare(t *testing.T) {
	const n = 20000
	for _, turn := range []float64{0, 0.001, 0.1, 0.5, 1} {
		in := 0
		for i := range n {
			if InTurn(Rank([]byte("seed"), fmt.Sprint(i)), turn) {
				in++
			}
		}
		if sd := math.Sqrt(n * turn * (1 - turn)); math.Abs(float64(in)-n*turn) > 5*sd {
			t.Errorf("turn %v admitted %d of %d", turn, in, n)
		}
	}
	if InTurn(0, 0) {
		t.Error("turn 0 admits rank 0")
	}
	if !InTurn(math.MaxUint64, 1) {
		t.Error("turn 1 leaves out the last rank")
	}
}

func TestLabelsBeyondTheLimitsAreRefusedByName(t *testing.T) {
	many := Labels{}
	for i := range MaxLabels + 1 {
		many[fmt.Sprint("k", i)] = "v"
	}
	for want, l := range map[string]Labels{
		"limit 32":      many,
		"\"OS\"":        {"OS": "linux"},
		"\"\"":          {"": "x"},
		"label os":      {"os": strings.Repeat("x", MaxLabelValue+1)},
		"want 1 to 63 ": {strings.Repeat("k", MaxLabelKey+1): "v"},
	} {
		if err := l.Check(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
	good := Labels{"os": "linux", "arch": "arm64"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	if got := good.Segments(); !slices.Equal(got, []string{"arch=arm64", "os=linux"}) {
		t.Errorf("segments %q", got)
	}
}
