package tuf

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/headgate/headgate/release"
)

// cutting serves content and cuts the connection after so many bytes of each of
// the first cuts answers. change, if set, is called before each answer.
func cutting(t *testing.T, content func() []byte, after, cuts int, ranges *[]string) *HTTP {
	served := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*ranges = append(*ranges, r.Header.Get("Range"))
		b := content()
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(b)))
		if served++; served > cuts {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
			return
		}
		http.ServeContent(&cut{ResponseWriter: w, left: after}, r, "", time.Time{}, bytes.NewReader(b))
	}))
	t.Cleanup(srv.Close)
	return NewHTTP(srv.URL, srv.Client())
}

// cut ends its connection after so many bytes.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	c.ResponseWriter.Write(p[:c.left])
	c.ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func read(t *testing.T, h *HTTP) ([]byte, error) {
	t.Helper()
	body, err := h.Open(context.Background(), "file")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	return io.ReadAll(body)
}

func TestCutTransferGoesOnWhereItBroke(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
	var ranges []string
	h := cutting(t, func() []byte { return content }, 100<<10, 2, &ranges)
	body, err := h.Open(t.Context(), "file")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	rel := release.Release{Product: "acme/rules", Version: "1.0.0", Length: int64(len(content)), Digest: fmt.Sprintf("%x", sha256.Sum256(content))}
	if err := VerifyArtifact(body, rel); err != nil {
		t.Fatalf("cut twice: %v", err)
	}
	if want := []string{"", "bytes=102400-", "bytes=204800-"}; fmt.Sprint(ranges) != fmt.Sprint(want) {
		t.Errorf("asked for %q, want %q", ranges, want)
	}
}

// Nothing of another file is ever put behind the beginning of this one.
func TestCutTransferOfAFileThatChangedFails(t *testing.T) {
	content := bytes.Repeat([]byte("a"), 200<<10)
	var ranges []string
	h := cutting(t, func() []byte {
		if len(ranges) > 1 {
			return bytes.Repeat([]byte("b"), 200<<10)
		}
		return content
	}, 100<<10, 1, &ranges)
	got, err := read(t, h)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(got, content[:100<<10]) {
		t.Errorf("got %d bytes, %v; want 102400 and the break", len(got), err)
	}
}

func TestCutTransferWithoutTagFails(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(&cut{ResponseWriter: w, left: 10}, "0123456789abc")
	}))
	t.Cleanup(srv.Close)
	if got, err := read(t, NewHTTP(srv.URL, srv.Client())); !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 10 {
		t.Errorf("got %d bytes, %v; want 10 and the break", len(got), err)
	}
}
