package psirt

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/internal/strict"
)

// Limits of a roster.
const (
	MaxRoster    = 64 << 10 // bytes
	maxLevels    = 20
	maxShifts    = 48 // of a level
	maxWays      = 20 // addresses of one who is called
	shortestWait = time.Minute
	longestWait  = 24 * time.Hour
)

// Roster says who is on duty, around the clock, and who is called next when
// nobody answers. It is data: a new one is a new revision.
type Roster struct {
	ID string `json:"id"`
	// Levels are called one after the other; the last is called again and again.
	Levels []Level `json:"levels"`
	// Reach are the mail addresses of those who are called.
	Reach map[string][]string `json:"reach,omitempty"`
	// Hooks are the https addresses of webhooks that are called beside the mail, or
	// instead of it.
	Hooks map[string][]string `json:"hooks,omitempty"`
}

// Level is one step of the climb.
type Level struct {
	// Wait is for how long a call waits here for its answer.
	Wait span.Duration `json:"wait"`
	// Shifts cover the whole day between them.
	Shifts []Shift `json:"shifts"`
}

// Shift is a part of each day, in UTC, and who is on duty in it. From is before
// Until, or the shift runs over midnight; equal ones are the whole day.
type Shift struct {
	From  string `json:"from"`  // "08:00"
	Until string `json:"until"` // "20:00", no longer in it
	Who   string `json:"who"`   // a principal
}

// ParseRoster reads a roster in JSON, strictly. Each minute of the day must have
// somebody at each level, and whoever is called must be reachable.
func ParseRoster(b []byte) (Roster, error) {
	var r Roster
	if len(b) > MaxRoster {
		return r, invalid("roster: %d bytes; at most %d", len(b), MaxRoster)
	}
	if err := strict.Decode(b, &r); err != nil {
		return r, invalid("roster: %v", err)
	}
	return r, r.check()
}

func (r Roster) check() error {
	if err := match("roster: id", r.ID, wordName, "a word"); err != nil {
		return err
	}
	if len(r.Levels) == 0 || len(r.Levels) > maxLevels {
		return invalid("roster: levels: %d; want 1 to %d", len(r.Levels), maxLevels)
	}
	for i, l := range r.Levels {
		if err := r.checkLevel(l); err != nil {
			return fmt.Errorf("roster: levels[%d]: %w", i, err)
		}
	}
	if err := ways("reach", r.Reach, "mail address", mailAddress); err != nil {
		return err
	}
	return ways("hooks", r.Hooks, "https address without a password or a fragment", hookURL)
}

// ways checks the addresses of those who are called.
func ways(field string, of map[string][]string, want string, ok func(string) bool) error {
	for who, addresses := range of {
		if len(addresses) > maxWays {
			return invalid("roster: %s: %s: %d addresses; at most %d", field, who, len(addresses), maxWays)
		}
		for i, a := range addresses {
			if optionalLine("address", a) != nil || !ok(a) {
				return invalid("roster: %s: %s[%d]: %q is no %s", field, who, i, a, want)
			}
		}
	}
	return nil
}

// hookURL tells what can be the address of a webhook: a call must not travel in
// clear, and a password in an address is logged on the way.
func hookURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

