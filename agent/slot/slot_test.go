package slot

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// onDisk is a world on a real folder, for damage that no crash makes.
func onDisk(t *testing.T, dir, boot string) *Slot {
	t.Helper()
	s, err := Open(Disk(dir), Env{BootID: boot, Since: func() time.Duration { return time.Hour }, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// update brings a version to probation, and to proof if prove.
func update(t *testing.T, s *Slot, version string, prove bool) {
	t.Helper()
	ref, err := s.Fetch(context.Background(), hexOf(version), version, 1, entries(version), source(version))
	if err != nil {
		t.Fatal(err)
	}
	steps := []func() error{func() error { return s.Staged(ref) }, s.Vetted, func() error {
		return s.Arm(Grant{Rollout: 1, Expires: time.Hour + time.Minute, Tries: tries})
	}, s.Switch, s.Try}
	if prove {
		steps = append(steps, s.Prove)
	}
	if err := first(steps...); err != nil {
		t.Fatal(err)
	}
	s.Collect()
}

func runs(t *testing.T, s *Slot, version string) {
	t.Helper()
	got := ""
	if r := s.Record().Runs(); r != nil {
		got = r.Version
	}
	if got != version {
		t.Fatalf("%q runs, want %q; record %+v", got, version, s.Record())
	}
}

func spoil(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("spoiled"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedCandidateGivesWayToTheLastKnownGood(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, slot string){
		"file changed": func(t *testing.T, slot string) { spoil(t, filepath.Join(slot, "files/rules.json")) },
		"file missing": func(t *testing.T, slot string) { os.Remove(filepath.Join(slot, "files/bin/engine")) },
		"file added":   func(t *testing.T, slot string) { os.WriteFile(filepath.Join(slot, "files/bin/extra"), nil, 0o644) },
		"list changed": func(t *testing.T, slot string) { spoil(t, filepath.Join(slot, "slot.json")) },
		"slot missing": func(t *testing.T, slot string) { os.RemoveAll(slot) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := onDisk(t, dir, "b")
			update(t, s, "1.0.0", true)
			update(t, s, "2.0.0", false)
			damage(t, filepath.Join(dir, "slots", hexOf("2.0.0")))
			s = onDisk(t, dir, "b")
			runs(t, s, "1.0.0")
			if a := s.Record().Attempt; a.Reason != "files-broken" || !a.Harmed {
				t.Fatalf("attempt %+v", a)
			}
			if _, q := s.Record().Quarantined(hexOf("2.0.0")); q {
				t.Fatal("a damaged disk put the release into quarantine")
			}
		})
	}
}

func TestADamagedLastKnownGoodGivesWayToTheOneBeforeThenSafeMode(t *testing.T) {
	dir := t.TempDir()
	s := onDisk(t, dir, "b")
	update(t, s, "1.0.0", true)
	update(t, s, "2.0.0", true)
	spoil(t, filepath.Join(dir, "slots", hexOf("2.0.0"), "files/rules.json"))
	s = onDisk(t, dir, "b")
	runs(t, s, "1.0.0")
	spoil(t, filepath.Join(dir, "slots", hexOf("1.0.0"), "files/rules.json"))
	s = onDisk(t, dir, "b")
	runs(t, s, "")
	if s.Record().Safe == "" {
		t.Fatal("nothing runs and it is not called safe mode")
	}
	update(t, s, "3.0.0", true) // safe mode is left by a good release
	runs(t, onDisk(t, dir, "b"), "3.0.0")
}

func TestTheHigherValidJournalWins(t *testing.T) {
	dir := t.TempDir()
	s := onDisk(t, dir, "b")
	update(t, s, "1.0.0", true)
	update(t, s, "2.0.0", true)
	newest := filepath.Join(dir, journals[s.Record().Seq%2])
	b, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	b[frameHead+5] ^= 1
	if err := os.WriteFile(newest, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = onDisk(t, dir, "b") // the older one: 2.0.0 in probation
	runs(t, s, "2.0.0")
	if r := s.Record(); r.State != Probation || r.TriesLeft != tries-1 {
		t.Fatalf("%+v", r)
	}
}

func TestBothJournalsDamagedIsSafeModeAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	update(t, onDisk(t, dir, "b"), "1.0.0", true)
	for _, j := range journals {
		spoil(t, filepath.Join(dir, j))
	}
	s := onDisk(t, dir, "b")
	runs(t, s, "")
	if !strings.Contains(s.Record().Safe, "journals") {
		t.Fatalf("safe: %q", s.Record().Safe)
	}
}

func TestTwoUncleanBootsInProbationRevert(t *testing.T) {
	dir := t.TempDir()
	s := onDisk(t, dir, "boot-1")
	update(t, s, "1.0.0", true)
	update(t, s, "2.0.0", false)
	s = onDisk(t, dir, "boot-2")
	runs(t, s, "2.0.0")
	if err := s.Try(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stopped(); err != nil { // a clean one in between does not count
		t.Fatal(err)
	}
	s = onDisk(t, dir, "boot-3")
	runs(t, s, "2.0.0")
	if err := s.Try(); err != nil {
		t.Fatal(err)
	}
	s = onDisk(t, dir, "boot-4")
	runs(t, s, "1.0.0")
	if a := s.Record().Attempt; a.Reason != "unclean-boots" {
		t.Fatalf("%+v", a)
	}
}

func TestAQuarantinedDigestIsRememberedAndTheListIsBounded(t *testing.T) {
	dir := t.TempDir()
	s := onDisk(t, dir, "b")
	var r Record
	for i := range MaxQuarantine + 5 {
		r.quarantine(hexOf(string(rune('a'+i))), strings.Repeat("long reason ", 5))
	}
	if len(r.Quarantine) != MaxQuarantine {
		t.Fatal(len(r.Quarantine))
	}
	r.Schema, r.State, r.Attempt.Detail = schema, Idle, clip(strings.Repeat("\x01", 600))
	if _, err := encodeFrame(r); err != nil {
		t.Fatalf("the largest record does not fit: %v", err)
	}
	update(t, s, "1.0.0", true)
	update(t, s, "2.0.0", false)
	if err := s.Revert("watchdog", "", true); err != nil {
		t.Fatal(err)
	}
	if reason, ok := onDisk(t, dir, "b").Record().Quarantined(hexOf("2.0.0")); !ok || reason != "watchdog" {
		t.Fatal(reason, ok)
	}
}

func TestFetchRefusesContentThatIsNotItsDigest(t *testing.T) {
	s := onDisk(t, t.TempDir(), "b")
	for name, e := range map[string]Entry{
		"hash":  {Path: "a", SHA256: hexOf("other"), Size: 0},
		"short": {Path: "a", SHA256: hexSum(nil), Size: 5},
	} {
		_, err := s.Fetch(context.Background(), hexOf("x"), "1.0.0", 1, []Entry{e}, source("1.0.0"))
		if !errors.Is(err, ErrContent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if names, _ := os.ReadDir(filepath.Join(string(s.fs.(Disk)), "objects")); len(names) > 0 {
		t.Fatalf("left behind: %v", names)
	}
}

func TestTheSpoolFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	for _, err := range []error{os.WriteFile(secret, nil, 0o600), os.Symlink(secret, filepath.Join(dir, "out")), os.Mkdir(filepath.Join(dir, "real"), 0o755), os.WriteFile(filepath.Join(dir, "real/f"), nil, 0o600), os.Symlink("real", filepath.Join(dir, "in"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	open, done, err := Spool(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for _, p := range []string{"out", "in/f", "../x", "missing"} {
		if f, err := open(p); err == nil {
			f.Close()
			t.Errorf("opened %s", p)
		}
	}
	if f, err := open("real/f"); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	if _, err := open("out"); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
}

func FuzzDecodeFrame(f *testing.F) {
	b, err := encodeFrame(Record{Schema: schema, State: Idle, Seq: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeFrame(b)
		if err != nil {
			return
		}
		if again, err := encodeFrame(r); err == nil && len(again) != frameSize || bytes.Equal(again, []byte{0}) {
			t.Fatal("frame of another size")
		}
	})
}
