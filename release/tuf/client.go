package tuf

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

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
type Client struct {
	dir     string
	fetcher Fetcher
	damage  error
	save    func(path string, data []byte) error // tests kill here

	view atomic.Pointer[view]
	// mu lets one caller at a time change view; readers do not take it.
	mu sync.Mutex
}

// view is one verified state; it never changes once it is in Client.view.
type view struct {
	trust trust
	root  *metadata.Metadata[metadata.RootType]
	set   *set // nil before the first whole refresh
}

// set is what trust.Set says, decoded.
type set struct {
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   *metadata.Metadata[metadata.TargetsType]
	rollout   *metadata.Metadata[metadata.TargetsType]
	plan      *release.Plan // nil if none was published yet
	vendors   map[string]*metadata.Metadata[metadata.TargetsType]
}

// Open opens the client's own folder, made if missing. root is the root of trust
// from enrolment; the folder's newer root, if readable, goes before it, so an
// endpoint that enrols elsewhere needs a fresh folder. root may be nil for a folder
// that has one. Open reads no network: what was verified before is there at once,
// also offline.
func Open(dir string, root []byte, f Fetcher) (*Client, error) {
	c := &Client{dir: dir, fetcher: f, save: saveTrust}
	t, err := loadTrust(dir)
	if err != nil {
		return nil, fmt.Errorf("open trust folder: %w", err)
	}
	if t.Root != nil {
		v, err := verifyTrust(t)
		if v != nil {
			c.damage = err
			c.view.Store(v)
			return c, nil
		}
		c.damage = err
	} else if t.damage != nil {
		c.damage = t.damage
	}
	if root == nil {
		if c.damage != nil {
			return nil, fmt.Errorf("open trust folder %s without a root from enrolment: %w", dir, c.damage)
		}
		return nil, fmt.Errorf("open trust folder %s: empty, and no root from enrolment: %w", dir, ErrNotFound)
	}
	v, err := verifyTrust(trust{Schema: trustSchema, Root: root})
	if err != nil {
		return nil, fmt.Errorf("root from enrolment: %w", err)
	}
	c.view.Store(v)
	return c, nil
}

// Damaged says what of the folder could not be read when it was opened, or nil.
// The client starts over from what was left, at worst the root from enrolment; an
// operator wants to know, because protection against rollback was lost with it.
func (c *Client) Damaged() error { return c.damage }

// Fresh is nil if installing is allowed at now. Else it wraps ErrExpired (which
// ErrFrozen is too), ErrNotFound before the first refresh, or ErrMixed if a new
// root came and the rest did not yet. What runs is never its business.
func (c *Client) Fresh(now time.Time) error { return c.view.Load().fresh(now) }

func (v *view) fresh(now time.Time) error {
	if v.set == nil {
		return fmt.Errorf("nothing fetched from the repository yet: %w", ErrNotFound)
	}
	if !bytes.Equal(v.trust.Root, v.trust.Set.Root) {
		// The new root may have taken trust away from what we hold.
		return fmt.Errorf("root version %d is in force, but the rest was verified by an older one: %w", v.root.Signed.Version, ErrMixed)
	}
	s := v.set
	for _, r := range []struct {
		role    string
		version int64
		expires time.Time
	}{
		{Root, v.root.Signed.Version, v.root.Signed.Expires},
		{Timestamp, s.timestamp.Signed.Version, s.timestamp.Signed.Expires},
		{Snapshot, s.snapshot.Signed.Version, s.snapshot.Signed.Expires},
		{Targets, s.targets.Signed.Version, s.targets.Signed.Expires},
		{Rollout, s.rollout.Signed.Version, s.rollout.Signed.Expires},
	} {
		if now.After(r.expires) {
			return expired(r.role, r.version, r.expires)
		}
	}
	return nil
}

// Plan is the last verified plan, however old: an order to stop or revert stays
// valid. Without one it is ErrNotFound. Do not change its slices.
func (c *Client) Plan() (release.Plan, error) {
	v := c.view.Load()
	if v.set == nil || v.set.plan == nil {
		return release.Plan{}, fmt.Errorf("plan: %w", ErrNotFound)
	}
	return *v.set.plan, nil
}

