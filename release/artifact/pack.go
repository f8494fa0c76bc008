package artifact

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/headgate/headgate/release"
)

// Pack writes the folder's artifact to w. The folder must hold a valid
// headgate.json, and regular files and folders only. The same content gives the
// same bytes on any machine; of a file's mode only "may be executed" counts.
// Errors name the entry and wrap release.ErrInvalid where a rule is broken.
func Pack(dir string, w io.Writer) error {
	if err := pack(dir, w); err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return nil
}

func pack(dir string, w io.Writer) error {
	if _, err := ReadManifest(dir); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	paths, err := list(dir)
	if err != nil {
		return err
	}
	limited := &limitWriter{w: w, left: release.MaxArtifact}
	tw := tar.NewWriter(limited)
	for _, path := range paths {
		if err := packFile(root, tw, path); err != nil {
			return fmt.Errorf("entry %q: %w", path, err)
		}
	}
	return tw.Close()
}

// list gives the files of dir, sorted as bytes, slash-separated.
func list(dir string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if full == dir {
			return nil
		}
		rel, err := filepath.Rel(dir, full)
		if err != nil {
			return err
		}
		path := filepath.ToSlash(rel)
		if err := checkPath(path); err != nil {
			return err
		}
		if d.IsDir() {
			return notEmpty(full, path)
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("entry %q: %s, but only regular files can be packed: %w", path, d.Type(), release.ErrInvalid)
		}
		paths = append(paths, path)
		if len(paths) > release.MaxFiles {
			return fmt.Errorf("entry %q: more than %d files: %w", path, release.MaxFiles, release.ErrInvalid)
		}
		return nil
	})
	slices.Sort(paths)
	return paths, err
}

// notEmpty refuses an empty folder: it would be missing after Unpack.
func notEmpty(full, path string) error {
	in, err := os.ReadDir(full)
	if err != nil {
		return err
	}
	if len(in) == 0 {
		return fmt.Errorf("entry %q: an empty folder cannot be packed: %w", path, release.ErrInvalid)
	}
	return nil
}

func packFile(root *os.Root, tw *tar.Writer, path string) error {
	f, err := root.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s, but only regular files can be packed: %w", info.Mode().Type(), release.ErrInvalid)
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Size: info.Size(), Mode: mode}); err != nil {
		return err
	}
	// A file that grows or shrinks meanwhile makes the tar writer fail.
	_, err = io.Copy(tw, f)
	return err
}

// limitWriter fails once an artifact gets too large.
type limitWriter struct {
	w    io.Writer
	left int64
}

func (l *limitWriter) Write(b []byte) (int, error) {
	if int64(len(b)) > l.left {
		return 0, fmt.Errorf("artifact above %d bytes: %w", release.MaxArtifact, release.ErrInvalid)
	}
	l.left -= int64(len(b))
	return l.w.Write(b)
}
