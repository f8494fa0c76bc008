package server

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release/tuf"
)

// follower is an endpoint's TUF client that enrolled with the first root.
type follower struct {
	*world
	*tuf.Client
}

func (w *world) follower(dir string) *follower {
	w.Helper()
	_, root := w.get(w, "/tuf/1.root.json")
	c, err := tuf.Open(dir, []byte(root), tuf.NewHTTP(w.base+"/tuf/", w.web))
	check(w, err)
	return &follower{w, c}
}

// follows checks that the endpoint comes to the server's root and plan, and can
// install the versions.
func (f *follower) follows(what string, versions ...string) {
	f.Helper()
	until(f, what+": the endpoint follows", func() bool {
		state, err := f.publisher.State(f.Context())
		check(f, err)
		_, body := f.get(f, "/tuf/timestamp.json")
		if body != string(state[tuf.Timestamp]) {
			return false // served within a moment
		}
		if _, err := f.Refresh(f.Context(), time.Now()); err != nil {
			f.Fatalf("%s: %v", what, err)
		}
		_, err = f.Plan() // the first one follows the first root
		return err == nil
	})
	for _, v := range versions {
		rel, err := f.Target(f.Context(), time.Now(), product, v)
		if err != nil {
			f.Fatalf("%s: release %s: %v", what, v, err)
		}
		var got bytes.Buffer
		check(f, f.Download(f.Context(), rel, &got))
		if got.String() != "artifact of "+v {
			f.Fatalf("%s: release %s is %q", what, v, got.String())
		}
	}
}

// rotate makes the next root and targets; what spec leaves zero stays.
func (w *world) rotate(spec tuf.RootSpec, rollout tuf.PublicKey) (root, targets []byte) {
	w.Helper()
	state, err := w.publisher.State(w.Context())
	check(w, err)
	spec.Expires = year()
	root, err = tuf.RotateRoot(state[tuf.Root], spec)
	check(w, err)
	if rollout.IsZero() {
		targets, err = tuf.RenewTargets(state[tuf.Targets], year())
	} else {
		targets, err = tuf.RotateRollout(state[tuf.Targets], rollout, year())
	}
	check(w, err)
	return root, targets
}

func (w *world) publishRoot(root, targets []byte) error {
	_, err := w.repo.PublishRoot(w.Context(), connect.NewRequest(&headgatev1.PublishRootRequest{Root: root, Targets: targets}))
	return err
}

// inLedger tells whether the newest entry of a kind says all of the words.
func (w *world) inLedger(kind string, words ...string) {
	w.Helper()
	res, err := w.ledger.ListEntries(w.Context(), connect.NewRequest(&headgatev1.ListEntriesRequest{}))
	check(w, err)
	last := ""
	for _, e := range res.Msg.Entries {
		if e.Kind == kind {
			last = e.Body
		}
	}
	for _, word := range words {
		if !strings.Contains(last, word) {
			w.Errorf("the ledger's last %s, %q, does not name %q", kind, last, word)
		}
	}
}

func TestOperatorsKeysRotateInOneStep(t *testing.T) {
	w := newWorld(t)
	w.release("1.0.0")
	f := w.follower(t.TempDir())
	f.follows("before", "1.0.0")
	fresh, pubs := newKeys(t, 3)
	root, targets := w.rotate(tuf.RootSpec{Operators: pubs, Threshold: 2}, tuf.PublicKey{})
	signedTargets := sign(t, targets, fresh[0], fresh[1]) // by nobody of old

	wantCode(t, w.publishRoot(sign(t, root, fresh[0], fresh[1]), signedTargets), connect.CodeInvalidArgument, "by the keys of version 1")
	wantCode(t, w.publishRoot(sign(t, root, w.ops[0], w.ops[1]), signedTargets), connect.CodeInvalidArgument, "root")
	both := sign(t, root, w.ops[0], w.ops[1], fresh[0], fresh[1])
	wantCode(t, w.publishRoot(both, nil), connect.CodeInvalidArgument, "send targets signed by the new keys along")
	wantCode(t, w.publishRoot(both, sign(t, targets, fresh[0])), connect.CodeInvalidArgument, "targets")
	f.follows("refused", "1.0.0")

	check(t, w.publishRoot(both, signedTargets))
	check(t, w.publishRoot(both, signedTargets)) // a retry
	f.follows("rotated", "1.0.0")
	w.inLedger("repository.root", `"version":2`, pubs[2].ID())
	w.inLedger("repository.targets", `"version":2`)

	// The old operators have no say any more.
	root, targets = w.rotate(tuf.RootSpec{}, tuf.PublicKey{})
	wantCode(t, w.publishRoot(sign(t, root, w.ops...), sign(t, targets, w.ops...)), connect.CodeInvalidArgument)
	w.ops = fresh
	check(t, w.publishRoot(sign(t, root, fresh[1], fresh[2]), sign(t, targets, fresh[1], fresh[2])))
	w.release("1.1.0")
	f.follows("renewed", "1.0.0", "1.1.0")
	w.follower(t.TempDir()).follows("who starts from the first root", "1.1.0")
}

