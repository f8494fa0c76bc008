package tuf

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/headgate/headgate/release"
)

type targetsMeta = metadata.Metadata[metadata.TargetsType]

// TestOffersThatBreakARuleAreRefused gives the server what it must not take.
func TestOffersThatBreakARuleAreRefused(t *testing.T) {
	w := newWorld(t)
	vendor := func(name string, change func(*targetsMeta), keys ...*Key) error {
		_, err := w.repo.SetVendor(name, w.sign(edit(w, name, change), keys...), w.now)
		return err
	}
	targets := func(change func(*targetsMeta), keys ...*Key) error {
		_, err := w.repo.SetTargets(w.sign(edit(w, Targets, change), keys...), w.now)
		return err
	}
	root := func(change func(*metadata.Metadata[metadata.RootType]), keys ...*Key) error {
		_, err := w.repo.SetRoot(w.sign(edit(w, Root, change), keys...), w.now)
		return err
	}
	next := func(m *targetsMeta) { m.Signed.Version++ }
	also := func(change func(*targetsMeta)) func(*targetsMeta) {
		return func(m *targetsMeta) { m.Signed.Version++; change(m) }
	}
	acme, ops := w.vendors["acme"], w.ops
	role := func(m *targetsMeta, name string) *metadata.DelegatedRole { return delegated(m, name) }
	for what, c := range map[string][2]error{
		"vendor, one of two":        {vendor("acme", next, acme[0]), ErrUnderSigned},
		"vendor, one key twice":     {vendor("acme", next, acme[0], acme[0]), ErrUnderSigned},
		"vendor, another's keys":    {vendor("acme", next, w.vendors["zeta"]...), ErrUnderSigned},
		"vendor, online keys":       {vendor("acme", next, w.online.rollout, w.online.snapshot, w.online.timestamp), ErrUnderSigned},
		"vendor, version skipped":   {vendor("acme", also(func(m *targetsMeta) { m.Signed.Version++ }), acme...), ErrRollback},
		"vendor, version again":     {vendor("acme", func(m *targetsMeta) { m.Signed.Expires = w.now.Add(2 * year) }, acme...), ErrRollback},
		"vendor, expired":           {vendor("acme", also(func(m *targetsMeta) { m.Signed.Expires = w.now.Add(-time.Second) }), acme...), ErrExpired},
		"vendor, another's path":    {vendor("acme", also(func(m *targetsMeta) { m.Signed.Targets[release.Target("zeta/rules", "9.0.0")] = evilTarget() }), acme...), ErrForeign},
		"vendor, no release's path": {vendor("acme", also(func(m *targetsMeta) { m.Signed.Targets["acme/x"] = evilTarget() }), acme...), ErrMalformed},
		"vendor, plan's path":       {vendor("acme", also(func(m *targetsMeta) { m.Signed.Targets[release.PlanTarget] = evilTarget() }), acme...), ErrMalformed},
		"vendor, changed artifact":  {vendor("acme", also(func(m *targetsMeta) { m.Signed.Targets[release.Target("acme/sensor", "1.0.0")] = evilTarget() }), acme...), ErrRollback},
		"vendor, delegates": {vendor("acme", also(func(m *targetsMeta) {
			m.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
		}), acme...), ErrForeign},
		"targets, one of two":      {targets(next, ops[0]), ErrUnderSigned},
		"targets, expired":         {targets(also(func(m *targetsMeta) { m.Signed.Expires = w.now.Add(-time.Second) }), ops...), ErrExpired},
		"targets, version skipped": {targets(also(next), ops...), ErrRollback},
		"targets, a file":          {targets(also(func(m *targetsMeta) { m.Signed.Targets["x"] = evilTarget() }), ops...), ErrForeign},
		"targets, wide path":       {targets(also(func(m *targetsMeta) { role(m, "acme").Paths = []string{"*/*/*/*"} }), ops...), ErrForeign},
		"targets, wide rollout":    {targets(also(func(m *targetsMeta) { role(m, Rollout).Paths = []string{"plan/*", "acme/*/*/*"} }), ops...), ErrForeign},
		"targets, not terminating": {targets(also(func(m *targetsMeta) { role(m, "acme").Terminating = false }), ops...), ErrForeign},
		"targets, no rollout":      {targets(also(func(m *targetsMeta) { role(m, Rollout).Name = "other" }), ops...), ErrMalformed},
		"targets, odd role name":   {targets(also(func(m *targetsMeta) { role(m, "acme").Name = "../x" })), ErrMalformed},
		"targets, another rollout key": {targets(also(func(m *targetsMeta) {
			*role(m, Rollout) = metadata.DelegatedRole{Name: Rollout, KeyIDs: role(m, "zeta").KeyIDs, Threshold: 1, Terminating: true, Paths: []string{"plan/*"}}
		}), ops...), ErrKey},
		"targets, online key as a vendor's": {targets(also(func(m *targetsMeta) { role(m, "zeta").KeyIDs = role(m, Rollout).KeyIDs }), ops...), ErrKey},
		"root, one of two":                  {root(func(m *metadata.Metadata[metadata.RootType]) { m.Signed.Version++ }, ops[0]), ErrUnderSigned},
		"root, version again":               {root(func(m *metadata.Metadata[metadata.RootType]) { m.Signed.Expires = w.now.Add(2 * year) }, ops...), ErrRollback},
		"root, expired":                     {root(func(m *metadata.Metadata[metadata.RootType]) { m.Signed.Version++; m.Signed.Expires = w.now.Add(-1) }, ops...), ErrExpired},
		"root, another timestamp key": {root(func(m *metadata.Metadata[metadata.RootType]) {
			m.Signed.Version++
			m.Signed.Roles[Timestamp] = m.Signed.Roles[Snapshot]
		}, ops...), ErrKey},
		"root, online key signs targets": {root(func(m *metadata.Metadata[metadata.RootType]) {
			m.Signed.Version++
			m.Signed.Roles[Targets].KeyIDs = append(m.Signed.Roles[Targets].KeyIDs, m.Signed.Roles[Snapshot].KeyIDs...)
		}, ops...), ErrKey},
	} {
		wantError(t, what, c[0], c[1])
	}
	_, err := w.repo.SetVendor("nobody", w.repo.State["acme"], w.now)
	wantError(t, "vendor that is not delegated", err, ErrNotFound)
	_, err = w.repo.SetVendor("rollout", w.repo.State[Rollout], w.now)
	wantError(t, "rollout as vendor", err, release.ErrInvalid)
	_, err = w.repo.SetVendor("acme", bytes.Repeat([]byte("x"), MaxTargets+1), w.now)
	wantError(t, "oversized", err, ErrTooLarge)
	_, err = w.repo.SetPlan([]byte("{}"), w.now)
	wantError(t, "no plan", err, release.ErrInvalid)
	_, err = Repo{Online: w.repo.Online, Life: DefaultLife}.SetTargets(w.repo.State[Targets], w.now)
	wantError(t, "targets before root", err, ErrNotFound)
}

