package fleet

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Place is where a vulnerable component is: on an endpoint, in a product that it
// runs or, with no product, in what the endpoint's own bill of materials lists.
type Place struct {
	Endpoint int64
	Product  string
	Key      string // release.Name.Key of the component
}

// Hit is what matching found at a place just now.
type Hit struct {
	Place
	Tenant  string
	Runs    string   // the version of the product that runs; empty without a product
	Version string   // of the component; several are sorted, with commas between
	Ranges  []string // the ranges that hold it
	Unknown string   // or why nobody can tell
	Since   time.Time
	Basis   Basis
}

// Basis is what an instant from which something is vulnerable is taken from: the
// earliest that is known.
type Basis string

// The bases.
const (
	BasisGranted  Basis = "granted"  // the grant that brought the version
	BasisEnrolled Basis = "enrolled" // the version ran when the endpoint enrolled, or came by no grant
	BasisListed   Basis = "listed"   // a bill of materials that was attached to the endpoint
	BasisSeen     Basis = "seen"     // it was fixed before, and seen to be back
)

// End is why an interval ended.
type End string

// The ends. Only a verified one counts as fixed.
const (
	EndVerified  End = "verified"  // the endpoint runs, healthy, what no range holds
	EndAttested  End = "attested"  // its bill of materials does not list it any more
	EndWithdrawn End = "withdrawn" // it is as it was; no range means it any more
)

// Interval is how long a place was vulnerable, as far as is known: from From
// until Until, or until now while Until is zero.
type Interval struct {
	Place
	Tenant  string
	Runs    string
	Version string
	Ranges  []string
	Unknown string // its version has no place in the order: neither vulnerable nor safe
	From    time.Time
	Basis   Basis
	Until   time.Time
	End     End
	// Joined is when it was found, if that was after the first match: a late joiner.
	Joined time.Time
}

// Open tells whether it goes on.
func (i Interval) Open() bool { return i.Until.IsZero() }

// Report is what an endpoint last said of a product. The zero value is nothing.
type Report struct {
	Version string
	Healthy bool
	Seen    time.Time // when it was last said
	Proven  time.Time // when the version was proven under a rollout; zero if it was not
}

// Reports knows what endpoints last said.
type Reports func(endpoint int64, product string) Report

// Reconcile compares the latest interval of each place with what matches now,
// and returns those that are new or changed, sorted by place. late marks what is
// new as a late joiner.
//
// Only what an endpoint said of itself ends an interval as verified: that it
// runs, healthy, a version that no range holds. Silence, an unhealthy version,
// one that runs nothing and one that cannot be read end nothing.
func Reconcile(latest []Interval, hits []Hit, reports Reports, late bool, now time.Time) []Interval {
	before := make(map[Place]Interval, len(latest))
	for _, i := range latest {
		if j, ok := before[i.Place]; !ok || j.From.Before(i.From) {
			before[i.Place] = i
		}
	}
	var out []Interval
	found := make(map[Place]bool, len(hits))
	for _, h := range hits {
		found[h.Place] = true
		was, known := before[h.Place]
		if next, changed := h.meet(was, known, late, now); changed {
			out = append(out, next)
		}
	}
	for _, i := range before {
		if i.Open() && !found[i.Place] {
			if next, ended := i.end(reports(i.Endpoint, i.Product), now); ended {
				out = append(out, next)
			}
		}
	}
	slices.SortFunc(out, compareIntervals)
	return out
}

func compareIntervals(a, b Interval) int {
	return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Product, b.Product), cmp.Compare(a.Key, b.Key), a.From.Compare(b.From))
}

// meet gives the interval that a hit makes, begins or changes.
func (h Hit) meet(was Interval, known, late bool, now time.Time) (Interval, bool) {
	next := Interval{Place: h.Place, Tenant: h.Tenant, Runs: h.Runs, Version: h.Version, Ranges: h.Ranges, Unknown: h.Unknown, From: h.Since, Basis: h.Basis}
	if late {
		next.Joined = now
	}
	switch {
	case !known:
		return next, true
	case !was.Open():
		// It is back: not from before it was seen to be gone.
		if !next.From.After(was.Until) {
			next.From, next.Basis = later(now, was.Until), BasisSeen
		}
		return next, true
	case h.Unknown != "" && was.Unknown == "":
		return was, false // was vulnerable, and nothing says that it is not
	}
	next.From, next.Basis, next.Joined = was.From, was.Basis, was.Joined
	same := was.Runs == next.Runs && was.Version == next.Version && was.Unknown == next.Unknown && slices.Equal(was.Ranges, next.Ranges)
	return next, !same
}

