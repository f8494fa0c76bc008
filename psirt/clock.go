package psirt

import (
	"slices"
	"time"
)

// Force says how a deadline binds.
type Force string

// The forces, by RFC 2119.
const (
	Must   Force = "must"
	Should Force = "should"
)

// Clock is a deadline with the rule that made it.
type Clock struct {
	Name    string    `json:"name"`
	Rule    string    `json:"rule"` // whose it is, with its place
	Force   Force     `json:"force"`
	Started time.Time `json:"started"`
	Due     time.Time `json:"due"`
	Cleared time.Time `json:"cleared,omitzero"` // when the act was done
	Clears  string    `json:"clears"`           // the act
	Fact    int64     `json:"fact"`             // that started it
}

// Runs tells whether the act is still to be done.
func (k *Clock) Runs() bool { return k.Cleared.IsZero() }

// Broken tells whether the act was not done in time. A deadline that passes at
// an instant is broken from that instant on.
func (k *Clock) Broken(now time.Time) bool {
	if !k.Runs() {
		return k.Cleared.After(k.Due)
	}
	return !now.Before(k.Due)
}

// SortClocks puts those that run first, and these by due time.
func SortClocks(clocks []Clock) { slices.SortStableFunc(clocks, CompareClocks) }

// CompareClocks orders as SortClocks does.
func CompareClocks(a, b Clock) int {
	if a.Runs() != b.Runs() {
		if a.Runs() {
			return -1
		}
		return 1
	}
	return a.Due.Compare(b.Due)
}
