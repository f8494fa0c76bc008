package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// southern adds n endpoints of tenant "south" after those that are there.
func (w *World) southern(t *testing.T, n int) {
	t.Helper()
	token := sha256.Sum256([]byte("enrol south"))
	_, err1 := w.Store.AddTenant(t.Context(), "south", "operator:ann", Start)
	err2 := w.Store.AddEnrolmentToken(t.Context(), store.EnrolmentToken{Hash: token, Tenant: "south", Expires: Start.Add(time.Hour)}, "operator:ann", Start)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for range n {
		e := Endpoint{Secret: SecretOf(int64(len(w.Endpoints)))}
		who, err := w.Store.Enrol(t.Context(), store.Enrolment{Token: token, Secret: e.Secret, Name: "south", Products: []string{Product}}, Start)
		if err != nil {
			t.Fatal(err)
		}
		e.ID = who.ID
		w.Endpoints = append(w.Endpoints, e)
	}
}

// limit sets south's limits.
func (w *World) limit(t *testing.T, document string) {
	t.Helper()
	now, err := w.Store.TenantLimits(t.Context(), "south")
	if err == nil {
		_, err = w.Store.SetTenantLimits(t.Context(), "south", document, now.Revision, "tenant:south-bot", Start)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// asked is what endpoint i is answered at a time.
func (w *World) asked(t *testing.T, i int, ro int64, at time.Time) store.GrantAnswer {
	t.Helper()
	return w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(i, ro)}}, at).Asks[0]
}

func limitsAreKept(t *testing.T, newDSN func(testing.TB) string) {
	s := Open(t, newDSN(t))
	w := NewWorld(t, s, 1)
	w.southern(t, 1)
	const first, second = `{"rules":[{"opt_out":true}]}`, `{"rules":[{"pin":"1.0.0"}]}`
	w.limit(t, first)
	size := ledgerSize(t, s)
	w.limit(t, first)
	if got := ledgerSize(t, s); got != size {
		t.Errorf("setting the same again wrote %d ledger entries", got-size)
	}
	if _, err := s.SetTenantLimits(t.Context(), "south", second, 0, "operator:ann", Start); !errors.Is(err, store.ErrConflict) {
		t.Errorf("on an old revision: %v", err)
	}
	got, err := s.SetTenantLimits(t.Context(), "south", second, 1, "operator:ann", Start)
	if err != nil || got.Revision != 2 || ledgerSize(t, s) != size+1 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.SetTenantLimits(t.Context(), "nobody", second, 0, "operator:ann", Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of no tenant: %v", err)
	}
	if l, err := s.TenantLimits(t.Context(), "north"); err != nil || l.Revision != 0 || !l.Limits.Empty() {
		t.Errorf("north has %+v, %v", l, err)
	}
	Healthy(t, s)
}

// limitsHold: what a tenant asks for is kept at the grant, by every server, from
// the commit that set it; others are not touched; what was granted goes on.
func limitsHold(t *testing.T, newDSN func(testing.TB) string) {
	dsn := newDSN(t)
	w := NewWorld(t, Open(t, dsn), 2)
	w.southern(t, 4)
	other := *w
	other.Store = Open(t, dsn)
	ro := w.Roll(t, 10).ID
	if a := w.asked(t, 5, ro, Start); a.Verdict != rollout.Granted {
		t.Fatalf("before there are limits: %+v", a)
	}
	for i, c := range []struct {
		document string
		at       time.Time
		want     string
		retry    time.Duration
	}{
		{`{"rules":[{"opt_out":true}]}`, Start, "tenant-opted-out", 10 * time.Minute},
		{`{"rules":[{"pin":"0.9.0"}]}`, Start, "tenant-pinned", 10 * time.Minute},
		{`{"rules":[{"previous":true}]}`, Start, "tenant-previous", 10 * time.Minute},
		{`{"rules":[{"defer":"1h"}]}`, Start.Add(58 * time.Minute), "tenant-deferred", 2 * time.Minute},
		{`{"rules":[{"proven":0.5}]}`, Start, "tenant-unproven", 10 * time.Minute},
		{`{"rules":[{"windows":[{"zone":"UTC","from":"03:10","to":"04:00"}]}]}`, Start, "tenant-window", 10*time.Minute - 4*time.Minute - 5*time.Second},
		{`{"rules":[{"windows":[{"zone":"UTC","from":"03:00","to":"04:00"}]}]}`, Start, "granted", 0},
	} {
		w.limit(t, c.document)
		for _, server := range []*World{w, &other} {
			if a := server.asked(t, 2, ro, c.at); a.Code != c.want || a.Retry != c.retry {
				t.Errorf("%s: %+v; want %s, again in %s", c.document, a.Answer, c.want, c.retry)
			}
		}
		if a := w.asked(t, 5, ro, Start); a.Verdict != rollout.Granted || a.New {
			t.Errorf("%d: what was granted before asks again: %+v", i, a)
		}
	}
	w.limit(t, `{"rules":[{"opt_out":true}]}`)
	if a := w.asked(t, 0, ro, Start); a.Verdict != rollout.Granted {
		t.Errorf("another tenant's endpoint: %+v", a)
	}
	w.limit(t, "")
	if a := w.asked(t, 3, ro, Start); a.Verdict != rollout.Granted {
		t.Errorf("after they were cleared: %+v", a)
	}
	Healthy(t, w.Store)
}

