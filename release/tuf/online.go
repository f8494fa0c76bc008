package tuf

import (
	"fmt"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Online are keys of the roles that the server signs.
type Online struct {
	Timestamp, Snapshot, Rollout Signer
}

// OnlineRoles lists the roles that the server signs.
var OnlineRoles = []string{Timestamp, Snapshot, Rollout}

// Of is the key of a role; nil is none.
func (o Online) Of(role string) Signer {
	switch role {
	case Timestamp:
		return o.Timestamp
	case Snapshot:
		return o.Snapshot
	case Rollout:
		return o.Rollout
	}
	return nil
}

// OnlineKeys lists the ids of the keys that state names for an online role: root
// does for timestamp and snapshot, targets for rollout. It is empty before they
// are published.
func (s State) OnlineKeys(role string) ([]string, error) {
	switch {
	case role == Rollout && s[Targets] != nil:
		m, err := decode[metadata.TargetsType](Targets, s[Targets])
		if err != nil {
			return nil, err
		}
		if d := delegated(m, Rollout); d != nil {
			return d.KeyIDs, nil
		}
	case role != Rollout && s[Root] != nil:
		m, err := decode[metadata.RootType](Root, s[Root])
		if err != nil {
			return nil, err
		}
		return m.Signed.Roles[role].KeyIDs, nil
	}
	return nil, nil
}

// signer picks the key for an online role: of those at hand the one that state
// names. So the very step that puts a root with the next keys in force signs with
// them, and there is no other record of which keys are in use. If none is named,
// it is the present one: what it signs is found under-signed before it is stored.
func (r Repo) signer(role string, state State) (Signer, error) {
	ids, err := state.OnlineKeys(role)
	if err != nil {
		return nil, err
	}
	for _, o := range []Online{r.Online, r.Next} {
		if s := o.Of(role); s != nil && slices.Contains(ids, s.Public().ID()) {
			return s, nil
		}
	}
	if s := r.Online.Of(role); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("role %s: this server does not hold key %v: %w", role, ids, ErrKey)
}

// soleKey demands that a role's key is the server's own and the only one.
func (r Repo) soleKey(role string, ids []string) error {
	var own []string
	for _, o := range []Online{r.Online, r.Next} {
		if s := o.Of(role); s != nil {
			own = append(own, s.Public().ID())
		}
	}
	if len(ids) != 1 || !slices.Contains(own, ids[0]) {
		return fmt.Errorf("role %s: keys %v, want one alone of the server's %v: %w", role, ids, own, ErrKey)
	}
	return nil
}

// noOnline keeps the server's keys out of the roles that are signed offline: a
// server that is taken over must not be able to forge.
func (r Repo) noOnline(role string, ids []string) error {
	for _, o := range []Online{r.Online, r.Next} {
		for _, online := range OnlineRoles {
			if s := o.Of(online); s != nil && slices.Contains(ids, s.Public().ID()) {
				return fmt.Errorf("role %s: key %s is one of the server's online keys: %w", role, s.Public().ID(), ErrKey)
			}
		}
	}
	return nil
}
