package link

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/link/linktest"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
)

func enrolRequest() *connect.Request[v1.EnrolRequest] {
	return connect.NewRequest(&v1.EnrolRequest{EnrolmentToken: "hgt_x", Secret: strings.Repeat("A", 43), Products: []string{linktest.Product}})
}

func TestGoodUpdateGoesFromPlanToProof(t *testing.T) {
	w := linktest.New(t, true)
	r := newRig(t, w)
	o := publish(t, w, 7, "1.0.0")
	w.SetPlan(plan(o))
	r.start(t)
	eventually(t, "probation is reported", func() bool {
		return r.last().GetAttempt().GetState() == v1.AttemptState_ATTEMPT_STATE_PROBATION
	})
	if a := r.w.Asks(); len(a) != 1 || a[0].Rollout != 7 || a[0].Digest != o.Digest {
		t.Fatalf("asks %v; want one, of R-7", a)
	}
	r.mu.Lock()
	g := r.grants[0]
	r.mu.Unlock()
	if left := time.Duration(g.ExpiresUS)*time.Microsecond - ipc.Boottime(); left > time.Minute || left < 30*time.Second || g.ProbationUS != 60e6 {
		t.Fatalf("activate %+v: %s left", g, left)
	}
	eventually(t, "two beacons from the new version are acknowledged", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		n := 0
		for _, a := range r.acked {
			if len(a.Running) == 1 && a.Running[0].Digest == o.Digest {
				n++
			}
		}
		return n >= 2
	})
	r.set(func(p *ipc.Product) { p.Attempt.State = ipc.AttemptProven })
	eventually(t, "proof is reported more than once", func() bool {
		n := 0
		for _, b := range w.Beacons(r.id.Endpoint) {
			if b.Products[0].GetAttempt().GetState() == v1.AttemptState_ATTEMPT_STATE_PROVEN {
				n++
			}
		}
		return n >= 2
	})
	r.stop()
	bs := w.Beacons(r.id.Endpoint)
	for i, b := range bs {
		if b.Seq != int64(i+1) || b.Goodbye != (i == len(bs)-1) {
			t.Fatalf("beacon %d has number %d, goodbye %v", i+1, b.Seq, b.Goodbye)
		}
	}
	if n := r.count("stage"); n != 1 {
		t.Errorf("staged %d times", n)
	}
}

func TestBeaconNumbersGrowOverRestarts(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	for range 3 {
		n := len(w.Beacons(r.id.Endpoint))
		r.start(t)
		eventually(t, "a beacon", func() bool { return len(w.Beacons(r.id.Endpoint)) > n })
		r.stop()
	}
	for i, b := range w.Beacons(r.id.Endpoint) {
		if b.Seq != int64(i+1) {
			t.Fatalf("beacon %d has number %d", i+1, b.Seq)
		}
	}
}

func TestPreflightFailureNeverAsksAndIsReported(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	r.refuse = &ipc.Answer{Reason: "preflight-failed", Detail: "exit status 1"}
	o := publish(t, w, 1, "1.0.0")
	w.SetPlan(plan(o))
	r.start(t)
	eventually(t, "the failure is reported", func() bool {
		a := r.last().GetAttempt()
		return a.GetState() == v1.AttemptState_ATTEMPT_STATE_PREFLIGHT_FAILED && a.Reason == "preflight-failed" && a.Detail == "exit status 1"
	})
	w.SetPlan(plan(o)) // a new plan does not make it better
	eventually(t, "the new plan", func() bool { return strings.Count(logged(r), "plan in force") == 2 })
	if len(w.Asks()) != 0 || r.count("stage") != 1 {
		t.Fatalf("%d asks, %d stages", len(w.Asks()), r.count("stage"))
	}
}

func logged(r *rig) string {
	r.logs.mu.Lock()
	defer r.logs.mu.Unlock()
	return r.logs.b.String()
}

func TestWaitingAsksAgainAndRefusalDoesNot(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	var asked atomic.Int64
	w.OnGrant(func(string, *v1.GrantRequest) (*v1.GrantResponse, error) {
		if asked.Add(1) < 4 {
			return &v1.GrantResponse{Verdict: v1.GrantVerdict_GRANT_VERDICT_WAIT, Reason: "window-full", RetryAfterUs: 20e3}, nil
		}
		return &v1.GrantResponse{Verdict: v1.GrantVerdict_GRANT_VERDICT_REFUSED, Reason: "halted"}, nil
	})
	o := publish(t, w, 1, "1.0.0")
	w.SetPlan(plan(o))
	r.start(t)
	eventually(t, "the refused release is dropped", func() bool { return r.count("drop") == 1 })
	asks := w.Asks()
	if len(asks) != 4 || r.count("stage") != 1 || r.count("activate") != 0 {
		t.Fatalf("%d asks, %d stages, %d activations", len(asks), r.count("stage"), r.count("activate"))
	}
	for i := 1; i < 4; i++ {
		if gap := asks[i].At.Sub(asks[i-1].At); gap < 16*time.Millisecond {
			t.Errorf("ask %d came after %s; told to wait 20ms", i, gap)
		}
	}
	// After a resume the plan is new, and so is the question.
	w.OnGrant(nil)
	w.SetPlan(plan(o))
	eventually(t, "activation after the resume", func() bool { return r.count("activate") == 1 })
}

