package tuf

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/headgate/headgate/release"
)

const (
	// maxResumes is how often in a row a transfer is taken up again that does not
	// get resumeProgress further, bytes.
	maxResumes     = 5
	resumeProgress = 64 << 10
	// resumeWait is how long the second try in a row waits; each further one twice
	// as long. The first waits for nothing: a cut connection is seldom a dead link.
	resumeWait = time.Second
)

// transfer is the body of a long file. When its connection breaks, it asks for
// the rest of the same file (RFC 9110 14.2, 13.1.5: If-Range with the strong
// entity tag of the beginning). What it gives is proven by the reader's digest, as
// ever. A file without such a tag, or that has changed, breaks where it broke.
type transfer struct {
	ctx  context.Context
	h    *HTTP
	path string
	tag  string

	body  io.ReadCloser
	at    int64 // bytes given
	since int64 // at, when it was last taken up
	tries int   // in a row
}

// Read implements io.Reader.
func (t *transfer) Read(p []byte) (int, error) {
	for {
		n, err := t.body.Read(p)
		t.at += int64(n)
		if n > 0 || err == nil || err == io.EOF {
			if err != nil && err != io.EOF {
				err = nil // the next read hears of it again
			}
			return n, err
		}
		if err := t.resume(err); err != nil {
			return 0, err
		}
	}
}

// Close implements io.Closer.
func (t *transfer) Close() error { return t.body.Close() }

// resume asks for the rest after the connection broke because of cause.
func (t *transfer) resume(cause error) error {
	if t.at-t.since >= resumeProgress {
		t.tries = 0
	}
	t.since = t.at
	if t.tag == "" || t.ctx.Err() != nil {
		return cause
	}
	for ; t.tries < maxResumes; t.tries++ {
		if t.tries > 0 {
			select {
			case <-t.ctx.Done():
				return cause
			case <-time.After(resumeWait << (t.tries - 1)):
			}
		}
		resp, err := t.h.do(t.ctx, t.path, http.Header{"Range": {fmt.Sprintf("bytes=%d-", t.at)}, "If-Range": {t.tag}})
		if err != nil {
			continue // the link may come back
		}
		if resp.StatusCode != http.StatusPartialContent || firstByte(resp) != t.at || resp.Header.Get("ETag") != t.tag {
			resp.Body.Close()
			return cause
		}
		t.body.Close()
		t.body = resp.Body
		t.tries++
		return nil
	}
	return cause
}

// Partial is a file that holds the beginning of an artifact, or nothing.
type Partial interface {
	io.ReadWriteSeeker
	Truncate(size int64) error
}

// DownloadRest completes an artifact in f, of which an earlier try, of this process
// or of one before, may have left the beginning: that is read and the rest asked
// for. Nothing of it is believed before the whole is what was signed; a beginning
// that spoils the whole is thrown away, and all of it asked for once more. If the
// error wraps ErrDigest or ErrTooLarge f is empty; else it keeps what came, for the
// next try.
func (c *Client) DownloadRest(ctx context.Context, r release.Release, f Partial) error {
	if err := release.CheckDigest(r.Digest); err != nil {
		return err
	}
	began, err := c.downloadRest(ctx, r, f)
	spoilt := func() bool { return errors.Is(err, ErrDigest) || errors.Is(err, ErrTooLarge) }
	if spoilt() {
		if err2 := rewind(f); err2 != nil {
			return errors.Join(err, err2)
		}
		if began > 0 {
			if _, err = c.downloadRest(ctx, r, f); spoilt() {
				err = errors.Join(err, rewind(f))
			}
		}
	}
	return err
}

// downloadRest says how much of the artifact f held before.
func (c *Client) downloadRest(ctx context.Context, r release.Release, f Partial) (began int64, err error) {
	h := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if began, err = io.Copy(h, f); err != nil {
		return began, fmt.Errorf("read the beginning of %s %s: %w", r.Product, r.Version, err)
	}
	if began > r.Length {
		return began, fmt.Errorf("artifact of %s %s: %d bytes are here, signed are %d: %w", r.Product, r.Version, began, r.Length, ErrTooLarge)
	}
	if began == r.Length {
		return began, verify(h, began, strings.NewReader(""), r)
	}
	path := TargetFile(release.Target(r.Product, r.Version), r.Digest)
	body, from, err := c.openFrom(ctx, path, began)
	if err != nil {
		return began, fmt.Errorf("download %s %s: %w", r.Product, r.Version, err)
	}
	defer body.Close()
	if from == 0 && began > 0 {
		h.Reset()
		if err := rewind(f); err != nil {
			return began, err
		}
	}
	return from, verify(h, from, io.TeeReader(body, f), r)
}

// openFrom asks for a file from a byte on, where the fetcher can.
func (c *Client) openFrom(ctx context.Context, path string, at int64) (io.ReadCloser, int64, error) {
	if f, ok := c.fetcher.(interface {
		OpenFrom(ctx context.Context, path string, at int64) (io.ReadCloser, int64, error)
	}); ok && at > 0 {
		return f.OpenFrom(ctx, path, at)
	}
	body, err := c.fetcher.Open(ctx, path)
	return body, 0, err
}

func rewind(f Partial) error {
	_, err := f.Seek(0, io.SeekStart)
	if err = errors.Join(err, f.Truncate(0)); err != nil {
		return fmt.Errorf("throw a spoilt download away: %w", err)
	}
	return nil
}
