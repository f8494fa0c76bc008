package artifact

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/release"
)

// Unpack writes the artifact's files into dir, which must exist and be empty, and
// lists them sorted by path. It takes only what Pack writes: anything else is
// refused with an error that names the entry and wraps release.ErrInvalid. All
// files and folders are fsynced. On error the folder's content is worthless.
func Unpack(r io.Reader, dir string) ([]File, error) {
	files, err := unpack(r, dir)
	if err != nil {
		return nil, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	return files, nil
}

func unpack(r io.Reader, dir string) ([]File, error) {
	in, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(in) > 0 {
		return nil, fmt.Errorf("the folder is not empty: %q is there: %w", in[0].Name(), os.ErrExist)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	u := &unpacker{root: root, left: release.MaxArtifact, folders: map[string]bool{".": true}}
	if err := u.all(r); err != nil {
		return nil, err
	}
	if _, err := ReadManifest(dir); err != nil {
		return nil, err
	}
	// Deepest last in byte order; the order does not matter, that all are synced does.
	for _, f := range slices.Sorted(maps.Keys(u.folders)) {
		if err := atomicfile.SyncDir(filepath.Join(dir, filepath.FromSlash(f))); err != nil {
			return nil, err
		}
	}
	return u.files, nil
}

// endMark is the length of a tar's end: two blocks of zeros.
const endMark = 1024

type unpacker struct {
	root    *os.Root
	left    int64 // bytes that may still come
	folders map[string]bool
	files   []File
}

func (u *unpacker) all(r io.Reader) error {
	// Headers and padding count too: no reader is followed beyond the limit.
	limited := &io.LimitedReader{R: r, N: release.MaxArtifact + 1}
	tr := tar.NewReader(limited)
	last, padding := "", int64(0)
	for {
		left := limited.N
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			// archive/tar takes a missing end mark, so a cut between two entries.
			if left-limited.N != padding+endMark {
				return fmt.Errorf("after entry %q: cut off, no end mark: %w", last, release.ErrInvalid)
			}
			break
		}
		if err != nil {
			return fmt.Errorf("after entry %q: %w: %w", last, release.ErrInvalid, err)
		}
		if err := u.check(h, last); err != nil {
			return err
		}
		last, padding = h.Name, -h.Size&511
		if err := u.file(tr, h); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
	if n, _ := io.ReadFull(limited, make([]byte, 1)); n > 0 || limited.N <= 0 {
		return fmt.Errorf("after entry %q: more data, or above %d bytes: %w", last, release.MaxArtifact, release.ErrInvalid)
	}
	return nil
}

// check refuses a header that Pack would not have written.
func (u *unpacker) check(h *tar.Header, last string) error {
	if err := checkPath(h.Name); err != nil {
		return err
	}
	wrong := ""
	switch {
	case h.Typeflag != tar.TypeReg:
		wrong = fmt.Sprintf("type %q, want regular files only", h.Typeflag)
	case h.Name <= last:
		wrong = fmt.Sprintf("comes after %q, want sorted paths, each once", last)
	case h.Mode != 0o644 && h.Mode != 0o755:
		wrong = fmt.Sprintf("mode %#o, want 0644 or 0755", h.Mode)
	case h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "":
		wrong = "has an owner, want none"
	case h.ModTime.Unix() != 0 || h.ModTime.Nanosecond() != 0:
		wrong = "has a time, want none"
	case h.Linkname != "":
		wrong = "has a link name, want none"
	case len(h.PAXRecords) > 1 || len(h.PAXRecords) == 1 && h.PAXRecords["path"] == "":
		wrong = "has extended attributes, want none" // GNU sparse files too
	case h.Size < 0 || h.Size > u.left:
		wrong = fmt.Sprintf("%d bytes, %d may still come", h.Size, u.left)
	case len(u.files) >= release.MaxFiles:
		wrong = fmt.Sprintf("more than %d files", release.MaxFiles)
	}
	if wrong != "" {
		return fmt.Errorf("entry %q: %s: %w", h.Name, wrong, release.ErrInvalid)
	}
	u.left -= h.Size
	return nil
}

func (u *unpacker) file(r io.Reader, h *tar.Header) error {
	dir := path.Dir(h.Name)
	if !u.folders[dir] {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for d := dir; d != "."; d = path.Dir(d) {
			u.folders[d] = true
		}
	}
	mode := os.FileMode(h.Mode)
	f, err := u.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), r)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("cut off after %d of %d bytes: %w: %w", n, h.Size, release.ErrInvalid, err)
	}
	if err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil { // whatever the umask says
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	u.files = append(u.files, File{Path: h.Name, SHA256: hex.EncodeToString(sum.Sum(nil)), Size: n, Mode: mode})
	return f.Close()
}
