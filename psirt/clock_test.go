package psirt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func clockOf(c *Case, p *ClockPolicy, name string, now time.Time) *Clock {
	for _, k := range c.Clocks(p, now) {
		if k.Name == name {
			return &k
		}
	}
	return nil
}

func wantClock(t *testing.T, c *Case, name string, now time.Time, due string, runs, broken bool) {
	t.Helper()
	p := DefaultClocks()
	k := clockOf(c, &p, name, now)
	if k == nil {
		t.Fatalf("no clock %s", name)
	}
	if stamp(k.Due) != due || k.Runs() != runs || k.Broken(now) != broken {
		t.Errorf("%s is due %s, runs %v, broken %v; want %s, %v, %v", name, stamp(k.Due), k.Runs(), k.Broken(now), due, runs, broken)
	}
	if k.Rule == "" || k.Clears == "" {
		t.Errorf("%s has rule %q and act %q", name, k.Rule, k.Clears)
	}
}

// start is a Friday, 03:04:05 UTC.
func TestClocksAreDueByTheirRule(t *testing.T) {
	c := opened(t)
	p := DefaultClocks()
	if got := c.Clocks(&p, start); len(got) != 0 {
		t.Fatalf("a case without a report has clocks %+v", got)
	}
	add(t, c, start, &ReportLinked{Report: "RP-0000000000001", Case: "C-0000000000001", Role: Original, Received: start})
	wantClock(t, c, "acknowledge", start, "2026-01-05T17:00:00Z", true, false)
	wantClock(t, c, "acknowledge", start.Add(4*24*time.Hour), "2026-01-05T17:00:00Z", true, true)
	wantClock(t, c, "report-90d", start, "2026-04-02T03:04:05Z", true, false)
	add(t, c, start, &ReportAcknowledged{How: "mail"})
	wantClock(t, c, "acknowledge", start.Add(365*24*time.Hour), "2026-01-05T17:00:00Z", false, false)

	if k := clockOf(c, &p, "fix", start); k != nil {
		t.Errorf("an unscored case has a fix clock: %+v", k)
	}
	add(t, c, start, &TriageScored{Scheme: "house", Score: 9.3, Scorer: "ann"})
	wantClock(t, c, "fix", start, "2026-01-09T03:04:05Z", true, false)

	add(t, c, start, &VendorIsAware{})
	add(t, c, start, &AttackSeen{Where: "honeypot"})
	wantClock(t, c, "cra-early-warning", start, "2026-01-03T03:04:05Z", true, false)
	wantClock(t, c, "cra-notification", start, "2026-01-05T03:04:05Z", true, false)
	if k := clockOf(c, &p, "cra-final", start); k != nil {
		t.Errorf("the final report is due without a corrective measure: %+v", k)
	}
	late := start.Add(100 * time.Hour)
	add(t, c, late, &FixBound{Product: "acme/rules", Version: "2"})
	wantClock(t, c, "cra-final", late, "2026-01-20T07:04:05Z", true, false)
	add(t, c, late, &AuthorityNotified{Duty: "eu-cra-14", Stage: "early-warning", Reference: "x"})
	wantClock(t, c, "cra-early-warning", late, "2026-01-03T03:04:05Z", false, true)

	add(t, c, late, &BecamePublic{Where: "x"})
	wantClock(t, c, "record-24h", late, "2026-01-07T07:04:05Z", true, false)
	wantClock(t, c, "record-72h", late, "2026-01-09T07:04:05Z", true, false)
	wantClock(t, c, "report-90d", late, "2026-04-02T03:04:05Z", false, false)
	add(t, c, late, &RecordPublished{ID: "CVE-1900-0001"})
	wantClock(t, c, "record-72h", late, "2026-01-09T07:04:05Z", false, false)
	add(t, c, late, &CaseClosed{Why: "done"})
	for _, k := range c.Clocks(&p, late) {
		if k.Runs() {
			t.Errorf("%s runs in a closed case", k.Name)
		}
	}
}

func TestEmbargoClockIsItsEnd(t *testing.T) {
	c := opened(t)
	add(t, c, start, &EmbargoProposed{Until: "2026-01-10T15:00:00Z"})
	wantClock(t, c, "embargo", start, "2026-01-10T15:00:00Z", true, false)
	add(t, c, start.Add(time.Hour), &BecamePublic{Where: "x"})
	wantClock(t, c, "embargo", start.Add(2*time.Hour), "2026-01-10T15:00:00Z", false, false)
}

