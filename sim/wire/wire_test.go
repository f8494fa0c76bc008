package wire

import (
	"context"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/detect"
	"github.com/headgate/headgate/agent/link/linktest"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

func config(t testing.TB, w *linktest.World, n int) Config {
	return Config{Server: w.HTTP.URL, Pin: w.Pin(), EnrolmentToken: "hgt_x", N: n, Products: []string{linktest.Product}, Seed: 1, Concurrency: 8, Poll: 50 * time.Millisecond, Dir: t.TempDir()}
}

func offer(t testing.TB, w *linktest.World, rollout int64, version string) release.Offer {
	dir := filepath.Join(t.TempDir(), version)
	if err := detect.DemoContent(version, dir); err != nil {
		t.Fatal(err)
	}
	r := w.Publish(version, dir)
	return release.Offer{Rollout: rollout, Product: r.Product, Version: version, Digest: r.Digest, Action: release.ActionOffer, Seed: []byte{byte(rollout)}, Turn: 1, Probation: span.Duration(200 * time.Millisecond)}
}

var planVersion atomic.Int64

func plan(offers ...release.Offer) release.Plan {
	return release.Plan{Schema: "headgate.plan/1", Version: planVersion.Add(1), Issued: time.Now().UTC(), Poll: span.Duration(50 * time.Millisecond), PollJitter: 0.2, Beacon: span.Duration(300 * time.Millisecond), Offers: offers}
}

// start lives a fleet until the test ends.
func start(t testing.TB, c Config) *Fleet {
	t.Helper()
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("fleet ended: %v", err)
		}
	})
	return f
}

func eventually(t testing.TB, what string, f *Fleet, ok func(Stats) bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok(f.Stats()) {
			return
		}
	}
	t.Fatalf("not within 30 s: %s; %+v", what, f.Stats())
}

func TestFleetTakesGoodLeavesBadAndTakesTheFix(t *testing.T) {
	const n = 60
	w := linktest.New(t, true)
	w.SetPlan(plan(offer(t, w, 1, "1.0.0")))
	f := start(t, config(t, w, n))
	eventually(t, "all prove 1.0.0", f, func(s Stats) bool { return s.Proven == n && s.Versions["acme/rules@1.0.0"] == n })

	var granted atomic.Int64
	w.OnGrant(func(_ string, r *v1.GrantRequest) (*v1.GrantResponse, error) {
		if r.Rollout == 2 && granted.Add(1) > 5 {
			return &v1.GrantResponse{Verdict: v1.GrantVerdict_GRANT_VERDICT_WAIT, Reason: "window-full", RetryAfterUs: 50e3}, nil
		}
		return &v1.GrantResponse{Verdict: v1.GrantVerdict_GRANT_VERDICT_GRANTED, TtlUs: 60e6}, nil
	})
	bad := offer(t, w, 2, "2.0.0")
	w.SetPlan(plan(bad))
	eventually(t, "the granted five crash and go back", f, func(s Stats) bool {
		return s.Harmed == 5 && s.Versions["acme/rules@1.0.0"] == n && s.Versions["acme/rules@2.0.0"] == 0
	})
	eventually(t, "the five say so", f, func(Stats) bool {
		harmed := 0
		for _, id := range f.Endpoints() {
			if slices.ContainsFunc(w.Beacons(id), func(b *v1.BeaconRequest) bool {
				a := b.Products[0].GetAttempt()
				return a.GetState() == v1.AttemptState_ATTEMPT_STATE_HARMED && a.Rollout == 2 && a.Reason == "crash-loop" && a.DownUs > 0 && b.Products[0].Version == "1.0.0"
			}) {
				harmed++
			}
		}
		return harmed == 5
	})
	bad.Action = release.ActionRevert
	w.SetPlan(plan(bad, offer(t, w, 3, "3.0.0")))
	eventually(t, "all prove 3.0.0", f, func(s Stats) bool { return s.Proven == 2*n && s.Versions["acme/rules@3.0.0"] == n })
	if s := f.Stats(); s.Errors != 0 || s.NotModified == 0 || s.Activated != 2*n+5 {
		t.Fatalf("%+v", s)
	}
}

func TestRevertOrderBringsProvenEndpointsBack(t *testing.T) {
	const n = 10
	w := linktest.New(t, false)
	one := offer(t, w, 1, "1.0.0")
	w.SetPlan(plan(one))
	f := start(t, config(t, w, n))
	eventually(t, "proven", f, func(s Stats) bool { return s.Proven == n })
	three := offer(t, w, 3, "3.0.0")
	w.SetPlan(plan(one, three))
	eventually(t, "proven", f, func(s Stats) bool { return s.Proven == 2*n })
	three.Action = release.ActionRevert
	w.SetPlan(plan(one, three))
	eventually(t, "back on 1.0.0", f, func(s Stats) bool { return s.Reverted == n && s.Versions["acme/rules@1.0.0"] == n })
}

