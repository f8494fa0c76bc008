package tuf

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var errKilled = errors.New("killed")

// killAt lets n writes through and then kills: before the write, in its middle
// (temp file only), or right after it.
func killAt(n int, when string) func(string, []byte) error {
	return func(path string, data []byte) error {
		n--
		if n >= 0 {
			return quickSave(path, data)
		}
		switch when {
		case "middle":
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), "."+trustName+".tmp-1"), data[:len(data)/2], 0o600); err != nil {
				return err
			}
		case "after":
			if err := quickSave(path, data); err != nil {
				return err
			}
		}
		return errKilled
	}
}

// quickSave is saveTrust without the fsyncs, which a killed process does not need.
func quickSave(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// TestKillAtAnyWriteLeavesAUsableState updates an endpoint through random changes
// of the repository, killing it at a random write of each refresh. What it finds
// at its next start is whole (the old plan or the new one), guards against
// rollback to what it had verified, and comes along with the next refresh.
func TestKillAtAnyWriteLeavesAUsableState(t *testing.T) {
	base := newWorld(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := base.fork()
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		c := w.client(dir)
		c.save = quickSave
		w.mustRefresh(c)
		last := int64(1)
		for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
			before := w.fork()
			w.change(rapid.SliceOfN(rapid.SampledFrom([]string{"plan", "release", "root", "online", "renew"}), 1, 3).Draw(rt, "changes"))
			c.save = killAt(rapid.IntRange(0, 3).Draw(rt, "writes"), rapid.SampledFrom([]string{"before", "middle", "after"}).Draw(rt, "when"))
			_, err := w.refresh(c)
			if err == nil {
				_, err = w.target(c, "zeta/rules", "1.0.0")
			}
			if err != nil && !errors.Is(err, errKilled) {
				rt.Fatal(err)
			}

			c, err = Open(dir, nil, before.files)
			if err != nil || c.Damaged() != nil {
				rt.Fatal(err, c.Damaged())
			}
			c.save = quickSave
			p, err := c.Plan()
			if err != nil || p.Version != last && p.Version != w.planVersion() {
				rt.Fatalf("after the kill: plan %d, %v; want %d or %d", p.Version, err, last, w.planVersion())
			}
			seen := c.view.Load().trust.Seen.Timestamp
			if bytes.Equal(seen, w.repo.State[Timestamp]) && !bytes.Equal(seen, before.repo.State[Timestamp]) {
				if _, err := before.refresh(c); err == nil {
					rt.Fatal("the old repository was taken after the new timestamp had been seen")
				}
			}
			w.mustRefresh(c)
			if err := c.Fresh(w.now); err != nil {
				rt.Fatal(err)
			}
			last = w.planVersion()
			if p, err := c.Plan(); err != nil || p.Version != last {
				rt.Fatalf("plan %d, %v; want %d", p.Version, err, last)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
				rt.Fatalf("left behind: %v", left)
			}
		}
	})
}

func (w *world) planVersion() int64 { return int64(w.plans) }

// change plays changes of the repository.
func (w *world) change(what []string) {
	for _, one := range what {
		w.now = w.now.Add(time.Minute)
		switch one {
		case "plan":
			w.plan(w.planVersion() + 1)
		case "release":
			w.releases++
			w.release("acme/sensor", "1.0."+string(rune('0'+w.releases%10))+"-"+string(rune('a'+w.releases%26)))
		case "root":
			w.apply(w.repo.SetRoot(w.sign(w.must(RotateRoot(w.repo.State[Root], w.spec())), w.ops[1:]...), w.now))
		case "online":
			w.online.timestamp, w.online.snapshot = newKey(w.t), newKey(w.t)
			w.repo.Online.Timestamp, w.repo.Online.Snapshot = w.online.timestamp, w.online.snapshot
			w.apply(w.repo.SetRoot(w.sign(w.must(RotateRoot(w.repo.State[Root], w.spec())), w.ops[1:]...), w.now))
		case "renew":
			w.now = w.now.Add(13 * time.Hour)
			c, ok, err := w.repo.Renew(w.now)
			if err != nil || !ok {
				w.t.Fatal(ok, err)
			}
			w.apply(c, nil)
		}
	}
}