func TestHeldIsStagedOnlyAndStopDropsIt(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	o := publish(t, w, 1, "1.0.0")
	o.Action = release.ActionHold
	w.SetPlan(plan(o))
	r.start(t)
	eventually(t, "staged", func() bool { return r.count("stage") == 1 })
	o.Action = release.ActionStop
	w.SetPlan(plan(o))
	eventually(t, "dropped", func() bool { return r.count("drop") == 1 })
	if len(w.Asks()) != 0 {
		t.Fatalf("asked %v", w.Asks())
	}
}

func TestRevertOrderReachesWhoRunsIt(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	o := publish(t, w, 1, "1.0.0")
	w.SetPlan(plan(o))
	r.start(t)
	eventually(t, "activated", func() bool { return r.count("activate") == 1 })
	o.Action = release.ActionRevert
	w.SetPlan(plan(o))
	eventually(t, "the return is reported", func() bool {
		return r.last().GetAttempt().GetState() == v1.AttemptState_ATTEMPT_STATE_REVERTED
	})
}

func TestServerGoneStopsNothingAndItsReturnGoesOn(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	o := publish(t, w, 1, "1.0.0")
	w.OnGrant(func(string, *v1.GrantRequest) (*v1.GrantResponse, error) {
		return &v1.GrantResponse{Verdict: v1.GrantVerdict_GRANT_VERDICT_WAIT, Reason: "window-full", RetryAfterUs: 5e3}, nil
	})
	w.SetPlan(plan(o))
	r.start(t)
	eventually(t, "it asks", func() bool { return len(w.Asks()) > 0 })
	w.OnGrant(nil) // it would be granted now, if the server could be reached
	gone := make(chan struct{})
	var tries atomic.Int64
	w.Before(func(rw http.ResponseWriter, _ *http.Request) bool {
		tries.Add(1)
		panic(http.ErrAbortHandler) // the connection breaks
	})
	close(gone)
	eventually(t, "it keeps trying", func() bool { return tries.Load() > 10 })
	if r.count("activate") > 1 {
		t.Fatal("activated twice")
	}
	before := r.count("activate")
	if before == 0 && r.count("stage") != 1 {
		t.Fatalf("staged %d times while the server was gone", r.count("stage"))
	}
	w.Before(nil)
	eventually(t, "it goes on", func() bool { return r.count("activate") == 1 })
	eventually(t, "beacons have no gap", func() bool {
		bs := w.Beacons(r.id.Endpoint)
		return len(bs) > 2 && bs[len(bs)-1].Seq == int64(len(bs))
	})
}

// After an outage the server waits some beacons' time for the silent to speak:
// a back-off beyond that would make the outage's end look like harm.
func TestBackoffIsNoLongerThanTheUsualPause(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	r.maxBackoff = time.Hour
	w.SetPlan(plan(publish(t, w, 1, "1.0.0")))
	r.start(t)
	eventually(t, "activated", func() bool { return r.count("activate") == 1 })
	var beacons, polls atomic.Int64
	w.Before(func(_ http.ResponseWriter, req *http.Request) bool {
		if strings.HasPrefix(req.URL.Path, "/tuf/") {
			polls.Add(1)
		} else {
			beacons.Add(1)
		}
		panic(http.ErrAbortHandler)
	})
	eventually(t, "it keeps trying at the usual pace", func() bool { return beacons.Load() > 30 && polls.Load() > 30 })
	w.Before(nil)
}

func TestSpoiledArtifactIsNeverStaged(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func([]byte) []byte
		want  string
	}{
		"truncated":    {func(b []byte) []byte { return b[:len(b)-100] }, "bytes"},
		"wrong digest": {func(b []byte) []byte { b[700] ^= 1; return b }, "differs from what was signed"},
		"too long":     {func(b []byte) []byte { return append(b, 0) }, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			w := linktest.New(t, false)
			r := newRig(t, w)
			o := publish(t, w, 1, "1.0.0")
			w.Spoil("artifact.tar", c.spoil)
			w.SetPlan(plan(o))
			r.start(t)
			eventually(t, "a clear error", func() bool {
				return r.logs.has("could not follow the plan") && r.logs.has("acme/rules 1.0.0") && r.logs.has(c.want)
			})
			if r.count("stage") != 0 {
				t.Fatal("staged a spoiled artifact")
			}
			w.Spoil("artifact.tar", nil)
			eventually(t, "the next try succeeds", func() bool { return r.count("activate") == 1 })
		})
	}
}

