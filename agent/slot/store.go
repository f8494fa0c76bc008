package slot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
)

// ErrContent means that a file is not what its digest says.
var ErrContent = errors.New("content does not match")

// ErrDamaged means that a slot on disk is not whole.
var ErrDamaged = errors.New("slot is damaged")

// Entry is one file of a slot.
type Entry struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Exec   bool   `json:"exec,omitempty"`
}

func (e Entry) object() string {
	if e.Exec {
		return "objects/" + e.SHA256 + ".x" // a hard link shares its mode
	}
	return "objects/" + e.SHA256
}

func (e Entry) mode() fs.FileMode {
	if e.Exec {
		return 0o555
	}
	return 0o444
}

// content is a slot's list of files, beside its folder.
type content struct {
	Schema  string  `json:"schema"` // "headgate.content/1"
	Digest  string  `json:"digest"`
	Version string  `json:"version"`
	Files   []Entry `json:"files"`
}

const contentName = "slot.json"

// Fetch copies the files of a release into objects, verifies them after the
// copy and builds a slot of them. It changes no record: call Staged with the
// result. On an error nothing but garbage is left, for Collect.
func (s *Slot) Fetch(ctx context.Context, digest, version string, rollout int64, files []Entry, open func(string) (io.ReadCloser, error)) (Ref, error) {
	s.build.Lock()
	defer s.build.Unlock()
	files = slices.Clone(files)
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	list, err := json.Marshal(content{"headgate.content/1", digest, version, files})
	if err != nil {
		return Ref{}, fmt.Errorf("list files of %s: %w", digest, err)
	}
	ref := Ref{Digest: digest, Version: version, Rollout: rollout, Manifest: hexSum(list)}
	if s.intact(&ref) == nil {
		return ref, nil
	}
	for _, e := range files {
		if err := ctx.Err(); err != nil {
			return Ref{}, err
		}
		if err := s.object(e, open); err != nil {
			return Ref{}, fmt.Errorf("copy %s: %w", e.Path, err)
		}
	}
	if err := s.fs.SyncDir("objects"); err != nil {
		return Ref{}, fmt.Errorf("copy objects: %w", err)
	}
	if err := s.assemble(ref, files, list); err != nil {
		return Ref{}, errors.Join(fmt.Errorf("build slot %s: %w", digest, err), s.fs.RemoveAll("slots/"+digest+".new"))
	}
	if err := s.intact(&ref); err != nil {
		return Ref{}, err
	}
	return ref, nil
}

// object makes sure that e's object is there and whole.
func (s *Slot) object(e Entry, open func(string) (io.ReadCloser, error)) (err error) {
	if s.check(e.object(), e) == nil {
		return nil
	}
	src, err := open(e.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	tmp := e.object() + ".new"
	defer func() {
		if err != nil {
			err = errors.Join(err, s.fs.RemoveAll(tmp))
		}
	}()
	dst, err := s.fs.Create(tmp, e.mode())
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(dst, h), io.LimitReader(src, e.Size+1))
	if err == nil {
		err = dst.Sync()
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != e.Size || sum != e.SHA256 {
		return fmt.Errorf("%d bytes with SHA-256 %s, want %d with %s: %w", n, sum, e.Size, e.SHA256, ErrContent)
	}
	return s.fs.Rename(tmp, e.object())
}

// assemble builds the slot's folder beside its place and renames it there.
func (s *Slot) assemble(ref Ref, files []Entry, list []byte) error {
	home := "slots/" + ref.Digest
	tmp := home + ".new"
	if err := s.fs.RemoveAll(tmp); err != nil {
		return err
	}
	dirs := []string{tmp, tmp + "/files"}
	for _, e := range files {
		for d := path.Dir(e.Path); d != "."; d = path.Dir(d) {
			dirs = append(dirs, tmp+"/files/"+d)
		}
	}
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	for _, d := range dirs {
		if err := s.fs.MkdirAll(d); err != nil {
			return err
		}
	}
	for _, e := range files {
		if err := s.place(e, tmp+"/files/"+e.Path); err != nil {
			return err
		}
	}
	if err := s.write(tmp+"/"+contentName, bytes.NewReader(list), 0o444); err != nil {
		return err
	}
	for _, d := range slices.Backward(dirs) {
		if err := s.fs.SyncDir(d); err != nil {
			return err
		}
	}
	for _, r := range s.Record().refs() {
		if r.Digest == ref.Digest && s.intact(r) == nil {
			return fmt.Errorf("another list of files is in use under the same digest: %w", ErrContent)
		}
	}
	if err := s.fs.RemoveAll(home); err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, home); err != nil {
		return err
	}
	return s.fs.SyncDir("slots")
}

