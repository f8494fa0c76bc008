package psirt

import (
	"slices"
	"time"
)

// maxBusinessDays bounds a deadline in business days: a year of them.
const maxBusinessDays = 260

// Calendar says which days are business days, where.
type Calendar struct {
	Zone     string   `json:"zone"`     // IANA name
	Days     []string `json:"days"`     // "Mon", ...
	Close    string   `json:"close"`    // "17:00": a deadline in business days is due then
	Holidays []string `json:"holidays"` // "2026-12-25"

	zone     *time.Location
	days     [7]bool
	close    time.Duration
	holidays map[string]bool
}

// complete checks the calendar and prepares it for use.
func (c *Calendar) complete(zone func(string) (*time.Location, error)) error {
	var err error
	if c.zone, err = zone(c.Zone); err != nil {
		return invalid("calendar: zone %q: %v", c.Zone, err)
	}
	at, err := time.Parse("15:04", c.Close)
	if err != nil {
		return invalid("calendar: close %q: want an hour such as 17:00", c.Close)
	}
	c.close = time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute
	for _, d := range c.Days {
		i := slices.IndexFunc(weekdays, func(w string) bool { return w == d })
		if i < 0 {
			return invalid("calendar: day %q: want Mon, Tue, Wed, Thu, Fri, Sat or Sun", d)
		}
		c.days[i] = true
	}
	if len(c.Days) == 0 {
		return invalid("calendar: it has no business days")
	}
	if len(c.Holidays) > MaxList {
		return invalid("calendar: %d holidays; at most %d", len(c.Holidays), MaxList)
	}
	c.holidays = map[string]bool{}
	for _, h := range c.Holidays {
		if _, err := time.Parse(time.DateOnly, h); err != nil {
			return invalid("calendar: holiday %q: want a day such as 2026-12-25", h)
		}
		c.holidays[h] = true
	}
	return nil
}

var weekdays = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// Add is the close of the n-th business day after the day of t: the day on which
// something comes in does not count, whatever the hour.
func (c *Calendar) Add(t time.Time, n int) time.Time {
	t = t.In(c.zone)
	year, month, day := t.Date()
	weekday := int(t.Weekday())
	for left := n; left > 0; {
		day, weekday = day+1, (weekday+1)%7
		if c.days[weekday] && !c.holiday(year, month, day) {
			left--
		}
	}
	hour, minute := int(c.close/time.Hour), int(c.close%time.Hour/time.Minute)
	return time.Date(year, month, day, hour, minute, 0, 0, c.zone).UTC()
}

func (c *Calendar) holiday(year int, month time.Month, day int) bool {
	return len(c.holidays) > 0 && c.holidays[time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)]
}