func TestReleaseThatTheVendorDidNotSignIsRefused(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	o := publish(t, w, 1, "1.0.0")
	forged := o
	forged.Version, forged.Digest = "1.1.0", digest(0xee)
	swapped := o
	swapped.Digest = digest(0xdd)
	w.SetPlan(plan(forged))
	r.start(t)
	eventually(t, "a clear error", func() bool { return r.logs.has("find acme/rules 1.1.0") })
	w.SetPlan(plan(swapped))
	eventually(t, "a clear error", func() bool { return r.logs.has("the plan offers artifact") })
	if r.count("stage") != 0 || len(w.Asks()) != 0 {
		t.Fatal("a release without the vendor's signature was staged")
	}
}

func TestExpiredMetadataStopsInstallingWithAClearReason(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	o := publish(t, w, 1, "1.0.0")
	w.SetLife(tuf.Life{Timestamp: time.Second, Snapshot: time.Second, Rollout: time.Second})
	w.SetPlan(plan(o))
	eventually(t, "the metadata expires", func() bool {
		c, err := tuf.Open(t.TempDir(), w.Root, tuf.NewHTTP(w.HTTP.URL+"/tuf/", nil))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Refresh(t.Context(), time.Now())
		return errors.Is(err, tuf.ErrFrozen)
	})
	r.start(t)
	eventually(t, "a clear error", func() bool { return r.logs.has("repository frozen: metadata expired") })
	eventually(t, "beacons go on", func() bool { return len(w.Beacons(r.id.Endpoint)) > 0 })
	if r.count("stage") != 0 {
		t.Fatal("staged from expired metadata")
	}
}

func TestGrantThatComesTooLateIsNotUsed(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	w.OnGrant(func(string, *v1.GrantRequest) (*v1.GrantResponse, error) {
		return &v1.GrantResponse{Verdict: v1.GrantVerdict_GRANT_VERDICT_GRANTED, TtlUs: 1}, nil
	})
	w.SetPlan(plan(publish(t, w, 1, "1.0.0")))
	r.start(t)
	eventually(t, "a clear error", func() bool { return r.logs.has("the grant ended before its answer came") })
	if r.count("activate") != 0 {
		t.Fatal("activated under a grant that had ended")
	}
}

