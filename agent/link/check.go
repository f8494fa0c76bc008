package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
)

// How often a check is looked at; the server may ask for less and not for more.
const (
	checkEvery    = 10 * time.Minute
	checkMinimum  = 10 * time.Second
	checkMaximum  = 24 * time.Hour
	checkTimeout  = 2 * time.Minute // a probe's own limit is a minute
	maxCheckID    = 64
	maxReasonCode = 64
)

// checked is a check that the server asks for, and how it stands.
type checked struct {
	check *v1.Check
	due   time.Time
	now   *v1.CheckResult // nil before the first look
	told  *v1.CheckResult // as the server acknowledged it
}

// every is how often to look.
func (c *checked) every() time.Duration {
	us := c.check.EveryUs
	if us <= 0 {
		us = checkEvery.Microseconds()
	}
	return time.Duration(min(max(us, checkMinimum.Microseconds()), checkMaximum.Microseconds())) * time.Microsecond
}

// same tells whether two results say the same.
func same(a, b *v1.CheckResult) bool {
	return a != nil && b != nil && a.State == b.State && a.Reason == b.Reason
}

// tookChecks puts in force what the server asks for. What is new is looked at
// now; what it leaves out is forgotten.
func (l *link) tookChecks(asked []*v1.Check) {
	if len(asked) == 0 && len(l.checks) == 0 {
		return
	}
	next := map[string]*checked{}
	for _, c := range asked[:min(len(asked), release.MaxChecks)] {
		if c.GetId() == "" || len(c.GetId()) > maxCheckID {
			continue // it has no name by which to answer
		}
		old := l.checks[c.Id]
		if old == nil || !sameCheck(old.check, c) {
			old = &checked{}
		}
		old.check = c
		next[c.Id] = old
	}
	l.checks = next
	l.scheduleChecks()
}

// scheduleChecks sets when to look next.
func (l *link) scheduleChecks() {
	l.check.due = time.Now().Add(never)
	for _, c := range l.checks {
		l.check.due = minTime(l.check.due, c.due)
	}
}

// versionsChanged has every check looked at again when another version runs or is
// up at last: it may hold what the one before did not, or the reverse.
func (l *link) versionsChanged(st ipc.Status) {
	runs := ""
	for _, p := range st.Products {
		runs += fmt.Sprint(p.Product, " ", p.Digest, " ", p.Healthy, ";")
	}
	if runs == l.runs {
		return
	}
	l.runs = runs
	for _, c := range l.checks {
		c.due = time.Time{}
	}
	l.scheduleChecks()
}

// nextCheck looks at the check that is due the longest.
func (l *link) nextCheck(ctx context.Context, now time.Time) {
	var next *checked
	for _, id := range slices.Sorted(maps.Keys(l.checks)) {
		if c := l.checks[id]; !c.due.After(now) && (next == nil || c.due.Before(next.due)) {
			next = c
		}
	}
	if next == nil {
		l.scheduleChecks()
		return
	}
	next.due = now.Add(Jitter(next.every(), 0.1, l.rnd.Float64()))
	asked := next.check
	l.start(&l.check, func() func() {
		got, err := l.look(ctx, asked)
		return func() {
			l.scheduleChecks()
			c := l.checks[asked.Id]
			if err != nil || c == nil || !sameCheck(c.check, asked) {
				return // the agent stops, or the server asks for something else by now
			}
			if !same(c.now, got) {
				l.Log.Info("check looked at", "check", got.Id, "state", got.State.String(), "reason", got.Reason)
			}
			c.now = got
			if !same(c.now, c.told) && l.unacked == 0 {
				l.beacon.due = time.Now()
			}
		}
	})
}

func sameCheck(a, b *v1.Check) bool {
	return a.Kind == b.Kind && a.Product == b.Product && a.Probe == b.Probe && a.Want == b.Want
}

// look has keeper carry out one check; it runs as a job. An error is that nobody
// looked.
func (l *link) look(ctx context.Context, c *v1.Check) (*v1.CheckResult, error) {
	ask := release.Check{Kind: release.CheckKind(c.Kind), Product: c.Product, Probe: c.Probe, Want: c.Want}
	unknown := func(reason string) *v1.CheckResult {
		return &v1.CheckResult{Id: c.Id, State: v1.CheckState_CHECK_STATE_UNKNOWN, Reason: clip(reason, maxReasonCode)}
	}
	if ask.Validate() != nil {
		return unknown("unsupported"), nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	a, err := l.Keeper.Check(ctx, ipc.Check(ask))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return unknown("timeout"), nil
	case err != nil:
		return nil, fmt.Errorf("check %s: %w", c.Id, err)
	case a.OK:
		return &v1.CheckResult{Id: c.Id, State: v1.CheckState_CHECK_STATE_PASSED}, nil
	case a.Reason == "differs" || a.Reason == "exit-status":
		return &v1.CheckResult{Id: c.Id, State: v1.CheckState_CHECK_STATE_FAILED, Reason: a.Reason}, nil
	}
	l.Log.Debug("check is unknown", "check", c.Id, "reason", a.Reason, "detail", a.Detail)
	return unknown(cmp.Or(a.Reason, "probe-error")), nil
}

// checkNews are the results that the server has not acknowledged.
func (l *link) checkNews() (out []*v1.CheckResult) {
	for _, id := range slices.Sorted(maps.Keys(l.checks)) {
		if c := l.checks[id]; c.now != nil && !same(c.now, c.told) {
			out = append(out, c.now)
		}
	}
	return out
}

// checksTold notes what an acknowledged beacon said.
func (l *link) checksTold(results []*v1.CheckResult) {
	for _, r := range results {
		if c := l.checks[r.Id]; c != nil {
			c.told = r
		}
	}
}
