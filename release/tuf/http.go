package tuf

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// HTTP fetches from a web server. Set timeouts by ctx or on the http.Client.
type HTTP struct {
	base   string
	client *http.Client
}

// NewHTTP reads under base, such as "https://headgate.example/tuf/". A nil client
// is http.DefaultClient.
func NewHTTP(base string, client *http.Client) *HTTP {
	if client == nil {
		client = http.DefaultClient
	}
	return &HTTP{base: strings.TrimSuffix(base, "/") + "/", client: client}
}

// Fetch implements Fetcher.
func (h *HTTP) Fetch(ctx context.Context, path string, limit int64, etag string) ([]byte, string, error) {
	resp, err := h.get(ctx, path, etag)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.ContentLength > limit {
		return nil, "", fmt.Errorf("fetch %s: %d bytes, limit %d: %w", path, resp.ContentLength, limit, ErrTooLarge)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, "", fmt.Errorf("fetch %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, "", fmt.Errorf("fetch %s: more than %d bytes: %w", path, limit, ErrTooLarge)
	}
	return b, resp.Header.Get("ETag"), nil
}

// Open implements Fetcher. A transfer whose connection breaks goes on where it
// broke, if the server can.
func (h *HTTP) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := h.get(ctx, path, "") //nolint:bodyclose // the transfer does
	if err != nil {
		return nil, err
	}
	return &transfer{ctx: ctx, h: h, path: path, tag: strongTag(resp), body: resp.Body}, nil
}

// OpenFrom streams a file from a byte on, and says from which: 0 if the server gives
// only the whole.
func (h *HTTP) OpenFrom(ctx context.Context, path string, at int64) (body io.ReadCloser, from int64, err error) {
	resp, err := h.do(ctx, path, http.Header{"Range": {fmt.Sprintf("bytes=%d-", at)}})
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode == http.StatusPartialContent && firstByte(resp) == at {
		return &transfer{ctx: ctx, h: h, path: path, tag: strongTag(resp), body: resp.Body, at: at, since: at}, at, nil
	}
	resp.Body.Close()
	body, err = h.Open(ctx, path)
	return body, 0, err
}

// firstByte is where a partial response begins; -1 if it does not say.
func firstByte(resp *http.Response) (first int64) {
	if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first); err != nil {
		return -1
	}
	return first
}

// strongTag is a response's entity tag; none if it is weak, which says nothing of
// bytes.
func strongTag(resp *http.Response) string {
	tag := resp.Header.Get("ETag")
	if !strings.HasPrefix(tag, `"`) {
		return ""
	}
	return tag
}

// do sends a request for a file with more headers.
func (h *HTTP) do(ctx context.Context, path string, more http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", path, err)
	}
	for name, values := range more {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	// Digests and lengths are of the bytes as stored.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", path, err)
	}
	return resp, nil
}

// get gives a response of status 200, or an error.
func (h *HTTP) get(ctx context.Context, path, etag string) (*http.Response, error) {
	more := http.Header{}
	if etag != "" {
		more.Set("If-None-Match", etag)
	}
	resp, err := h.do(ctx, path, more)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	// A short body read to its end lets the connection be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotModified:
		return nil, fmt.Errorf("fetch %s: %w", path, ErrNotModified)
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("fetch %s: %w", path, ErrNotFound)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return nil, &RetryError{Status: resp.StatusCode, After: RetryAfter(resp.Header), Path: path}
	}
	return nil, fmt.Errorf("fetch %s: status %s", path, resp.Status)
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = 24 * time.Hour

// RetryAfter reads Retry-After (RFC 9110 10.2.3): seconds, or a date, which is
// taken relative to the server's own Date, because our clock may be off. It is 0
// if the server does not say, and a day at most.
func RetryAfter(h http.Header) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseInt(v, 10, 64); err == nil {
		return time.Duration(min(max(s, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
