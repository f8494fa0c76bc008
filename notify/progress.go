package notify

import (
	"slices"
	"time"
)

// StepState is how far a step has come.
type StepState string

// The states of a step.
const (
	StepOpen     StepState = "open"
	StepDone     StepState = "done"     // attested by the tenant; weaker than verified
	StepVerified StepState = "verified" // the check passed on each resource
	StepReopened StepState = "reopened" // it was verified, and a check fails again
)

// Result is what a check said on one resource, last.
type Result struct {
	Resource string
	Passed   bool
	At       time.Time
}

// StepProgress is what is known of one step of one notice.
type StepProgress struct {
	HasCheck bool
	// Results are the newest result of each resource that reported; who never did
	// is not among them, and counts as not done.
	Results    []Result
	Attested   time.Time // zero: never
	AttestedBy string
	// Verified is when the check first held everywhere; zero: never. It stays when
	// a check fails later: that is what makes a regression.
	Verified time.Time
}

// Tally counts the notice's resources whose check passed last, failed last, and
// never reported.
func (p StepProgress) Tally(resources []Resource) (passed, failed, unknown int64) {
	n, _ := p.tally(resources)
	return n[0], n[1], n[2]
}

// tally counts resources, and says when the youngest failure was.
func (p StepProgress) tally(resources []Resource) (n [3]int64, failed time.Time) {
	known := make(map[string]Result, len(p.Results))
	for _, r := range p.Results {
		known[r.Resource] = r
	}
	last := ""
	for _, r := range resources { // sorted: one that matches twice is counted once
		if r.ID == last {
			continue
		}
		last = r.ID
		switch got, ok := known[r.ID]; {
		case !ok:
			n[2]++
		case got.Passed:
			n[0]++
		default:
			n[1]++
			failed = later(failed, got.At)
		}
	}
	return n, failed
}

// State derives the step's state over the notice's resources. Unknown is never a
// success: a resource that never reported keeps the step from being verified, one
// that joined since included; the last result of one that fell silent stands. A
// failure after the step was verified opens it again, and outweighs an attestation
// made before the failure.
func (p StepProgress) State(resources []Resource) StepState {
	n, failed := p.tally(resources)
	switch {
	case p.HasCheck && n[0] > 0 && n[1]+n[2] == 0:
		return StepVerified
	case n[1] > 0 && !p.Verified.IsZero():
		return StepReopened
	case !p.Attested.IsZero() && !p.Attested.Before(failed):
		return StepDone
	}
	return StepOpen
}

// Progress is what is known of one notice.
type Progress struct {
	Created      time.Time // its newest edition
	Delivered    time.Time // zero: not known to have reached the tenant
	Opened       time.Time
	Acknowledged time.Time
	Resources    []Resource
	Steps        []StepProgress
}

// State derives the notice's state. A notice that asks for nothing ends as
// delivered, opened or acknowledged.
func (p Progress) State() State {
	if len(p.Steps) > 0 {
		verified, done := true, true
		for _, s := range p.Steps {
			st := s.State(p.Resources)
			verified = verified && st == StepVerified
			done = done && (st == StepVerified || st == StepDone)
		}
		if verified {
			return Verified
		}
		if done {
			return Done
		}
	}
	switch {
	case !p.Acknowledged.IsZero():
		return Acknowledged
	case !p.Opened.IsZero():
		return Opened
	case !p.Delivered.IsZero():
		return Delivered
	}
	return Queued
}

// Closed tells whether nothing more is expected of the tenant: every step is
// verified or, where it has no check, attested; or there is none and the notice
// reached it.
func (p Progress) Closed() bool {
	if len(p.Steps) == 0 {
		return !p.Delivered.IsZero() || !p.Opened.IsZero()
	}
	return !slices.ContainsFunc(p.Steps, func(s StepProgress) bool {
		st := s.State(p.Resources)
		return st != StepVerified && (s.HasCheck || st != StepDone)
	})
}

// Reopened counts the steps whose checks fail after they held.
func (p Progress) Reopened() (n int) {
	for _, s := range p.Steps {
		if s.State(p.Resources) == StepReopened {
			n++
		}
	}
	return n
}

// Open lists the numbers of the steps, from 1, that are open.
func (p Progress) Open() (n []int) {
	for i, s := range p.Steps {
		if st := s.State(p.Resources); st == StepOpen || st == StepReopened || (st == StepDone && s.HasCheck) {
			n = append(n, i+1)
		}
	}
	return n
}
