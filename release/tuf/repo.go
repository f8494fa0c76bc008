package tuf

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// State is the metadata in force: exact bytes by role name ("root", "targets",
// "snapshot", "timestamp", "rollout", each vendor).
type State map[string][]byte

// With gives the state after a change.
func (s State) With(c Change) State {
	next := maps.Clone(s)
	if next == nil {
		next = State{}
	}
	for role, path := range c.Latest {
		next[role] = c.Files[path]
	}
	return next
}

// Version is a role's version in force; 0 is none.
func (s State) Version(role string) int64 {
	info, err := Inspect(s[role])
	if err != nil {
		return 0
	}
	return info.Version
}

// Expires is when a role's metadata in force expires; zero is none.
func (s State) Expires(role string) time.Time {
	info, err := Inspect(s[role])
	if err != nil {
		return time.Time{}
	}
	return info.Expires
}

func (s State) expiresBefore(role string, t time.Time) bool { return s.Expires(role).Before(t) }

// Change is one step of the repository: store all of it or nothing.
type Change struct {
	// Files are the new files by path under /tuf/. All but timestamp.json are new
	// names whose content never changes.
	Files map[string][]byte
	// Latest names the file now in force for each role that changed.
	Latest map[string]string
	// Superseded are paths that nothing in force names any more. Delete them after
	// a grace of an hour or so, unless stored again since: somebody may be in the
	// middle of a refresh.
	Superseded []string
}

// Empty tells that nothing is to be stored: what was offered is in force already.
func (c Change) Empty() bool { return len(c.Files) == 0 }

// Life is how long the online roles' metadata is valid.
type Life struct {
	Timestamp, Snapshot, Rollout time.Duration
}

// DefaultLife: who is kept from news notices within a day.
var DefaultLife = Life{Timestamp: 24 * time.Hour, Snapshot: 7 * 24 * time.Hour, Rollout: 7 * 24 * time.Hour}

// Repo is the repository as the server keeps it. Its methods are pure: each
// verifies what is offered against what is in force and gives the files to store.
type Repo struct {
	State  State
	Online Online
	// Next are keys that wait for a root and targets to name them; any may be nil.
	Next Online
	Life Life
}

// start begins a change with a role's new file.
func (r Repo) start(role string, version int64, b []byte) Change {
	c := Change{Files: map[string][]byte{}, Latest: map[string]string{}}
	r.put(&c, role, version, b)
	return c
}

func (r Repo) put(c *Change, role string, version int64, b []byte) {
	path := MetaFile(role, version)
	c.Files[path] = b
	c.Latest[role] = path
	// Old roots stay for ever: endpoints walk them one by one.
	if role != Root && role != Timestamp && r.State[role] != nil {
		c.Superseded = append(c.Superseded, MetaFile(role, r.State.Version(role)))
	}
}

// seal completes a change: the first rollout metadata if there is none, a
// snapshot of everything, and a timestamp.
func (r Repo) seal(c Change, now time.Time) (Change, error) {
	if err := r.keepRollout(&c, now); err != nil {
		return Change{}, err
	}
	m := metadata.Snapshot(second(now.Add(r.Life.Snapshot)))
	m.Signed.Meta = map[string]*metadata.MetaFiles{}
	if old := r.State[Snapshot]; old != nil {
		was, err := decode[metadata.SnapshotType](Snapshot, old)
		if err != nil {
			return Change{}, fmt.Errorf("in force: %w", err)
		}
		m.Signed.Version = was.Signed.Version + 1
		// A role stays listed when its delegation goes: clients take a missing entry
		// for a rollback (TUF 5.5.5).
		m.Signed.Meta = was.Signed.Meta
	}
	state := r.State.With(c)
	for role := range c.Latest {
		if role != Root && role != Timestamp && role != Snapshot {
			m.Signed.Meta[role+".json"] = metaFile(state.Version(role), state[role])
		}
	}
	if err := signOnline(r, &c, Snapshot, m, m.Signed.Version); err != nil {
		return Change{}, err
	}
	if err := r.signTimestamp(&c, now); err != nil {
		return Change{}, err
	}
	return c, nil
}

// keepRollout signs rollout's files again if there are none yet, or if targets now
// names another key for the role.
func (r Repo) keepRollout(c *Change, now time.Time) error {
	state := r.State.With(*c)
	if state[Rollout] == nil {
		return r.signRollout(c, map[string]*metadata.TargetFiles{}, now)
	}
	if c.Latest[Targets] == "" {
		return nil
	}
	targets, err := decode[metadata.TargetsType](Targets, state[Targets])
	if err != nil {
		return err
	}
	m, err := decode[metadata.TargetsType](Rollout, state[Rollout])
	if err != nil {
		return err
	}
	if targets.VerifyDelegate(Rollout, m) == nil {
		return nil
	}
	return r.signRollout(c, m.Signed.Targets, now)
}

func (r Repo) signRollout(c *Change, targets map[string]*metadata.TargetFiles, now time.Time) error {
	m := metadata.Targets(second(now.Add(r.Life.Rollout)))
	m.Signed.Version = r.State.Version(Rollout) + 1
	m.Signed.Targets = targets
	return signOnline(r, c, Rollout, m, m.Signed.Version)
}

func (r Repo) signTimestamp(c *Change, now time.Time) error {
	state := r.State.With(*c)
	m := metadata.Timestamp(second(now.Add(r.Life.Timestamp)))
	m.Signed.Version = state.Version(Timestamp) + 1
	m.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(state.Version(Snapshot), state[Snapshot])}
	return signOnline(r, c, Timestamp, m, m.Signed.Version)
}

func metaFile(version int64, b []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(b)
	return &metadata.MetaFiles{Version: version, Length: int64(len(b)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// signOnline signs with the server's key for the role, adds the file to the change and
// checks it as an endpoint would: a wrong key file must not reach the repository.
func signOnline[T metadata.Roles](r Repo, c *Change, role string, m *metadata.Metadata[T], version int64) error {
	s, err := r.signer(role, r.State.With(*c))
	if err != nil {
		return err
	}
	if err := sign(m, s); err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	b, err := encode(m)
	if err != nil {
		return err
	}
	if int64(len(b)) > limitOf(role) {
		return fmt.Errorf("%s version %d: %d bytes, limit %d: %w", role, version, len(b), limitOf(role), ErrTooLarge)
	}
	r.put(c, role, version, b)
	state := r.State.With(*c)
	if role == Rollout {
		targets, err := decode[metadata.TargetsType](Targets, state[Targets])
		if err != nil {
			return err
		}
		if err := targets.VerifyDelegate(role, m); err != nil {
			return fmt.Errorf("the server's key does not fit: %w", refuse(role, version, ErrMixed, err))
		}
		return nil
	}
	root, err := decode[metadata.RootType](Root, state[Root])
	if err != nil {
		return err
	}
	if err := root.VerifyDelegate(role, m); err != nil {
		return fmt.Errorf("the server's key does not fit: %w", refuse(role, version, ErrMixed, err))
	}
	return nil
}