// Timestamp gives the bytes and ETag of the timestamp in force, for cheap polls
// by others who share this client. Both are empty before the first refresh.
func (c *Client) Timestamp() (etag string, body []byte) {
	v := c.view.Load()
	if v.set == nil {
		return "", nil
	}
	return v.trust.Set.ETag, v.trust.Set.Timestamp
}

// RootVersion is the version of the root that is trusted.
func (c *Client) RootVersion() int64 { return c.view.Load().root.Signed.Version }

// Target finds the signed release in the vendor's own role, fetching that role if
// need be. It refuses on expired metadata. Errors: ErrNotFound if the vendor or the
// release is not there, else what is wrong with the vendor's role.
func (c *Client) Target(ctx context.Context, now time.Time, product, version string) (release.Release, error) {
	r, err := c.target(ctx, now, product, version)
	if err != nil {
		return release.Release{}, fmt.Errorf("release %s %s: %w", product, version, err)
	}
	return r, nil
}

func (c *Client) target(ctx context.Context, now time.Time, product, version string) (release.Release, error) {
	vendor, _, err := release.SplitProduct(product)
	if err != nil {
		return release.Release{}, err
	}
	path := release.Target(product, version)
	v := c.view.Load()
	if err := v.fresh(now); err != nil {
		return release.Release{}, err
	}
	m := v.set.vendors[vendor]
	if m == nil {
		if m, err = c.fetchVendor(ctx, now, vendor, path); err != nil {
			return release.Release{}, err
		}
	}
	if m.Signed.IsExpired(now) {
		return release.Release{}, expired(vendor, m.Signed.Version, m.Signed.Expires)
	}
	t := m.Signed.Targets[path]
	if t == nil {
		return release.Release{}, fmt.Errorf("%s version %d does not list it: %w", vendor, m.Signed.Version, ErrNotFound)
	}
	return releaseOf(path, t)
}

// Download streams the release's artifact into w. If it is not exactly what was
// signed the error wraps ErrDigest or ErrTooLarge, and what w got is worthless.
func (c *Client) Download(ctx context.Context, r release.Release, w io.Writer) error {
	if err := release.CheckDigest(r.Digest); err != nil {
		return err
	}
	path := TargetFile(release.Target(r.Product, r.Version), r.Digest)
	body, err := c.fetcher.Open(ctx, path)
	if err != nil {
		return fmt.Errorf("download %s %s: %w", r.Product, r.Version, err)
	}
	defer body.Close()
	return VerifyArtifact(io.TeeReader(body, w), r)
}

// VerifyArtifact reads r to its end, or one byte beyond the signed length, and
// compares length and SHA-256. Errors wrap ErrDigest or ErrTooLarge.
func VerifyArtifact(r io.Reader, rel release.Release) error { return verify(sha256.New(), 0, r, rel) }

// verify is VerifyArtifact for the rest of an artifact whose first n bytes h has.
func verify(h hash.Hash, n int64, r io.Reader, rel release.Release) error {
	m, err := io.Copy(h, io.LimitReader(r, rel.Length-n))
	if n += m; err != nil {
		return fmt.Errorf("artifact of %s %s after %d of %d bytes: %w", rel.Product, rel.Version, n, rel.Length, err)
	}
	if n < rel.Length {
		return fmt.Errorf("artifact of %s %s: %d bytes, signed are %d: %w", rel.Product, rel.Version, n, rel.Length, ErrDigest)
	}
	if m, _ := io.ReadFull(r, make([]byte, 1)); m > 0 {
		return fmt.Errorf("artifact of %s %s: more than the signed %d bytes: %w", rel.Product, rel.Version, rel.Length, ErrTooLarge)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != rel.Digest {
		return fmt.Errorf("artifact of %s %s: digest %s, signed is %s: %w", rel.Product, rel.Version, got, rel.Digest, ErrDigest)
	}
	return nil
}
