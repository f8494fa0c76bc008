// Package artifact packs a product folder into the one file that a vendor signs,
// and unpacks it again within strict limits.
//
// The file is an uncompressed tar of regular files only, sorted by path, without
// times and owners, so that the same folder always gives the same bytes. It knows
// nothing of signatures: length and SHA-256 are checked by release/tuf before.
// Its word: entry (one file in an artifact).
package artifact

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/headgate/headgate/release"
)

// File is one unpacked entry.
type File struct {
	Path   string      // slash-separated, relative
	SHA256 string      // lower-case hex
	Size   int64       // bytes
	Mode   os.FileMode // 0644 or 0755
}

// ReadManifest reads and checks dir's headgate.json.
func ReadManifest(dir string) (release.Manifest, error) {
	path := filepath.Join(dir, release.ManifestName)
	f, err := os.Open(path)
	if err != nil {
		return release.Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, release.MaxManifest+1))
	if err != nil {
		return release.Manifest{}, fmt.Errorf("read manifest %s: %w", path, err)
	}
	m, err := release.ParseManifest(b)
	if err != nil {
		return m, fmt.Errorf("manifest of %s: %w", dir, err)
	}
	return m, nil
}

// checkPath refuses a path that could leave the folder, or that reads differently
// on another system or screen.
func checkPath(path string) error {
	if len(path) > release.MaxPath {
		return fmt.Errorf("entry %.60q…: path of %d bytes, limit %d: %w", path, len(path), release.MaxPath, release.ErrInvalid)
	}
	if path == "." || !fs.ValidPath(path) {
		return fmt.Errorf("entry %q: want a relative path without \"..\", in UTF-8: %w", path, release.ErrInvalid)
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r == '\\' || r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
		return fmt.Errorf("entry %q: a backslash or an unprintable character in its path: %w", path, release.ErrInvalid)
	}
	return nil
}
