package pacing

import (
	"math"
	"math/rand/v2"
)

// lottery draws numbers with given probabilities in constant time (Walker's
// alias method, in Vose's form).
type lottery struct {
	keep  []float64 // the chance that a number drawn evenly is kept
	other []uint16  // what it is else
}

// zipf is n weights that fall with the power s of their rank.
func zipf(n int, s float64) []float64 {
	w := make([]float64, n)
	for i := range w {
		w[i] = 1 / math.Pow(float64(i+1), s)
	}
	return w
}

func newLottery(weights []float64) lottery {
	n, sum := len(weights), 0.0
	for _, w := range weights {
		sum += w
	}
	l := lottery{keep: make([]float64, n), other: make([]uint16, n)}
	var small, large []int
	for i, w := range weights {
		l.keep[i], l.other[i] = w/sum*float64(n), uint16(i)
		if l.keep[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, g := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		l.other[s] = uint16(g)
		if l.keep[g] -= 1 - l.keep[s]; l.keep[g] < 1 {
			large = large[:len(large)-1]
			small = append(small, g)
		}
	}
	return l
}

func (l lottery) draw(r *rand.Rand) int {
	u := r.Float64() * float64(len(l.keep))
	i := int(u)
	if u-float64(i) >= l.keep[i] {
		return int(l.other[i])
	}
	return i
}
