package tuf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/headgate/headgate/release"
)

// maxRotations bounds the roots walked in one refresh.
const maxRotations = 256

// Refresh brings the metadata up to date (TUF 5.3 to 5.6) and says whether the
// plan, the delegations or any release may have changed. After an error the last
// verified state stays in force.
//
// Nothing new costs one conditional request for timestamp.json. That the root is
// then not asked for is no loss: every new root comes with a new timestamp, and an
// attacker who can hide that can hide the root as well, for as long as the
// timestamp lives.
func (c *Client) Refresh(ctx context.Context, now time.Time) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed, err = c.refresh(ctx, now)
	if err != nil {
		return false, fmt.Errorf("refresh: %w", err)
	}
	return changed, nil
}

func (c *Client) refresh(ctx context.Context, now time.Time) (bool, error) {
	v := c.view.Load()
	// After a broken-off refresh the old timestamp is no longer an answer.
	settled := v.fresh(now) == nil && bytes.Equal(v.trust.Seen.Timestamp, v.trust.Set.Timestamp)
	etag := ""
	if settled {
		etag = v.trust.Set.ETag
	}
	body, newETag, err := c.fetcher.Fetch(ctx, MetaFile(Timestamp, 0), MaxTimestamp, etag)
	if errors.Is(err, ErrNotModified) && etag != "" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if settled && bytes.Equal(body, v.trust.Set.Timestamp) {
		return false, nil
	}
	r := &refresher{c: c, now: now, old: v, trust: v.trust}
	if r.tm, err = trustedSet(v.trust.Root, now); err != nil {
		return false, err
	}
	if err := r.roots(ctx); err != nil {
		return false, errors.Join(err, r.note())
	}
	if r.tm.Root.Signed.Version != v.root.Signed.Version {
		// The timestamp at hand may be from before the new root.
		if body, newETag, err = c.fetcher.Fetch(ctx, MetaFile(Timestamp, 0), MaxTimestamp, ""); err != nil {
			return false, errors.Join(err, r.note())
		}
	}
	if err := r.timestamp(body); err != nil {
		return false, errors.Join(err, r.note())
	}
	if err := r.note(); err != nil {
		return false, err
	}
	return r.rest(ctx, newETag)
}

// refresher carries one refresh.
type refresher struct {
	c     *Client
	now   time.Time
	old   *view
	trust trust // what will be kept
	tm    *trustedmetadata.TrustedMetadata
}

// roots walks from the trusted root to the newest (TUF 5.3).
func (r *refresher) roots(ctx context.Context) error {
	for range maxRotations {
		next := r.tm.Root.Signed.Version + 1
		b, _, err := r.c.fetcher.Fetch(ctx, MetaFile(Root, next), MaxRoot, "")
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return err
		}
		if _, err := decode[metadata.RootType](Root, b); err != nil {
			return fmt.Errorf("%s: %w", MetaFile(Root, next), err)
		}
		if _, err := r.tm.UpdateRoot(b); err != nil {
			return refuse(Root, next, ErrRollback, err)
		}
		r.trust.Root = b
	}
	// Whoever stole online keys may have signed the highest versions there are;
	// with new keys what they signed guards nothing any more (TUF 5.3.11).
	for _, role := range []string{Timestamp, Snapshot} {
		if !slices.Equal(r.old.root.Signed.Roles[role].KeyIDs, r.tm.Root.Signed.Roles[role].KeyIDs) {
			r.trust.Seen = seenFiles{}
		}
	}
	if root := r.tm.Root; root.Signed.IsExpired(r.now) {
		return expired(Root, root.Signed.Version, root.Signed.Expires)
	}
	return nil
}

// timestamp verifies b as the newest timestamp (TUF 5.4).
func (r *refresher) timestamp(b []byte) error {
	m, err := decode[metadata.TimestampType](Timestamp, b)
	if err != nil {
		return err
	}
	if seen := r.trust.Seen.Timestamp; seen != nil {
		if _, err := decode[metadata.TimestampType](Timestamp, seen); err == nil {
			// One that the root no longer trusts is not loaded: so a repository
			// recovers from stolen keys that signed a far version (TUF 5.3.11). An
			// expired one is, and guards against rollback.
			_, _ = r.tm.UpdateTimestamp(seen)
		}
	}
	_, err = r.tm.UpdateTimestamp(b)
	var equal *metadata.ErrEqualVersionNumber
	if errors.As(err, &equal) {
		if !bytes.Equal(b, r.trust.Seen.Timestamp) {
			return fmt.Errorf("timestamp version %d: another one of this version was seen before: %w", m.Signed.Version, ErrRollback)
		}
		if r.tm.Timestamp.Signed.IsExpired(r.now) {
			return expired(Timestamp, m.Signed.Version, m.Signed.Expires)
		}
		return nil
	}
	if err != nil {
		return refuse(Timestamp, m.Signed.Version, ErrRollback, err)
	}
	r.trust.Seen.Timestamp = b
	return nil
}

