package slot

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
)

var errCut = errors.New("power is cut")

// node is a file or a folder, as the running system sees it and as it would be
// found after a power cut.
type node struct {
	data, kept       []byte
	dir              bool
	names, keptNames map[string]*node
}

// memFS tracks what was synced. After limit operations the power is cut: the
// operation before it happened, none after it does.
type memFS struct {
	root  *node
	ops   int
	limit int  // 0 is no limit
	full  bool // no space for new data
}

func newMem() *memFS {
	return &memFS{root: &node{dir: true, names: map[string]*node{}, keptNames: map[string]*node{}}}
}

func (m *memFS) step() error {
	if m.limit > 0 && m.ops >= m.limit {
		return errCut
	}
	m.ops++
	return nil
}

func (m *memFS) find(p string) *node {
	n := m.root
	if p == "." {
		return n
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(p, "/"), "/") {
		if n == nil || !n.dir {
			return nil
		}
		n = n.names[part]
	}
	return n
}

func (m *memFS) parent(p string) (*node, string, error) {
	d := m.find(path.Dir(p))
	if d == nil || !d.dir {
		return nil, "", &fs.PathError{Op: "find", Path: p, Err: fs.ErrNotExist}
	}
	return d, path.Base(p), nil
}

func (m *memFS) MkdirAll(p string) error {
	if n := m.find(p); n != nil {
		return nil
	}
	if d := path.Dir(p); d != "." {
		if err := m.MkdirAll(d); err != nil {
			return err
		}
	}
	if err := m.step(); err != nil {
		return err
	}
	d, name, err := m.parent(p)
	if err != nil {
		return err
	}
	d.names[name] = &node{dir: true, names: map[string]*node{}, keptNames: map[string]*node{}}
	return nil
}

type memFile struct {
	m *memFS
	n *node
}

func (f memFile) Write(b []byte) (int, error) {
	if err := f.m.step(); err != nil {
		return 0, err
	}
	if f.m.full {
		f.n.data = append(f.n.data, b[:len(b)/2]...)
		return len(b) / 2, syscall.ENOSPC
	}
	f.n.data = append(f.n.data, b...)
	return len(b), nil
}

func (f memFile) Sync() error {
	if err := f.m.step(); err != nil {
		return err
	}
	f.n.kept = slices.Clone(f.n.data)
	return nil
}

func (f memFile) Close() error { return nil }

func (m *memFS) Create(p string, _ fs.FileMode) (File, error) {
	if err := m.step(); err != nil {
		return nil, err
	}
	d, name, err := m.parent(p)
	if err != nil {
		return nil, err
	}
	n := &node{}
	d.names[name] = n
	return memFile{m, n}, nil
}

func (m *memFS) Overwrite(p string, b []byte) error {
	n := m.find(p)
	if n == nil {
		if m.full {
			return syscall.ENOSPC
		}
		f, err := m.Create(p, 0o600)
		if err != nil {
			return err
		}
		n = f.(memFile).n
	}
	// In two halves, so that a cut between them leaves a torn frame.
	for _, half := range [][2]int{{0, len(b) / 40}, {len(b) / 40, len(b)}} {
		if err := m.step(); err != nil {
			return err
		}
		data := slices.Clone(n.data)
		for len(data) < half[1] {
			data = append(data, 0)
		}
		copy(data[half[0]:], b[half[0]:half[1]])
		n.data = data
	}
	return memFile{m, n}.Sync()
}

func (m *memFS) Open(p string) (io.ReadCloser, error) {
	n := m.find(p)
	if n == nil || n.dir {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return io.NopCloser(bytes.NewReader(n.data)), nil
}

func (m *memFS) Link(old, new string) error {
	if err := m.step(); err != nil {
		return err
	}
	n := m.find(old)
	d, name, err := m.parent(new)
	if err != nil || n == nil {
		return errors.Join(err, fs.ErrNotExist)
	}
	d.names[name] = n
	return nil
}

func (m *memFS) Rename(old, new string) error {
	if err := m.step(); err != nil {
		return err
	}
	from, a, err := m.parent(old)
	if err != nil {
		return err
	}
	to, b, err := m.parent(new)
	if err != nil || from.names[a] == nil {
		return errors.Join(err, fs.ErrNotExist)
	}
	to.names[b] = from.names[a]
	delete(from.names, a)
	return nil
}

// RemoveAll takes one name at a time, as the real one does.
func (m *memFS) RemoveAll(p string) error {
	p = strings.TrimSuffix(p, "/")
	n := m.find(p)
	if n == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		if err := m.RemoveAll(path.Join(p, name)); err != nil {
			return err
		}
	}
	if err := m.step(); err != nil {
		return err
	}
	d, name, err := m.parent(p)
	if err != nil {
		return err
	}
	delete(d.names, name)
	return nil
}

func (m *memFS) SyncDir(p string) error {
	if err := m.step(); err != nil {
		return err
	}
	n := m.find(p)
	if n == nil {
		return fs.ErrNotExist
	}
	n.keptNames = maps.Clone(n.names)
	return nil
}

func (m *memFS) List(p string) ([]string, error) {
	n := m.find(p)
	if n == nil {
		return nil, nil
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		if n.names[name].dir {
			name += "/"
		}
		out = append(out, name)
	}
	return out, nil
}

// reboot gives the disk after a power cut. keep says for each thing that was
// not synced whether it reached the disk all the same.
func (m *memFS) reboot(keep func() bool) *memFS {
	out := newMem()
	seen := map[*node]*node{}
	out.root = survive(m.root, keep, seen)
	return out
}

func survive(n *node, keep func() bool, seen map[*node]*node) *node {
	if c, ok := seen[n]; ok {
		return c
	}
	c := &node{dir: n.dir}
	seen[n] = c
	if !n.dir {
		c.data = slices.Clone(n.kept)
		if !bytes.Equal(n.kept, n.data) && keep() {
			c.data = slices.Clone(n.data)
		}
		c.kept = slices.Clone(c.data)
		return c
	}
	c.names, c.keptNames = map[string]*node{}, map[string]*node{}
	all := maps.Clone(n.names)
	maps.Copy(all, n.keptNames)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v := n.keptNames[name]
		if n.names[name] != v && keep() {
			v = n.names[name]
		}
		if v != nil {
			c.names[name] = survive(v, keep, seen)
			c.keptNames[name] = c.names[name]
		}
	}
	return c
}