// setVendor publishes targets with other keys for the vendor.
func (w *world) setVendor(threshold int, pubs ...tuf.PublicKey) {
	w.Helper()
	state, err := w.publisher.State(w.Context())
	check(w, err)
	targets, err := tuf.AddVendor(state[tuf.Targets], tuf.Vendor{Name: "acme", Keys: pubs, Threshold: threshold}, year())
	check(w, err)
	_, err = w.repo.PublishTargets(w.Context(), connect.NewRequest(&headgatev1.PublishTargetsRequest{Targets: sign(w, targets, w.ops[0], w.ops[1])}))
	check(w, err)
}

func TestVendorKeysRotateWithoutAGap(t *testing.T) {
	w := newWorld(t)
	w.release("1.0.0")
	f := w.follower(t.TempDir())
	fresh, pubs := newKeys(t, 3)
	old := w.vendorKeys
	oldPubs := []tuf.PublicKey{old[0].Public(), old[1].Public(), old[2].Public()}

	w.setVendor(2, append(oldPubs, pubs...)...) // both
	f.follows("old and new keys count", "1.0.0")
	meta, err := tuf.RenewTargets(w.vendorMeta, year())
	check(t, err)
	w.vendorMeta = sign(t, meta, fresh[0], fresh[1])
	check(t, w.publishMeta("1.0.0", w.vendorMeta)) // the same release, signed by the new keys
	w.inLedger("release.resigned", `"version":2`)
	f.follows("signed afresh", "1.0.0")
	w.setVendor(2, pubs...) // the new ones alone
	f.follows("the old keys are gone", "1.0.0")
	w.inLedger("repository.targets", pubs[1].ID())

	digest := w.upload([]byte("artifact of 1.1.0"))
	wantCode(t, w.publishMeta("1.1.0", sign(t, w.draft("1.1.0", digest, 17), old...)), connect.CodeInvalidArgument, "acme")
	w.vendorKeys = fresh
	w.release("1.1.0")
	f.follows("a release by the new keys", "1.0.0", "1.1.0")
	res, err := w.catalog.ListVendors(t.Context(), connect.NewRequest(&headgatev1.ListVendorsRequest{}))
	check(t, err)
	if v := res.Msg.Vendors[0]; v.Keys != 3 || v.Threshold != 2 {
		t.Errorf("recorded: %v", v)
	}
}

// nextKeys has the server make its next online keys.
func (w *world) nextKeys() (spec tuf.RootSpec, rollout tuf.PublicKey) {
	w.Helper()
	res, err := w.repo.NewOnlineKeys(w.Context(), connect.NewRequest(&headgatev1.NewOnlineKeysRequest{}))
	check(w, err)
	pub := func(b []byte) tuf.PublicKey {
		k, err := tuf.ParsePublic(b)
		check(w, err)
		return k
	}
	return tuf.RootSpec{Timestamp: pub(res.Msg.TimestampKey), Snapshot: pub(res.Msg.SnapshotKey)}, pub(res.Msg.RolloutKey)
}

func (w *world) rotateOnline() {
	w.Helper()
	spec, rollout := w.nextKeys()
	root, targets := w.rotate(spec, rollout)
	check(w, w.publishRoot(sign(w, root, w.ops[0], w.ops[1]), sign(w, targets, w.ops[0], w.ops[1])))
}

func (w *world) onlineIDs() (ids [3]string) {
	w.Helper()
	state, err := w.publisher.State(w.Context())
	check(w, err)
	for i, role := range tuf.OnlineRoles {
		named, err := state.OnlineKeys(role)
		check(w, err)
		ids[i] = strings.Join(named, " ")
	}
	return ids
}

func TestOnlineKeysRotateWhileTheServerRuns(t *testing.T) {
	cfg := testConfig(t)
	s := startServer(t, cfg)
	stopped := false
	defer func() {
		if !stopped {
			stopServer(t, s)
		}
	}()
	w := &world{TB: t, Server: s}
	w.clients = newClients(s.URL(), w.adminToken())
	w.found()
	w.release("1.0.0")
	dir := t.TempDir()
	f := w.follower(dir)
	f.follows("before", "1.0.0")
	before := w.onlineIDs()

	spec, rollout := w.nextKeys()
	if again, same := w.nextKeys(); again.Timestamp.ID() != spec.Timestamp.ID() || same.ID() != rollout.ID() {
		t.Error("asked twice, it made other keys")
	}
	f.follows("keys that wait change nothing", "1.0.0")
	if w.onlineIDs() != before {
		t.Fatal("keys that nobody signed for are in use")
	}
	stranger, _ := newKeys(t, 3)
	root, targets := w.rotate(tuf.RootSpec{Timestamp: stranger[0].Public(), Snapshot: stranger[1].Public()}, stranger[2].Public())
	wantCode(t, w.publishRoot(sign(t, root, w.ops[0], w.ops[1]), sign(t, targets, w.ops[0], w.ops[1])), connect.CodeInvalidArgument, "the server's")

	w.rotateOnline()
	after := w.onlineIDs()
	if after[0] != spec.Timestamp.ID() || after[1] != spec.Snapshot.ID() || after[2] != rollout.ID() {
		t.Fatalf("in use are %v", after)
	}
	f.follows("rotated", "1.0.0")
	w.inLedger("repository.root", spec.Timestamp.ID(), spec.Snapshot.ID())
	w.inLedger("repository.targets", rollout.ID())

	// The server goes on: releases, rollouts, and a second rotation.
	w.release("1.1.0")
	id := w.start("1.1.0", quick())
	w.untilOffer(id, "offer")
	f.follows("goes on", "1.1.0")
	w.rotateOnline()
	f.follows("rotated again", "1.1.0")
	if left, err := os.ReadDir(filepath.Join(cfg.Data, "keys", "retired")); err != nil || len(left) != 12 {
		t.Errorf("retired keys: %v, %v", left, err)
	}

	// And starts again, with the same keys.
	stopServer(t, s)
	stopped = true
	again := startServer(t, cfg)
	defer stopServer(t, again)
	w.Server = again
	w.clients = newClients(again.URL(), w.adminToken())
	f = w.follower(dir)
	w.release("1.2.0")
	f.follows("after a restart", "1.2.0")
	w.follower(t.TempDir()).follows("who starts from the first root", "1.2.0")
}

