package tuf

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/headgate/headgate/release"
)

// RootSpec is what a root says. The operators' keys sign root and targets.
type RootSpec struct {
	Operators []PublicKey
	Threshold int // of operators' signatures; 2 is the least advisable
	Snapshot  PublicKey
	Timestamp PublicKey
	Expires   time.Time
}

// NewRoot makes root version 1, unsigned.
func NewRoot(spec RootSpec) ([]byte, error) {
	m := metadata.Root(second(spec.Expires))
	if err := setRoot(m, spec); err != nil {
		return nil, fmt.Errorf("new root: %w", err)
	}
	return encode(m)
}

// RotateRoot makes the next version of root, unsigned. What is zero in spec stays
// as it is in current. It must be signed by the threshold of the operators in
// current and by that of the new ones (TUF 5.3.4).
func RotateRoot(current []byte, spec RootSpec) ([]byte, error) {
	m, err := decode[metadata.RootType](Root, current)
	if err != nil {
		return nil, fmt.Errorf("rotate root: %w", err)
	}
	if spec, err = spec.over(m); err != nil {
		return nil, fmt.Errorf("rotate root: %w", err)
	}
	nextDraft(m, &m.Signed.Version)
	m.Signed.Expires = second(spec.Expires)
	if err := setRoot(m, spec); err != nil {
		return nil, fmt.Errorf("rotate root: %w", err)
	}
	return encode(m)
}

// over fills what is zero from m.
func (s RootSpec) over(m *metadata.Metadata[metadata.RootType]) (RootSpec, error) {
	old, err := rootSpec(m)
	if err != nil {
		return s, err
	}
	if len(s.Operators) == 0 {
		s.Operators = old.Operators
	}
	if s.Threshold == 0 {
		s.Threshold = old.Threshold
	}
	if s.Snapshot.IsZero() {
		s.Snapshot = old.Snapshot
	}
	if s.Timestamp.IsZero() {
		s.Timestamp = old.Timestamp
	}
	if s.Expires.IsZero() {
		s.Expires = old.Expires
	}
	return s, nil
}

// ReadRoot says what a root holds. It checks shape, no signature.
func ReadRoot(root []byte) (RootSpec, error) {
	m, err := decode[metadata.RootType](Root, root)
	if err != nil {
		return RootSpec{}, err
	}
	return rootSpec(m)
}

func rootSpec(m *metadata.Metadata[metadata.RootType]) (RootSpec, error) {
	s := RootSpec{Threshold: m.Signed.Roles[Root].Threshold, Expires: m.Signed.Expires}
	for _, id := range m.Signed.Roles[Root].KeyIDs {
		p, err := publicFrom(m.Signed.Keys[id])
		if err != nil {
			return s, err
		}
		s.Operators = append(s.Operators, p)
	}
	var err error
	if s.Snapshot, err = publicFrom(m.Signed.Keys[m.Signed.Roles[Snapshot].KeyIDs[0]]); err != nil {
		return s, err
	}
	s.Timestamp, err = publicFrom(m.Signed.Keys[m.Signed.Roles[Timestamp].KeyIDs[0]])
	return s, err
}

func setRoot(m *metadata.Metadata[metadata.RootType], spec RootSpec) error {
	ids, keys, err := keySet(spec.Operators, spec.Threshold)
	if err != nil {
		return fmt.Errorf("operators: %w", err)
	}
	if spec.Snapshot.IsZero() || spec.Timestamp.IsZero() {
		return fmt.Errorf("snapshot and timestamp each need a key: %w", ErrKey)
	}
	for _, p := range []PublicKey{spec.Snapshot, spec.Timestamp} {
		// The server holds these: it must not be able to sign a root.
		if slices.Contains(ids, p.ID()) {
			return fmt.Errorf("online key %s is also an operator's: %w", p.ID(), ErrKey)
		}
		keys[p.ID()] = p.tuf()
	}
	m.Signed.Keys = keys
	m.Signed.Roles = map[string]*metadata.Role{
		Root:      {KeyIDs: ids, Threshold: spec.Threshold},
		Targets:   {KeyIDs: slices.Clone(ids), Threshold: spec.Threshold},
		Snapshot:  {KeyIDs: []string{spec.Snapshot.ID()}, Threshold: 1},
		Timestamp: {KeyIDs: []string{spec.Timestamp.ID()}, Threshold: 1},
	}
	return nil
}

// keySet checks a role's keys and threshold.
func keySet(public []PublicKey, threshold int) ([]string, map[string]*metadata.Key, error) {
	ids, keys := []string{}, map[string]*metadata.Key{}
	for _, p := range public {
		if p.IsZero() || keys[p.ID()] != nil {
			return nil, nil, fmt.Errorf("key %q is empty or listed twice: %w", p.ID(), ErrKey)
		}
		ids = append(ids, p.ID())
		keys[p.ID()] = p.tuf()
	}
	if threshold < 1 || threshold > len(ids) {
		return nil, nil, fmt.Errorf("threshold %d of %d keys: %w", threshold, len(ids), ErrKey)
	}
	return ids, keys, nil
}

