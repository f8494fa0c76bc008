package fleet

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// at gives the instant h hours into the story.
func at(h float64) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(h * float64(time.Hour)))
}

func hit(endpoint int64, runs string, since float64) Hit {
	return Hit{Place: Place{endpoint, "acme/fw", "acme/fw"}, Tenant: "t", Runs: runs, Version: runs, Ranges: []string{"r"}, Since: at(since), Basis: BasisGranted}
}

// says makes reports of one answer for all.
func says(r Report) Reports { return func(int64, string) Report { return r } }

func TestOnlyAHealthyReportEndsAnInterval(t *testing.T) {
	open := Interval{Place: Place{1, "acme/fw", "acme/fw"}, Tenant: "t", Runs: "1.0.0", Version: "1.0.0", From: at(0), Basis: BasisGranted}
	listed := open
	listed.Product = ""
	unknown := open
	unknown.Unknown = "no version"
	for _, c := range []struct {
		name   string
		was    Interval
		report Report
		end    End
		until  time.Time
	}{
		{"nothing heard", open, Report{}, "", time.Time{}},
		{"runs nothing", open, Report{Healthy: true, Seen: at(9)}, "", time.Time{}},
		{"fixed and ill", open, Report{Version: "1.1.0", Seen: at(9)}, "", time.Time{}},
		{"fixed and well", open, Report{Version: "1.1.0", Healthy: true, Seen: at(9)}, EndVerified, at(9)},
		{"fixed and proven", open, Report{Version: "1.1.0", Healthy: true, Seen: at(9), Proven: at(7)}, EndVerified, at(7)},
		{"the range went away", open, Report{Version: "1.0.0", Healthy: true, Seen: at(9)}, EndWithdrawn, at(10)},
		{"off the list", listed, Report{}, EndAttested, at(10)},
		{"unknown, now known to be none", unknown, Report{Version: "1.1.0", Healthy: true, Seen: at(9)}, EndWithdrawn, at(10)},
	} {
		got := Reconcile([]Interval{c.was}, nil, says(c.report), true, at(10))
		if c.end == "" {
			if len(got) != 0 {
				t.Errorf("%s: ended: %+v", c.name, got)
			}
			continue
		}
		if len(got) != 1 || got[0].End != c.end || !got[0].Until.Equal(c.until) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestALateJoinerHasItsTimeAndARegressionBeginsAnew(t *testing.T) {
	first := Reconcile(nil, []Hit{hit(1, "1.0.0", 0)}, nil, false, at(1))
	if len(first) != 1 || !first[0].Joined.IsZero() || !first[0].From.Equal(at(0)) {
		t.Fatalf("first match: %+v", first)
	}
	fixed := Reconcile(first, nil, says(Report{Version: "2.0.0", Healthy: true, Seen: at(2)}), true, at(3))
	second := Reconcile(fixed, []Hit{hit(1, "1.0.0", 0), hit(2, "1.0.0", 3)}, nil, true, at(4))
	if len(second) != 2 {
		t.Fatalf("late: %+v", second)
	}
	if back := second[0]; back.Basis != BasisSeen || !back.From.Equal(at(4)) || !back.Joined.Equal(at(4)) {
		t.Errorf("a downgrade: %+v", back)
	}
	if late := second[1]; late.Basis != BasisGranted || !late.From.Equal(at(3)) || !late.Joined.Equal(at(4)) {
		t.Errorf("a newcomer: %+v", late)
	}
	all := append(fixed, second...)
	rs := Resources(all, func(int64) time.Time { return at(5) }, time.Hour, at(5))
	if len(rs) != 2 || rs[0].State != Vulnerable || rs[0].Exposed != 3*time.Hour || !rs[0].FixedAt.IsZero() {
		t.Errorf("two hours, then one: %+v", rs)
	}
	if again := Reconcile(all, []Hit{hit(1, "1.0.0", 0), hit(2, "1.0.0", 3)}, nil, true, at(6)); len(again) != 0 {
		t.Errorf("the same once more: %+v", again)
	}
}

func TestWhatWasVulnerableStaysSoWhenItsVersionCannotBeRead(t *testing.T) {
	was := Reconcile(nil, []Hit{hit(1, "1.0.0", 0)}, nil, false, at(1))
	odd := hit(1, "odd", 0)
	odd.Ranges, odd.Unknown = nil, "no semver"
	if got := Reconcile(was, []Hit{odd}, says(Report{Version: "odd", Healthy: true, Seen: at(2)}), true, at(2)); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestStaleAndUnknownAreNotFixed(t *testing.T) {
	fixed := Interval{Place: Place{1, "p/q", "p/q"}, Tenant: "a", From: at(0), Until: at(2), End: EndVerified}
	parts := []Interval{fixed}
	for i, change := range []func(*Interval){
		func(i *Interval) {}, // heard from too long ago, see below
		func(i *Interval) { i.Until, i.End = time.Time{}, "" },
		func(i *Interval) { i.Until, i.End, i.Unknown = time.Time{}, "", "?" },
		func(i *Interval) { i.End = EndAttested },
		func(i *Interval) { i.End = EndWithdrawn },
	} {
		j := fixed
		j.Endpoint, j.Tenant = int64(i+2), fmt.Sprint(i)
		change(&j)
		parts = append(parts, j)
	}
	rs := Resources(parts, func(e int64) time.Time {
		if e == 2 {
			return at(3)
		}
		return at(10)
	}, 2*time.Hour, at(10))
	got := Count(rs)
	want := Tally{Resources: 5, Vulnerable: 1, Unknown: 1, Attested: 1, Verified: 1, Stale: 1, Exposed: 16 * time.Hour, Tenants: 4}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// However a fleet moves, the last interval of each place is open exactly if the
// place matches or nothing yet says that it is fixed; intervals of one place
// never overlap; and no resource is fixed that matches.
func TestIntervalsFollowTheFleet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ledger []Interval
		for step := range 12 {
			now := at(float64(step + 1))
			runs := map[int64]Report{}
			var hits []Hit
			for e := range int64(4) {
				v := rapid.SampledFrom([]string{"", "1.0.0", "1.1.0", "2.0.0"}).Draw(t, "runs")
				runs[e] = Report{Version: v, Healthy: rapid.Bool().Draw(t, "healthy"), Seen: now}
				if v != "" && v[0] == '1' {
					hits = append(hits, hit(e, v, 0))
				}
			}
			changed := Reconcile(ledger, hits, func(e int64, _ string) Report { return runs[e] }, step > 0, now)
			for _, c := range changed {
				i := slices.IndexFunc(ledger, func(i Interval) bool { return i.Place == c.Place && i.From.Equal(c.From) })
				if i >= 0 && !ledger[i].Open() {
					t.Fatalf("a closed interval changed: %+v to %+v", ledger[i], c)
				}
				if i >= 0 {
					ledger[i] = c
				} else {
					ledger = append(ledger, c)
				}
			}
			for _, r := range Resources(ledger, func(int64) time.Time { return now }, time.Hour, now) {
				is := runs[r.Endpoint]
				matches := is.Version != "" && is.Version[0] == '1'
				if (matches || !is.Healthy && r.State != Fixed) && r.State == Fixed || !matches && is.Healthy && is.Version != "" && r.State != Fixed {
					t.Fatalf("step %d: %+v is %s", step, is, r.State)
				}
				for i := 1; i < len(r.Intervals); i++ {
					if r.Intervals[i].From.Before(r.Intervals[i-1].Until) || r.Intervals[i-1].Open() {
						t.Fatalf("intervals overlap: %+v", r.Intervals)
					}
				}
				if r.Exposed > now.Sub(at(0)) {
					t.Fatalf("exposed for %s of %s", r.Exposed, now.Sub(at(0)))
				}
			}
		}
	})
}

func TestADigestSaysWhatASnapshotHolds(t *testing.T) {
	a := Reconcile(nil, []Hit{hit(1, "1.0.0", 0), hit(2, "1.0.0", 0)}, nil, false, at(1))
	b := slices.Clone(a)
	slices.Reverse(b)
	if Digest(a) != Digest(b) {
		t.Error("the order changes it")
	}
	b[0].Version = "1.0.1"
	if Digest(a) == Digest(b) {
		t.Error("a version does not change it")
	}
}