func TestWhatIsStagedIsNotInstalledFromExpiredMetadata(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	w.OnGrant(func(string, *v1.GrantRequest) (*v1.GrantResponse, error) {
		return &v1.GrantResponse{Verdict: v1.GrantVerdict_GRANT_VERDICT_WAIT, Reason: "window-full", RetryAfterUs: 10e3}, nil
	})
	o := publish(t, w, 1, "1.0.0")
	w.SetLife(tuf.Life{Timestamp: 2 * time.Second, Snapshot: time.Hour, Rollout: time.Hour})
	w.SetPlan(plan(o))
	r.start(t)
	eventually(t, "staged, and waiting for a grant", func() bool { return r.count("stage") == 1 && len(w.Asks()) > 1 })
	eventually(t, "a clear error", func() bool { return r.logs.has("ask for a grant under R-1: ") && r.logs.has("metadata expired") })
	w.OnGrant(nil)
	n := len(w.Asks())
	eventually(t, "beacons go on", func() bool { return len(w.Beacons(r.id.Endpoint)) > 5 })
	if len(w.Asks()) != n || r.count("activate") != 0 {
		t.Fatal("went on installing")
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	polls, beacons := make(chan time.Time, 100), make(chan time.Time, 100)
	w.Before(func(rw http.ResponseWriter, req *http.Request) bool {
		ch := beacons
		if strings.HasPrefix(req.URL.Path, "/tuf/") {
			ch = polls
		}
		ch <- time.Now()
		rw.Header().Set("Retry-After", "1")
		rw.WriteHeader(http.StatusServiceUnavailable)
		return false
	})
	r.start(t)
	for name, ch := range map[string]chan time.Time{"poll": polls, "beacon": beacons} {
		first, second := <-ch, <-ch
		if gap := second.Sub(first); gap < time.Second || gap > 3*time.Second {
			t.Errorf("second %s came after %s; asked to wait 1s", name, gap)
		}
	}
	w.Before(nil)
}

func TestAnotherCertificateThanThePinnedIsRefused(t *testing.T) {
	w := linktest.New(t, true)
	r := newRig(t, w)
	r.id.Pin = digest(1)
	r.start(t)
	eventually(t, "a clear message", func() bool {
		return r.logs.has("server's certificate is not the pinned one") && r.logs.has("got sha256:"+w.Pin())
	})
	if len(w.Beacons(r.id.Endpoint)) != 0 {
		t.Fatal("spoke to a server that is not the pinned one")
	}
}

// The record of an attempt is replaced by the next: how it ended must be known
// to the server by then, or nobody ever counts it.
func TestAnAttemptsEndIsAcknowledgedBeforeTheNextIsStaged(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	one := publish(t, w, 1, "1.0.0")
	w.SetPlan(plan(one))
	r.start(t)
	eventually(t, "activated", func() bool { return r.count("activate") == 1 })
	var deaf atomic.Bool
	deaf.Store(true)
	w.OnBeacon(func(string, *v1.BeaconRequest) error {
		if deaf.Load() {
			return connect.NewError(connect.CodeUnavailable, errors.New("later"))
		}
		return nil
	})
	r.set(func(p *ipc.Product) { p.Attempt.State = ipc.AttemptProven })
	w.SetPlan(plan(one, publish(t, w, 2, "2.0.0")))
	eventually(t, "the new plan", func() bool { return strings.Count(logged(r), "plan in force") == 2 })
	n := strings.Count(logged(r), "could not beacon")
	eventually(t, "more tries to tell", func() bool { return strings.Count(logged(r), "could not beacon") > n+5 })
	if r.count("stage") != 1 {
		t.Fatal("the next release was staged before the server knew how the last one ended")
	}
	deaf.Store(false)
	eventually(t, "staged", func() bool { return r.count("stage") == 2 })
	found := false
	for _, b := range w.Beacons(r.id.Endpoint) {
		a := b.Products[0].GetAttempt()
		found = found || a.GetRollout() == 1 && a.GetState() == v1.AttemptState_ATTEMPT_STATE_PROVEN
	}
	if !found {
		t.Error("the proof of R-1 was never told")
	}
}

func TestWhatCannotBeDoneIsToldHereAndToTheServer(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	o := publish(t, w, 1, "1.0.0")
	w.Spoil("artifact.tar", func(b []byte) []byte { b[700] ^= 1; return b })
	w.SetPlan(plan(o))
	r.start(t)
	const want = "differs from what was signed"
	eventually(t, "the beacon says it", func() bool {
		bs := w.Beacons(r.id.Endpoint)
		return len(bs) > 0 && strings.HasPrefix(bs[len(bs)-1].Trouble, "acme/rules: download acme/rules 1.0.0") && strings.Contains(bs[len(bs)-1].Trouble, want)
	})
	if ts, err := ReadTroubles(r.dir); err != nil || len(ts) != 1 || ts[0].What != "acme/rules" || !strings.Contains(ts[0].Err, want) || ts[0].Since.IsZero() {
		t.Errorf("on disk: %+v, %v", ts, err)
	}
	w.Spoil("artifact.tar", nil)
	eventually(t, "all is well again", func() bool {
		bs := w.Beacons(r.id.Endpoint)
		ts, err := ReadTroubles(r.dir)
		return bs[len(bs)-1].Trouble == "" && len(ts) == 0 && err == nil
	})
}

func TestOldAgentReadsANewerPlan(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	w.SetPlan(plan(publish(t, w, 1, "1.0.0")), `"from_the_future":{"a":[1]}`)
	r.start(t)
	eventually(t, "it is followed all the same", func() bool { return r.count("activate") == 1 })
}

func TestLostKeeperEndsLinkWithoutGoodbye(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	conn, file, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.conn = conn
	served := make(chan error, 1)
	go func() { served <- ipc.Serve(ctx, conn, r.peer) }()
	keeper := ipc.NewClient(inheritTest(t, file))
	done := make(chan error, 1)
	go func() {
		done <- Run(t.Context(), Config{Identity: r.id, Dir: r.dir, Keeper: keeper, Poll: 10 * time.Millisecond})
	}()
	eventually(t, "a beacon", func() bool { return len(w.Beacons(r.id.Endpoint)) > 0 })
	cancel() // keeper dies
	if err := <-done; !errors.Is(err, ipc.ErrClosed) {
		t.Fatalf("link ended with %v", err)
	}
	<-served
	keeper.Close()
	for _, b := range w.Beacons(r.id.Endpoint) {
		if b.Goodbye {
			t.Fatal("said goodbye though keeper may come back")
		}
	}
}
