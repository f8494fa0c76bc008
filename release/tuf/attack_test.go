package tuf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/headgate/headgate/release"
)

// force puts a file in force with the server's online keys and none of its checks:
// what somebody can do who has taken the server over.
func (w *world) force(role string, version int64, b []byte) {
	w.t.Helper()
	w.apply(w.repo.seal(w.repo.start(role, version, b), w.now))
}

// forceTimestamp signs a timestamp that names the given snapshot.
func (w *world) forceTimestamp(version, snapshotVersion int64, snapshot []byte) {
	w.t.Helper()
	m := metadata.Timestamp(w.now.Add(time.Hour))
	m.Signed.Version = version
	m.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(snapshotVersion, snapshot)}
	w.files["timestamp.json"] = w.sign(w.must(encode(m)), w.online.timestamp)
}

// forceSnapshot signs the next snapshot after a change to it, with a timestamp.
func (w *world) forceSnapshot(change func(map[string]*metadata.MetaFiles)) {
	w.t.Helper()
	m, err := decode[metadata.SnapshotType](Snapshot, w.repo.State[Snapshot])
	if err != nil {
		w.t.Fatal(err)
	}
	m.Signed.Version++
	m.ClearSignatures()
	change(m.Signed.Meta)
	b := w.sign(w.must(encode(m)), w.online.snapshot)
	w.files[MetaFile(Snapshot, m.Signed.Version)] = b
	w.forceTimestamp(w.repo.State.Version(Timestamp)+1, m.Signed.Version, b)
}

// edit changes a role's file in force into the next version, unsigned.
func edit[T metadata.Roles](w *world, role string, change func(*metadata.Metadata[T])) []byte {
	w.t.Helper()
	m, err := decode[T](role, w.repo.State[role])
	if err != nil {
		w.t.Fatal(err)
	}
	m.ClearSignatures()
	change(m)
	return w.must(encode(m))
}

func evilTarget() *metadata.TargetFiles {
	return &metadata.TargetFiles{Length: 4, Hashes: metadata.Hashes{"sha256": bytes.Repeat([]byte{6}, 32)}}
}

