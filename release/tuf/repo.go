package tuf

import (
	"maps"
	"time"
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
	if s[role] == nil {
		return 0
	}
	info, err := Inspect(s[role])
	if err != nil {
		return 0
	}
	return info.Version
}

// Change is one step of the repository: store all of it or nothing.
type Change struct {
	// Files are the new files by path under /tuf/. All but timestamp.json are new
	// names that never change.
	Files map[string][]byte
	// Latest names the file now in force for each role that changed.
	Latest map[string]string
	// Superseded are paths that nothing in force names any more. Delete them after
	// a grace of an hour or so: somebody may be in the middle of a refresh.
	Superseded []string
}

// Online are the keys of the roles that the server signs.
type Online struct {
	Timestamp, Snapshot, Rollout Signer
}

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
	Life   Life
}