// Webhooks lists the webhooks that the roster names, each once.
func (r Roster) Webhooks() (out []string) {
	for _, addresses := range r.Hooks {
		out = append(out, addresses...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Deaf lists those on duty whom no call reaches: they have no webhook, and no mail
// address or nobody who sends mail.
func (r Roster) Deaf(mail bool) (out []string) {
	for _, l := range r.Levels {
		for _, s := range l.Shifts {
			if len(r.Hooks[s.Who]) == 0 && (!mail || len(r.Reach[s.Who]) == 0) {
				out = append(out, s.Who)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mailAddress tells what can be a mail address; the mail server knows the rest.
func mailAddress(s string) bool {
	local, host, ok := strings.Cut(s, "@")
	if !ok || local == "" || host == "" || strings.ContainsAny(s, " <>\"',;:\\()[]") {
		return false
	}
	u, err := url.Parse("//" + host)
	return err == nil && u.Host == host
}

func (r Roster) checkLevel(l Level) error {
	if w := l.Wait.Std(); w < shortestWait || w > longestWait {
		return invalid("wait: %s; want %s to %s", w, shortestWait, longestWait)
	}
	if len(l.Shifts) == 0 || len(l.Shifts) > maxShifts {
		return invalid("shifts: %d; want 1 to %d", len(l.Shifts), maxShifts)
	}
	var covered [dayMinutes]bool
	for i, s := range l.Shifts {
		from, err := minuteOf(s.From)
		if err != nil {
			return fmt.Errorf("shifts[%d]: from: %w", i, err)
		}
		until, err := minuteOf(s.Until)
		if err != nil {
			return fmt.Errorf("shifts[%d]: until: %w", i, err)
		}
		if err := CheckPrincipal(s.Who); err != nil {
			return fmt.Errorf("shifts[%d]: who: %w", i, err)
		}
		if len(r.Reach[s.Who])+len(r.Hooks[s.Who]) == 0 {
			return invalid("shifts[%d]: who: %s has no address in reach or hooks", i, s.Who)
		}
		for m := from; ; {
			if covered[m] {
				return invalid("shifts[%d]: two are on duty at %02d:%02d", i, m/60, m%60)
			}
			covered[m] = true
			if m = (m + 1) % dayMinutes; m == until {
				break
			}
		}
	}
	if m := slices.Index(covered[:], false); m >= 0 {
		return invalid("shifts: nobody is on duty at %02d:%02d UTC", m/60, m%60)
	}
	return nil
}

const dayMinutes = 24 * 60

// minuteOf reads "15:04".
func minuteOf(s string) (int, error) {
	h, m, ok := strings.Cut(s, ":")
	hour, errH := strconv.Atoi(h)
	minute, errM := strconv.Atoi(m)
	if !ok || len(s) != 5 || errH != nil || errM != nil || hour < 0 || hour > 23 || minute < 0 || minute > 59 {
		return 0, invalid("%.10q: want a time of day such as 08:00, in UTC", s)
	}
	return hour*60 + minute, nil
}

// OnDuty is who is called at a level now; levels above the last are the last.
func (r Roster) OnDuty(level int64, now time.Time) string {
	l := r.Levels[min(max(level, 0), int64(len(r.Levels)-1))]
	now = now.UTC()
	at := now.Hour()*60 + now.Minute()
	for _, s := range l.Shifts {
		from, errFrom := minuteOf(s.From)
		until, errUntil := minuteOf(s.Until)
		if errFrom != nil || errUntil != nil {
			break
		}
		if from < until && at >= from && at < until || from >= until && (at >= from || at < until) {
			return s.Who
		}
	}
	panic("psirt: nobody is on duty in a roster that was checked")
}

// Climb is what is to be done about a call that nobody has answered.
type Climb struct {
	Call   bool      // call To now
	To     string    // who is next
	At     time.Time // when that is due
	Reason string
}

// Climbs decides about a call. An answered one stays where it is; another climbs
// when its level's wait is over, and at the last level is repeated.
func (r Roster) Climbs(p Page, now time.Time) Climb {
	if !p.Acknowledged.IsZero() {
		return Climb{Reason: p.By + " answered"}
	}
	top := int64(len(r.Levels) - 1)
	level := min(max(p.Level, 0), top)
	wait := r.Levels[level].Wait.Std()
	next := min(level+1, top)
	c := Climb{At: p.Called.Add(wait), To: r.OnDuty(next, now)}
	if now.Before(c.At) {
		c.Reason = fmt.Sprintf("%s has %s to answer", p.To, wait)
		return c
	}
	c.Call = true
	c.Reason = fmt.Sprintf("%s did not answer within %s", p.To, wait)
	return c
}

// raise, climb and answer are what the three facts about a call do to it, in a
// report as in a case.
func raise(p **Page, b *PageRaised, f Fact) error {
	if *p != nil && (*p).Acknowledged.IsZero() {
		return illegal("%s is being called already", (*p).To)
	}
	*p = &Page{To: b.To, Why: b.Why, Raised: f.At, Called: f.At}
	return nil
}

func climb(p **Page, b *PageEscalated, f Fact) error {
	if *p == nil || !(*p).Acknowledged.IsZero() {
		return illegal("nobody is being called")
	}
	next := **p
	next.To, next.Called = b.To, f.At
	next.Level++
	*p = &next
	return nil
}

func answer(p **Page, b *PageAcknowledged, f Fact) error {
	if *p == nil || !(*p).Acknowledged.IsZero() {
		return illegal("nobody is being called")
	}
	next := **p
	next.Acknowledged, next.By = f.At, b.By
	*p = &next
	return nil
}

func (b *PageRaised) applyReport(r *Report, f Fact) error       { return raise(&r.Page, b, f) }
func (b *PageEscalated) applyReport(r *Report, f Fact) error    { return climb(&r.Page, b, f) }
func (b *PageAcknowledged) applyReport(r *Report, f Fact) error { return answer(&r.Page, b, f) }