// TestAttacksAreRefused plays each attack against an endpoint that is up to date
// with plan 2. Whatever happens, it keeps what it had, also when it starts again.
func TestAttacksAreRefused(t *testing.T) {
	evil := release.Target("acme/sensor", "6.6.6")
	for name, attack := range map[string]struct {
		play func(w *world, before *world) // before is the world at plan 1
		want error
		at   string // product asked for after a refresh that is fine; empty: the refresh fails
	}{
		"timestamp rolled back": {want: ErrRollback, play: func(w, before *world) {
			w.files["timestamp.json"] = before.files["timestamp.json"]
		}},
		"another timestamp of the same version": {want: ErrRollback, play: func(w, _ *world) {
			w.forceTimestamp(w.repo.State.Version(Timestamp), w.repo.State.Version(Snapshot), w.repo.State[Snapshot])
		}},
		"snapshot rolled back": {want: ErrRollback, play: func(w, before *world) {
			w.forceTimestamp(99, before.repo.State.Version(Snapshot), before.repo.State[Snapshot])
		}},
		"rollout rolled back": {want: ErrRollback, play: func(w, before *world) {
			w.forceSnapshot(func(m map[string]*metadata.MetaFiles) {
				m["rollout.json"] = metaFile(before.repo.State.Version(Rollout), before.repo.State[Rollout])
			})
		}},
		"vendor rolled back": {want: ErrRollback, play: func(w, before *world) {
			w.forceSnapshot(func(m map[string]*metadata.MetaFiles) {
				m["acme.json"] = metaFile(before.repo.State.Version("acme"), before.repo.State["acme"])
			})
		}},
		"targets rolled back": {want: ErrRollback, play: func(w, before *world) {
			w.forceSnapshot(func(m map[string]*metadata.MetaFiles) {
				m["targets.json"] = metaFile(before.repo.State.Version(Targets), before.repo.State[Targets])
			})
		}},
		"vendor dropped from snapshot": {want: ErrRollback, play: func(w, _ *world) {
			w.forceSnapshot(func(m map[string]*metadata.MetaFiles) { delete(m, "acme.json") })
		}},
		"root rolled back": {want: ErrRollback, play: func(w, _ *world) {
			w.files["2.root.json"] = w.files["1.root.json"]
			w.forceTimestamp(99, w.repo.State.Version(Snapshot), w.repo.State[Snapshot])
		}},
		"root skips a version": {want: ErrRollback, play: func(w, _ *world) {
			w.files["2.root.json"] = w.sign(edit(w, Root, func(m *metadata.Metadata[metadata.RootType]) { m.Signed.Version = 3 }), w.ops...)
			w.forceTimestamp(99, w.repo.State.Version(Snapshot), w.repo.State[Snapshot])
		}},
		"root signed by one of two": {want: ErrUnderSigned, play: func(w, _ *world) {
			w.files["2.root.json"] = w.sign(edit(w, Root, func(m *metadata.Metadata[metadata.RootType]) { m.Signed.Version = 2 }), w.ops[0])
			w.forceTimestamp(99, w.repo.State.Version(Snapshot), w.repo.State[Snapshot])
		}},
		"root taken over by new keys": {want: ErrUnderSigned, play: func(w, _ *world) {
			thieves := []*Key{newKey(w.t), newKey(w.t)}
			spec := w.spec()
			spec.Operators = public(thieves...)
			w.files["2.root.json"] = w.sign(w.must(RotateRoot(w.repo.State[Root], spec)), thieves...)
			w.forceTimestamp(99, w.repo.State.Version(Snapshot), w.repo.State[Snapshot])
		}},
		"timestamp by another key": {want: ErrUnderSigned, play: func(w, _ *world) {
			w.online.timestamp = newKey(w.t)
			w.forceTimestamp(99, w.repo.State.Version(Snapshot), w.repo.State[Snapshot])
		}},
		"snapshot by the timestamp key": {want: ErrUnderSigned, play: func(w, _ *world) {
			w.online.snapshot = w.online.timestamp
			w.forceSnapshot(func(map[string]*metadata.MetaFiles) {})
		}},
		"targets signed by one of two": {want: ErrUnderSigned, play: func(w, _ *world) {
			b := edit(w, Targets, func(m *metadata.Metadata[metadata.TargetsType]) { m.Signed.Version++ })
			w.force(Targets, w.repo.State.Version(Targets)+1, w.sign(b, w.ops[0]))
		}},
		"targets forged with all online keys": {want: ErrUnderSigned, play: func(w, _ *world) {
			b := edit(w, Targets, func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Version++
				m.Signed.Targets = map[string]*metadata.TargetFiles{evil: evilTarget()}
			})
			w.force(Targets, w.repo.State.Version(Targets)+1, w.sign(b, w.online.rollout, w.online.snapshot, w.online.timestamp))
		}},
		"snapshot swapped for another of its version": {want: ErrMixed, play: func(w, before *world) {
			w.plan(3)
			w.files[MetaFile(Snapshot, w.repo.State.Version(Snapshot))] = pad(before.repo.State[Snapshot], len(w.repo.State[Snapshot]))
		}},
		"snapshot swapped, same length": {want: ErrMixed, play: func(w, _ *world) {
			w.plan(3)
			path := MetaFile(Snapshot, w.repo.State.Version(Snapshot))
			w.files[path] = bytes.Replace(w.files[path], []byte(`"sha256":"`), []byte(`"sha257":"`), 1)
		}},
		"timestamp names a version the snapshot is not": {want: ErrMixed, play: func(w, _ *world) {
			next := w.repo.State.Version(Snapshot) + 1
			w.files[MetaFile(Snapshot, next)] = w.repo.State[Snapshot]
			w.forceTimestamp(99, next, w.repo.State[Snapshot])
		}},
		"rollout's file is not the snapshot's": {want: ErrMixed, play: func(w, before *world) {
			w.plan(3)
			path := MetaFile(Rollout, w.repo.State.Version(Rollout))
			w.files[path] = pad(before.repo.State[Rollout], len(w.files[path]))
		}},
		"plan is not rollout's": {want: ErrMixed, play: func(w, _ *world) {
			w.plan(3)
			for path, b := range w.files {
				if strings.HasPrefix(path, "targets/plan/") {
					w.files[path] = bytes.Replace(b, []byte(`"version":3`), []byte(`"version":9`), 1)
				}
			}
		}},
		"snapshot longer than signed": {want: ErrTooLarge, play: func(w, _ *world) {
			w.plan(3)
			path := MetaFile(Snapshot, w.repo.State.Version(Snapshot))
			w.files[path] = pad(w.files[path], len(w.files[path])+1)
		}},
		"endless timestamp": {want: ErrTooLarge, play: func(w, _ *world) {
			w.files["timestamp.json"] = pad(w.files["timestamp.json"], MaxTimestamp+1)
		}},
		"snapshot said to be huge": {want: ErrTooLarge, play: func(w, _ *world) {
			w.forceTimestamp(99, w.repo.State.Version(Snapshot)+1, make([]byte, MaxSnapshot+1))
		}},
		"rollout signs a release": {want: ErrNotFound, at: "acme/sensor", play: func(w, _ *world) {
			b := edit(w, Rollout, func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Version++
				m.Signed.Targets[evil] = evilTarget()
			})
			w.force(Rollout, w.repo.State.Version(Rollout)+1, w.sign(b, w.online.rollout))
		}},
		"zeta signs acme's path": {want: ErrNotFound, at: "acme/sensor", play: func(w, _ *world) {
			b := edit(w, "zeta", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Version++
				m.Signed.Targets[evil] = evilTarget()
			})
			w.force("zeta", w.repo.State.Version("zeta")+1, w.sign(b, w.vendors["zeta"]...))
		}},
		"acme's metadata by zeta's key": {want: ErrUnderSigned, at: "acme/sensor", play: func(w, _ *world) {
			b := edit(w, "acme", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Version++
				m.Signed.Targets[evil] = evilTarget()
			})
			w.force("acme", w.repo.State.Version("acme")+1, w.sign(b, w.vendors["zeta"]...))
		}},
		"vendor signed by one of two": {want: ErrUnderSigned, at: "acme/sensor", play: func(w, _ *world) {
			b := w.must(AddRelease("acme", w.repo.State["acme"], releaseFor("acme/sensor", "6.6.6"), 9, time.Time{}))
			w.force("acme", w.repo.State.Version("acme")+1, w.sign(b, w.vendors["acme"][0]))
		}},
		"release forged with all online keys": {want: ErrUnderSigned, at: "acme/sensor", play: func(w, _ *world) {
			b := w.must(AddRelease("acme", w.repo.State["acme"], releaseFor("acme/sensor", "6.6.6"), 9, time.Time{}))
			w.force("acme", w.repo.State.Version("acme")+1, w.sign(b, w.online.rollout, w.online.snapshot, w.online.timestamp))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			before := w.fork()
			w.release("acme/sensor", "2.0.0")
			meta := w.must(RenewTargets(w.repo.State[Targets], w.now.Add(year)))
			w.apply(w.repo.SetTargets(w.sign(meta, w.ops[:2]...), w.now))
			w.plan(2)
			dir := t.TempDir()
			c := w.client(dir)
			w.mustRefresh(c)

			bad := w.fork()
			bad.t = t
			attack.play(bad, before)
			_, err := bad.refresh(c)
			if attack.at == "" {
				wantError(t, "refresh", err, attack.want)
			} else {
				if err != nil {
					t.Fatal(err)
				}
				_, err = bad.target(c, attack.at, "6.6.6")
				wantError(t, "target", err, attack.want)
			}
			wantPlan(t, c, 2)
			wantPlan(t, bad.client(dir), 2)
		})
	}
}

