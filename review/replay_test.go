package review_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/review"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/sim"
)

// TestEveryRecordedDecisionIsMadeAgainTheSame replays a whole world: a good
// rollout, an outage, a bad one, its fix.
func TestEveryRecordedDecisionIsMadeAgainTheSame(t *testing.T) {
	w := sim.New(sim.Config{Seed: 4, Endpoints: 300})
	p := rollout.DefaultPolicy()
	for i, f := range []sim.Fault{sim.Good, sim.Crash, sim.Hang, sim.Good} {
		if _, err := w.Start([]string{"1.0.0", "2.0.0", "3.0.0", "4.0.0"}[i], f, p); err != nil {
			t.Fatal(err)
		}
		w.Run(5*time.Minute, nil)
		w.Cut(0.4)
		w.Run(20*time.Minute, nil)
		w.Cut(0)
		w.Run(time.Hour, nil)
	}
	n := 0
	for _, e := range w.Entries {
		err := review.Replay(e)
		switch {
		case errors.Is(err, review.ErrNotDecision):
			continue
		case err != nil:
			t.Error(err)
		}
		n++
	}
	if n < 20 {
		t.Errorf("only %d decisions were replayed", n)
	}
}

// TestAForgedDecisionIsFound: a decision that the snapshot does not lead to.
func TestAForgedDecisionIsFound(t *testing.T) {
	w := sim.New(sim.Config{Seed: 4, Endpoints: 50})
	if _, err := w.Start("1.0.0", sim.Crash, rollout.DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	w.Run(time.Hour, nil)
	found := false
	for _, e := range w.Entries {
		if forged := strings.Replace(string(e.Body), `"action":"revert"`, `"action":"hold"`, 1); forged != string(e.Body) {
			found = true
			e.Body = []byte(forged)
			if err := review.Replay(e); !errors.Is(err, review.ErrDiffers) {
				t.Errorf("entry %d: %v", e.Seq, err)
			}
		}
	}
	if !found {
		t.Error("nothing was reverted: the test shows nothing")
	}
}

func TestAnUnknownInputIsNotReplayedAsIfItWereNotThere(t *testing.T) {
	e := ledger.Entry{Draft: ledger.Draft{Kind: review.DecisionKind, Body: []byte(`{"decision":{},"snapshot":{"moon":"full"}}`)}}
	if err := review.Replay(e); err == nil || !strings.Contains(err.Error(), "moon") {
		t.Errorf("%v", err)
	}
}

func FuzzReplay(f *testing.F) {
	f.Add([]byte(`{"decision":{"action":"hold"},"snapshot":{"state":"running"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Whatever stands there: an error, never a panic, and never a match by luck.
		if err := review.Replay(ledger.Entry{Draft: ledger.Draft{Kind: review.DecisionKind, Body: b}}); err == nil {
			if _, err := review.Read(ledger.Entry{Draft: ledger.Draft{Kind: review.DecisionKind, Body: b}}); err != nil {
				t.Errorf("replayed what cannot be read: %v", err)
			}
		}
	})
}
