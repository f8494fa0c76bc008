package tuf

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/headgate/headgate/release"
)

// The roles beside the vendors'.
const (
	Root      = metadata.ROOT
	Targets   = metadata.TARGETS
	Snapshot  = metadata.SNAPSHOT
	Timestamp = metadata.TIMESTAMP
	Rollout   = "rollout"
)

// Limits in bytes of what is read, from anybody.
const (
	MaxRoot      = 512 << 10
	MaxTimestamp = 16 << 10
	MaxSnapshot  = 1 << 20
	MaxTargets   = 4 << 20 // also each vendor's and rollout's
)

// limitOf is the size limit of a role's file.
func limitOf(role string) int64 {
	switch role {
	case Root:
		return MaxRoot
	case Timestamp:
		return MaxTimestamp
	case Snapshot:
		return MaxSnapshot
	}
	return MaxTargets
}

// encode writes metadata as it is stored and sent.
func encode[T metadata.Roles](m *metadata.Metadata[T]) ([]byte, error) {
	b, err := m.ToBytes(false)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	return b, nil
}

// sign adds or replaces the signer's signature.
func sign[T metadata.Roles](m *metadata.Metadata[T], s Signer) error {
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return fmt.Errorf("canonical JSON: %w", err)
	}
	raw, err := s.Sign(payload)
	if err != nil {
		return fmt.Errorf("sign with key %s: %w", s.Public().ID(), err)
	}
	id := s.Public().ID()
	m.Signatures = slices.DeleteFunc(m.Signatures, func(x metadata.Signature) bool { return x.KeyID == id })
	m.Signatures = append(m.Signatures, metadata.Signature{KeyID: id, Signature: raw})
	return nil
}

// Info is what metadata says about itself; nothing in it is verified.
type Info struct {
	// Type is "root", "targets" (vendors' roles and rollout too), "snapshot" or
	// "timestamp".
	Type    string
	Version int64
	Expires time.Time
	// Signatures are the ids of the keys that signed, in order of signing.
	Signatures []string
}

