package pacing

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/rollout"
)

func TestALotteryKeepsItsWeights(t *testing.T) {
	for _, weights := range [][]float64{{1}, {3, 1}, {1, 1, 1}, zipf(3000, 0.9), zipf(40, 2), {0, 5, 0, 1e-9}} {
		l, sum := newLottery(weights), 0.0
		p := make([]float64, len(weights))
		for i, keep := range l.keep {
			sum += weights[i]
			keep = min(1, keep)
			p[i] += keep / float64(len(weights))
			p[l.other[i]] += (1 - keep) / float64(len(weights))
		}
		for i, w := range weights {
			if math.Abs(p[i]-w/sum) > 1e-12 {
				t.Errorf("%d of %d: drawn with %v, want %v", i, len(weights), p[i], w/sum)
			}
		}
	}
}

// TestALookListsTheMostFailed, whatever the threshold that the last one left.
func TestALookListsTheMostFailed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{1, 50, rollout.MaxCells, 3 * rollout.MaxCells}).Draw(t, "cells")
		c := cells{failed: make([]int32, n)}
		shares := make([]float64, n)
		for i := range shares {
			shares[i] = float64(i%7) / 100
		}
		most := rapid.IntRange(1, 40).Draw(t, "failures")
		seed := rapid.Uint32().Draw(t, "seed")
		for round := range 4 {
			for i := range c.failed { // a few more, and in the third round fewer
				seed = seed*1664525 + 1013904223
				c.failed[i] = max(0, c.failed[i]+int32(int(seed>>16)%most)-int32(round/2%2*most))
			}
			var want []int32
			for i, f := range c.failed {
				if f > 0 && shares[i] <= 0.05 {
					want = append(want, int32(i))
				}
			}
			slices.SortStableFunc(want, func(a, b int32) int { return cmp.Compare(c.failed[b], c.failed[a]) })
			want = want[:min(len(want), rollout.MaxCells)]
			slices.Sort(want)
			if got := c.mostFailed(shares, 0.05); !slices.Equal(got, want) {
				t.Fatalf("round %d: %d cells, want %d", round, len(got), len(want))
			}
		}
	})
}

// TestWhoLooksAtSegmentsChangesNoHistory: labels are drawn apart.
func TestWhoLooksAtSegmentsChangesNoHistory(t *testing.T) {
	a, b := preset(t, "flash-1"), withoutSegments(t)
	x := fault(t, "kill-all")
	if p, q := a.Play(large(), x, 4), b.Play(large(), x, 4); p.Harmed != q.Harmed {
		t.Errorf("%+v with segments, %+v without", p, q)
	}
}
