package tuf

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
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
		var first int64
		_, err = fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first)
		if resp.StatusCode != http.StatusPartialContent || err != nil || first != t.at || resp.Header.Get("ETag") != t.tag {
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