// limitedIsNotWaitedFor: who is kept from a release by a tenant's limits is in no
// number that a decision waits for or compares with, is never silent for it, and
// joins when the limits let it.
func limitedIsNotWaitedFor(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 4)
	w.southern(t, 3)
	ro, err := w.Store.StartRollout(t.Context(), store.Start{
		Product: Product, Version: "1.0.0", Policy: budgetPolicy(), Seed: seedFor(w), Actor: "operator:ann",
		Pace: rollout.Pace{Window: 4, Ceiling: 7, Turn: 1},
	}, Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := store.Batch{}
	for i := range 7 {
		all.Beacons = append(all.Beacons, w.Beacon(i, ro.ID, ""))
	}
	w.Commit(t, all, Start)
	w.limit(t, `{"rules":[{"proven":0.5}]}`)
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro.ID), w.Ask(1, ro.ID)}}, Start.Add(time.Second))
	present := func(want health.Control) {
		t.Helper()
		got, err := w.Store.Presence(t.Context(), ro.ID, Start, Start.Add(time.Second))
		if err != nil || got != want {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
	}
	present(health.Control{Fit: 4, Online: 4, Unexposed: 2, Heard: 2, Deferred: 3})

	// One of south's falls ill, the others fall silent: no failure of a control.
	ill := w.Beacon(4, ro.ID, "")
	ill.Installations[0].Healthy = false
	back := store.Batch{Beacons: []store.BeaconReport{ill, w.Beacon(0, ro.ID, store.AttemptProven), w.Beacon(1, ro.ID, store.AttemptProven), w.Beacon(2, ro.ID, ""), w.Beacon(3, ro.ID, "")}}
	w.Commit(t, back, Start.Add(40*time.Second))
	if n, err := w.Store.SweepQuiet(t.Context(), ro.ID, Start.Add(45*time.Second), 100); err != nil || n != 0 {
		t.Fatalf("%d turned silent, %v", n, err)
	}
	snap, err := w.Store.Snapshot(t.Context(), ro.ID, Start.Add(45*time.Second))
	if err != nil || snap.Observed.Control != (health.Arm{}) || snap.Counts.Silent != 0 || snap.Counts.Proven != 2 {
		t.Fatalf("controls %+v, counts %+v, %v", snap.Observed.Control, snap.Counts, err)
	}
	w.waitsEnd(t, ro.ID)
	present(health.Control{Fit: 7, Online: 7, Unexposed: 5, Heard: 5})
	if a := w.asked(t, 5, ro.ID, Start.Add(time.Minute)); a.Verdict != rollout.Granted {
		t.Fatalf("after the wait: %+v", a)
	}
	Healthy(t, w.Store)
}

// waitsEnd: a share that is too small lets nobody pass; one that was seen stays
// seen, and is one ledger entry.
func (w *World) waitsEnd(t *testing.T, ro int64) {
	t.Helper()
	size := ledgerSize(t, w.Store)
	for i, share := range []float64{0.49, 0.5, 0.3, 0.9} {
		if err := w.Store.PassTenants(t.Context(), ro, share, Start); err != nil {
			t.Fatal(err)
		}
		want := size
		if i > 0 {
			want++
		}
		if got := ledgerSize(t, w.Store); got != want {
			t.Fatalf("share %v: %d ledger entries, want %d", share, got-size, want-size)
		}
	}
}

