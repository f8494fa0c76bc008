package slot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const tries = 4

func hexOf(version string) string { return hexSum([]byte("artifact " + version)) }

// files are a version's: one that all share, one of its own, one in a folder.
func files(version string) map[string]string {
	return map[string]string{"shared.txt": "the same in all", "rules.json": "rules of " + version, "bin/engine": "#!" + version}
}

func entries(version string) []Entry {
	var out []Entry
	for p, c := range files(version) {
		out = append(out, Entry{Path: p, SHA256: hexSum([]byte(c)), Size: int64(len(c)), Exec: strings.HasPrefix(p, "bin/")})
	}
	return out
}

func source(version string) func(string) (io.ReadCloser, error) {
	return func(p string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(files(version)[p])), nil }
}

// world is a machine with one slot, and what the keeper knows to have happened.
type world struct {
	fs    *memFS
	boot  string
	since time.Duration
	slot  *Slot

	good    string // the last version that Prove or Revert returned for
	maybe   string // a version that Prove or Revert was called for, answer unknown
	started int    // execs of the candidate, by calls of Try that returned
}

func (w *world) open() error {
	s, err := Open(w.fs, Env{BootID: w.boot, Since: func() time.Duration { return w.since }, Now: func() time.Time { return time.Unix(1e9, 0) }, Log: slog.New(slog.DiscardHandler)})
	w.slot = s
	return err
}

// vet brings a version until it waits for a grant.
func (w *world) vet(version string) error {
	ref, err := w.slot.Fetch(context.Background(), hexOf(version), version, 7, entries(version), source(version))
	if err != nil {
		return err
	}
	if err := w.slot.Staged(ref); err != nil {
		return err
	}
	return w.slot.Vetted()
}

func (w *world) start(version string) error {
	if err := w.vet(version); err != nil {
		return err
	}
	w.started = 0
	if err := w.slot.Arm(Grant{Rollout: 7, Expires: w.since + time.Minute, Tries: tries, GoodLoss: -1}); err != nil {
		return err
	}
	if err := w.slot.Switch(); err != nil {
		return err
	}
	return w.try()
}

func (w *world) try() error {
	if err := w.slot.Try(); err != nil {
		return err
	}
	w.started++
	return nil
}

func (w *world) prove(version string) error {
	w.maybe = version
	if err := w.slot.Prove(); err != nil {
		return err
	}
	w.good, w.maybe = version, ""
	w.slot.Collect()
	return nil
}

func (w *world) revert(to string, harmed bool) error {
	w.maybe = to
	if err := w.slot.Revert("crash-loop", "it fell", harmed); err != nil {
		return err
	}
	w.good, w.maybe = to, ""
	w.slot.Collect()
	return w.slot.Down(time.Second)
}

// The stories start with v1 as the last known good, but for "first".
var stories = map[string]func(*world) error{
	"first": func(w *world) error {
		return errors.Join(w.start("1.0.0"), w.prove("1.0.0"))
	},
	"good": func(w *world) error {
		return first(func() error { return w.start("2.0.0") }, func() error { return w.prove("2.0.0") })
	},
	"failing": func(w *world) error {
		return first(func() error { return w.start("2.0.0") }, w.crash, w.try, w.crash, func() error { return w.revert("1.0.0", true) })
	},
	"ordered back after proof": func(w *world) error {
		return first(func() error { return w.start("2.0.0") }, func() error { return w.prove("2.0.0") }, func() error { return w.revert("1.0.0", false) })
	},
	"refused": func(w *world) error {
		return first(func() error {
			ref, err := w.slot.Fetch(context.Background(), hexOf("2.0.0"), "2.0.0", 7, entries("2.0.0"), source("2.0.0"))
			return errors.Join(err, w.slot.Staged(ref))
		}, func() error { return w.slot.Refuse("preflight-crash", "") }, func() error { w.slot.Collect(); return nil })
	},
	"two updates": func(w *world) error {
		return first(func() error { return w.start("2.0.0") }, func() error { return w.prove("2.0.0") },
			func() error { return w.start("3.0.0") }, w.stop, w.try, func() error { return w.prove("3.0.0") })
	},
	"grant gone": func(w *world) error {
		return first(func() error { return w.vet("2.0.0") }, func() error { return w.slot.Arm(Grant{Expires: w.since + 1, Tries: tries}) }, func() error {
			w.since += time.Minute
			if err := w.slot.Switch(); !errors.Is(err, ErrGrantExpired) {
				return fmt.Errorf("switched without a grant: %w", err)
			}
			return w.slot.Disarm()
		})
	},
}

func (w *world) crash() error { return w.slot.Crashed() }

// stop is an operator's: the try comes back.
func (w *world) stop() error {
	w.started--
	return w.slot.Stopped()
}