// NewTargets makes targets version 1, unsigned, which delegates plan/* to the
// server's rollout key and nothing to anybody else yet.
func NewTargets(rollout PublicKey, expires time.Time) ([]byte, error) {
	m := metadata.Targets(second(expires))
	m.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
	if err := delegate(m, Vendor{Name: Rollout, Keys: []PublicKey{rollout}, Threshold: 1}, []string{"plan/*"}); err != nil {
		return nil, fmt.Errorf("new targets: %w", err)
	}
	return encode(m)
}

// Vendor is a delegation.
type Vendor struct {
	Name      string
	Keys      []PublicKey
	Threshold int
}

// AddVendor makes targets with a vendor's delegation, unsigned. For a vendor that
// is there already it replaces keys and threshold: that is rotation. Until the
// vendor has signed its metadata with the new keys, endpoints refuse its releases
// (what runs, runs on); to avoid the gap, list old and new keys first. A zero
// expires keeps the expiry.
func AddVendor(targets []byte, v Vendor, expires time.Time) ([]byte, error) {
	if err := release.CheckVendor(v.Name); err != nil {
		return nil, fmt.Errorf("add vendor: %w", err)
	}
	return editTargets(targets, expires, func(m *metadata.Metadata[metadata.TargetsType]) error {
		return delegate(m, v, vendorPaths(v.Name))
	})
}

// RemoveVendor makes targets without a vendor's delegation, unsigned.
func RemoveVendor(targets []byte, name string, expires time.Time) ([]byte, error) {
	return editTargets(targets, expires, func(m *metadata.Metadata[metadata.TargetsType]) error {
		if name == Rollout || delegated(m, name) == nil {
			return fmt.Errorf("remove vendor %s: %w", name, ErrNotFound)
		}
		d := m.Signed.Delegations
		d.Roles = slices.DeleteFunc(d.Roles, func(r metadata.DelegatedRole) bool { return r.Name == name })
		dropUnused(d)
		return nil
	})
}

// RotateRollout makes targets with another rollout key, unsigned.
func RotateRollout(targets []byte, rollout PublicKey, expires time.Time) ([]byte, error) {
	return editTargets(targets, expires, func(m *metadata.Metadata[metadata.TargetsType]) error {
		return delegate(m, Vendor{Name: Rollout, Keys: []PublicKey{rollout}, Threshold: 1}, []string{"plan/*"})
	})
}

// RenewTargets makes targets, or a vendor's metadata, with a later expiry,
// unsigned.
func RenewTargets(meta []byte, expires time.Time) ([]byte, error) {
	return editTargets(meta, expires, func(*metadata.Metadata[metadata.TargetsType]) error { return nil })
}

// Vendors lists the vendors that targets delegates to, in its order. It checks
// shape, no signature.
func Vendors(targets []byte) ([]Vendor, error) {
	m, err := decode[metadata.TargetsType](Targets, targets)
	if err != nil || m.Signed.Delegations == nil {
		return nil, err
	}
	var out []Vendor
	for _, r := range m.Signed.Delegations.Roles {
		if r.Name == Rollout {
			continue
		}
		v := Vendor{Name: r.Name, Threshold: r.Threshold}
		for _, id := range r.KeyIDs {
			p, err := publicFrom(m.Signed.Delegations.Keys[id])
			if err != nil {
				return nil, err
			}
			v.Keys = append(v.Keys, p)
		}
		out = append(out, v)
	}
	return out, nil
}

// vendorPaths is what a vendor may speak about; a TUF glob's * stays within one
// part of a path.
func vendorPaths(name string) []string { return []string{name + "/*/*/*"} }

// delegate adds or replaces a role's delegation.
func delegate(m *metadata.Metadata[metadata.TargetsType], v Vendor, paths []string) error {
	ids, keys, err := keySet(v.Keys, v.Threshold)
	if err != nil {
		return fmt.Errorf("role %s: %w", v.Name, err)
	}
	d := m.Signed.Delegations
	if d == nil {
		return fmt.Errorf("targets version %d delegates nothing, not even rollout: %w", m.Signed.Version, ErrMalformed)
	}
	role := metadata.DelegatedRole{Name: v.Name, KeyIDs: ids, Threshold: v.Threshold, Terminating: true, Paths: paths}
	if at := delegated(m, v.Name); at != nil {
		*at = role
	} else {
		d.Roles = append(d.Roles, role)
	}
	maps.Copy(d.Keys, keys)
	dropUnused(d)
	return nil
}

