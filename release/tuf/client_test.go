package tuf

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"
)

func TestEndpointFollowsTheRepository(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	c := w.client(dir)
	wantError(t, "before the first refresh", c.Fresh(w.now), ErrNotFound)
	if !w.mustRefresh(c) {
		t.Error("first refresh: nothing changed")
	}
	wantPlan(t, c, 1)
	if w.mustRefresh(c) {
		t.Error("second refresh: changed")
	}
	r, err := w.target(c, "acme/sensor", "1.0.0")
	if err != nil || r != releaseFor("acme/sensor", "1.0.0") {
		t.Fatalf("%+v, %v", r, err)
	}
	var got bytes.Buffer
	if err := c.Download(context.Background(), r, &got); err != nil || !bytes.Equal(got.Bytes(), artifactOf("acme/sensor", "1.0.0")) {
		t.Errorf("%q, %v", got.Bytes(), err)
	}
	_, err = w.target(c, "acme/sensor", "2.0.0")
	wantError(t, "unknown release", err, ErrNotFound)
	_, err = w.target(c, "nobody/sensor", "1.0.0")
	wantError(t, "unknown vendor", err, ErrNotFound)

	w.release("acme/sensor", "2.0.0")
	w.plan(2)
	if !w.mustRefresh(c) {
		t.Error("new plan and release: nothing changed")
	}
	wantPlan(t, c, 2)
	if _, err := w.target(c, "acme/sensor", "2.0.0"); err != nil {
		t.Error(err)
	}

	// Offline, in a new process, all of it is still there.
	c, err = Open(dir, nil, memory{})
	if err != nil || c.Damaged() != nil {
		t.Fatal(err, c.Damaged())
	}
	wantPlan(t, c, 2)
	if _, err := c.Target(context.Background(), w.now, "acme/sensor", "2.0.0"); err != nil {
		t.Error(err)
	}
}

func TestRenewalIsNoNews(t *testing.T) {
	w := newWorld(t)
	c := w.client(t.TempDir())
	w.mustRefresh(c)
	if _, ok, err := w.repo.Renew(w.now.Add(time.Hour)); ok || err != nil {
		t.Errorf("renewed after an hour: %v, %v", ok, err)
	}
	// Two weeks of a server that looks in twice an hour.
	for range 2 * 24 * 14 {
		w.now = w.now.Add(30 * time.Minute)
		change, ok, err := w.repo.Renew(w.now)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			w.apply(change, nil)
		}
		if w.mustRefresh(c) {
			t.Fatal("a renewal counts as a change")
		}
		if err := c.Fresh(w.now); err != nil {
			t.Fatal(err)
		}
	}
	if v := w.repo.State.Version(Snapshot); v > 12 {
		t.Errorf("%d snapshots in two weeks", v)
	}
	wantPlan(t, c, 1)
}

func TestExpiryStopsInstallingNotThePlan(t *testing.T) {
	for role, at := range map[string]time.Duration{Timestamp: 25 * time.Hour, Root: 2 * year} {
		w := newWorld(t)
		c := w.client(t.TempDir())
		w.mustRefresh(c)
		w.now = w.now.Add(at)
		wantError(t, role, c.Fresh(w.now), ErrExpired)
		_, err := w.target(c, "acme/sensor", "1.0.0")
		wantError(t, role, err, ErrExpired)
		_, err = w.refresh(c)
		wantError(t, role, err, ErrExpired)
		wantPlan(t, c, 1)
	}
}

func TestExpiredRolesAreRefused(t *testing.T) {
	// Each role in turn is the only one that has expired.
	for role, life := range map[string]func(w *world){
		Snapshot: func(w *world) { w.repo.Life.Snapshot = time.Minute },
		Rollout:  func(w *world) { w.repo.Life.Rollout = time.Minute },
		Timestamp: func(w *world) {
			w.repo.Life.Timestamp = time.Minute
		},
		Targets: func(w *world) {
			meta := w.must(RenewTargets(w.repo.State[Targets], w.now.Add(time.Minute)))
			w.apply(w.repo.SetTargets(w.sign(meta, w.ops[:2]...), w.now))
		},
		Root: func(w *world) {
			spec := w.spec()
			spec.Expires = w.now.Add(time.Minute)
			w.apply(w.repo.SetRoot(w.sign(w.must(RotateRoot(w.repo.State[Root], spec)), w.ops[:2]...), w.now))
		},
	} {
		w := newWorld(t)
		life(w)
		w.plan(2)
		w.now = w.now.Add(2 * time.Minute)
		c := w.client(t.TempDir())
		_, err := w.refresh(c)
		wantError(t, role, err, ErrExpired)
		if role == Timestamp {
			wantError(t, role, err, ErrFrozen)
		}
		if _, err := c.Plan(); err == nil {
			t.Errorf("%s: an expired set was taken", role)
		}
	}
	w := newWorld(t)
	meta := w.must(RenewTargets(w.repo.State["acme"], w.now.Add(time.Minute)))
	w.apply(w.repo.SetVendor("acme", w.sign(meta, w.vendors["acme"][1:]...), w.now))
	w.now = w.now.Add(2 * time.Minute)
	c := w.client(t.TempDir())
	w.mustRefresh(c)
	_, err := w.target(c, "acme/sensor", "1.0.0")
	wantError(t, "vendor", err, ErrExpired)
	if _, err := w.target(c, "zeta/rules", "1.0.0"); err != nil {
		t.Errorf("the other vendor: %v", err)
	}
}