// The first clock of a board that runs is the one that is due first, a cleared one
// comes after all that run, and no clock is due before it starts.
func TestBoardShowsTheFirstBreachFirst(t *testing.T) {
	p := DefaultClocks()
	rapid.Check(t, func(rt *rapid.T) {
		c, now := *opened(rt), start
		add(rt, &c, start, &ReportLinked{Report: "RP-0000000000001", Case: "C-0000000000001", Role: Original, Received: start})
		for range rapid.IntRange(1, 30).Draw(rt, "tries") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(rt, "hours")) * time.Hour)
			if next, err := c.Apply(record(rt, &c, now, anyBody(rt, now))); err == nil {
				c = next
			}
		}
		all := c.Clocks(&p, now)
		for i, k := range all {
			if k.Due.Before(k.Started) || !k.Runs() && k.Cleared.Before(k.Started) {
				rt.Fatalf("%s starts %s, is due %s, cleared %s", k.Name, k.Started, k.Due, k.Cleared)
			}
			if i > 0 && CompareClocks(all[i-1], k) > 0 {
				rt.Fatalf("%s stands after %s", k.Name, all[i-1].Name)
			}
			if k.Runs() && k.Broken(k.Due.Add(-time.Nanosecond)) || k.Runs() && !k.Broken(k.Due) {
				rt.Fatalf("%s does not break at its instant", k.Name)
			}
		}
	})
}

func tokyo(string) (*time.Location, error) { return time.FixedZone("Asia/Tokyo", 9*3600), nil }

func TestBusinessDaysSkipWeekendsAndHolidays(t *testing.T) {
	c := Calendar{Zone: "Asia/Tokyo", Days: []string{"Mon", "Tue", "Wed", "Thu", "Fri"}, Close: "18:30", Holidays: []string{"2026-01-12"}}
	if err := c.complete(tokyo); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		from string
		days int
		want string
	}{
		{"2026-01-08T14:59:00Z", 1, "2026-01-09T09:30:00Z"}, // Thursday 23:59 there
		{"2026-01-08T15:00:00Z", 1, "2026-01-13T09:30:00Z"}, // Friday 00:00 there; Monday is a holiday
		{"2026-01-10T00:00:00Z", 1, "2026-01-13T09:30:00Z"}, // Saturday
		{"2026-01-08T00:00:00Z", 5, "2026-01-16T09:30:00Z"},
	} {
		from, err := time.Parse(time.RFC3339, x.from)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Add(from, x.days); stamp(got) != x.want {
			t.Errorf("%d days from %s: %s, want %s", x.days, x.from, stamp(got), x.want)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		from := start.Add(time.Duration(rapid.Int64Range(0, 1e6).Draw(rt, "minutes")) * time.Minute)
		n := rapid.IntRange(1, 30).Draw(rt, "days")
		due := c.Add(from, n)
		if at := due.In(c.zone); at.Weekday() == time.Saturday || at.Weekday() == time.Sunday || c.holidays[at.Format(time.DateOnly)] {
			rt.Fatalf("due on %s", at)
		}
		if d := due.Sub(from); d <= 0 || !c.Add(from, n+1).After(due) {
			rt.Fatalf("%d days after %s is %s", n, from, due)
		}
	})
}

func TestClockPolicyNamesWhatIsWrong(t *testing.T) {
	head := `{"id":"x","effective":"2026-01-01","calendar":{"zone":"UTC","days":["Mon"],"close":"17:00","holidays":[]},"rows":[`
	utc := func(string) (*time.Location, error) { return time.UTC, nil }
	for body, want := range map[string]string{
		head + `{"name":"a","rule":"r","force":"must","from":["public"],"cleared_by":"public","act":"x"}]}`:                "either after or business_days",
		head + `{"name":"a","rule":"r","force":"must","from":["nonsense"],"after":"1h","cleared_by":"public","act":"x"}]}`: "nonsense",
		head + `{"name":"a","rule":"r","force":"may","from":["public"],"after":"1h","cleared_by":"public","act":"x"}]}`:    "force",
		strings.Replace(head, "17:00", "five", 1) + `]}`:                                                                   "close",
		strings.Replace(head, `"Mon"`, `"Noday"`, 1) + `]}`:                                                                "Noday",
		head + `{"nam":"a"}]}`: "nam",
		head + `]}{}`:          "data after",
	} {
		_, err := ParseClockPolicy([]byte(body), utc)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v; want it to name %q", body, err, want)
		}
	}
}
