package wire

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats are the fleet's counters since its start.
type Stats struct {
	Enrolled, Polls, NotModified    int64
	Asked, Granted, Waited, Refused int64
	Activated, Proven, Harmed       int64
	Reverted, PreflightFailed       int64
	Vanished, Beacons, Errors       int64
	Versions                        map[string]int64 // endpoints by "vendor/product@version" that runs
}

type counters struct {
	enrolled, polls, notModified    atomic.Int64
	asked, granted, waited, refused atomic.Int64
	activated, proven, harmed       atomic.Int64
	reverted, preflightFailed       atomic.Int64
	vanished, beacons, errors       atomic.Int64

	mu       sync.Mutex // guards versions
	versions map[string]int64
}

// moved counts an endpoint's change of version.
func (c *counters) moved(product, from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.versions == nil {
		c.versions = map[string]int64{}
	}
	if from != "" {
		if c.versions[product+"@"+from]--; c.versions[product+"@"+from] == 0 {
			delete(c.versions, product+"@"+from)
		}
	}
	if to != "" {
		c.versions[product+"@"+to]++
	}
}

// Stats may be called at any time.
func (f *Fleet) Stats() Stats {
	c := &f.counters
	c.mu.Lock()
	versions := maps.Clone(c.versions)
	c.mu.Unlock()
	return Stats{
		Enrolled: c.enrolled.Load(), Polls: c.polls.Load(), NotModified: c.notModified.Load(),
		Asked: c.asked.Load(), Granted: c.granted.Load(), Waited: c.waited.Load(), Refused: c.refused.Load(),
		Activated: c.activated.Load(), Proven: c.proven.Load(), Harmed: c.harmed.Load(),
		Reverted: c.reverted.Load(), PreflightFailed: c.preflightFailed.Load(),
		Vanished: c.vanished.Load(), Beacons: c.beacons.Load(), Errors: c.errors.Load(), Versions: versions,
	}
}