func TestOfflineVanishingAndLyingEndpoints(t *testing.T) {
	const n = 40
	w := linktest.New(t, false)
	w.SetPlan(plan(offer(t, w, 2, "2.0.0")))
	c := config(t, w, n)
	c.Offline, c.Vanish, c.Lie = 0.25, 0.25, 0.25
	f := start(t, c)
	<-f.Enrolled()
	var online, vanish, lie int64
	for _, e := range f.endpoints { // set once, before Run
		switch {
		case e.offline:
			continue
		case e.vanish:
			vanish++
		case e.lie:
			lie++
		}
		online++
	}
	if vanish == 0 || lie == 0 || online == n || online == 0 {
		t.Fatalf("the seed makes %d online, %d vanishing, %d lying: choose another", online, vanish, lie)
	}
	eventually(t, "each has met its fate", f, func(s Stats) bool {
		return s.Vanished == vanish && s.Proven == lie && s.Harmed == online-vanish-lie
	})
	spoke := int64(0)
	for _, id := range f.Endpoints() {
		if len(w.Beacons(id)) > 0 {
			spoke++
		}
	}
	if spoke > online {
		t.Fatalf("%d endpoints spoke; only %d are online", spoke, online)
	}
}

func TestSameSeedIsTheSameFleet(t *testing.T) {
	w := linktest.New(t, false)
	var ids [2][]string
	for i := range ids {
		f := start(t, config(t, w, 20))
		<-f.Enrolled()
		ids[i] = f.Endpoints()
	}
	if !slices.Equal(ids[0], ids[1]) || len(w.Enrolled()) != 20 {
		t.Fatal("a second run enrolled other endpoints")
	}
	regions := map[string]bool{}
	for _, r := range w.Enrolled() {
		regions[r.Labels["region"]] = true
	}
	if len(regions) < 2 {
		t.Fatalf("labels do not vary: %v", regions)
	}
	a, b := DefaultLabels(0, rand.New(rand.NewPCG(1, 2))), DefaultLabels(0, rand.New(rand.NewPCG(1, 2)))
	for k, v := range a {
		if b[k] != v {
			t.Fatal("labels are not decided by the seed")
		}
	}
}

func TestFleetOutlivesItsServer(t *testing.T) {
	w := linktest.New(t, false)
	f := start(t, config(t, w, 10))
	<-f.Enrolled()
	eventually(t, "it speaks", f, func(s Stats) bool { return s.Beacons > 5 })
	w.Before(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	eventually(t, "it meets errors", f, func(s Stats) bool { return s.Errors > 10 })
	w.Before(nil)
	w.SetPlan(plan(offer(t, w, 1, "1.0.0")))
	eventually(t, "it goes on", f, func(s Stats) bool { return s.Proven == 10 })
}

func TestBadFleetIsRefused(t *testing.T) {
	for _, c := range []Config{{}, {N: 1, Server: "https://x"}, {N: 1, Server: "https://x", Products: []string{"a/b"}, Dir: "/x", Concurrency: 65},
		{N: 1, Server: "ftp://x", Products: []string{"a/b"}, Dir: "/x"}, {N: 1, Server: "https://x", Products: []string{"a/b"}, Dir: "/x", Lie: 2}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// BenchmarkPoll is what one poll of an idle simulated endpoint costs, server's
// double included.
func BenchmarkPoll(b *testing.B) {
	w := linktest.New(b, false)
	w.SetPlan(plan(offer(b, w, 1, "1.0.0")))
	f, err := New(config(b, w, 1))
	if err != nil {
		b.Fatal(err)
	}
	root, err := f.enrol(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if f.site, err = newSite(f.Dir, root, f.fetch, 1, f.Log); err != nil {
		b.Fatal(err)
	}
	e := f.endpoints[0]
	e.wake(time.Now())
	var once sync.Once
	b.ReportAllocs()
	for b.Loop() {
		e.poll(b.Context(), time.Now())
		once.Do(func() { e.actAt = time.Now().Add(never) })
	}
}

// BenchmarkRollout is what one simulated endpoint costs from plan to proof,
// server's double included.
func BenchmarkRollout(b *testing.B) {
	const n = 2000
	for b.Loop() {
		w := linktest.New(b, false)
		c := config(b, w, n)
		c.Concurrency, c.Poll = MaxConcurrency, time.Second
		f := start(b, c)
		<-f.Enrolled()
		o := offer(b, w, 1, "1.0.0")
		o.Probation = span.Duration(2 * time.Second)
		p := plan(o)
		p.Poll, p.Beacon = span.Duration(time.Second), span.Duration(5*time.Second)
		before := cpu(b)
		w.SetPlan(p)
		eventually(b, "all prove", f, func(s Stats) bool { return s.Proven == n })
		s := f.Stats()
		b.ReportMetric(float64(cpu(b)-before)/float64(time.Microsecond)/n, "cpu-µs/endpoint")
		b.ReportMetric(float64(s.Polls+s.Beacons+s.Asked)/n, "requests/endpoint")
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