func first(steps ...func() error) error {
	for _, f := range steps {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func begin(t fataler, story string) *world {
	w := &world{fs: newMem(), boot: "boot-1", since: time.Hour}
	if err := w.open(); err != nil {
		t.Fatalf("open a new slot: %v", err)
	}
	if story != "first" {
		if err := stories["first"](w); err != nil {
			t.Fatalf("install the first version: %v", err)
		}
	}
	return w
}

type fataler interface{ Fatalf(string, ...any) }

// holds checks the rule: exactly one of last known good and candidate with
// tries left; its files whole and unmixed; the pointer the same.
func (w *world) holds(t fataler, at string) {
	r := w.slot.Record()
	run := r.Runs()
	got := ""
	if run != nil {
		got = run.Version
	}
	switch {
	case r.State == Probation:
		if r.TriesLeft < 1 || r.TriesLeft > tries-w.started || run == nil || run != r.Candidate {
			t.Fatalf("%s: candidate %q with %d of %d tries left after %d starts", at, got, r.TriesLeft, tries, w.started)
		}
	case got != w.good && (w.maybe == "" || got != w.maybe):
		t.Fatalf("%s: %q runs in state %s, want the last known good %q (or %q); safe: %q", at, got, r.State, w.good, w.maybe, r.Safe)
	}
	want := "none\n"
	if run != nil {
		want = run.Digest + "\n"
		w.whole(t, at, run)
	}
	if b := w.read(pointer); b != want {
		t.Fatalf("%s: pointer says %q, want %q", at, b, want)
	}
}

func (w *world) read(p string) string {
	f, err := w.fs.Open(p)
	if err != nil {
		return err.Error()
	}
	b, _ := io.ReadAll(f)
	return string(b)
}

func (w *world) whole(t fataler, at string, run *Ref) {
	for p, c := range files(run.Version) {
		if got := w.read(Folder(run) + "/" + p); got != c {
			t.Fatalf("%s: file %s of %s holds %q", at, p, run.Version, got)
		}
	}
}

// goesOn proves that the slot still works after what happened.
func (w *world) goesOn(t fataler, at string) {
	if w.slot.Record().State == Probation {
		if err := first(w.try, func() error { return w.prove(w.slot.Record().Candidate.Version) }); err != nil {
			t.Fatalf("%s: candidate cannot go on: %v", at, err)
		}
	}
	if err := first(func() error { return w.start("9.0.0") }, func() error { return w.prove("9.0.0") }); err != nil {
		t.Fatalf("%s: next update: %v", at, err)
	}
	w.holds(t, at+", next update")
	kept, _ := w.fs.List("slots")
	if len(kept) > 2 {
		t.Fatalf("%s: garbage in slots: %v", at, kept)
	}
}

func keepAll() bool  { return true }
func keepNone() bool { return false }

func TestPowerCutAfterEveryStepLeavesExactlyOneVersion(t *testing.T) {
	cuts := 0
	for name, story := range stories {
		for mode, keep := range map[string]func() bool{"kept": keepAll, "dropped": keepNone} {
			for n := 1; ; n++ {
				w := begin(t, name)
				w.fs.ops, w.fs.limit = 0, n
				if err := story(w); err == nil {
					break
				}
				at := fmt.Sprintf("%s, cut after %d, unsynced %s", name, n, mode)
				survivesTwoCuts(t, w, at, keep)
				cuts++
			}
		}
	}
	t.Logf("%d cuts, and a second cut after every step of each recovery", cuts)
}

// survivesTwoCuts cuts the power again after each step of the recovery.
func survivesTwoCuts(t *testing.T, w *world, at string, keep func() bool) {
	disk := w.fs.reboot(keep)
	for m := 1; ; m++ {
		v := *w
		v.fs = disk.reboot(keepAll)
		v.fs.limit = m
		err := v.open()
		finished := err == nil && v.fs.ops < m
		v.fs = v.fs.reboot(keep)
		if err := v.open(); err != nil {
			t.Fatalf("%s, then after %d: %v", at, m, err)
		}
		v.holds(t, fmt.Sprintf("%s, then after %d", at, m))
		if finished {
			v.goesOn(t, at)
			return
		}
	}
}

func TestPowerCutWithAnySubsetOfWritesLeavesExactlyOneVersion(t *testing.T) {
	names := []string{"first", "good", "failing", "ordered back after proof", "refused", "two updates", "grant gone"}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "story")
		w := begin(t, name)
		w.fs.ops, w.fs.limit = 0, rapid.IntRange(1, 160).Draw(t, "cut")
		_ = stories[name](w)
		w.fs = w.fs.reboot(func() bool { return rapid.Bool().Draw(t, "kept") })
		if err := w.open(); err != nil {
			t.Fatalf("open: %v", err)
		}
		w.holds(t, name)
		w.goesOn(t, name)
	})
}

func TestAFullDiskHalfAppliesNothing(t *testing.T) {
	for n := 0; ; n++ { // the disk fills up after n operations
		w := begin(t, "good")
		w.fs.ops = 0
		full := &fillUp{memFS: w.fs, after: n}
		w.slot.fs = full
		err := stories["good"](w)
		if err == nil {
			if n < 20 {
				t.Fatalf("only %d operations", n)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full after %d: %v, want ENOSPC", n, err)
		}
		if s := w.slot.Record().State; s.candidateRuns() {
			if err := w.slot.Revert("io", "", false); err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}
		if run := w.slot.Record().Runs(); run == nil || run.Version != "1.0.0" {
			t.Fatalf("full after %d: %v runs", n, run)
		}
		w.fs.full = false
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.maybe = ""
		w.holds(t, fmt.Sprintf("full after %d", n))
		w.goesOn(t, fmt.Sprintf("full after %d", n))
	}
}

// fillUp sets memFS.full once enough operations were done.
type fillUp struct {
	*memFS
	after int
}

func (f *fillUp) Create(p string, mode fs.FileMode) (File, error) {
	f.full = f.ops >= f.after
	return f.memFS.Create(p, mode)
}
