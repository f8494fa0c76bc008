package server

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// tell tells tenant t1 of a case that concerns devices, with a version to reach
// and a key to rotate, and has the server know of it.
func (w *world) tell(devices ...*device) (caseID int64) {
	w.Helper()
	ctx, now, ann := w.Context(), time.Now(), store.Viewer{Actor: "operator:admin", Scope: store.ScopeOperator}
	kase, err := w.store.OpenCase(ctx, ann, store.Opening{Title: "overflow"}, now, nil)
	check(w, err)
	rung, err := psirt.Draft(&psirt.RungOpened{Rung: psirt.TenantsRung, Decision: []byte(`{}`)}, time.Time{}, "")
	check(w, err)
	_, err = w.store.CommitFacts(ctx, store.Engine("ladder"), kase.ID, store.AnyRevision, []psirt.Fact{rung}, now, nil)
	check(w, err)
	m := notify.Match{Tenant: "t1"}
	for _, d := range devices {
		m.Resources = append(m.Resources, notify.Resource{ID: d.id, Product: product, Version: "1.0.0", Reason: "old"})
	}
	audience, err := notify.NewAudience([]notify.Match{m})
	check(w, err)
	wave, err := w.store.QueueWave(ctx, ann, store.WaveDraft{
		Case: kase.ID, Rung: notify.Tenants, Audience: audience, Letterhead: store.Letterhead{MarkKey: []byte("throw-away"), Domain: "notices.example"},
		Content: notify.Content{
			Version: 1, Product: product, Severity: "high", Action: notify.Rotate,
			Title: notify.Text{notify.English: "Overflow"}, Summary: notify.Text{notify.English: "An overflow."},
			Steps: []notify.Step{
				{Text: notify.Text{notify.English: "Look at your logs."}},
				{Text: notify.Text{notify.English: "Rotate the key."}, Check: &notify.Check{Kind: notify.CheckAge, Product: product, Probe: "api-key", Want: "2026-01-01T00:00:00Z"}},
			},
		},
	}, now)
	check(w, err)
	if wave.Notices != 1 {
		w.Fatalf("%d notices", wave.Notices)
	}
	check(w, w.checks.refresh(ctx))
	return kase.ID
}

// stepState is how the case's one notice's step with a check stands.
func (w *world) stepState(caseID int64) notify.StepState {
	w.Helper()
	all, err := w.store.ListNotices(w.Context(), store.Engine("test"), store.NoticeQuery{Case: caseID}, time.Now())
	check(w, err)
	if len(all) != 1 {
		w.Fatalf("%d notices", len(all))
	}
	return all[0].Progress.Steps[1].State(all[0].Progress.Resources)
}

// says sends a beacon with results of checks, and gives what is asked.
func (d *device) says(t testing.TB, results ...*headgatev1.CheckResult) []*headgatev1.Check {
	t.Helper()
	d.seq++
	res, err := d.agent.Beacon(t.Context(), connect.NewRequest(&headgatev1.BeaconRequest{Seq: d.seq, Products: []*headgatev1.ProductState{{Product: product, Healthy: true}}, CheckResults: results}))
	check(t, err)
	return res.Msg.Checks
}

const (
	passed  = headgatev1.CheckState_CHECK_STATE_PASSED
	failed  = headgatev1.CheckState_CHECK_STATE_FAILED
	unknown = headgatev1.CheckState_CHECK_STATE_UNKNOWN
)

func TestAStepIsVerifiedWhenEveryEndpointSaysSoAndOpensAgain(t *testing.T) {
	w := newWorld(t)
	devices := w.enrol(3)
	if asked := devices[0].says(t); len(asked) != 0 {
		t.Fatalf("asked without a notice: %v", asked)
	}
	id := w.tell(devices[0], devices[1])
	asked := devices[0].says(t)
	if len(asked) != 1 || asked[0].Kind != "file_age" || asked[0].Probe != "api-key" || asked[0].Product != product || asked[0].Want != "2026-01-01T00:00:00Z" {
		t.Fatalf("asked for %v", asked)
	}
	if other := devices[2].says(t, &headgatev1.CheckResult{Id: asked[0].Id, State: passed}); len(other) != 0 {
		t.Fatalf("an endpoint that no notice names is asked for %v", other)
	}
	for _, step := range []struct {
		who  int
		says headgatev1.CheckState
		want notify.StepState
	}{
		{0, passed, notify.StepOpen}, // the other has not said anything: unknown, not done
		{1, unknown, notify.StepOpen},
		{1, failed, notify.StepOpen},
		{1, passed, notify.StepVerified},
		{0, unknown, notify.StepVerified}, // nobody can tell: it is not known to fail
		{0, failed, notify.StepReopened},
		{0, passed, notify.StepVerified},
	} {
		devices[step.who].says(t, &headgatev1.CheckResult{Id: asked[0].Id, State: step.says, Reason: "differs"})
		if got := w.stepState(id); got != step.want {
			t.Fatalf("after %d said %s: %s, want %s", step.who, step.says, got, step.want)
		}
	}
	many := make([]*headgatev1.CheckResult, 33)
	for i := range many {
		many[i] = &headgatev1.CheckResult{Id: "x", State: passed}
	}
	_, err := devices[0].agent.Beacon(context.Background(), connect.NewRequest(&headgatev1.BeaconRequest{Seq: 99, CheckResults: many}))
	wantCode(t, err, connect.CodeInvalidArgument, "check_results")
}

// An agent that does not know checks sends beacons as ever: its step stays open.
func TestAnOldAgentLeavesItsStepOpen(t *testing.T) {
	w := newWorld(t)
	d := w.enrol(1)[0]
	id := w.tell(d)
	for range 3 {
		check(t, d.beacon(t.Context(), nil))
	}
	if got := w.stepState(id); got != notify.StepOpen {
		t.Errorf("the step is %s", got)
	}
}
