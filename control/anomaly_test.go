package control

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// halts are rollouts, and the reports that were filed.
type halts struct {
	open  []store.Rollout
	filed map[string]store.Submission
	at    map[string]time.Time
	down  bool
}

func (h *halts) OpenRollouts(context.Context) ([]store.Rollout, error) { return h.open, nil }

func (h *halts) Submit(_ context.Context, s store.Submission, now time.Time) (store.Report, bool, error) {
	if h.down {
		return store.Report{}, false, errors.New("no database")
	}
	_, known := h.filed[s.Request]
	if !known {
		h.filed[s.Request], h.at[s.Request] = s, now
	}
	kept := store.Report{ID: int64(len(s.Request))}
	kept.ReportReceived = h.filed[s.Request].Received
	kept.Received.At = h.at[s.Request]
	return kept, !known, nil
}

// A rollout that the engine halted is reported once, however often it is looked
// at, by however many servers, and after a failure; one that a person halted is
// not.
func TestAHaltedRolloutFilesAReportOnce(t *testing.T) {
	h := &halts{filed: map[string]store.Submission{}, at: map[string]time.Time{}, down: true, open: []store.Rollout{
		{ID: 1, Product: "acme/rules", Version: "1.2", State: rollout.Reverting, Stopped: time.UnixMicro(1), StoppedWhy: []rollout.Reason{{Code: "harm", Detail: "3 of 10 failed"}}},
		{ID: 2, Product: "acme/rules", Version: "1.3", State: rollout.Halted},
		{ID: 3, Product: "acme/rules", Version: "1.4", State: rollout.Running},
		{ID: 4, Product: "acme/rules", Version: "1.5", State: rollout.Running, Halted: []rollout.HaltedSegment{{Labels: map[string]string{"os": "plan9"}}}},
	}}
	for _, down := range []bool{true, false, false} {
		h.down = down
		w := &Watchman{Anomalies: h, Now: time.Now, Log: slog.New(slog.DiscardHandler)} // another server each time
		for range 2 {
			if err := w.Look(t.Context()); (err != nil) != down {
				t.Errorf("down %t: %v", down, err)
			}
		}
	}
	if len(h.filed) != 2 || h.filed["rollout/1"].Request == "" || h.filed["rollout/4"].Request == "" {
		t.Fatalf("%+v", h.filed)
	}
	for _, s := range h.filed {
		if err := s.Received.Check(); err != nil {
			t.Error(err)
		}
	}
	if r := h.filed["rollout/1"].Received; r.Product != "acme/rules" || r.Version != "1.2" || !strings.Contains(r.Text, "3 of 10 failed") {
		t.Errorf("%+v", r)
	}
	if r := h.filed["rollout/4"].Received; !strings.Contains(r.Text, "plan9") {
		t.Errorf("%+v", r)
	}
}

// A rollout that was resumed and is halted again is reported again, and the second
// report names the first; so is a segment that is left out later. Another server files
// nothing twice.
func TestALaterHaltIsReportedBesideTheFirst(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := store.Rollout{ID: 7, Product: "acme/rules", Version: "1.2", State: rollout.Halted, Stopped: now.Add(-time.Second)}
	h := &halts{filed: map[string]store.Submission{}, at: map[string]time.Time{}}
	look := func(want int) {
		t.Helper()
		for range 2 {
			w := &Watchman{Anomalies: h, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
			for range 2 {
				if err := w.Look(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(h.filed) != want {
			t.Fatalf("%d reports, want %d: %v", len(h.filed), want, h.filed)
		}
	}
	h.open = []store.Rollout{r}
	look(1)
	now = now.Add(time.Hour)
	resumed := r
	resumed.State = rollout.Running
	h.open = []store.Rollout{resumed}
	look(1)
	r.Stopped = now
	h.open, now = []store.Rollout{r}, now.Add(time.Second)
	look(2)
	resumed.Stopped = r.Stopped
	resumed.Halted = []rollout.HaltedSegment{{Labels: map[string]string{"os": "plan9"}, Rung: 2}}
	h.open = []store.Rollout{resumed}
	look(3)
	// It is taken in again, and left out again at the same step.
	resumed.Halted = []rollout.HaltedSegment{{Labels: map[string]string{"os": "plan9"}, Rung: 2, AtUS: now.UnixMicro()}}
	h.open = []store.Rollout{resumed}
	look(4)
	resumed.Halted = []rollout.HaltedSegment{{Labels: map[string]string{"os": "plan9"}, Rung: 2, AtUS: now.Add(time.Hour).UnixMicro()}}
	h.open = []store.Rollout{resumed}
	look(5)
	second := h.filed["rollout/7/"+strconv.FormatInt(r.Stopped.UnixMicro(), 10)]
	if err := second.Received.Check(); err != nil || !strings.Contains(second.Received.Text, "stopped before: RP-") {
		t.Errorf("the second report: %v, %s", err, second.Received.Text)
	}
	if score, why := psirt.Similarity(&second.Received, ptr(h.filed["rollout/7"].Received)); score < psirt.SimilarAt {
		t.Errorf("the second is not suggested as a duplicate of the first: %v %v", score, why)
	}
}

func ptr[T any](v T) *T { return &v }
