package pacing

import "math"

// Fault is what a release does to endpoints, or the world to a good release.
type Fault struct {
	Name string
	// Kills is the probability that an endpoint fails, in a segment that has Share
	// of the fleet, or everywhere if Share is 0.
	Kills, Share float64
	// Median age at failure in seconds and the spread of its logarithm; 0 is at once.
	Median, Spread float64
	Silent         float64 // part of the failures that never report
	Slow           bool    // 6.5 % instead of 5 % exceed the controls' 95th percentile
	// Counts is how many times as many endpoints as usual, a 200th, have what a policy's
	// measures count; 0 is as many. A policy that names none does not see it.
	Counts float64
	// What the world does: 30 % of a region with some 6 % drop off the network;
	// the control plane is dead for ten minutes; the baseline wanders.
	Outage, Dead, Noise bool
	// Outages are correlated, three an hour; Diurnal lets laptops come and go by the
	// hour, and Returning confines the fault to those that were away at the start.
	Outages, Diurnal, Returning bool
	// Until ends the simulation early, in ticks; 0 is 30 h.
	Until int
}

// Faults is the catalogue.
func Faults() []Fault {
	return []Fault{
		{Name: "good"},
		{Name: "good-outage", Outage: true},
		{Name: "good-dead-server", Dead: true},
		{Name: "good-noise", Noise: true},
		{Name: "good-outages", Outages: true},
		{Name: "good-diurnal", Diurnal: true},
		{Name: "kill-all", Kills: 1, Silent: 1},
		{Name: "crash-0.1%", Kills: 0.001},
		{Name: "kill-segment-0.5%", Share: 0.005, Kills: 1, Silent: 1},
		{Name: "kill-segment-0.05%", Share: 0.0005, Kills: 1, Silent: 1},
		{Name: "late-2h", Kills: 1, Median: 7200, Spread: 0.1, Silent: 1},
		{Name: "late-12h", Kills: 1, Median: 43200, Spread: 0.001, Silent: 1},
		{Name: "slow", Slow: true},
		{Name: "hang-2%-10min", Kills: 0.02, Median: 600, Spread: 0.8, Silent: 1},
		{Name: "half-of-each-pair", Kills: 0.5, Silent: 1},
		{Name: "false-positives", Counts: 3},
		{Name: "kill-returning", Kills: 1, Silent: 1, Diurnal: true, Returning: true, Until: 4320},
	}
}

// Good tells whether the release itself is without fault.
func (f Fault) Good() bool { return f.Kills == 0 && !f.Slow && f.Counts == 0 }

// by is the probability that a doomed endpoint has failed by an age in seconds.
func (f Fault) by(age float64) float64 {
	switch {
	case age <= 0:
		return 0
	case f.Median == 0:
		return 1
	}
	return 0.5 * math.Erfc(-(math.Log(age)-math.Log(f.Median))/(f.Spread*math.Sqrt2))
}
