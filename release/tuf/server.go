package tuf

import "time"

// SetRoot takes root version 1 of an empty repository, afterwards exactly the
// next version, signed by the old and the new threshold. Its snapshot and
// timestamp keys must be the server's.
func (r Repo) SetRoot(root []byte, now time.Time) (Change, error) { panic("tuf: being written") }

// SetTargets takes the next version of targets. It must delegate plan/* to the
// server's rollout key, else only to vendors, each for its own paths.
func (r Repo) SetTargets(targets []byte, now time.Time) (Change, error) { panic("tuf: being written") }

// SetVendor takes the next version of a vendor's metadata.
func (r Repo) SetVendor(vendor string, meta []byte, now time.Time) (Change, error) {
	panic("tuf: being written")
}

// SetPlan signs a plan and makes it the one in force.
func (r Repo) SetPlan(plan []byte, now time.Time) (Change, error) { panic("tuf: being written") }

// Renew signs afresh what is past half of its life: timestamp alone, or snapshot
// and rollout with it. ok is false when nothing is due.
func (r Repo) Renew(now time.Time) (c Change, ok bool, err error) { panic("tuf: being written") }
func checkVendorPaths(vendor string, meta []byte) ([]string, error) { return nil, nil }
