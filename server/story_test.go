package server

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// serve plays the endpoints until the rollout is in a state: each asks, and
// reports state after its grant.
func (w *world) serve(devices []*device, id int64, digest string, report headgatev1.AttemptState, want rollout.State) *headgatev1.Rollout {
	w.Helper()
	var r *headgatev1.Rollout
	defer func() {
		if w.Failed() {
			w.Log("the rollout stands at", r)
		}
	}()
	until(w, "rollout is "+string(want), func() bool {
		for _, d := range devices {
			g, err := d.grant(w.Context(), id, digest)
			check(w, err)
			if g.Verdict == headgatev1.GrantVerdict_GRANT_VERDICT_GRANTED {
				check(w, d.report(w.Context(), id, digest, report))
			}
		}
		r = w.show(id)
		return r.State == string(want)
	})
	return r
}

func TestGoodReleaseReachesEveryone(t *testing.T) {
	w := newWorld(t)
	digest := w.release("1.0.0")
	devices := w.enrol(15)
	for _, d := range devices {
		check(t, d.beacon(t.Context(), nil))
	}
	id := w.start("1.0.0", quick())
	w.untilOffer(id, release.ActionOffer)
	stream, err := w.rollout.WatchRollout(t.Context(), connect.NewRequest(&headgatev1.WatchRolloutRequest{Id: id}))
	check(t, err)
	r := w.serve(devices, id, digest, headgatev1.AttemptState_ATTEMPT_STATE_PROVEN, rollout.Finished)
	if c := r.Counts; c.Exposed != 15 || c.Proven != 15 {
		t.Errorf("counts %v; want all 15 proven", c)
	}
	if len(r.Reasons) == 0 {
		t.Error("the last decision has no reason")
	}
	seen := 0
	for stream.Receive() {
		seen++
	}
	if err := stream.Err(); err != nil || seen < 2 {
		t.Errorf("the watch saw %d states and ended with %v; want several and no error", seen, err)
	}
	problems, err := w.store.Doctor(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("doctor: %v, %v", problems, err)
	}
	if _, err := w.store.VerifyLedger(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHarmHaltsAndOrdersEveryoneBack(t *testing.T) {
	w := newWorld(t)
	digest := w.release("1.0.0")
	devices := w.enrol(15)
	id := w.start("1.0.0", quick())
	r := w.serve(devices, id, digest, headgatev1.AttemptState_ATTEMPT_STATE_HARMED, rollout.Reverting)
	if r.Counts.Exposed != 2 || r.Counts.Harmed != 2 {
		t.Errorf("counts %v; want the first window of 2 harmed and nobody else exposed", r.Counts)
	}
	until(t, "its halt is reported", func() bool {
		all, err := w.store.ListReports(t.Context(), store.Engine("test"), store.ReportQuery{}, time.Now())
		check(t, err)
		return len(all) == 1 && all[0].Source == psirt.FromRollout && strings.Contains(all[0].Text, "harmed")
	})
	w.untilOffer(id, release.ActionRevert)
	for _, d := range devices {
		g, err := d.grant(t.Context(), id, digest)
		check(t, err)
		if g.Verdict != headgatev1.GrantVerdict_GRANT_VERDICT_REFUSED {
			t.Fatalf("a reverting rollout answered %s %s", g.Verdict, g.Reason)
		}
	}
}

func TestHaltRefusesRequestsInFlight(t *testing.T) {
	w := newWorld(t)
	digest := w.release("1.0.0")
	devices := w.enrol(40)
	p := quick()
	p.Ladder = []int64{1000}
	id := w.start("1.0.0", p)
	until(t, "the rollout has a window", func() bool { return w.show(id).Window > 0 })
	granted := make(chan bool, len(devices))
	for _, d := range devices {
		go func() {
			g, err := d.grant(t.Context(), id, digest)
			granted <- err == nil && g.Verdict == headgatev1.GrantVerdict_GRANT_VERDICT_GRANTED
		}()
	}
	halt, err := w.rollout.HaltRollout(t.Context(), connect.NewRequest(&headgatev1.HaltRolloutRequest{Id: id, Why: "test"}))
	check(t, err)
	before := halt.Msg.Rollout.Counts.Exposed
	told := int64(0)
	for range devices {
		if <-granted {
			told++
		}
	}
	if r := w.show(id); r.Counts.Exposed != before || told != before || r.State != "halted" {
		t.Errorf("%d exposed when halted, %d in the end, %d told so, state %s", before, r.Counts.Exposed, told, r.State)
	}
	w.untilOffer(id, release.ActionStop)
}

func TestResumeAfterHaltTakesTwoOperators(t *testing.T) {
	w := newWorld(t)
	w.release("1.0.0")
	id := w.start("1.0.0", quick())
	_, err := w.rollout.HaltRollout(t.Context(), connect.NewRequest(&headgatev1.HaltRolloutRequest{Id: id}))
	check(t, err)
	for range 2 { // the same operator twice is still one
		r, err := w.rollout.ResumeRollout(t.Context(), connect.NewRequest(&headgatev1.ResumeRolloutRequest{Id: id}))
		check(t, err)
		if r.Msg.Rollout.State != "halted" || r.Msg.Rollout.ResumeAskedBy != "admin" {
			t.Fatalf("one operator resumed: %v", r.Msg.Rollout)
		}
	}
	r, err := w.as("bob", headgatev1.Scope_SCOPE_OPERATOR, "").rollout.ResumeRollout(t.Context(), connect.NewRequest(&headgatev1.ResumeRolloutRequest{Id: id}))
	check(t, err)
	if r.Msg.Rollout.State != "running" {
		t.Errorf("two operators did not resume: %v", r.Msg.Rollout)
	}
}

// as makes a token and its clients.
func (w *world) as(name string, scope headgatev1.Scope, of string) clients {
	w.Helper()
	r, err := w.account.AddToken(w.Context(), connect.NewRequest(&headgatev1.AddTokenRequest{Name: name, Scope: scope, Of: of}))
	check(w, err)
	return newClients(w.base, r.Msg.Secret)
}

func TestRevertOrderReachesThePlan(t *testing.T) {
	w := newWorld(t)
	digest := w.release("1.0.0")
	devices := w.enrol(2)
	for _, d := range devices {
		check(t, d.beacon(t.Context(), nil))
	}
	id := w.start("1.0.0", quick())
	w.serve(devices, id, digest, headgatev1.AttemptState_ATTEMPT_STATE_PROVEN, rollout.Finished)
	_, err := w.rollout.RevertRollout(t.Context(), connect.NewRequest(&headgatev1.RevertRolloutRequest{Id: id, Why: "late fault"}))
	check(t, err)
	w.untilOffer(id, release.ActionRevert)
	for _, d := range devices {
		check(t, d.report(t.Context(), id, digest, headgatev1.AttemptState_ATTEMPT_STATE_REVERTED))
	}
	r := w.untilState(id, rollout.Reverted)
	if r.Reverted != 2 {
		t.Errorf("%d reverted; want 2", r.Reverted)
	}
}
