package slot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// FS is every way in which a slot touches the disk, so that a test can cut the
// power after each step. Paths are relative to the slot's folder, with slashes.
type FS interface {
	MkdirAll(dir string) error
	// Create makes a new file with mode; a file of that name is replaced.
	Create(path string, mode fs.FileMode) (File, error)
	// Overwrite writes data at the start of path in place, making the file if
	// needed, and syncs it. What was longer keeps its tail.
	Overwrite(path string, data []byte) error
	Open(path string) (io.ReadCloser, error)
	Link(old, new string) error
	Rename(old, new string) error
	RemoveAll(path string) error
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
	// List gives the names in dir, sorted, folders with a slash at the end; none
	// if dir is not there.
	List(dir string) ([]string, error)
}

// File is a file being written.
type File interface {
	io.WriteCloser
	Sync() error
}

// Disk is the FS of a real folder.
type Disk string

func (d Disk) path(p string) string { return filepath.Join(string(d), filepath.FromSlash(p)) }

// MkdirAll implements FS.
func (d Disk) MkdirAll(dir string) error { return os.MkdirAll(d.path(dir), 0o755) }

// Create implements FS.
func (d Disk) Create(path string, mode fs.FileMode) (File, error) {
	if err := os.Remove(d.path(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(d.path(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(mode); err != nil { // whatever the umask is
		f.Close()
		return nil, err
	}
	return f, nil
}

// Overwrite implements FS.
func (d Disk) Overwrite(path string, data []byte) error {
	f, err := os.OpenFile(d.path(path), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Open implements FS; it refuses what is not a regular file.
func (d Disk) Open(path string) (io.ReadCloser, error) { return openRegular(d.path(path)) }

// openRegular opens a file that must not be a link, pipe or device.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("open %s: not a regular file: %w", path, errors.Join(err, fs.ErrInvalid))
	}
	return f, nil
}

// Link implements FS.
func (d Disk) Link(old, new string) error { return os.Link(d.path(old), d.path(new)) }

// Rename implements FS.
func (d Disk) Rename(old, new string) error { return os.Rename(d.path(old), d.path(new)) }

// RemoveAll implements FS.
func (d Disk) RemoveAll(path string) error { return os.RemoveAll(d.path(path)) }

// SyncDir implements FS.
func (d Disk) SyncDir(dir string) error {
	f, err := os.Open(d.path(dir))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// List implements FS.
func (d Disk) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(d.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name()+"/")
			continue
		}
		names = append(names, e.Name())
	}
	return names, err
}

// Spool opens the files of an unpacked artifact below dir, following no
// symbolic link under it.
func Spool(dir string) (open func(path string) (io.ReadCloser, error), done func() error, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open spool: %w", err)
	}
	return func(path string) (io.ReadCloser, error) {
		walked := ""
		for part := range strings.SplitSeq(path, "/") {
			walked = filepath.Join(walked, part)
			if st, err := root.Lstat(walked); err != nil || st.Mode()&(fs.ModeSymlink|fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
				return nil, fmt.Errorf("open %s in the spool: not a plain file: %w", path, errors.Join(err, fs.ErrInvalid))
			}
		}
		return root.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	}, root.Close, nil
}
