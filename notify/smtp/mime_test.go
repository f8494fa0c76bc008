package smtp

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"testing"

	"github.com/headgate/headgate/internal/eximtest"
)

func newQP(r io.Reader) io.Reader { return quotedprintable.NewReader(r) }

// mimeParts reads a multipart message, which must be closed by its last boundary.
func mimeParts(t *testing.T, m *eximtest.Message) (out []string) {
	t.Helper()
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	check(t, err)
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return out
		}
		check(t, err)
		b, err := io.ReadAll(p)
		check(t, err)
		out = append(out, string(b))
	}
}
