package tuf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/headgate/headgate/release"
)

// SetRoot takes root version 1 of an empty repository, afterwards exactly the
// next version, signed by the old and the new threshold (TUF 5.3.4). Its snapshot
// and timestamp keys must be the server's. The same bytes again change nothing.
//
// A root that no longer trusts the targets in force is refused: see
// SetRootAndTargets.
func (r Repo) SetRoot(root []byte, now time.Time) (Change, error) {
	return r.setRoot(root, nil, now)
}

// SetRootAndTargets takes the next root and, in the same step, the next targets
// signed by the new root's operators: so the operators' keys change without a
// moment at which endpoints see targets that the root does not trust. Where they
// name the server's next online keys, the rest is signed with those at once.
func (r Repo) SetRootAndTargets(root, targets []byte, now time.Time) (Change, error) {
	return r.setRoot(root, targets, now)
}

func (r Repo) setRoot(root, targets []byte, now time.Time) (Change, error) {
	if bytes.Equal(root, r.State[Root]) && (targets == nil || bytes.Equal(targets, r.State[Targets])) {
		return Change{}, nil
	}
	m, err := decode[metadata.RootType](Root, root)
	if err != nil {
		return Change{}, fmt.Errorf("set root: %w", err)
	}
	if err := r.checkRoot(m, now); err != nil {
		return Change{}, fmt.Errorf("set root: %w", err)
	}
	next := r
	next.State = r.State.With(r.start(Root, m.Signed.Version, root))
	c := r.start(Root, m.Signed.Version, root)
	if targets != nil {
		t, err := next.checkTargets(targets, now)
		if err != nil {
			return Change{}, fmt.Errorf("set root and targets: %w", err)
		}
		r.put(&c, Targets, t.Signed.Version, targets)
	} else if r.State[Targets] != nil {
		t, err := decode[metadata.TargetsType](Targets, r.State[Targets])
		if err != nil {
			return Change{}, fmt.Errorf("set root: targets in force: %w", err)
		}
		if err := m.VerifyDelegate(Targets, t); err != nil {
			return Change{}, fmt.Errorf("set root: endpoints would refuse the targets in force; send targets signed by the new keys along: %w", refuse(Targets, t.Signed.Version, ErrRollback, err))
		}
	}
	if targets == nil && r.State[Targets] == nil {
		return c, nil
	}
	return next.seal(c, now)
}

// checkRoot verifies an offered root.
func (r Repo) checkRoot(m *metadata.Metadata[metadata.RootType], now time.Time) error {
	version := m.Signed.Version
	want := r.State.Version(Root) + 1
	if version != want {
		return fmt.Errorf("root version %d, want %d: %w", version, want, ErrRollback)
	}
	if r.State[Root] != nil {
		old, err := decode[metadata.RootType](Root, r.State[Root])
		if err != nil {
			return fmt.Errorf("root in force: %w", err)
		}
		if err := old.VerifyDelegate(Root, m); err != nil {
			return fmt.Errorf("by the keys of version %d: %w", want-1, refuse(Root, version, ErrRollback, err))
		}
	}
	if err := m.VerifyDelegate(Root, m); err != nil {
		return refuse(Root, version, ErrRollback, err)
	}
	if m.Signed.IsExpired(now) {
		return expired(Root, version, m.Signed.Expires)
	}
	for _, role := range []string{Snapshot, Timestamp} {
		if err := r.soleKey(role, m.Signed.Roles[role].KeyIDs); err != nil {
			return fmt.Errorf("root version %d: %w", version, err)
		}
	}
	for _, role := range []string{Root, Targets} {
		if err := r.noOnline(role, m.Signed.Roles[role].KeyIDs); err != nil {
			return fmt.Errorf("root version %d: %w", version, err)
		}
	}
	return nil
}

// SetTargets takes exactly the next version of targets, signed by the root's
// threshold. It must delegate plan/* to the server's rollout key, else only to
// vendors, each for its own paths, and list no file itself. A vendor whose
// metadata in force is not signed by its new keys stays listed; endpoints refuse
// it until SetVendor brings the next. The same bytes again change nothing.
func (r Repo) SetTargets(targets []byte, now time.Time) (Change, error) {
	if bytes.Equal(targets, r.State[Targets]) {
		return Change{}, nil
	}
	t, err := r.checkTargets(targets, now)
	if err != nil {
		return Change{}, fmt.Errorf("set targets: %w", err)
	}
	return r.seal(r.start(Targets, t.Signed.Version, targets), now)
}

