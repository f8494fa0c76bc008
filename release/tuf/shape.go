package tuf

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/headgate/headgate/release"
)

// decode reads a role's file and checks its shape, which go-tuf leaves to luck:
// a null in the wrong place makes it panic. It checks no signature.
func decode[T metadata.Roles](role string, b []byte) (*metadata.Metadata[T], error) {
	if int64(len(b)) > limitOf(role) {
		return nil, fmt.Errorf("%s: %d bytes, limit %d: %w", role, len(b), limitOf(role), ErrTooLarge)
	}
	// go-tuf dereferences each target while it decodes.
	var nulls struct {
		Signed struct {
			Targets map[string]*struct{} `json:"targets"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(b, &nulls); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", role, ErrMalformed, err)
	}
	for name, t := range nulls.Signed.Targets {
		if t == nil {
			return nil, fmt.Errorf("%s: target %q is null: %w", role, name, ErrMalformed)
		}
	}
	m, err := new(metadata.Metadata[T]).FromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", role, ErrMalformed, err)
	}
	if err := shape(&m.Signed); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", role, ErrMalformed, err)
	}
	return m, nil
}

func shape(signed any) error {
	switch s := signed.(type) {
	case *metadata.RootType:
		if err := shapeHead(s.SpecVersion, s.Version, s.Expires); err != nil {
			return err
		}
		return shapeRoot(s)
	case *metadata.TargetsType:
		if err := shapeHead(s.SpecVersion, s.Version, s.Expires); err != nil {
			return err
		}
		return shapeTargets(s)
	case *metadata.SnapshotType:
		if err := shapeHead(s.SpecVersion, s.Version, s.Expires); err != nil {
			return err
		}
		return shapeMeta(s.Meta, Targets)
	case *metadata.TimestampType:
		if err := shapeHead(s.SpecVersion, s.Version, s.Expires); err != nil {
			return err
		}
		return shapeMeta(s.Meta, Snapshot)
	}
	panic(fmt.Sprintf("tuf: shape of %T", signed))
}

func shapeHead(spec string, version int64, expires time.Time) error {
	if !strings.HasPrefix(spec, "1.0") {
		return fmt.Errorf("spec_version %q, want 1.0.x", spec)
	}
	if version < 1 {
		return fmt.Errorf("version %d, want 1 or more", version)
	}
	if expires.IsZero() {
		return fmt.Errorf("no expires")
	}
	return nil
}

func shapeRoot(s *metadata.RootType) error {
	if !s.ConsistentSnapshot {
		return fmt.Errorf("consistent_snapshot is false, want true")
	}
	if err := shapeKeys(s.Keys); err != nil {
		return err
	}
	for _, name := range metadata.TOP_LEVEL_ROLE_NAMES {
		r := s.Roles[name]
		if r == nil {
			return fmt.Errorf("no role %s", name)
		}
		if err := shapeRole(name, r.KeyIDs, r.Threshold, s.Keys); err != nil {
			return err
		}
	}
	return nil
}

func shapeTargets(s *metadata.TargetsType) error {
	for name, t := range s.Targets {
		if len(t.Hashes["sha256"]) != sha256.Size || t.Length < 0 {
			return fmt.Errorf("target %q: want a sha256 and a length", name)
		}
	}
	d := s.Delegations
	if d == nil {
		return nil
	}
	if d.SuccinctRoles != nil {
		return fmt.Errorf("succinct_roles are not used here")
	}
	if err := shapeKeys(d.Keys); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, r := range d.Roles {
		// The name becomes part of a path and a URL.
		if r.Name != Rollout && release.CheckVendor(r.Name) != nil {
			return fmt.Errorf("delegated role %q: want rollout or a vendor's name", r.Name)
		}
		if seen[r.Name] {
			return fmt.Errorf("delegated role %s twice", r.Name)
		}
		seen[r.Name] = true
		if err := shapeRole(r.Name, r.KeyIDs, r.Threshold, d.Keys); err != nil {
			return err
		}
	}
	return nil
}

func shapeMeta(meta map[string]*metadata.MetaFiles, want string) error {
	for name, m := range meta {
		if m == nil || m.Version < 1 || m.Length < 0 {
			return fmt.Errorf("meta %q: want a version of 1 or more", name)
		}
	}
	if meta[want+".json"] == nil {
		return fmt.Errorf("meta: no %s.json", want)
	}
	return nil
}

func shapeKeys(keys map[string]*metadata.Key) error {
	for id, k := range keys {
		p, err := publicFrom(k)
		if err != nil {
			return fmt.Errorf("key %q: %w", id, err)
		}
		if p.ID() != id {
			return fmt.Errorf("key %q: its id is %s", id, p.ID())
		}
	}
	return nil
}

func shapeRole(name string, ids []string, threshold int, keys map[string]*metadata.Key) error {
	distinct := map[string]bool{}
	for _, id := range ids {
		if keys[id] == nil {
			return fmt.Errorf("role %s: key %q is not in keys", name, id)
		}
		distinct[id] = true
	}
	if threshold < 1 || threshold > len(distinct) {
		return fmt.Errorf("role %s: threshold %d of %d keys", name, threshold, len(distinct))
	}
	return nil
}
