// Package slot keeps what one product has on an endpoint's disk: immutable
// objects by digest, slots made of them, and one record of which slot runs and
// how far the newest attempt has come. Open, after any prefix of writes, yields
// exactly one of the last known good and a candidate with tries left.
//
// It starts no process, talks to nobody and reads no content beyond its hash.
// Nothing that a running version uses is ever overwritten.
//
// The record is the only authority; it lies, whole and with a checksum, in the
// newer of two journals that are written in turn. The file "current" is a
// pointer for people and tools, derived from the record and repaired at Open.
//
// Its words: object, slot, record, candidate, last known good, tries.
package slot

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	schema  = "headgate.slot/1"
	pointer = "current"
)

var journals = [2]string{"journal.0", "journal.1"}

// ErrState is a transition that the states do not allow.
var ErrState = errors.New("not in this state")

// ErrGrantExpired means that the grant ended before the switch.
var ErrGrantExpired = errors.New("grant expired")

// Env is what a slot needs to know of the machine.
type Env struct {
	BootID string
	Since  func() time.Duration // since boot
	Now    func() time.Time     // wall clock; only ever shown, never decided on
	Log    *slog.Logger
}

// Slot is one product's durable state. Its methods are for one goroutine, but
// for Fetch, which may run beside them.
type Slot struct {
	fs    FS
	env   Env
	mu    sync.Mutex // guards rec against Fetch
	rec   Record
	dirty bool // the record in memory is ahead of the disk

	build sync.Mutex // held while slots and objects are added or collected
}

// Open reads the record, puts right what a crash left, and collects garbage. If
// the disk refuses writes, what can be run is still known: the error is logged
// and no candidate will start.
func Open(fs FS, env Env) (*Slot, error) {
	s := &Slot{fs: fs, env: env}
	for _, dir := range []string{"objects", "slots", "state"} {
		if err := fs.MkdirAll(dir); err != nil {
			env.Log.Error("slot folder cannot be made", "folder", dir, "err", err)
		}
	}
	found, ok := s.readJournals()
	if !ok {
		if found, ok = s.fresh(); !ok {
			return nil, fmt.Errorf("open slot: start the journals: disk refuses")
		}
	}
	s.set(found, false)
	r := s.recovered(found)
	if err := s.force(r); err != nil {
		env.Log.Error("recovery is not on disk", "err", err)
	}
	if err := s.pointTo(r.Runs()); err != nil {
		env.Log.Error("pointer is not repaired", "err", err)
	}
	s.Collect()
	return s, nil
}

// fresh starts the journals of a product that was never installed.
func (s *Slot) fresh() (Record, bool) {
	r := Record{Schema: schema, State: Idle, GoodLoss: -1}
	left, _ := s.fs.List("slots")
	if len(left) > 0 {
		// Not the trace of a crash: the first record comes before the first slot.
		r.Safe, r.SafeBoot = "both journals are damaged", s.env.BootID
		s.env.Log.Error("both journals are damaged: nothing runs until a release is installed anew")
	}
	if err := s.force(r); err != nil {
		s.env.Log.Error("journals cannot be started", "err", err)
		return r, false
	}
	return s.rec, true
}

// readJournals gives the valid record with the higher sequence.
func (s *Slot) readJournals() (best Record, ok bool) {
	for _, name := range journals {
		f, err := s.fs.Open(name)
		if err != nil {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(f, frameSize))
		f.Close()
		if err != nil {
			s.env.Log.Error("journal is unreadable", "file", name, "err", err)
			continue
		}
		r, err := decodeFrame(b)
		if err != nil {
			s.env.Log.Warn("journal holds no valid record", "file", name, "err", err)
			continue
		}
		if !ok || r.Seq > best.Seq {
			best, ok = r, true
		}
	}
	return best, ok
}

// Record is a copy of the current record.
func (s *Slot) Record() Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec
}

// Folder is the folder of a slot's files, relative to the FS.
func Folder(r *Ref) string { return "slots/" + r.Digest + "/files" }

// commit makes r the record: in the older journal, in place, synced. After an
// error the old record stands.
func (s *Slot) commit(r Record) error {
	r.Seq = s.rec.Seq + 1
	r.Schema = schema
	b, err := encodeFrame(r)
	if err != nil {
		return err
	}
	if err := s.fs.Overwrite(journals[r.Seq%2], b); err != nil {
		return fmt.Errorf("write record %d (%s) to the journal: %w", r.Seq, r.State, err)
	}
	if r.Seq <= 2 { // the file's first record: its name must last too
		if err := s.fs.SyncDir("."); err != nil {
			return fmt.Errorf("write record %d (%s) to the journal: %w", r.Seq, r.State, err)
		}
	}
	s.set(r, false)
	return nil
}

func (s *Slot) set(r Record, dirty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rec, s.dirty = r, dirty
}

// force commits r and, if the disk refuses, goes by it in memory all the same:
// for the ways back, which must not wait for a disk.
func (s *Slot) force(r Record) error {
	if s.rec.Seq > 0 && !s.dirty && same(r, s.rec) {
		return nil
	}
	if err := s.commit(r); err != nil {
		r.Seq = s.rec.Seq
		s.set(r, true)
		return err
	}
	return nil
}

// same compares records; a Ref never changes once it is made.
func same(a, b Record) bool {
	a.Seq, b.Seq = 0, 0
	ea, erra := encodeFrame(a)
	eb, errb := encodeFrame(b)
	return erra == nil && errb == nil && slices.Equal(ea, eb)
}

// to moves to a state, or refuses.
func (s *Slot) to(state State, edit func(*Record)) error {
	r, err := s.edited(state, edit)
	if err != nil {
		return err
	}
	return s.commit(r)
}

func (s *Slot) edited(state State, edit func(*Record)) (Record, error) {
	r := s.rec
	if !slices.Contains(next[r.State], state) {
		return r, fmt.Errorf("from %q to %q: %w", r.State, state, ErrState)
	}
	r.State = state
	edit(&r)
	return r, nil
}

// switchTo commits r and moves the pointer to what it runs. What may fail for
// lack of space comes first, so that nothing is half-applied.
func (s *Slot) switchTo(r Record) error {
	if err := s.preparePointer(r.Runs()); err != nil {
		return err
	}
	if err := s.commit(r); err != nil {
		return err
	}
	return s.renamePointer()
}

func line(r *Ref) string {
	if r == nil {
		return "none\n"
	}
	return r.Digest + "\n"
}

func (s *Slot) preparePointer(r *Ref) error {
	f, err := s.fs.Create(pointer+".new", 0o644)
	if err != nil {
		return fmt.Errorf("prepare pointer: %w", err)
	}
	_, err = io.WriteString(f, line(r))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("prepare pointer: %w", err)
	}
	return nil
}

func (s *Slot) renamePointer() error {
	if err := s.fs.Rename(pointer+".new", pointer); err != nil {
		return fmt.Errorf("move pointer: %w", err)
	}
	if err := s.fs.SyncDir("."); err != nil {
		return fmt.Errorf("move pointer: %w", err)
	}
	return nil
}

// pointTo repairs the pointer if it names something else.
func (s *Slot) pointTo(r *Ref) error {
	if f, err := s.fs.Open(pointer); err == nil {
		b, err := io.ReadAll(io.LimitReader(f, 128))
		f.Close()
		if err == nil && string(b) == line(r) {
			return nil
		}
	}
	if err := s.preparePointer(r); err != nil {
		return err
	}
	return s.renamePointer()
}

// Boot is the boot that the slot was opened in.
func (s *Slot) Boot() string { return s.env.BootID }
