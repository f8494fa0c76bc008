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
	"os"
	"path/filepath"
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

// What is in a file before the download, and what is asked for then.
func TestDownloadGoesOnWithWhatIsThere(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	n := int64(len(content))
	rel := release.Release{Product: "acme/rules", Version: "1.0.0", Length: n, Digest: fmt.Sprintf("%x", sha256.Sum256(content))}
	spoilt := bytes.Clone(content[:1000])
	spoilt[7] ^= 1
	for name, c := range map[string]struct {
		have   []byte
		whole  bool // the server knows no ranges
		served []byte
		want   []string
		err    error
	}{
		"nothing":                     {want: []string{""}},
		"a beginning":                 {have: content[:1000], want: []string{"bytes=1000-"}},
		"all of it":                   {have: content},
		"a spoilt beginning":          {have: spoilt, want: []string{"bytes=1000-", ""}},
		"zeros after a power cut":     {have: make([]byte, n), want: []string{""}},
		"more than is signed":         {have: append(bytes.Clone(content), 1), want: []string{""}},
		"a server without ranges":     {have: content[:1000], whole: true, want: []string{"bytes=1000-", ""}},
		"a server with another file":  {have: content[:1000], served: bytes.Repeat([]byte("x"), int(n)), want: []string{"bytes=1000-", ""}, err: ErrDigest},
		"a server with a longer file": {served: append(bytes.Clone(content), 1), want: []string{""}, err: ErrTooLarge},
		"a server with a shorter one": {have: content[:1000], served: content[:500], want: []string{"bytes=1000-", ""}, err: ErrDigest},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Header.Get("Range"))
				b := content
				if c.served != nil {
					b = c.served
				}
				if c.whole {
					w.Write(b)
					return
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
			}))
			defer srv.Close()
			f, err := os.Create(filepath.Join(t.TempDir(), "partial"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			f.Write(c.have)
			client := &Client{fetcher: NewHTTP(srv.URL, srv.Client())}
			if err := client.DownloadRest(t.Context(), rel, f); !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			got, err := os.ReadFile(f.Name())
			if want := content; err != nil || c.err == nil && !bytes.Equal(got, want) || c.err != nil && len(got) != 0 {
				t.Errorf("the file has %d bytes, %v", len(got), err)
			}
			if fmt.Sprint(asked) != fmt.Sprint(c.want) {
				t.Errorf("asked for %q, want %q", asked, c.want)
			}
		})
	}
}

// A try that breaks leaves what came.
func TestDownloadThatBreaksKeepsWhatCame(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
	rel := release.Release{Product: "acme/rules", Version: "1.0.0", Length: int64(len(content)), Digest: fmt.Sprintf("%x", sha256.Sum256(content))}
	var ranges []string
	h := cutting(t, func() []byte { return content }, 100<<10, 1, &ranges)
	f, err := os.Create(filepath.Join(t.TempDir(), "partial"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	client := &Client{fetcher: h}
	ctx, cancel := context.WithCancel(t.Context())
	if err := client.DownloadRest(ctx, rel, &stopping{f, 50 << 10, cancel}); err == nil {
		t.Fatal("it ended well")
	}
	st, err := f.Stat()
	if err != nil || st.Size() < 50<<10 {
		t.Fatalf("%v bytes are left, %v", st.Size(), err)
	}
	if err := client.DownloadRest(t.Context(), rel, f); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("bytes=%d-", st.Size()); ranges[len(ranges)-1] != want {
		t.Errorf("asked for %q last, want %s", ranges, want)
	}
}

// stopping ends a download after so many bytes.
type stopping struct {
	*os.File
	left int
	stop func()
}

func (s *stopping) Write(p []byte) (int, error) {
	if s.left -= len(p); s.left <= 0 {
		s.stop()
	}
	return s.File.Write(p)
}