// place links an object into a slot, or copies it where links cannot be made.
func (s *Slot) place(e Entry, to string) error {
	if err := s.fs.Link(e.object(), to); err == nil {
		return nil
	}
	src, err := s.fs.Open(e.object())
	if err != nil {
		return err
	}
	defer src.Close()
	return s.write(to, src, e.mode())
}

func (s *Slot) write(name string, r io.Reader, mode fs.FileMode) error {
	f, err := s.fs.Create(name, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// intact hashes a slot: its list against the record, its files against the
// list, and nothing besides.
func (s *Slot) intact(r *Ref) error {
	c, err := s.content(r)
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, e := range c.Files {
		want[e.Path] = true
		if err := s.check(Folder(r)+"/"+e.Path, e); err != nil {
			return fmt.Errorf("slot %s: file %s: %w: %w", r.Digest, e.Path, err, ErrDamaged)
		}
	}
	return s.nothingElse(Folder(r), "", want)
}

func (s *Slot) nothingElse(root, below string, want map[string]bool) error {
	names, err := s.fs.List(path.Join(root, below))
	if err != nil {
		return fmt.Errorf("list %s: %w: %w", root, err, ErrDamaged)
	}
	for _, n := range names {
		p := path.Join(below, n)
		if strings.HasSuffix(n, "/") {
			if err := s.nothingElse(root, p, want); err != nil {
				return err
			}
			continue
		}
		if !want[p] {
			return fmt.Errorf("%s: file %s is not on the list: %w", root, p, ErrDamaged)
		}
	}
	return nil
}

func (s *Slot) content(r *Ref) (content, error) {
	var c content
	f, err := s.fs.Open("slots/" + r.Digest + "/" + contentName)
	if err != nil {
		return c, fmt.Errorf("slot %s: %w: %w", r.Digest, err, ErrDamaged)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 2<<20))
	if err != nil {
		return c, fmt.Errorf("slot %s: %w: %w", r.Digest, err, ErrDamaged)
	}
	if sum := hexSum(b); sum != r.Manifest {
		return c, fmt.Errorf("slot %s: list of files has SHA-256 %s, want %s: %w", r.Digest, sum, r.Manifest, ErrDamaged)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("slot %s: list of files: %w: %w", r.Digest, err, ErrDamaged)
	}
	return c, nil
}

func (s *Slot) check(name string, e Entry) error {
	f, err := s.fs.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, e.Size+1))
	if err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != e.Size || sum != e.SHA256 {
		return fmt.Errorf("%d bytes with SHA-256 %s, want %d with %s: %w", n, sum, e.Size, e.SHA256, ErrContent)
	}
	return nil
}

// Collect removes slots and objects that nothing refers to. What it fails to
// remove stays for the next time.
func (s *Slot) Collect() {
	if s.dirty || !s.build.TryLock() { // the record on disk may refer to more
		return
	}
	defer s.build.Unlock()
	if strings.HasPrefix(s.rec.Safe, "both journals") {
		return // evidence
	}
	keepSlot, keepObject := map[string]bool{}, map[string]bool{}
	for _, r := range s.rec.refs() {
		keepSlot["slots/"+r.Digest+"/"] = true
		c, err := s.content(r)
		if err != nil {
			return
		}
		for _, e := range c.Files {
			keepObject[e.object()] = true
		}
	}
	for _, dir := range []string{"slots", "objects"} {
		keep := keepSlot
		if dir == "objects" {
			keep = keepObject
		}
		names, err := s.fs.List(dir)
		if err != nil {
			s.env.Log.Warn("garbage is not listed", "folder", dir, "err", err)
			continue
		}
		for _, n := range names {
			if p := dir + "/" + n; !keep[p] {
				if err := s.fs.RemoveAll(p); err != nil {
					s.env.Log.Warn("garbage is not removed", "path", p, "err", err)
				}
			}
		}
	}
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
