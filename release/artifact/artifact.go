// Package artifact packs a product folder into the one file that a vendor signs,
// and unpacks it again within strict limits.
//
// The file is an uncompressed tar of regular files only, sorted, without times
// and owners, so that the same folder always gives the same bytes. It knows
// nothing of signatures: length and SHA-256 are checked by release/tuf before.
// Its word: entry (one file in an artifact).
package artifact

import (
	"io"
	"os"

	"github.com/headgate/headgate/release"
)

// File is one unpacked entry.
type File struct {
	Path   string      // slash-separated, relative
	SHA256 string      // lower-case hex
	Size   int64       // bytes
	Mode   os.FileMode // 0644 or 0755
}

// Pack writes the folder's artifact to w. The folder must hold a valid
// headgate.json, and regular files and folders only. Errors name the entry and
// wrap release.ErrInvalid where a rule is broken.
func Pack(dir string, w io.Writer) error { panic("artifact: being written") }

// Unpack writes the artifact's files into dir, which must exist and be empty, and
// lists them sorted by path. On error the folder's content is worthless. It
// fsyncs every file and folder.
func Unpack(r io.Reader, dir string) ([]File, error) { panic("artifact: being written") }

// ReadManifest reads and checks dir's headgate.json.
func ReadManifest(dir string) (release.Manifest, error) { panic("artifact: being written") }