// note keeps what a broken-off refresh has learned: the newer root, and the newer
// timestamp and snapshot as guards.
func (r *refresher) note() error {
	v := r.c.view.Load()
	if bytes.Equal(v.trust.Root, r.trust.Root) &&
		bytes.Equal(v.trust.Seen.Timestamp, r.trust.Seen.Timestamp) &&
		bytes.Equal(v.trust.Seen.Snapshot, r.trust.Seen.Snapshot) {
		return nil
	}
	next := *v
	next.trust.Root, next.trust.Seen = r.trust.Root, r.trust.Seen
	next.root = r.tm.Root
	return r.c.keep(&next)
}

// rest brings snapshot, targets, rollout and plan (TUF 5.5, 5.6) and keeps the
// whole.
func (r *refresher) rest(ctx context.Context, etag string) (bool, error) {
	if err := r.snapshot(ctx); err != nil {
		return false, err
	}
	if err := r.note(); err != nil {
		return false, err
	}
	files := setFiles{Root: r.trust.Root, ETag: etag, Timestamp: r.trust.Seen.Timestamp, Snapshot: r.trust.Seen.Snapshot}
	var err error
	if files.Targets, err = r.targets(ctx, Targets, Root, r.old.trust.Set.Targets); err != nil {
		return false, err
	}
	if files.Rollout, err = r.targets(ctx, Rollout, Targets, r.old.trust.Set.Rollout); err != nil {
		return false, err
	}
	var plan *release.Plan
	if files.Plan, plan, err = r.plan(ctx); err != nil {
		return false, err
	}
	files.Vendors = r.vendors()
	old := r.old.trust.Set
	r.trust.Set = files
	changed := r.old.set == nil || !bytes.Equal(old.Plan, files.Plan) || news(r.old.set.snapshot, r.tm.Snapshot)
	return changed, r.c.keep(&view{trust: r.trust, root: r.tm.Root, set: setOf(r.tm, plan)})
}

// news tells whether targets or a vendor changed. The rollout role is renewed
// without anything new; its content, the plan, is compared by itself.
func news(old, now *metadata.Metadata[metadata.SnapshotType]) bool {
	for name, m := range now.Signed.Meta {
		if was := old.Signed.Meta[name]; name != Rollout+".json" && (was == nil || was.Version != m.Version) {
			return true
		}
	}
	return false
}

func (r *refresher) snapshot(ctx context.Context) error {
	want := r.tm.Timestamp.Signed.Meta["snapshot.json"]
	if seen := r.trust.Seen.Snapshot; seen != nil {
		err := updateSnapshot(r.tm, seen, true)
		if err == nil && want.VerifyLengthHashes(seen) == nil {
			return nil
		}
	}
	b, err := r.fetchMeta(ctx, Snapshot, want)
	if err != nil {
		return err
	}
	if err := updateSnapshot(r.tm, b, false); err != nil {
		return err
	}
	r.trust.Seen.Snapshot = b
	return nil
}

// updateSnapshot gives b to go-tuf's rules. stored skips the comparison with the
// timestamp, so that an older one can guard against rollback.
func updateSnapshot(tm *trustedmetadata.TrustedMetadata, b []byte, stored bool) error {
	m, err := decode[metadata.SnapshotType](Snapshot, b)
	if err != nil {
		return err
	}
	before := tm.Snapshot
	if _, err := tm.UpdateSnapshot(b, stored); err != nil {
		bad := ErrRollback
		if tm.Snapshot != before { // loaded, and then found not to be the timestamp's
			bad = ErrMixed
		}
		return refuse(Snapshot, m.Signed.Version, bad, err)
	}
	return nil
}

// targets loads a role from what is at hand if the snapshot still means it, else
// from the network.
func (r *refresher) targets(ctx context.Context, role, delegator string, have []byte) ([]byte, error) {
	want := r.tm.Snapshot.Signed.Meta[role+".json"]
	if want == nil {
		return nil, fmt.Errorf("%s: not in snapshot version %d: %w", role, r.tm.Snapshot.Signed.Version, ErrNotFound)
	}
	if have != nil && want.VerifyLengthHashes(have) == nil && updateTargets(r.tm, have, role, delegator) == nil {
		return have, nil
	}
	b, err := r.fetchMeta(ctx, role, want)
	if err != nil {
		return nil, err
	}
	return b, updateTargets(r.tm, b, role, delegator)
}