func TestSameOfferAgainChangesNothing(t *testing.T) {
	w := newWorld(t)
	for what, offer := range map[string]func() (Change, error){
		"root":    func() (Change, error) { return w.repo.SetRoot(w.repo.State[Root], w.now) },
		"targets": func() (Change, error) { return w.repo.SetTargets(w.repo.State[Targets], w.now) },
		"vendor":  func() (Change, error) { return w.repo.SetVendor("acme", w.repo.State["acme"], w.now) },
		"plan":    func() (Change, error) { return w.repo.SetPlan(planBytes(t, 1), w.now) },
	} {
		if c, err := offer(); err != nil || !c.Empty() {
			t.Errorf("%s: %v, %d files", what, err, len(c.Files))
		}
	}
}

// TestSupersededFilesAreNoLongerNamed deletes what each change supersedes: a new
// endpoint still finds all it needs, and what is left stays small.
func TestSupersededFilesAreNoLongerNamed(t *testing.T) {
	w := newWorld(t)
	do := func(c Change, err error) {
		w.apply(c, err)
		for _, path := range c.Superseded {
			if w.files[path] == nil {
				t.Errorf("%s was superseded twice, or never stored", path)
			}
			delete(w.files, path)
		}
	}
	before := len(w.files)
	for v := range int64(20) {
		do(w.repo.SetPlan(planBytes(t, v+2), w.now))
		meta := w.must(RenewTargets(w.repo.State["zeta"], w.now.Add(year)))
		do(w.repo.SetVendor("zeta", w.sign(meta, w.vendors["zeta"]...), w.now))
		w.now = w.now.Add(5 * 24 * time.Hour)
		c, _, err := w.repo.Renew(w.now)
		do(c, err)
	}
	if len(w.files) > before {
		t.Errorf("%d files, before %d", len(w.files), before)
	}
	c := w.client(t.TempDir())
	w.mustRefresh(c)
	if _, err := w.target(c, "zeta/rules", "1.0.0"); err != nil {
		t.Error(err)
	}
}