// A crash between publishing and moving files, a restart, and a copy of the
// folder from before the rotation: the published metadata says what is in use.
func TestKeysAreFoundWhereverACrashLeftThem(t *testing.T) {
	cfg := testConfig(t)
	s := startServer(t, cfg)
	w := &world{TB: t, Server: s}
	w.clients = newClients(s.URL(), w.adminToken())
	w.found()
	w.nextKeys()
	keys := filepath.Join(cfg.Data, "keys")
	unmoved := t.TempDir()
	check(t, os.CopyFS(unmoved, os.DirFS(keys)))
	dir := t.TempDir()
	w.follower(dir).follows("before")
	w.rotateOnline()
	stopServer(t, s)

	roles := []string{"timestamp", "snapshot", "rollout"}
	for moved := range len(roles) + 1 { // the crash came after so many
		check(t, os.RemoveAll(keys))
		check(t, os.CopyFS(keys, os.DirFS(unmoved)))
		for _, role := range roles[:moved] {
			check(t, os.Rename(filepath.Join(keys, "next", role+".key"), filepath.Join(keys, role+".key")))
		}
		again := startServer(t, cfg)
		w.Server = again
		w.clients = newClients(again.URL(), w.adminToken())
		w.follower(dir).follows("after a crash")
		res, err := w.repo.GetOnlineKeys(t.Context(), connect.NewRequest(&headgatev1.GetOnlineKeysRequest{}))
		check(t, err)
		if res.Msg.NextTimestampKey != nil || res.Msg.NextRolloutKey != nil {
			t.Errorf("after %d: keys in use wait to be used", moved)
		}
		stopServer(t, again)
	}
	check(t, os.RemoveAll(filepath.Join(keys, "next")))
	for _, role := range roles {
		b, err := os.ReadFile(filepath.Join(unmoved, role+".key"))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(keys, role+".key"), b, 0o600))
	}
	refused, err := New(cfg)
	check(t, err)
	if err := refused.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "published metadata names") {
		t.Errorf("started with the keys of before the rotation: %v", err)
	}
}

// Two servers on one database: the second got the next keys as a copy and follows
// a rotation through the first without a restart.
func TestAnotherServerFollowsARotation(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TimestampLife = span.Duration(3 * time.Second) })
	cfg := testConfig(t)
	cfg.TimestampLife = span.Duration(3 * time.Second)
	cfg.Database = "sqlite:" + filepath.Join(w.cfg.Data, "headgate.db")
	check(t, os.CopyFS(filepath.Join(cfg.Data, "keys"), os.DirFS(filepath.Join(w.cfg.Data, "keys"))))
	other := startServer(t, cfg)
	defer stopServer(t, other)
	w.nextKeys()
	check(t, os.CopyFS(filepath.Join(cfg.Data, "keys", "next"), os.DirFS(filepath.Join(w.cfg.Data, "keys", "next"))))
	second := &world{TB: t, Server: other, clients: newClients(other.URL(), w.token), ops: w.ops, vendorKeys: w.vendorKeys}
	f := second.follower(t.TempDir())
	f.follows("before")
	w.rotateOnline()
	f.follows("through the other server")
	second.vendorMeta = w.vendorMeta
	second.release("1.0.0") // signed by the second
	f.follows("signed by the other server", "1.0.0")
	res, err := second.repo.GetOnlineKeys(t.Context(), connect.NewRequest(&headgatev1.GetOnlineKeysRequest{}))
	check(t, err)
	present, err := tuf.ParsePublic(res.Msg.TimestampKey)
	check(t, err)
	if res.Msg.NextTimestampKey != nil || present.ID() != w.onlineIDs()[0] {
		t.Error("the second server's folder did not follow")
	}
}