func dropUnused(d *metadata.Delegations) {
	maps.DeleteFunc(d.Keys, func(id string, _ *metadata.Key) bool {
		return !slices.ContainsFunc(d.Roles, func(r metadata.DelegatedRole) bool { return slices.Contains(r.KeyIDs, id) })
	})
}

// AddRelease makes the vendor's metadata with one more release, unsigned; current
// is nil for the vendor's first. Of the product's releases the newest keep stay
// (the new one always; keep below 1 keeps all), so that the role stays small. A
// version that is there already with another artifact is refused: versions do not
// change their content.
func AddRelease(vendor string, current []byte, r release.Release, keep int, expires time.Time) ([]byte, error) {
	if err := checkRelease(vendor, r); err != nil {
		return nil, fmt.Errorf("add release: %w", err)
	}
	if current == nil {
		first, err := encode(metadata.Targets(second(expires)))
		if err != nil {
			return nil, err
		}
		current = first
	}
	if _, err := checkVendorPaths(vendor, current); err != nil {
		return nil, fmt.Errorf("add release: %w", err)
	}
	return editTargets(current, expires, func(m *metadata.Metadata[metadata.TargetsType]) error {
		return addRelease(m, r, keep)
	})
}

func addRelease(m *metadata.Metadata[metadata.TargetsType], r release.Release, keep int) error {
	path := release.Target(r.Product, r.Version)
	digest, err := hex.DecodeString(r.Digest)
	if err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	custom, err := json.Marshal(r.Custom)
	if err != nil {
		return fmt.Errorf("custom: %w", err)
	}
	if old := m.Signed.Targets[path]; old != nil && old.Hashes["sha256"].String() != r.Digest {
		return fmt.Errorf("%s is there with digest %s; a changed artifact needs a new version: %w", path, old.Hashes["sha256"], ErrRollback)
	}
	m.Signed.Targets[path] = &metadata.TargetFiles{
		Length: r.Length,
		Hashes: metadata.Hashes{"sha256": digest},
		Custom: (*json.RawMessage)(&custom),
	}
	if keep < 1 {
		return nil
	}
	var versions []string
	for p := range m.Signed.Targets {
		product, version, err := release.ParseTarget(p)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if product == r.Product && version != r.Version {
			versions = append(versions, version)
		}
	}
	slices.SortFunc(versions, byVersion)
	for _, v := range versions[:max(0, len(versions)-(keep-1))] {
		delete(m.Signed.Targets, release.Target(r.Product, v))
	}
	return nil
}

// RemoveRelease makes the vendor's metadata without a release, unsigned: nobody
// installs it from then on.
func RemoveRelease(current []byte, product, version string, expires time.Time) ([]byte, error) {
	return editTargets(current, expires, func(m *metadata.Metadata[metadata.TargetsType]) error {
		path := release.Target(product, version)
		if m.Signed.Targets[path] == nil {
			return fmt.Errorf("remove release %s %s: %w", product, version, ErrNotFound)
		}
		delete(m.Signed.Targets, path)
		return nil
	})
}

func checkRelease(vendor string, r release.Release) error {
	owner, _, err := release.SplitProduct(r.Product)
	if err != nil {
		return err
	}
	if owner != vendor {
		return fmt.Errorf("product %s is not vendor %s's: %w", r.Product, vendor, ErrForeign)
	}
	if err := release.CheckVersion(r.Version); err != nil {
		return err
	}
	if err := release.CheckDigest(r.Digest); err != nil {
		return err
	}
	if r.Length < 1 || r.Length > release.MaxArtifact {
		return fmt.Errorf("%s %s: artifact of %d bytes, want 1 to %d: %w", r.Product, r.Version, r.Length, release.MaxArtifact, ErrTooLarge)
	}
	if r.Floor < 0 {
		return fmt.Errorf("%s %s: floor %s is negative: %w", r.Product, r.Version, r.Floor, release.ErrInvalid)
	}
	return nil
}

// editTargets opens a draft, changes it, and writes it without signatures.
func editTargets(b []byte, expires time.Time, edit func(*metadata.Metadata[metadata.TargetsType]) error) ([]byte, error) {
	m, err := decode[metadata.TargetsType](Targets, b)
	if err != nil {
		return nil, err
	}
	if m.Signed.Targets == nil {
		m.Signed.Targets = map[string]*metadata.TargetFiles{}
	}
	if err := edit(m); err != nil {
		return nil, err
	}
	if !expires.IsZero() {
		m.Signed.Expires = second(expires)
	}
	nextDraft(m, &m.Signed.Version)
	return encode(m)
}

// nextDraft turns signed metadata into the next version's draft; a draft stays.
func nextDraft[T metadata.Roles](m *metadata.Metadata[T], version *int64) {
	if len(m.Signatures) > 0 {
		*version++
	}
	m.ClearSignatures()
}

// second is the form of time that TUF knows (TUF 4.2.1).
func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