// checkTargets verifies offered targets.
func (r Repo) checkTargets(targets []byte, now time.Time) (*metadata.Metadata[metadata.TargetsType], error) {
	if r.State[Root] == nil {
		return nil, fmt.Errorf("targets before root: %w", ErrNotFound)
	}
	root, err := decode[metadata.RootType](Root, r.State[Root])
	if err != nil {
		return nil, err
	}
	m, err := decode[metadata.TargetsType](Targets, targets)
	if err != nil {
		return nil, err
	}
	if want := r.State.Version(Targets) + 1; m.Signed.Version != want {
		return nil, fmt.Errorf("targets version %d, want %d: %w", m.Signed.Version, want, ErrRollback)
	}
	if err := root.VerifyDelegate(Targets, m); err != nil {
		return nil, refuse(Targets, m.Signed.Version, ErrRollback, err)
	}
	if m.Signed.IsExpired(now) {
		return nil, expired(Targets, m.Signed.Version, m.Signed.Expires)
	}
	if err := r.checkDelegations(m); err != nil {
		return nil, fmt.Errorf("targets version %d: %w", m.Signed.Version, err)
	}
	return m, nil
}

func (r Repo) checkDelegations(m *metadata.Metadata[metadata.TargetsType]) error {
	if n := len(m.Signed.Targets); n > 0 {
		return fmt.Errorf("%d files listed, but files are the vendors' to sign: %w", n, ErrForeign)
	}
	rollout := delegated(m, Rollout)
	if rollout == nil {
		return fmt.Errorf("no delegation to role rollout: %w", ErrMalformed)
	}
	if err := r.soleKey(Rollout, rollout.KeyIDs); err != nil {
		return err
	}
	for _, d := range m.Signed.Delegations.Roles {
		paths := vendorPaths(d.Name)
		if d.Name == Rollout {
			paths = []string{"plan/*"}
		} else if err := r.noOnline(d.Name, d.KeyIDs); err != nil {
			return err
		}
		if !slices.Equal(d.Paths, paths) || len(d.PathHashPrefixes) > 0 || !d.Terminating {
			return fmt.Errorf("role %s: paths %q, terminating %v, want %q and true: %w", d.Name, d.Paths, d.Terminating, paths, ErrForeign)
		}
	}
	return nil
}

// SetVendor takes exactly the next version of a vendor's metadata, signed by the
// threshold that targets gives it. It may list releases of that vendor only,
// delegates nothing, and a version keeps its artifact for ever. The same bytes
// again change nothing.
func (r Repo) SetVendor(vendor string, meta []byte, now time.Time) (Change, error) {
	if err := release.CheckVendor(vendor); err != nil {
		return Change{}, fmt.Errorf("set vendor: %w", err)
	}
	if meta != nil && bytes.Equal(meta, r.State[vendor]) {
		return Change{}, nil
	}
	m, err := r.checkVendor(vendor, meta, now)
	if err != nil {
		return Change{}, fmt.Errorf("set vendor %s: %w", vendor, err)
	}
	return r.seal(r.start(vendor, m.Signed.Version, meta), now)
}

func (r Repo) checkVendor(vendor string, meta []byte, now time.Time) (*metadata.Metadata[metadata.TargetsType], error) {
	if r.State[Targets] == nil {
		return nil, fmt.Errorf("no targets in force: %w", ErrNotFound)
	}
	targets, err := decode[metadata.TargetsType](Targets, r.State[Targets])
	if err != nil {
		return nil, err
	}
	if delegated(targets, vendor) == nil {
		return nil, fmt.Errorf("targets version %d delegates nothing to it: %w", targets.Signed.Version, ErrNotFound)
	}
	m, err := decode[metadata.TargetsType](vendor, meta)
	if err != nil {
		return nil, err
	}
	version := m.Signed.Version
	if want := r.State.Version(vendor) + 1; version != want {
		return nil, fmt.Errorf("%s version %d, want %d: %w", vendor, version, want, ErrRollback)
	}
	if err := targets.VerifyDelegate(vendor, m); err != nil {
		return nil, refuse(vendor, version, ErrRollback, err)
	}
	if m.Signed.IsExpired(now) {
		return nil, expired(vendor, version, m.Signed.Expires)
	}
	offered, err := checkVendorPaths(vendor, meta)
	if err != nil {
		return nil, fmt.Errorf("%s version %d: %w", vendor, version, err)
	}
	return m, r.sameArtifacts(vendor, offered)
}