// Inspect reads the header of any metadata. Errors wrap ErrMalformed or ErrTooLarge.
func Inspect(meta []byte) (Info, error) {
	if len(meta) > MaxTargets {
		return Info{}, fmt.Errorf("metadata: %d bytes, limit %d: %w", len(meta), MaxTargets, ErrTooLarge)
	}
	var h struct {
		Signed struct {
			Type    string    `json:"_type"`
			Version int64     `json:"version"`
			Expires time.Time `json:"expires"`
		} `json:"signed"`
		Signatures []struct {
			KeyID string `json:"keyid"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(meta, &h); err != nil {
		return Info{}, fmt.Errorf("metadata: %w: %w", ErrMalformed, err)
	}
	switch h.Signed.Type {
	case Root, Targets, Snapshot, Timestamp:
	default:
		return Info{}, fmt.Errorf("metadata: _type %q is not of TUF: %w", h.Signed.Type, ErrMalformed)
	}
	info := Info{Type: h.Signed.Type, Version: h.Signed.Version, Expires: h.Signed.Expires}
	for _, s := range h.Signatures {
		info.Signatures = append(info.Signatures, s.KeyID)
	}
	return info, nil
}

// Sign adds the signer's signature to serialized metadata and gives the result,
// so that several people can sign one after another. Signing twice with one key
// replaces its signature.
func Sign(meta []byte, s Signer) ([]byte, error) {
	info, err := Inspect(meta)
	if err != nil {
		return nil, err
	}
	switch info.Type {
	case Root:
		return signBytes[metadata.RootType](Root, meta, s)
	case Snapshot:
		return signBytes[metadata.SnapshotType](Snapshot, meta, s)
	case Timestamp:
		return signBytes[metadata.TimestampType](Timestamp, meta, s)
	}
	return signBytes[metadata.TargetsType](Targets, meta, s)
}

func signBytes[T metadata.Roles](role string, b []byte, s Signer) ([]byte, error) {
	m, err := decode[T](role, b)
	if err != nil {
		return nil, err
	}
	if err := sign(m, s); err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	return encode(m)
}

// Signed tells how far metadata of a role is signed: the ids of its delegator's
// keys whose signatures are valid, and how many are wanted. delegator is root.json
// for "root" and "targets", and targets.json for a vendor or "rollout".
func Signed(delegator []byte, role string, meta []byte) (valid []string, threshold int, err error) {
	keys, ids, threshold, err := delegation(delegator, role)
	if err != nil {
		return nil, 0, err
	}
	info, err := Inspect(meta)
	if err != nil {
		return nil, 0, err
	}
	for _, id := range ids {
		if !slices.Contains(info.Signatures, id) {
			continue
		}
		ok, err := signedBy(role, meta, id, keys[id])
		if err != nil {
			return nil, 0, err
		}
		if ok {
			valid = append(valid, id)
		}
	}
	return valid, threshold, nil
}

// delegation finds a role's keys and threshold in its delegator.
func delegation(delegator []byte, role string) (keys map[string]*metadata.Key, ids []string, threshold int, err error) {
	if role == Root || role == Targets || role == Snapshot || role == Timestamp {
		root, err := decode[metadata.RootType](Root, delegator)
		if err != nil {
			return nil, nil, 0, err
		}
		r := root.Signed.Roles[role]
		return root.Signed.Keys, r.KeyIDs, r.Threshold, nil
	}
	targets, err := decode[metadata.TargetsType](Targets, delegator)
	if err != nil {
		return nil, nil, 0, err
	}
	d := delegated(targets, role)
	if d == nil {
		return nil, nil, 0, fmt.Errorf("role %s is not delegated by targets version %d: %w", role, targets.Signed.Version, ErrNotFound)
	}
	return targets.Signed.Delegations.Keys, d.KeyIDs, d.Threshold, nil
}

// signedBy checks one signature: a root that trusts this one key for the role
// stands in as delegator.
func signedBy(role string, meta []byte, id string, key *metadata.Key) (bool, error) {
	one := metadata.Root()
	one.Signed.Keys = map[string]*metadata.Key{id: key}
	one.Signed.Roles = map[string]*metadata.Role{role: {KeyIDs: []string{id}, Threshold: 1}}
	if role == Root {
		m, err := decode[metadata.RootType](Root, meta)
		if err != nil {
			return false, err
		}
		return one.VerifyDelegate(role, m) == nil, nil
	}
	m, err := decode[metadata.TargetsType](role, meta)
	if err != nil {
		return false, err
	}
	return one.VerifyDelegate(role, m) == nil, nil
}

// delegated finds a role's delegation; nil is none.
func delegated(targets *metadata.Metadata[metadata.TargetsType], role string) *metadata.DelegatedRole {
	if targets.Signed.Delegations == nil {
		return nil
	}
	for i := range targets.Signed.Delegations.Roles {
		if d := &targets.Signed.Delegations.Roles[i]; d.Name == role {
			return d
		}
	}
	return nil
}

// Releases lists what a vendor's metadata carries, by product and then version,
// oldest first. It checks the content, no signature.
func Releases(vendorMeta []byte) ([]release.Release, error) {
	m, err := decode[metadata.TargetsType](Targets, vendorMeta)
	if err != nil {
		return nil, err
	}
	var out []release.Release
	for _, path := range slices.Sorted(maps.Keys(m.Signed.Targets)) {
		r, err := releaseOf(path, m.Signed.Targets[path])
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b release.Release) int {
		if c := strings.Compare(a.Product, b.Product); c != 0 {
			return c
		}
		return byVersion(a.Version, b.Version)
	})
	return out, nil
}

// Custom is what a vendor's metadata says of a target besides length and digests, as
// it was signed; nil if nothing.
func Custom(vendorMeta []byte, target string) (json.RawMessage, error) {
	m, err := decode[metadata.TargetsType](Targets, vendorMeta)
	if err != nil {
		return nil, err
	}
	t := m.Signed.Targets[target]
	if t == nil || t.Custom == nil {
		return nil, nil
	}
	return *t.Custom, nil
}

func byVersion(a, b string) int {
	switch {
	case release.Newer(b, a):
		return -1
	case release.Newer(a, b):
		return 1
	}
	return 0
}

// releaseOf reads a target as a release.
func releaseOf(path string, t *metadata.TargetFiles) (release.Release, error) {
	product, version, err := release.ParseTarget(path)
	if err != nil {
		return release.Release{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r := release.Release{Product: product, Version: version, Digest: t.Hashes["sha256"].String(), Length: t.Length}
	if t.Length < 1 || t.Length > release.MaxArtifact {
		return r, fmt.Errorf("target %s: %d bytes, want 1 to %d: %w", path, t.Length, release.MaxArtifact, ErrTooLarge)
	}
	if t.Custom != nil {
		if err := json.Unmarshal(*t.Custom, &r.Custom); err != nil { // unknown keys pass: an old agent meets a new vendor
			return r, fmt.Errorf("target %s: custom: %w: %w", path, ErrMalformed, err)
		}
	}
	if r.Floor < 0 {
		return r, fmt.Errorf("target %s: floor %s is negative: %w", path, r.Floor, ErrMalformed)
	}
	return r, nil
}

// TargetFile is where a target's file lies under /tuf/ with consistent snapshots
// (TUF 6.2): "targets/<dir>/<sha256>.<file>".
func TargetFile(target, digest string) string {
	dir, base := "", target
	if i := strings.LastIndexByte(target, '/'); i >= 0 {
		dir, base = target[:i+1], target[i+1:]
	}
	return "targets/" + dir + digest + "." + base
}

// MetaFile is where a role's version lies under /tuf/: "N.<role>.json", but
// "timestamp.json".
func MetaFile(role string, version int64) string {
	if role == Timestamp {
		return "timestamp.json"
	}
	return fmt.Sprintf("%d.%s.json", version, role)
}
