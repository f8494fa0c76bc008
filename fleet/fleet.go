// Package fleet knows endpoints: their labels, the segments these make, each
// endpoint's place in line for a rollout, which of them have a component that
// some versions range holds, and how long each was vulnerable. It does not decide
// who is granted (rollout does) or told (notify does) and keeps no list (store
// does).
package fleet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
)

// Limits of what an endpoint may say of itself.
const (
	MaxLabels     = 32
	MaxLabelKey   = 63
	MaxLabelValue = 127
	MaxName       = 255
	MaxProducts   = 32
)

// ErrInvalid marks input that breaks a rule of this package.
var ErrInvalid = errors.New("invalid")

var labelKey = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]*$`)

// Labels are an endpoint's attributes: os, arch, kernel, region...
type Labels map[string]string

// Check refuses labels beyond the limits.
func (l Labels) Check() error {
	if len(l) > MaxLabels {
		return fmt.Errorf("labels: %d of them, limit %d: %w", len(l), MaxLabels, ErrInvalid)
	}
	for k, v := range l {
		if len(k) > MaxLabelKey || !labelKey.MatchString(k) {
			return fmt.Errorf("label key %q: want 1 to %d of a-z, 0-9, _ . -: %w", k, MaxLabelKey, ErrInvalid)
		}
		if len(v) > MaxLabelValue {
			return fmt.Errorf("label %s: value of %d bytes, limit %d: %w", k, len(v), MaxLabelValue, ErrInvalid)
		}
	}
	return nil
}

// Segments lists the single-label segments that an endpoint belongs to, as
// "key=value", sorted.
func (l Labels) Segments() []string {
	out := make([]string, 0, len(l))
	for k, v := range l {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}

// Match tells whether the labels have every label of a segment. No labels are
// no segment: they match nobody.
func (l Labels) Match(segment Labels) bool {
	for k, v := range segment {
		if got, ok := l[k]; !ok || got != v {
			return false
		}
	}
	return len(segment) > 0
}

// Rank is an endpoint's place in line under a rollout's seed: random, the same
// for everyone who computes it, independent between seeds, and not for the
// endpoint to choose, since the server made the id before the seed existed.
func Rank(seed []byte, endpointID string) uint64 {
	m := hmac.New(sha256.New, seed)
	m.Write([]byte(endpointID))
	return binary.BigEndian.Uint64(m.Sum(nil))
}

// Share is a rank as a share of the whole line, 0 to 1.
func Share(rank uint64) float64 { return float64(rank) / math.MaxUint64 }

// InTurn tells whether a rank lies below turn, a share of 0 to 1.
func InTurn(rank uint64, turn float64) bool {
	return turn >= 1 || float64(rank) < turn*(1<<64)
}
