package tuf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/release"
)

const (
	trustSchema = "headgate.trust/1"
	trustName   = "trust.json"
	maxTrust    = 256 << 20
)

// trust is the client's whole persistence, one file: any write leaves a state
// that fits together, whenever the power goes.
type trust struct {
	Schema string `json:"schema"`
	Root   []byte `json:"root"`
	// Seen are the newest timestamp and snapshot ever verified. They run ahead of
	// Set while a refresh is under way or broken off, and guard against rollback.
	Seen seenFiles `json:"seen"`
	// Set is the last state that was verified as a whole; nothing in it is newer
	// or older than its snapshot says.
	Set setFiles `json:"set"`

	damage error
}

type seenFiles struct {
	Timestamp []byte `json:"timestamp,omitempty"`
	Snapshot  []byte `json:"snapshot,omitempty"`
}

type setFiles struct {
	// Root is the one that Set was verified under; trust.Root may be newer.
	Root      []byte            `json:"root,omitempty"`
	ETag      string            `json:"etag,omitempty"` // of timestamp.json
	Timestamp []byte            `json:"timestamp,omitempty"`
	Snapshot  []byte            `json:"snapshot,omitempty"`
	Targets   []byte            `json:"targets,omitempty"`
	Rollout   []byte            `json:"rollout,omitempty"`
	Plan      []byte            `json:"plan,omitempty"`
	Vendors   map[string][]byte `json:"vendors,omitempty"`
}

// loadTrust reads the folder. A file that is missing or unreadable as JSON is an
// empty trust; only the folder itself can fail.
func loadTrust(dir string) (trust, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return trust{}, err
	}
	// A kill between create and rename leaves a temp file.
	old, err := filepath.Glob(filepath.Join(dir, "."+trustName+".tmp-*"))
	if err != nil {
		return trust{}, err
	}
	for _, p := range old {
		if err := os.Remove(p); err != nil {
			return trust{}, err
		}
	}
	path := filepath.Join(dir, trustName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return trust{}, nil
	}
	if err != nil {
		return trust{}, err
	}
	if info.Size() > maxTrust {
		return trust{damage: fmt.Errorf("%s: %d bytes, limit %d: %w", path, info.Size(), maxTrust, ErrTooLarge)}, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return trust{}, err
	}
	t, err := parseTrust(b)
	if err != nil {
		return trust{damage: fmt.Errorf("%s: %w", path, err)}, nil
	}
	return t, nil
}

func parseTrust(b []byte) (trust, error) {
	var t trust
	if err := json.Unmarshal(b, &t); err != nil {
		return trust{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if t.Schema != trustSchema || t.Root == nil {
		return trust{}, fmt.Errorf("schema %q, want %s and a root: %w", t.Schema, trustSchema, ErrMalformed)
	}
	return t, nil
}

func saveTrust(path string, data []byte) error { return atomicfile.Write(path, data, 0o644) }

// keep makes v the client's state, on disk first. Callers hold c.mu.
func (c *Client) keep(v *view) error {
	b, err := json.Marshal(v.trust)
	if err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	if err := c.save(filepath.Join(c.dir, trustName), b); err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	c.view.Store(v)
	return nil
}

// verifyTrust checks what the folder held, expiry aside: that is judged when it is
// used. A broken set is dropped and reported, with a view of the rest; without a
// good root there is no view.
func verifyTrust(t trust) (*view, error) {
	root, err := decode[metadata.RootType](Root, t.Root)
	if err != nil {
		return nil, err
	}
	if err := root.VerifyDelegate(Root, root); err != nil {
		return nil, refuse(Root, root.Signed.Version, ErrMalformed, err)
	}
	v := &view{trust: t, root: root}
	if t.Set.Timestamp == nil {
		return v, nil
	}
	v.set, err = verifySet(t)
	if err != nil {
		v.trust.Set = setFiles{}
		return v, fmt.Errorf("stored set: %w", err)
	}
	return v, nil
}

func verifySet(t trust) (*set, error) {
	tm, err := trustedSet(t.Set.Root, time.Time{})
	if err != nil {
		return nil, err
	}
	if _, err := decode[metadata.TimestampType](Timestamp, t.Set.Timestamp); err != nil {
		return nil, err
	}
	if _, err := tm.UpdateTimestamp(t.Set.Timestamp); err != nil {
		return nil, refuse(Timestamp, 0, ErrMixed, err)
	}
	if err := updateSnapshot(tm, t.Set.Snapshot, false); err != nil {
		return nil, err
	}
	if err := updateTargets(tm, t.Set.Targets, Targets, Root); err != nil {
		return nil, err
	}
	if err := updateTargets(tm, t.Set.Rollout, Rollout, Targets); err != nil {
		return nil, err
	}
	plan, err := planOf(tm.Targets[Rollout], t.Set.Plan)
	if err != nil {
		return nil, err
	}
	for vendor, b := range t.Set.Vendors {
		if err := updateTargets(tm, b, vendor, Targets); err != nil {
			return nil, err
		}
	}
	return setOf(tm, plan), nil
}

// trustedSet starts go-tuf's client rules from a root that is trusted already.
func trustedSet(root []byte, now time.Time) (*trustedmetadata.TrustedMetadata, error) {
	if _, err := decode[metadata.RootType](Root, root); err != nil {
		return nil, err
	}
	tm, err := trustedmetadata.New(root)
	if err != nil {
		return nil, refuse(Root, 0, ErrMalformed, err)
	}
	tm.RefTime = now
	return tm, nil
}

func setOf(tm *trustedmetadata.TrustedMetadata, plan *release.Plan) *set {
	s := &set{
		timestamp: tm.Timestamp, snapshot: tm.Snapshot, targets: tm.Targets[Targets], rollout: tm.Targets[Rollout],
		plan: plan, vendors: maps.Clone(tm.Targets),
	}
	delete(s.vendors, Targets)
	delete(s.vendors, Rollout)
	return s
}

// planOf checks the plan's bytes against the rollout role and reads them.
func planOf(rollout *metadata.Metadata[metadata.TargetsType], plan []byte) (*release.Plan, error) {
	t := rollout.Signed.Targets[release.PlanTarget]
	if t == nil {
		return nil, nil
	}
	if err := t.VerifyLengthHashes(plan); err != nil {
		return nil, fmt.Errorf("plan of %w", refuse(Rollout, rollout.Signed.Version, ErrMixed, err))
	}
	p, err := release.ParsePlan(plan)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return &p, nil
}