// end closes an interval that matches no more, if it may be closed.
func (i Interval) end(r Report, now time.Time) (Interval, bool) {
	switch {
	case i.Unknown != "":
		i.End, i.Until = EndWithdrawn, now
	case i.Product == "":
		i.End, i.Until = EndAttested, now
	case r.Version == "":
		return i, false
	case r.Version == i.Runs:
		i.End, i.Until = EndWithdrawn, now
	case !r.Healthy:
		return i, false
	case !r.Proven.IsZero():
		i.End, i.Until = EndVerified, r.Proven
	default:
		i.End, i.Until = EndVerified, r.Seen
	}
	i.Until = later(i.Until, i.From)
	return i, true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ResourceState says how a resource stands.
type ResourceState string

// The states of a resource, the worst first.
const (
	Vulnerable ResourceState = "vulnerable" // some component still is
	Unknown    ResourceState = "unknown"    // some component's version cannot be placed
	Attested   ResourceState = "attested"   // fixed, by its bill of materials only
	Stale      ResourceState = "stale"      // was verified as fixed, and not heard from since for too long
	Fixed      ResourceState = "fixed"      // all of it verified, and heard from lately
)

// Resource is an endpoint with all that is or was vulnerable on it.
type Resource struct {
	Endpoint  int64
	Tenant    string
	State     ResourceState
	Since     time.Time     // the first interval's start
	FixedAt   time.Time     // when the last one ended; zero while one is open
	Exposed   time.Duration // how long any component was vulnerable, counted once
	Joined    time.Time     // when it was found, if late
	Seen      time.Time
	Stale     bool       // not heard from for too long, whatever its state
	Intervals []Interval // by place and start
}

// Resources sums intervals up by endpoint, ascending. What was withdrawn from
// is no resource. seen is when an endpoint was last heard from.
func Resources(intervals []Interval, seen func(endpoint int64) time.Time, staleAfter time.Duration, now time.Time) []Resource {
	all := slices.SortedFunc(slices.Values(intervals), compareIntervals)
	var out []Resource
	for len(all) > 0 {
		n := slices.IndexFunc(all, func(i Interval) bool { return i.Endpoint != all[0].Endpoint })
		if n < 0 {
			n = len(all)
		}
		of := slices.DeleteFunc(slices.Clone(all[:n]), func(i Interval) bool { return i.End == EndWithdrawn })
		if len(of) > 0 {
			at := seen(of[0].Endpoint)
			out = append(out, sumUp(of, at, now.Sub(at) > staleAfter, now))
		}
		all = all[n:]
	}
	return out
}

// sumUp makes the resource of one endpoint's intervals.
func sumUp(of []Interval, seen time.Time, stale bool, now time.Time) Resource {
	r := Resource{Endpoint: of[0].Endpoint, Tenant: of[0].Tenant, Since: of[0].From, Joined: of[0].Joined, Seen: seen, Stale: stale, State: Fixed, Intervals: of}
	rank := []ResourceState{Vulnerable, Unknown, Attested, Stale, Fixed}
	var spans []Interval
	for _, i := range of {
		s := Fixed
		switch {
		case i.Open() && i.Unknown != "":
			s = Unknown
		case i.Open():
			s = Vulnerable
		case i.End == EndAttested:
			s = Attested
		case stale:
			s = Stale
		}
		if slices.Index(rank, s) < slices.Index(rank, r.State) {
			r.State = s
		}
		if i.From.Before(r.Since) {
			r.Since = i.From
		}
		if i.Joined.IsZero() || !r.Joined.IsZero() && i.Joined.Before(r.Joined) {
			r.Joined = i.Joined
		}
		r.FixedAt = later(r.FixedAt, i.Until)
		if i.Unknown == "" {
			spans = append(spans, i)
		}
	}
	if r.State == Vulnerable || r.State == Unknown {
		r.FixedAt = time.Time{}
	}
	r.Exposed = union(spans, now)
	return r
}

// union is how long any of the intervals lasted.
func union(spans []Interval, now time.Time) (total time.Duration) {
	slices.SortFunc(spans, func(a, b Interval) int { return a.From.Compare(b.From) })
	var end time.Time
	for _, i := range spans {
		until := i.Until
		if i.Open() {
			until = now
		}
		if from := later(i.From, end); until.After(from) {
			total += until.Sub(from)
		}
		end = later(end, until)
	}
	return total
}

// Tally counts resources.
type Tally struct {
	Resources  int64
	Vulnerable int64
	Unknown    int64
	Attested   int64
	Verified   int64 // fixed: all of it verified, and heard from lately
	Stale      int64 // not heard from for too long, whatever they last said
	Exposed    time.Duration
	Tenants    int64 // with a resource that is or was vulnerable
}

// Count sums resources up. Verified and Stale share no resource, so that what is
// stale counts as not fixed.
func Count(resources []Resource) (t Tally) {
	tenants := map[string]bool{}
	for _, r := range resources {
		t.Resources++
		t.Exposed += r.Exposed
		switch r.State {
		case Vulnerable:
			t.Vulnerable++
		case Unknown:
			t.Unknown++
		case Attested:
			t.Attested++
		case Fixed:
			t.Verified++
		}
		if r.Stale {
			t.Stale++
		}
		if slices.ContainsFunc(r.Intervals, func(i Interval) bool { return i.Unknown == "" }) {
			tenants[r.Tenant] = true
		}
	}
	t.Tenants = int64(len(tenants))
	return t
}

// Snapshot writes intervals down, one line each, sorted: two that say the same
// are the same bytes.
func Snapshot(intervals []Interval) []byte {
	lines := make([]string, 0, len(intervals))
	for _, i := range intervals {
		until := int64(0)
		if !i.Open() {
			until = i.Until.UnixMicro()
		}
		lines = append(lines, fmt.Sprintf("%q %d %q %q %q %q %q %q %d %s %d %s\n", i.Tenant, i.Endpoint, i.Product, i.Runs, i.Key, i.Version, strings.Join(i.Ranges, " "), i.Unknown, i.From.UnixMicro(), i.Basis, until, i.End))
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

// Digest is the SHA-256, in hex, of a snapshot.
func Digest(intervals []Interval) string {
	sum := sha256.Sum256(Snapshot(intervals))
	return hex.EncodeToString(sum[:])
}