func updateTargets(tm *trustedmetadata.TrustedMetadata, b []byte, role, delegator string) error {
	m, err := decode[metadata.TargetsType](role, b)
	if err != nil {
		return err
	}
	if _, err := tm.UpdateDelegatedTargets(b, role, delegator); err != nil {
		return refuse(role, m.Signed.Version, ErrMixed, err)
	}
	return nil
}

func (r *refresher) fetchMeta(ctx context.Context, role string, want *metadata.MetaFiles) ([]byte, error) {
	limit := limitOf(role)
	if want.Length > limit {
		return nil, fmt.Errorf("%s version %d: %d bytes, limit %d: %w", role, want.Version, want.Length, limit, ErrTooLarge)
	}
	if want.Length > 0 {
		limit = want.Length
	}
	b, _, err := r.c.fetcher.Fetch(ctx, MetaFile(role, want.Version), limit, "")
	return b, err
}

func (r *refresher) plan(ctx context.Context) ([]byte, *release.Plan, error) {
	if !delegates(r.tm.Targets[Targets], Rollout, release.PlanTarget) {
		return nil, nil, fmt.Errorf("targets version %d does not leave the plan to role rollout: %w", r.tm.Targets[Targets].Signed.Version, ErrForeign)
	}
	rollout := r.tm.Targets[Rollout]
	t := rollout.Signed.Targets[release.PlanTarget]
	if t == nil {
		return nil, nil, nil
	}
	if have := r.old.trust.Set.Plan; have != nil && t.VerifyLengthHashes(have) == nil {
		p, err := planOf(rollout, have)
		return have, p, err
	}
	if t.Length > release.MaxPlan {
		return nil, nil, fmt.Errorf("plan of rollout version %d: %d bytes, limit %d: %w", rollout.Signed.Version, t.Length, release.MaxPlan, ErrTooLarge)
	}
	b, _, err := r.c.fetcher.Fetch(ctx, TargetFile(release.PlanTarget, t.Hashes["sha256"].String()), t.Length, "")
	if err != nil {
		return nil, nil, err
	}
	p, err := planOf(rollout, b)
	return b, p, err
}

// vendors keeps the vendors' roles that the new snapshot still means and the new
// targets still trusts; the others are fetched when somebody asks for a release.
func (r *refresher) vendors() map[string][]byte {
	kept := map[string][]byte{}
	for vendor, b := range r.old.trust.Set.Vendors {
		if updateTargets(r.tm, b, vendor, Targets) == nil {
			kept[vendor] = b
		}
	}
	return kept
}

// delegates tells whether a path is the role's: the first delegation that covers
// it, as any TUF client walks.
func delegates(targets *metadata.Metadata[metadata.TargetsType], role, path string) bool {
	if targets.Signed.Delegations == nil {
		return false
	}
	roles := targets.Signed.Delegations.GetRolesForTarget(path)
	return len(roles) > 0 && roles[0].Name == role
}

// fetchVendor loads a vendor's role of the set in force and keeps it.
func (c *Client) fetchVendor(ctx context.Context, now time.Time, vendor, path string) (*metadata.Metadata[metadata.TargetsType], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.view.Load()
	if err := v.fresh(now); err != nil {
		return nil, err
	}
	if m := v.set.vendors[vendor]; m != nil { // somebody was faster
		return m, nil
	}
	if !delegates(v.set.targets, vendor, path) {
		return nil, fmt.Errorf("targets version %d delegates nothing to vendor %s: %w", v.set.targets.Signed.Version, vendor, ErrNotFound)
	}
	tm, err := trustedSet(v.trust.Root, now)
	if err != nil {
		return nil, err
	}
	tm.Timestamp, tm.Snapshot = v.set.timestamp, v.set.snapshot
	tm.Targets[Targets] = v.set.targets
	r := &refresher{c: c, now: now, old: v, tm: tm}
	b, err := r.targets(ctx, vendor, Targets, nil)
	if err != nil {
		return nil, err
	}
	next := *v
	files := v.trust.Set
	files.Vendors = maps.Clone(files.Vendors)
	if files.Vendors == nil {
		files.Vendors = map[string][]byte{}
	}
	files.Vendors[vendor] = b
	next.trust.Set = files
	s := *v.set
	s.vendors = maps.Clone(s.vendors)
	s.vendors[vendor] = tm.Targets[vendor]
	next.set = &s
	return s.vendors[vendor], c.keep(&next)
}
