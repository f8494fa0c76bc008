package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Window is a weekly maintenance window by the clock on the wall: it is open
// exactly while the clock in Zone shows a time from From up to To, on a day that it
// names. So a window in an hour that summer time skips does not open that day, one
// in an hour that comes twice is open twice, and it never opens at another time
// of day.
type Window struct {
	Zone string `json:"zone"` // IANA name: "Europe/Berlin", "UTC"
	// Days are "mon" to "sun" on which it opens; none is every day. A window past
	// midnight belongs to the day on which it opens.
	Days []string `json:"days,omitempty"`
	From string   `json:"from"` // "22:00"
	To   string   `json:"to"`   // "04:00", not included; "24:00" is the day's end

	zone     *time.Location
	from, to int // minutes since midnight
	days     [7]bool
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// resolve checks a window and finds its zone.
func (w *Window) resolve(zones Zones) error {
	if w.Zone == "" || w.Zone == "Local" {
		return fmt.Errorf("zone: %q; want an IANA name such as Europe/Berlin", w.Zone)
	}
	var err error
	if w.zone, err = zones(w.Zone); err != nil {
		return fmt.Errorf("zone: %w", err)
	}
	if w.from, err = clockMinutes(w.From); err != nil || w.from == 24*60 {
		return fmt.Errorf("from: %q; want a time such as 22:00", w.From)
	}
	if w.to, err = clockMinutes(w.To); err != nil {
		return fmt.Errorf("to: %q; want a time such as 04:00, or 24:00", w.To)
	}
	if w.from == w.to {
		return fmt.Errorf("from and to: both %s; for the whole day want 00:00 and 24:00", w.From)
	}
	w.days = [7]bool{}
	for _, d := range w.Days {
		i := slices.Index(dayNames, d)
		if i < 0 {
			return fmt.Errorf("days: %q; want mon, tue, wed, thu, fri, sat or sun", d)
		}
		w.days[i] = true
	}
	if len(w.Days) == 0 {
		w.days = [7]bool{true, true, true, true, true, true, true}
	}
	return nil
}

// clockMinutes reads "22:00" as minutes since midnight, "24:00" included.
func clockMinutes(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("%q is no time of day", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// open tells whether the wall clock is within the window at t.
func (w *Window) open(t time.Time) bool {
	t = t.In(w.zone)
	at, day := t.Hour()*60+t.Minute(), int(t.Weekday())
	if w.from < w.to {
		return w.days[day] && at >= w.from && at < w.to
	}
	return w.days[day] && at >= w.from || w.days[(day+6)%7] && at < w.to
}

func openAt(ws []Window, t time.Time) bool {
	return slices.ContainsFunc(ws, func(w Window) bool { return w.open(t) })
}

// horizonDays is how far ahead an opening is looked for: two weeks and a day, since
// a weekly window in a skipped hour opens a week later.
const horizonDays = 15

// nextOpening is the first instant after t at which a window is open; zero if
// none is within the horizon. Whether one is open changes only where a wall clock
// reaches a bound of it, or is set.
func nextOpening(ws []Window, t time.Time) time.Time {
	var at []time.Time
	for i := range ws {
		at = append(at, ws[i].edges(t)...)
	}
	slices.SortFunc(at, time.Time.Compare)
	for _, e := range at {
		if e.After(t) && openAt(ws, e) {
			return e.UTC()
		}
	}
	return time.Time{}
}

// edges are the instants near and after t at which the window may open.
func (w *Window) edges(t time.Time) (out []time.Time) {
	local := t.In(w.zone)
	y, m, d := local.Date()
	for i := -1; i <= horizonDays; i++ {
		// The wall clock's reading as if there were no zone, less each offset in force
		// around it: the instants at which it is shown, if it is shown at all.
		wall := time.Date(y, m, d+i, 0, w.from, 0, 0, time.UTC)
		for _, near := range []time.Duration{-26 * time.Hour, 26 * time.Hour} {
			_, offset := wall.Add(near).In(w.zone).Zone()
			out = append(out, wall.Add(-time.Duration(offset)*time.Second))
		}
	}
	for last := local.AddDate(0, 0, horizonDays); ; {
		_, end := local.ZoneBounds()
		if end.IsZero() || end.After(last) {
			return out
		}
		out = append(out, end)
		local = end
	}
}

// openingText says when a window opens next, by UTC and by the tenant's clock.
func openingText(ws []Window, next time.Time) string {
	if next.IsZero() {
		return fmt.Sprintf(" and opens in none of the next %d days", horizonDays)
	}
	const form = "Mon 2006-01-02 15:04"
	var local []string
	for _, w := range ws {
		if text := next.In(w.zone).Format(form + " MST"); w.open(next) && !slices.Contains(local, text) {
			local = append(local, text)
		}
	}
	return fmt.Sprintf("; it opens %s UTC (%s)", next.UTC().Format(form), strings.Join(local, ", "))
}