// TestNewOnlineKeysHealAFastForward: thieves of the online keys sign the highest
// versions there are, so that everything honest looks rolled back. New keys in the
// root end that (TUF 5.3.11).
func TestNewOnlineKeysHealAFastForward(t *testing.T) {
	w := newWorld(t)
	c := w.client(t.TempDir())
	bad := w.fork()
	bad.forceSnapshot(func(m map[string]*metadata.MetaFiles) {
		m["acme.json"] = metaFile(1<<60, nil)
	})
	bad.mustRefresh(c)
	w.now = w.now.Add(time.Minute)
	w.release("acme/sensor", "2.0.0")
	_, err := w.refresh(c)
	wantError(t, "before new keys", err, ErrRollback)

	w.online.timestamp = newKey(t)
	w.repo.Online.Timestamp = w.online.timestamp
	root := w.sign(w.must(RotateRoot(w.repo.State[Root], w.spec())), w.ops[:2]...)
	w.apply(w.repo.SetRoot(root, w.now))
	w.mustRefresh(c)
	if _, err := w.target(c, "acme/sensor", "2.0.0"); err != nil {
		t.Error(err)
	}
}

// pad makes b n bytes long.
func pad(b []byte, n int) []byte {
	if len(b) >= n {
		return b
	}
	return append(bytes.Clone(b), bytes.Repeat([]byte(" "), n-len(b))...)
}