// staysBehind: a release that a tenant may still take, when it may not take the
// newest, stays on offer; and no longer than that.
func staysBehind(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 1)
	w.southern(t, 1)
	w.limit(t, `{"rules":[{"previous":true}]}`)
	finish := func(version string) int64 {
		t.Helper()
		if version != "1.0.0" {
			if err := AddRelease(t.Context(), w.Store, version, Digest); err != nil {
				t.Fatal(err)
			}
		}
		r, err := w.Store.StartRollout(t.Context(), store.Start{Product: Product, Version: version, Policy: Policy(), Seed: []byte("s"), Actor: "operator:ann"}, Start, nil)
		if err == nil {
			_, err = w.decide(t, r.ID, rollout.Decision{Action: rollout.Finish, State: rollout.Finished, Pace: rollout.Pace{Ceiling: 9, Window: 9, Turn: 1}})
		}
		if err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	one := finish("1.0.0")
	if a := w.asked(t, 1, one, Start); a.Code != "tenant-previous" {
		t.Fatalf("the newest: %+v", a)
	}
	two := finish("2.0.0")
	if a := w.asked(t, 1, two, Start); a.Code != "tenant-previous" {
		t.Errorf("the newest: %+v", a)
	}
	if a := w.asked(t, 1, one, Start); a.Verdict != rollout.Granted {
		t.Errorf("one behind: %+v", a)
	}
	w.limit(t, "")
	finish("3.0.0")
	if open, err := w.Store.OpenRollouts(t.Context()); err != nil || len(open) != 1 {
		t.Errorf("nobody needs the older ones: %d are open, %v", len(open), err)
	}
	Healthy(t, w.Store)
}

// whyIsTheAnswer: what is said of an endpoint is what it is answered.
func whyIsTheAnswer(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 3)
	w.southern(t, 1)
	why := func(i int, at time.Time) []store.Standing {
		t.Helper()
		got, err := w.Store.Why(t.Context(), w.Endpoints[i].ID, "", at)
		if err != nil || len(got) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		return got
	}
	expect := func(i int, at time.Time, codes ...string) store.Standing {
		t.Helper()
		got := why(i, at)[0]
		var have []string
		for _, d := range got.Delays {
			have = append(have, d.By+" "+d.Code)
		}
		if fmt.Sprint(have) != fmt.Sprint(codes) {
			t.Fatalf("endpoint %d at %s: %v, want %v", i, at, have, codes)
		}
		return got
	}
	expect(0, Start, "operator not-offered")
	w.limit(t, `{"rules":[{"defer":"1h","windows":[{"zone":"UTC","from":"05:00","to":"06:00"}]}]}`)
	ro := w.Roll(t, 2).ID
	bare := func(i int) store.BeaconReport {
		b := w.Beacon(i, ro, "")
		b.Installations[0].Version, b.Installations[0].Digest = "", ""
		return b
	}
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{bare(0), bare(1), bare(2), bare(3)}}, Start)
	expect(0, Start)
	x := expect(3, Start, "tenant tenant-deferred", "tenant tenant-window")
	if !x.Delays[0].Until.Equal(Start.Add(time.Hour)) || x.Delays[1].Until.Format("15:04") != "05:00" {
		t.Errorf("until %+v", x.Delays)
	}
	if a := w.asked(t, 3, ro, Start); a.Code != x.Delays[0].Code || a.Detail != x.Delays[0].Detail {
		t.Errorf("said %+v, answered %+v", x.Delays[0], a)
	}
	w.asked(t, 0, ro, Start)
	expect(0, Start, "endpoint in-probation")
	w.asked(t, 1, ro, Start)
	expect(2, Start, "policy window-full")
	w.whyNot(t, ro, bare, expect)
	if _, err := w.Store.Why(t.Context(), 42, "", Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("endpoint %s: %v", ids.Format("E", 42), err)
	}
	Healthy(t, w.Store)
}

// whyNot: who has the release, failed on it, refused it, or is off.
func (w *World) whyNot(t *testing.T, ro int64, bare func(int) store.BeaconReport, expect func(int, time.Time, ...string) store.Standing) {
	t.Helper()
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, ro, store.AttemptProven), bare(1)}}, Start.Add(20*time.Second))
	if got := expect(0, Start.Add(20*time.Second)); !got.Has {
		t.Errorf("it runs the release: %+v", got)
	}
	harmed := bare(1)
	harmed.Attempts = []store.AttemptReport{{Rollout: ro, Digest: Digest, State: store.AttemptHarmed, Reason: "crash-loop"}}
	refused := bare(2)
	refused.Attempts = []store.AttemptReport{{Rollout: ro, Digest: Digest, State: store.AttemptPreflightFailed, Reason: "parse"}}
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{harmed, refused}}, Start.Add(21*time.Second))
	expect(1, Start.Add(21*time.Second), "endpoint quarantined")
	expect(2, Start.Add(21*time.Second), "endpoint preflight-failed")
	expect(2, Start.Add(24*time.Hour), "endpoint preflight-failed", "endpoint not-heard-from")
	if _, err := w.order(t, ro, rollout.VerbHold, "ann"); err != nil {
		t.Fatal(err)
	}
	if d := expect(2, Start.Add(21*time.Second), "endpoint preflight-failed", "operator held").Delays[1]; d.Detail != fmt.Sprintf("rollout R-%d is held by ann", ro) {
		t.Errorf("%q", d.Detail)
	}
}
