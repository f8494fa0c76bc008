package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/release/tuf"
)

// The folders inside the folder of keys.
const (
	nextKeys    = "next"    // wait for a root and targets to name them
	retiredKeys = "retired" // were in use, by key id
)

// keyring is the server's online keys on the disk. Which of them are in use is
// said by the published root and targets alone: the folder only follows, so a
// crash between publishing and moving files loses nothing.
type keyring struct {
	dir string
	log *slog.Logger

	mu            sync.Mutex // guards the folder, and what was last read of it
	present, next tuf.Online
}

// openKeyring reads the keys, making the present ones if they are missing.
func openKeyring(dir string, log *slog.Logger) (*keyring, error) {
	k := &keyring{dir: dir, log: log}
	for _, role := range tuf.OnlineRoles {
		if err := makeKey(k.path("", role)); err != nil {
			return nil, fmt.Errorf("online key %s: %w", role, err)
		}
	}
	return k, k.read()
}

func (k *keyring) path(folder, role string) string { return filepath.Join(k.dir, folder, role+".key") }

// makeKey makes a key unless the file is there.
func makeKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := tuf.NewKey()
	if err != nil {
		return err
	}
	return tuf.SaveKey(path, key)
}

// read takes over what the folder holds. Of the next keys any may be missing.
// They are read first: a key that another process moves meanwhile is seen in
// either place.
func (k *keyring) read() error {
	next, err := k.readSet(nextKeys)
	if err != nil {
		return err
	}
	present, err := k.readSet("")
	if err != nil {
		return err
	}
	for _, role := range tuf.OnlineRoles {
		if present.Of(role) == nil {
			return fmt.Errorf("online key %s: %w", k.path("", role), fs.ErrNotExist)
		}
	}
	k.present, k.next = present, next
	return nil
}

func (k *keyring) readSet(folder string) (o tuf.Online, err error) {
	for role, to := range map[string]*tuf.Signer{tuf.Timestamp: &o.Timestamp, tuf.Snapshot: &o.Snapshot, tuf.Rollout: &o.Rollout} {
		key, err := tuf.LoadKey(k.path(folder, role))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return o, fmt.Errorf("online key %s: %w", role, err)
		}
		*to = key
	}
	return o, nil
}

// sets gives the keys as the folder has them now, so that keys copied from
// another server are found without a restart. A folder that cannot be read leaves
// what was read last: the server goes on signing.
func (k *keyring) sets() (present, next tuf.Online) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.read(); err != nil {
		k.log.LogAttrs(context.Background(), slog.LevelWarn, "cannot read the online keys afresh", slog.Any("err", err))
	}
	return k.present, k.next
}

// makeNext makes the next keys, all or none, unless they are there.
func (k *keyring) makeNext() (tuf.Online, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.read(); err != nil {
		return tuf.Online{}, err
	}
	if complete(k.next) {
		return k.next, nil
	}
	fresh := filepath.Join(k.dir, nextKeys+".new") // what a crash left goes
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(fresh, 0o700)); err != nil {
		return tuf.Online{}, fmt.Errorf("make the next online keys: %w", err)
	}
	for _, role := range tuf.OnlineRoles {
		if err := makeKey(filepath.Join(fresh, role+".key")); err != nil {
			return tuf.Online{}, fmt.Errorf("make the next online keys: %w", err)
		}
	}
	// Part of a set is left only where a rotation named some of it: what it did
	// not name was never in use.
	if err := errors.Join(os.RemoveAll(filepath.Join(k.dir, nextKeys)), os.Rename(fresh, filepath.Join(k.dir, nextKeys)), atomicfile.SyncDir(k.dir)); err != nil {
		return tuf.Online{}, fmt.Errorf("make the next online keys: %w", err)
	}
	err := k.read()
	return k.next, err
}

func complete(o tuf.Online) bool {
	return !slices.ContainsFunc(tuf.OnlineRoles, func(role string) bool { return o.Of(role) == nil })
}

// settle moves next keys that are in use by now to the place of the present
// ones, and these to the retired. Each move is one rename: at every instant every
// key in use is in one of the two places that read looks at.
func (k *keyring) settle(state tuf.State) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.read(); err != nil {
		return err
	}
	moved := false
	for _, role := range tuf.OnlineRoles {
		ids, err := state.OnlineKeys(role)
		if err != nil {
			return err
		}
		key := k.next.Of(role)
		if key == nil || !slices.Contains(ids, key.Public().ID()) {
			continue
		}
		if err := k.move(role); err != nil {
			return fmt.Errorf("put the new %s key in its place: %w", role, err)
		}
		moved = true
	}
	if !moved {
		return nil
	}
	k.log.LogAttrs(context.Background(), slog.LevelInfo, "online keys rotated", slog.Int64("root", state.Version(tuf.Root)))
	return k.read()
}

func (k *keyring) move(role string) error {
	from, to := k.path(nextKeys, role), k.path("", role)
	retired := k.path(retiredKeys, k.present.Of(role).Public().ID())
	if err := os.MkdirAll(filepath.Dir(retired), 0o700); err != nil {
		return err
	}
	// The public parts are for people only; the private key goes last.
	for _, suffix := range []string{".pub", ""} {
		if err := os.Link(to+suffix, retired+suffix); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Rename(from+suffix, to+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(atomicfile.SyncDir(filepath.Dir(retired)), atomicfile.SyncDir(k.dir))
}

// settleKeys has the folder follow what is published. What is published is in
// force whatever comes of it, so an error is for the log.
func (s *Server) settleKeys(ctx context.Context) {
	state, err := s.publisher.State(ctx)
	if err == nil {
		err = s.keys.online.settle(state)
	}
	if err != nil {
		s.cfg.Log.LogAttrs(ctx, slog.LevelError, "cannot put the online keys in their places; both sets stay in use", slog.Any("err", err))
	}
}

// checkKeys refuses to start without the keys that the published root and targets
// name: nothing that this server signs would be believed.
func (s *Server) checkKeys(ctx context.Context) error {
	state, err := s.publisher.State(ctx)
	if err != nil || state[tuf.Root] == nil {
		return err
	}
	present, next := s.keys.online.sets()
	for _, role := range tuf.OnlineRoles {
		ids, err := state.OnlineKeys(role)
		if err != nil {
			return fmt.Errorf("published metadata: %w", err)
		}
		if role == tuf.Rollout && len(ids) == 0 {
			continue // no targets are published yet
		}
		held := func(o tuf.Online) bool { return o.Of(role) != nil && slices.Contains(ids, o.Of(role).Public().ID()) }
		if !held(present) && !held(next) {
			return fmt.Errorf("the keys in %s are not those that the published metadata names (%s: %v): copy the folder from a server that has them", s.keys.online.dir, role, ids)
		}
	}
	s.settleKeys(ctx)
	return nil
}
