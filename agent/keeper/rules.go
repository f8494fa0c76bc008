package keeper

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/release"
)

// Limits of the rules; Config may set other times.
const (
	defaultTries       = 4 // two crashes, and two deaths of the keeper itself
	acksForProof       = 2
	minEventsForLoss   = 100
	lossMargin         = 0.01 // above the last known good's share
	contactHour        = time.Hour
	cpuWindow          = 10 * time.Second
	defaultControlLost = 10 * time.Minute
	goodCrashes        = 5 // abnormal exits of the last known good within goodWindow
	goodWindow         = 10 * time.Minute
)

// facts are all that the verdict on a running version depends on.
type facts struct {
	now      time.Time
	started  time.Time
	readyAt  time.Time // zero until it is ready
	activate release.Command
	said     notice
	rss      int64
	cores    float64 // mean over cpuWindow; less than 0 if not known yet

	// Of a candidate in probation only.
	probation   time.Duration
	switchedAt  time.Time
	acks        int
	checked     int     // checks passed
	goodLoss    float64 // less than 0 if not known
	reached     bool    // control plane, within the hour before the switch
	lastContact time.Time
	controlLost time.Duration
}

// finding is what the rules say: a reason to leave the version, or proof, or
// neither yet.
type finding struct {
	reason, detail string
	proven         bool
}

// alive judges any supervised version, in probation or not.
func (f facts) alive() finding {
	a := f.activate
	if f.readyAt.IsZero() {
		limit := timeout(a)
		if a.LongRunning && !a.Notify {
			limit = 0 // it is ready by living
		}
		if age := f.now.Sub(f.started); limit > 0 && age > limit {
			return finding{reason: "not-ready", detail: fmt.Sprintf("not ready after %s; the limit is %s", age.Round(time.Millisecond), limit)}
		}
		return finding{}
	}
	if w := a.Watchdog.Std(); w > 0 && a.Notify {
		if quiet := f.now.Sub(f.said.watchdog); quiet > w {
			return finding{reason: "watchdog", detail: fmt.Sprintf("no WATCHDOG=1 for %s; the limit is %s", quiet.Round(time.Millisecond), w)}
		}
	}
	if a.MaxRSS > 0 && f.rss > a.MaxRSS {
		return finding{reason: "memory-budget", detail: fmt.Sprintf("%d bytes resident; the budget is %d", f.rss, a.MaxRSS)}
	}
	return finding{}
}

// candidate judges a version in probation. Unknown is never proof.
func (f facts) candidate() finding {
	if r := f.alive(); r.reason != "" {
		return r
	}
	if c := f.activate.MaxCPU; c > 0 && f.cores > c {
		return finding{reason: "cpu-budget", detail: fmt.Sprintf("%.2f cores on average over the last %s; the budget is %.2f", f.cores, cpuWindow, c)}
	}
	if r := f.loss(); r.reason != "" {
		return r
	}
	if f.reached {
		since := f.switchedAt
		if f.lastContact.After(since) {
			since = f.lastContact
		}
		if quiet := f.now.Sub(since); quiet > f.controlLost {
			return finding{reason: "control-plane-lost", detail: fmt.Sprintf("control plane not reached for %s, though it was in the hour before the switch; the limit is %s", quiet.Round(time.Second), f.controlLost)}
		}
	}
	ready := !f.readyAt.IsZero()
	return finding{proven: ready && f.now.Sub(f.readyAt) >= f.probation && f.acks >= acksForProof && f.checked > 0}
}

func (f facts) loss() finding {
	total := f.said.events + f.said.lost
	if !f.said.counted || f.goodLoss < 0 || total < minEventsForLoss {
		return finding{}
	}
	share := float64(f.said.lost) / float64(total)
	if share <= f.goodLoss+lossMargin {
		return finding{}
	}
	return finding{reason: "event-loss", detail: fmt.Sprintf("%d of %d events lost (%.1f %%); the last known good lost %.1f %%", f.said.lost, total, 100*share, 100*f.goodLoss)}
}

// lossShare is a version's share of lost events, less than 0 if not known.
func lossShare(n notice) float64 {
	total := n.events + n.lost
	if !n.counted || total < minEventsForLoss {
		return -1
	}
	return float64(n.lost) / float64(total)
}

// timeout is a command's limit; 30 s if the manifest says nothing.
func timeout(c release.Command) time.Duration {
	if c.Timeout > 0 {
		return c.Timeout.Std()
	}
	return 30 * time.Second
}

// backoff is the pause before start number n+1 of what ended n times.
func backoff(n int) time.Duration {
	return min(100*time.Millisecond<<min(n, 9), 30*time.Second)
}