func TestWrongOnlineKeyNeverReachesTheRepository(t *testing.T) {
	w := newWorld(t)
	w.repo.Online.Snapshot = newKey(t)
	_, err := w.repo.SetPlan(planBytes(t, 2), w.now)
	wantError(t, "snapshot key", err, ErrUnderSigned)
	w.repo.Online = Online{w.online.timestamp, w.online.snapshot, newKey(t)}
	_, err = w.repo.SetPlan(planBytes(t, 2), w.now)
	wantError(t, "rollout key", err, ErrUnderSigned)
	if err == nil || !strings.Contains(err.Error(), "rollout version") {
		t.Errorf("%v does not name role and version", err)
	}
}

// The step that puts a root and targets with the next online keys in force is
// signed with them, whichever roles change; an endpoint follows each.
func TestNextOnlineKeysSignTheStepThatNamesThem(t *testing.T) {
	for _, roles := range [][]string{{Timestamp}, {Snapshot}, {Rollout}, OnlineRoles} {
		w := newWorld(t)
		c := w.client(t.TempDir())
		w.mustRefresh(c)
		w.repo.Next = Online{newKey(t), newKey(t), newKey(t)}
		if _, err := w.repo.SetPlan(planBytes(t, 7), w.now); err != nil {
			t.Fatalf("keys that wait: %v", err)
		}
		spec, rollout := RootSpec{}, w.repo.Online.Rollout
		for _, role := range roles {
			switch role {
			case Timestamp:
				spec.Timestamp = w.repo.Next.Timestamp.Public()
			case Snapshot:
				spec.Snapshot = w.repo.Next.Snapshot.Public()
			case Rollout:
				rollout = w.repo.Next.Rollout
			}
		}
		root, err := RotateRoot(w.repo.State[Root], spec)
		if err != nil {
			t.Fatal(err)
		}
		targets, err := RotateRollout(w.repo.State[Targets], rollout.Public(), w.now.Add(year))
		if err != nil {
			t.Fatal(err)
		}
		root, targets = w.sign(root, w.ops...), w.sign(targets, w.ops...)
		w.apply(w.repo.SetRootAndTargets(root, targets, w.now))
		if again, err := w.repo.SetRootAndTargets(root, targets, w.now); err != nil || !again.Empty() {
			t.Errorf("%v: the same again: %d files, %v", roles, len(again.Files), err)
		}
		w.mustRefresh(c)
		w.apply(w.repo.SetPlan(planBytes(t, 7), w.now)) // signed with what is named
		w.mustRefresh(c)
		if p, err := c.Plan(); err != nil || p.Version != 7 {
			t.Errorf("%v: plan %d, %v", roles, p.Version, err)
		}
		w.repo.Next = Online{}
		if _, err := w.repo.SetPlan(planBytes(t, 8), w.now); err == nil {
			t.Errorf("%v: signed without the keys that are named", roles)
		}
	}
}
