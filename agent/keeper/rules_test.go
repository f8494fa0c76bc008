package keeper

import (
	"testing"
	"time"

	"github.com/headgate/headgate/release"
)

// healthy are the facts of a candidate that has all that proof needs.
func healthy() facts {
	now := time.Unix(1e9, 0)
	return facts{
		now: now, started: now.Add(-2 * time.Minute), readyAt: now.Add(-time.Minute),
		activate: release.Command{LongRunning: true, Notify: true, Watchdog: 10e9, MaxRSS: 100, MaxCPU: 1},
		said:     notice{ready: true, watchdog: now, counted: true, events: 1000, lost: 10},
		rss:      50, cores: 0.5, probation: time.Minute, switchedAt: now.Add(-2 * time.Minute),
		acks: 2, checked: 1, goodLoss: 0.01, reached: true, lastContact: now, controlLost: 10 * time.Minute,
	}
}

func TestProofNeedsEverything(t *testing.T) {
	if r := healthy().candidate(); !r.proven {
		t.Fatalf("%+v", r)
	}
	for name, lack := range map[string]func(*facts){
		"time":    func(f *facts) { f.probation += time.Second },
		"beacons": func(f *facts) { f.acks = 1 },
		"check":   func(f *facts) { f.checked = 0 },
		"ready":   func(f *facts) { f.readyAt = time.Time{}; f.started = f.now },
	} {
		f := healthy()
		lack(&f)
		if r := f.candidate(); r.proven || r.reason != "" {
			t.Errorf("without %s: %+v", name, r)
		}
	}
}

func TestEachRuleAloneEndsACandidate(t *testing.T) {
	for reason, break1 := range map[string]func(*facts){
		"not-ready":          func(f *facts) { f.readyAt = time.Time{} },
		"watchdog":           func(f *facts) { f.said.watchdog = f.now.Add(-11 * time.Second) },
		"memory-budget":      func(f *facts) { f.rss = 101 },
		"cpu-budget":         func(f *facts) { f.cores = 1.1 },
		"event-loss":         func(f *facts) { f.said.lost = 30 },
		"control-plane-lost": func(f *facts) { f.lastContact, f.switchedAt = time.Time{}, f.now.Add(-11*time.Minute) },
	} {
		f := healthy()
		break1(&f)
		if r := f.candidate(); r.reason != reason || r.proven {
			t.Errorf("%s: %+v", reason, r)
		}
	}
}

func TestUnknownIsNoFault(t *testing.T) {
	f := healthy()
	f.cores, f.goodLoss, f.reached, f.lastContact, f.switchedAt = -1, -1, false, time.Time{}, f.now.Add(-time.Hour)
	f.said.lost = 900
	if r := f.candidate(); r.reason != "" {
		t.Fatalf("%+v", r)
	}
}

func FuzzNotice(f *testing.F) {
	f.Add([]byte("READY=1\nWATCHDOG=1\nX_HEADGATE_EVENTS=5\nX_HEADGATE_LOST=-1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var n notice
		n.take(b, time.Unix(1, 0))
		if n.events < 0 || n.lost < 0 || n.ready && n.watchdog.IsZero() {
			t.Fatalf("%+v", n)
		}
	})
}
