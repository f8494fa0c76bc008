package tuf

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

// world is operators, two vendors, a server and its public files.
type world struct {
	t       testing.TB
	now     time.Time
	ops     []*Key
	vendors map[string][]*Key
	online  struct{ timestamp, snapshot, rollout *Key }
	repo    Repo
	files   memory

	plans, releases int
}

// memory serves files, as a CDN would.
type memory map[string][]byte

func (m memory) Fetch(_ context.Context, path string, limit int64, etag string) ([]byte, string, error) {
	b, ok := m[path]
	if !ok {
		return nil, "", fmt.Errorf("fetch %s: %w", path, ErrNotFound)
	}
	if int64(len(b)) > limit {
		return nil, "", fmt.Errorf("fetch %s: %w", path, ErrTooLarge)
	}
	sum := sha256.Sum256(b)
	tag := hex.EncodeToString(sum[:8])
	if tag == etag {
		return nil, "", fmt.Errorf("fetch %s: %w", path, ErrNotModified)
	}
	return b, tag, nil
}

func (m memory) Open(_ context.Context, path string) (io.ReadCloser, error) {
	b, ok := m[path]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", path, ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func newKey(t testing.TB) *Key {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(keys ...*Key) []PublicKey {
	var out []PublicKey
	for _, k := range keys {
		out = append(out, k.Public())
	}
	return out
}

// newWorld has root and targets in force, vendors acme (2 of 3) and zeta (1 of 1)
// with one release each, and plan 1.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: start, vendors: map[string][]*Key{}, files: memory{}}
	w.ops = []*Key{newKey(t), newKey(t), newKey(t)}
	w.vendors["acme"] = []*Key{newKey(t), newKey(t), newKey(t)}
	w.vendors["zeta"] = []*Key{newKey(t)}
	w.online.timestamp, w.online.snapshot, w.online.rollout = newKey(t), newKey(t), newKey(t)
	w.repo = Repo{Life: DefaultLife, Online: Online{w.online.timestamp, w.online.snapshot, w.online.rollout}}
	root := w.must(NewRoot(w.spec()))
	w.apply(w.repo.SetRoot(w.sign(root, w.ops[:2]...), w.now))
	targets := w.must(NewTargets(w.online.rollout.Public(), w.now.Add(year)))
	targets = w.must(AddVendor(targets, Vendor{"acme", public(w.vendors["acme"]...), 2}, time.Time{}))
	targets = w.must(AddVendor(targets, Vendor{"zeta", public(w.vendors["zeta"]...), 1}, time.Time{}))
	w.apply(w.repo.SetTargets(w.sign(targets, w.ops[1:]...), w.now))
	w.release("acme/sensor", "1.0.0")
	w.release("zeta/rules", "1.0.0")
	w.plan(1)
	return w
}

func (w *world) spec() RootSpec {
	return RootSpec{
		Operators: public(w.ops...), Threshold: 2, Expires: w.now.Add(year),
		Snapshot: w.online.snapshot.Public(), Timestamp: w.online.timestamp.Public(),
	}
}

func (w *world) must(b []byte, err error) []byte {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) sign(b []byte, keys ...*Key) []byte {
	w.t.Helper()
	for _, k := range keys {
		b = w.must(Sign(b, k))
	}
	return b
}

// apply stores a change, as the server's store does.
func (w *world) apply(c Change, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	for path, b := range c.Files {
		if old, ok := w.files[path]; ok && path != "timestamp.json" && !bytes.Equal(old, b) {
			w.t.Fatalf("%s changed its content", path)
		}
		w.files[path] = b
	}
	w.repo.State = w.repo.State.With(c)
}

func artifactOf(product, version string) []byte {
	return []byte("artifact of " + product + " " + version)
}

func releaseFor(product, version string) release.Release {
	b := artifactOf(product, version)
	sum := sha256.Sum256(b)
	return release.Release{Product: product, Version: version, Digest: hex.EncodeToString(sum[:]), Length: int64(len(b)),
		Custom: release.Custom{Floor: span.Duration(time.Hour)}}
}

// signedRelease is the vendor's next metadata with a release, fully signed.
func (w *world) signedRelease(product, version string) (vendor string, meta []byte) {
	w.t.Helper()
	vendor, _, err := release.SplitProduct(product)
	if err != nil {
		w.t.Fatal(err)
	}
	meta = w.must(AddRelease(vendor, w.repo.State[vendor], releaseFor(product, version), 3, w.now.Add(year)))
	keys := w.vendors[vendor]
	return vendor, w.sign(meta, keys[:min(2, len(keys))]...)
}

func (w *world) release(product, version string) {
	w.t.Helper()
	r := releaseFor(product, version)
	w.files[TargetFile(release.Target(product, version), r.Digest)] = artifactOf(product, version)
	vendor, meta := w.signedRelease(product, version)
	w.apply(w.repo.SetVendor(vendor, meta, w.now))
}

func planBytes(t testing.TB, version int64) []byte {
	t.Helper()
	b, err := json.Marshal(release.Plan{
		Schema: "headgate.plan/1", Version: version, Issued: start,
		Poll: span.Duration(time.Minute), Beacon: span.Duration(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) plan(version int64) {
	w.t.Helper()
	w.plans = int(version)
	w.apply(w.repo.SetPlan(planBytes(w.t, version), w.now))
}

// fork is the same world with its own files and state, for what happens only to
// some endpoints.
func (w *world) fork() *world {
	f := *w
	f.files = maps.Clone(w.files)
	f.repo.State = maps.Clone(w.repo.State)
	f.vendors = maps.Clone(w.vendors)
	f.ops = slices.Clone(w.ops)
	return &f
}

func (w *world) firstRoot() []byte { return w.files["1.root.json"] }

// client enrols an endpoint; it has fetched nothing.
func (w *world) client(dir string) *Client {
	w.t.Helper()
	c, err := Open(dir, w.firstRoot(), w.files)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// refresh points the client at this world's files and refreshes it.
func (w *world) refresh(c *Client) (bool, error) {
	c.fetcher = w.files
	return c.Refresh(context.Background(), w.now)
}

func (w *world) mustRefresh(c *Client) bool {
	w.t.Helper()
	changed, err := w.refresh(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return changed
}

func (w *world) target(c *Client, product, version string) (release.Release, error) {
	c.fetcher = w.files
	return c.Target(context.Background(), w.now, product, version)
}

func wantPlan(t testing.TB, c *Client, version int64) {
	t.Helper()
	p, err := c.Plan()
	if err != nil || p.Version != version {
		t.Errorf("plan %d, %v; want plan %d", p.Version, err, version)
	}
}

func wantError(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v; want %v", what, got, want)
	}
}
