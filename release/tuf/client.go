package tuf

import (
	"context"
	"io"
	"time"

	"github.com/headgate/headgate/release"
)

// Fetcher reads the repository's files. Paths are relative to /tuf/, such as
// "timestamp.json" or "targets/plan/<sha256>.plan.json".
type Fetcher interface {
	// Fetch reads at most limit bytes (more is ErrTooLarge). A missing file is
	// ErrNotFound. With an etag, ErrNotModified says that the file still has it.
	// The server's wish to wait is a *RetryError.
	Fetch(ctx context.Context, path string, limit int64, etag string) (body []byte, newETag string, err error)
	// Open streams a file; the caller closes it and keeps the limit.
	Open(ctx context.Context, path string) (io.ReadCloser, error)
}

// Client is an endpoint's view of the repository. Its methods may be called at
// the same time.
type Client struct{}

// Open opens the client's own folder, made if missing. root is the root of trust
// from enrolment; the folder's newer root, if readable, goes before it. Open reads
// no network: what was verified before is there at once, also offline.
func Open(dir string, root []byte, f Fetcher) (*Client, error) { panic("tuf: being written") }

// Refresh brings the metadata up to date (TUF 5.3 to 5.6) and says whether the
// plan, targets or releases may have changed. After an error the last verified
// state stays in force.
func (c *Client) Refresh(ctx context.Context, now time.Time) (changed bool, err error) {
	panic("tuf: being written")
}

// Fresh is nil if installing is allowed at now; else it wraps ErrExpired
// (ErrFrozen for the timestamp) or says that nothing was fetched yet. What runs is
// never its business.
func (c *Client) Fresh(now time.Time) error { panic("tuf: being written") }

// Plan is the last verified plan, however old: an order to stop or revert stays
// valid. Without one it is ErrNotFound.
func (c *Client) Plan() (release.Plan, error) { panic("tuf: being written") }

// Target finds the signed release in the vendor's own role, fetching that role if
// need be. It refuses on expired metadata.
func (c *Client) Target(ctx context.Context, now time.Time, product, version string) (release.Release, error) {
	panic("tuf: being written")
}

// Download streams the release's artifact into w. If it is not exactly what was
// signed the error wraps ErrDigest or ErrTooLarge, and what w got is worthless.
func (c *Client) Download(ctx context.Context, r release.Release, w io.Writer) error {
	panic("tuf: being written")
}

// Timestamp gives the bytes and ETag of the timestamp in force, for cheap polls
// by others who share this client.
func (c *Client) Timestamp() (etag string, body []byte) { panic("tuf: being written") }

// VerifyArtifact reads r to its end and compares length and SHA-256.
func VerifyArtifact(r io.Reader, rel release.Release) error { panic("tuf: being written") }
