package artifact

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/headgate/headgate/release"
)

// Note is a line of an artifact that is written for readers.
type Note struct {
	Place string // "file name", "headgate.json, line 3"
	Text  string
}

// maxNotes is how many bytes of notes are read of one artifact.
const maxNotes = 4 << 20

// Notes lists what an artifact tells whoever opens it: the names of its files, and
// the lines of its manifest and of its texts (README, CHANGELOG, *.md, *.txt, ...).
// Other files are not looked into.
func Notes(r io.Reader) (out []Note, err error) {
	tr, left := tar.NewReader(io.LimitReader(r, release.MaxArtifact)), int64(maxNotes)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("read artifact after %d entries: %w: %w", n, release.ErrInvalid, err)
		case n >= release.MaxFiles:
			return nil, fmt.Errorf("read artifact: more than %d files: %w", release.MaxFiles, release.ErrInvalid)
		}
		out = append(out, Note{"file name", h.Name})
		if !isText(h.Name) {
			continue
		}
		body, err := io.ReadAll(io.LimitReader(tr, left+1))
		if err != nil {
			return nil, fmt.Errorf("read artifact: entry %q: %w: %w", h.Name, release.ErrInvalid, err)
		}
		if left -= int64(len(body)); left < 0 {
			return nil, fmt.Errorf("read artifact: entry %q: more than %d bytes of texts: %w", h.Name, maxNotes, release.ErrInvalid)
		}
		out = append(out, lines(h.Name, body)...)
	}
}

func lines(name string, body []byte) (out []Note) {
	if !utf8.Valid(body) {
		return nil
	}
	for i, l := range strings.Split(string(body), "\n") {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, Note{fmt.Sprintf("%s, line %d", name, i+1), l})
		}
	}
	return out
}

// isText tells whether a file is one that people read.
func isText(name string) bool {
	base := strings.ToLower(path.Base(name))
	switch path.Ext(base) {
	case ".md", ".txt", ".rst", ".adoc", ".html":
		return true
	}
	if base == release.ManifestName {
		return true
	}
	for _, prefix := range []string{"readme", "changelog", "changes", "news", "notes", "release", "history"} {
		if strings.HasPrefix(base, prefix) && !strings.Contains(base, ".") {
			return true
		}
	}
	return false
}