// sameArtifacts refuses a release whose artifact is not the one in force.
func (r Repo) sameArtifacts(vendor string, offered []release.Release) error {
	if r.State[vendor] == nil {
		return nil
	}
	inForce, err := Releases(r.State[vendor])
	if err != nil {
		return fmt.Errorf("in force: %w", err)
	}
	for _, old := range inForce {
		for _, n := range offered {
			if n.Product == old.Product && n.Version == old.Version && n.Digest != old.Digest {
				return fmt.Errorf("%s %s: digest %s, in force is %s; a changed artifact needs a new version: %w", n.Product, n.Version, n.Digest, old.Digest, ErrRollback)
			}
		}
	}
	return nil
}

// checkVendorPaths refuses files that are not the vendor's, and delegations.
func checkVendorPaths(vendor string, meta []byte) ([]release.Release, error) {
	m, err := decode[metadata.TargetsType](vendor, meta)
	if err != nil {
		return nil, err
	}
	if m.Signed.Delegations != nil {
		return nil, fmt.Errorf("vendor %s delegates further: %w", vendor, ErrForeign)
	}
	for path, t := range m.Signed.Targets {
		r, err := releaseOf(path, t)
		if err != nil {
			return nil, err
		}
		if owner, _, _ := release.SplitProduct(r.Product); owner != vendor {
			return nil, fmt.Errorf("vendor %s lists %s: %w", vendor, path, ErrForeign)
		}
	}
	return Releases(meta)
}

// SetPlan signs a plan and makes it the one in force. The same bytes again change
// nothing.
func (r Repo) SetPlan(plan []byte, now time.Time) (Change, error) {
	if _, err := release.ParsePlan(plan); err != nil {
		return Change{}, fmt.Errorf("set plan: %w", err)
	}
	if r.State[Targets] == nil {
		return Change{}, fmt.Errorf("set plan: no targets in force: %w", ErrNotFound)
	}
	old, err := r.planFile()
	if err != nil {
		return Change{}, fmt.Errorf("set plan: %w", err)
	}
	sum := sha256.Sum256(plan)
	digest := hex.EncodeToString(sum[:])
	path := TargetFile(release.PlanTarget, digest)
	if path == old {
		return Change{}, nil
	}
	target := &metadata.TargetFiles{Length: int64(len(plan)), Hashes: metadata.Hashes{"sha256": sum[:]}}
	c := Change{Files: map[string][]byte{path: plan}, Latest: map[string]string{}}
	if old != "" {
		c.Superseded = append(c.Superseded, old)
	}
	if err := r.signRollout(&c, map[string]*metadata.TargetFiles{release.PlanTarget: target}, now); err != nil {
		return Change{}, fmt.Errorf("set plan: %w", err)
	}
	return r.seal(c, now)
}

// planFile is the path of the plan in force; empty is none.
func (r Repo) planFile() (string, error) {
	if r.State[Rollout] == nil {
		return "", nil
	}
	m, err := decode[metadata.TargetsType](Rollout, r.State[Rollout])
	if err != nil {
		return "", err
	}
	t := m.Signed.Targets[release.PlanTarget]
	if t == nil {
		return "", nil
	}
	return TargetFile(release.PlanTarget, t.Hashes["sha256"].String()), nil
}

// Renew signs afresh what is past half of its life: timestamp alone, or rollout
// and snapshot with it. ok is false when nothing is due.
func (r Repo) Renew(now time.Time) (c Change, ok bool, err error) {
	if r.State[Timestamp] == nil {
		return Change{}, false, nil
	}
	c = Change{Files: map[string][]byte{}, Latest: map[string]string{}}
	if r.State.expiresBefore(Rollout, now.Add(r.Life.Rollout/2)) {
		m, err := decode[metadata.TargetsType](Rollout, r.State[Rollout])
		if err != nil {
			return Change{}, false, fmt.Errorf("renew: %w", err)
		}
		if err := r.signRollout(&c, maps.Clone(m.Signed.Targets), now); err != nil {
			return Change{}, false, fmt.Errorf("renew: %w", err)
		}
	}
	if len(c.Files) > 0 || r.State.expiresBefore(Snapshot, now.Add(r.Life.Snapshot/2)) {
		c, err = r.seal(c, now)
		return c, err == nil, err
	}
	if !r.State.expiresBefore(Timestamp, now.Add(r.Life.Timestamp/2)) {
		return Change{}, false, nil
	}
	if err := r.signTimestamp(&c, now); err != nil {
		return Change{}, false, fmt.Errorf("renew: %w", err)
	}
	return c, true, nil
}

func expired(role string, version int64, at time.Time) error {
	kind := ErrExpired
	if role == Timestamp {
		kind = ErrFrozen
	}
	return fmt.Errorf("%s version %d expired at %s: %w", role, version, at.UTC().Format(time.RFC3339), kind)
}