func TestBrokenFilesAreRefusedByName(t *testing.T) {
	for _, broken := range []string{"", "{", "null", "[]", `{"signed":null}`, `{"signed":{"_type":"x"},"signatures":[]}`} {
		for _, role := range []string{Timestamp, Snapshot, Targets, Rollout} {
			w := newWorld(t)
			w.files[MetaFile(role, w.repo.State.Version(role))] = []byte(broken)
			c := w.client(t.TempDir())
			_, err := w.refresh(c)
			if err == nil || !strings.Contains(err.Error(), role) {
				t.Errorf("%s as %q: %v", role, broken, err)
			}
		}
	}
}

// TestNullsAreRefused puts a null in the place of every value of every role: none
// may crash a reader.
func TestNullsAreRefused(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	for role, b := range w.repo.State {
		var doc any
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		n := 0
		eachValue(doc, func() {
			n++
			bad, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			readAll(bad)
			state := maps.Clone(w.repo.State)
			state[role] = bad
			other := &world{t: t, now: w.now, repo: w.repo, files: maps.Clone(w.files)}
			other.files[MetaFile(role, w.repo.State.Version(role))] = bad
			c := w.client(dir)
			c.save = func(string, []byte) error { return nil }
			if _, err := other.refresh(c); err == nil {
				_, _ = other.target(c, "acme/sensor", "1.0.0")
			}
		})
		if n < 5 {
			t.Errorf("%s: only %d values", role, n)
		}
	}
}

// eachValue sets each value under v to null in turn, calls f, and puts it back.
func eachValue(v any, f func()) {
	switch v := v.(type) {
	case map[string]any:
		for k, old := range v {
			v[k] = nil
			f()
			v[k] = old
			eachValue(old, f)
		}
	case []any:
		for i, old := range v {
			v[i] = nil
			f()
			v[i] = old
			eachValue(old, f)
		}
	}
}

// readAll gives b to every decoder.
func readAll(b []byte) {
	_, _ = Inspect(b)
	_, _ = Releases(b)
	_, _ = Vendors(b)
	_, _ = ReadRoot(b)
	_, _ = ParsePublic(b)
	_, _ = ParseKey(b)
	_, _ = decode[metadata.SnapshotType](Snapshot, b)
	_, _ = decode[metadata.TimestampType](Timestamp, b)
	for _, role := range []string{Root, Targets, "acme"} {
		_, _, _ = Signed(b, role, b)
	}
	if t, err := parseTrust(b); err == nil {
		_, _ = verifyTrust(t)
	}
}

func FuzzDecoders(f *testing.F) {
	w := newWorld(f)
	for _, b := range w.repo.State {
		f.Add(b)
	}
	public, err := json.Marshal(w.ops[0].Public())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(public)
	f.Add([]byte(fmt.Sprintf(`{"schema":%q,"root":"e30="}`, trustSchema)))
	f.Fuzz(func(_ *testing.T, b []byte) { readAll(b) })
}

// FuzzRefresh serves any bytes as any one file of a repository.
func FuzzRefresh(f *testing.F) {
	w := newWorld(f)
	for role, b := range w.repo.State {
		f.Add(role, b)
	}
	dir := f.TempDir()
	c := w.client(dir)
	c.save = func(string, []byte) error { return nil }
	empty := c.view.Load()
	f.Fuzz(func(t *testing.T, role string, b []byte) {
		path := MetaFile(role, w.repo.State.Version(role))
		if w.files[path] == nil || bytes.Equal(b, w.files[path]) {
			return
		}
		other := &world{t: t, now: w.now, repo: w.repo, files: maps.Clone(w.files)}
		other.files[path] = b
		c.view.Store(empty)
		_, err := other.refresh(c)
		if err == nil && role != Root && role != "acme" && role != "zeta" {
			// Only white space and other forms of the same signed content may pass, and only
			// where nothing names the bytes.
			if role != Timestamp {
				t.Errorf("%s: other bytes were taken", role)
			}
		}
	})
}