func TestKeysRotateWithoutTouchingEndpoints(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	c := w.client(dir)
	w.mustRefresh(c)
	if _, err := w.target(c, "acme/sensor", "1.0.0"); err != nil {
		t.Fatal(err)
	}

	// Root: all operators and all online keys go, in one step each.
	old := w.ops
	w.ops = []*Key{newKey(t), newKey(t), newKey(t)}
	root := w.must(RotateRoot(w.repo.State[Root], w.spec()))
	root = w.sign(root, old[0], old[2], w.ops[0], w.ops[1])
	_, err := w.repo.SetRoot(root, w.now)
	wantError(t, "root without targets by the new keys", err, ErrUnderSigned)
	targets := w.sign(w.must(RenewTargets(w.repo.State[Targets], w.now.Add(year))), w.ops[1:]...)
	w.apply(w.repo.SetRootAndTargets(root, targets, w.now))

	w.online.timestamp, w.online.snapshot, w.online.rollout = newKey(t), newKey(t), newKey(t)
	w.repo.Online = Online{w.online.timestamp, w.online.snapshot, w.online.rollout}
	root = w.sign(w.must(RotateRoot(w.repo.State[Root], w.spec())), w.ops[:2]...)
	targets = w.sign(w.must(RotateRollout(w.repo.State[Targets], w.online.rollout.Public(), time.Time{})), w.ops[:2]...)
	w.apply(w.repo.SetRootAndTargets(root, targets, w.now))
	w.plan(2)

	// Vendor: new keys, then metadata by them.
	w.vendors["acme"] = []*Key{newKey(t), newKey(t)}
	targets = w.must(AddVendor(w.repo.State[Targets], Vendor{"acme", public(w.vendors["acme"]...), 2}, time.Time{}))
	w.apply(w.repo.SetTargets(w.sign(targets, w.ops[:2]...), w.now))
	w.mustRefresh(c)
	_, err = w.target(c, "acme/sensor", "1.0.0")
	wantError(t, "metadata by the old keys", err, ErrUnderSigned)
	if _, err := w.target(c, "zeta/rules", "1.0.0"); err != nil {
		t.Errorf("the other vendor: %v", err)
	}
	w.release("acme/sensor", "1.1.0")
	w.mustRefresh(c)
	for _, version := range []string{"1.0.0", "1.1.0"} {
		if _, err := w.target(c, "acme/sensor", version); err != nil {
			t.Error(err)
		}
	}
	wantPlan(t, c, 2)

	// One that enrolled long ago and was never on, and one that starts again.
	late := w.client(t.TempDir())
	w.mustRefresh(late)
	if late.RootVersion() != 3 {
		t.Errorf("root version %d, want 3", late.RootVersion())
	}
	again := w.client(dir)
	if w.mustRefresh(again) || again.Damaged() != nil {
		t.Errorf("changed after reopening, or %v", again.Damaged())
	}
}

func TestDamagedFolderStartsOverFromEnrolment(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "not JSON": "{", "other": `{"schema":"x"}`, "no root": `{"schema":"headgate.trust/1","root":"e30="}`,
	} {
		w := newWorld(t)
		dir := t.TempDir()
		if err := saveTrust(dir+"/trust.json", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, nil, w.files); err == nil {
			t.Errorf("%s: opened without any root", name)
		}
		c := w.client(dir)
		if c.Damaged() == nil {
			t.Errorf("%s: not reported", name)
		}
		w.mustRefresh(c)
		wantPlan(t, c, 1)
	}
}

func TestManyShareOneClient(t *testing.T) {
	w := newWorld(t)
	c := w.client(t.TempDir())
	c.save = func(string, []byte) error { return nil }
	w.mustRefresh(c)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				if _, err := c.Refresh(context.Background(), w.now); err != nil {
					t.Error(err)
				}
				product := []string{"acme/sensor", "zeta/rules"}[i%2]
				if _, err := c.Target(context.Background(), w.now, product, "1.0.0"); err != nil {
					t.Error(err)
				}
				if _, err := c.Plan(); err != nil || c.Fresh(w.now) != nil {
					t.Error(err, c.Fresh(w.now))
				}
				c.Timestamp()
			}
		})
	}
	wg.Wait()
}
