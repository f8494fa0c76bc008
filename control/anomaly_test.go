package control

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// halts are rollouts, and the reports that were filed.
type halts struct {
	open  []store.Rollout
	filed map[string]store.Submission
	down  bool
}

func (h *halts) OpenRollouts(context.Context) ([]store.Rollout, error) { return h.open, nil }

func (h *halts) Submit(_ context.Context, s store.Submission, _ time.Time) (store.Report, bool, error) {
	if h.down {
		return store.Report{}, false, errors.New("no database")
	}
	_, known := h.filed[s.Request]
	h.filed[s.Request] = s
	return store.Report{}, !known, nil
}

// A rollout that the engine halted is reported once, however often it is looked
// at, by however many servers, and after a failure; one that a person halted is
// not.
func TestAHaltedRolloutFilesAReportOnce(t *testing.T) {
	h := &halts{filed: map[string]store.Submission{}, down: true, open: []store.Rollout{
		{ID: 1, Product: "acme/rules", Version: "1.2", State: rollout.Halted, HeldBy: Actor, Reasons: []rollout.Reason{{Code: "harm", Detail: "3 of 10 failed"}}},
		{ID: 2, Product: "acme/rules", Version: "1.3", State: rollout.Halted, HeldBy: "ann"},
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
