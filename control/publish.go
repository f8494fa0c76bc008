package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// supersededGrace is how long a file that nothing names any more stays: an
// agent may be in the middle of a refresh.
const supersededGrace = time.Hour

// Repository is what the publisher needs of the store.
type Repository interface {
	OpenRollouts(ctx context.Context) ([]store.Rollout, error)
	Chosen(ctx context.Context, id int64) ([]string, error)
	RepositoryVersion(ctx context.Context) (int64, error)
	RepositoryFiles(ctx context.Context, prefix string) ([]store.File, int64, error)
	CommitRepository(ctx context.Context, c store.RepositoryCommit, now time.Time, inTx store.InTx) (int64, error)
}

// Publisher changes the TUF repository: it verifies what people signed offline
// and signs what the server may sign. All changes are compare-and-swaps on the
// repository's version, so several servers may publish at once.
type Publisher struct {
	Repository Repository
	// Keys are the server's online keys: those in use, and those that wait for a
	// root to name them, if there are any. It is asked before each change.
	Keys func() (present, next tuf.Online)
	Life tuf.Life
	// Cadence is how often endpoints ask and report when no rollout says otherwise.
	Cadence rollout.Cadence
	Now     func() time.Time
	Log     *slog.Logger
	// Committed, if set, is told of each new repository version.
	Committed func(version int64)

	mu   sync.Mutex // guards what follows; held through a change
	base int64      // repository version of held; 0 is none
	held tree
	// old are superseded files and when they were first seen to be.
	old map[string]time.Time
}

// tree is the repository as the publisher holds it.
type tree struct {
	state tuf.State
	plan  release.Plan // in force; zero if none
	paths map[string]bool
}

// errNothing ends a change without a commit.
var errNothing = errors.New("nothing to change")

// Step is one change of the repository in the making.
type Step struct {
	State  tuf.State // in force
	Now    time.Time
	repo   tuf.Repo
	plan   release.Plan
	commit store.RepositoryCommit // what goes along
}

// Change makes one step by f and commits it. f may run again after somebody
// else's commit. inTx may be nil.
func (p *Publisher) Change(ctx context.Context, inTx store.InTx, f func(*Step) (tuf.Change, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for try := 1; ; try++ {
		err := p.change(ctx, inTx, f)
		if errors.Is(err, errNothing) {
			return nil
		}
		if err != nil {
			p.base = 0 // read again before the next change
		}
		if !errors.Is(err, store.ErrConflict) || try == conflictTries {
			return err
		}
	}
}

func (p *Publisher) change(ctx context.Context, inTx store.InTx, f func(*Step) (tuf.Change, error)) error {
	if err := p.load(ctx); err != nil {
		return err
	}
	now := p.Now()
	present, next := p.Keys()
	s := &Step{State: p.held.state, Now: now, plan: p.held.plan, repo: tuf.Repo{State: p.held.state, Online: present, Next: next, Life: p.Life}}
	ch, err := f(s)
	if err != nil {
		return err
	}
	c := s.commit
	c.Base = p.base
	for _, path := range slices.Sorted(maps.Keys(ch.Files)) {
		c.Put = append(c.Put, store.File{Path: path, Version: version(path), Body: ch.Files[path]})
	}
	c.Delete = p.due(now, ch.Files)
	if len(c.Put)+len(c.Delete)+len(c.Vendors)+len(c.Releases)+len(c.Unlist) == 0 {
		return errNothing // the same bytes again
	}
	v, err := p.Repository.CommitRepository(ctx, c, now, inTx)
	if err != nil {
		return fmt.Errorf("commit repository version %d: %w", p.base+1, err)
	}
	p.follow(v, ch, c.Delete, now)
	if p.Committed != nil {
		p.Committed(v)
	}
	return nil
}

// follow takes a committed change over without reading it back.
func (p *Publisher) follow(v int64, ch tuf.Change, deleted []string, now time.Time) {
	p.base = v
	p.held.state = p.held.state.With(ch)
	for path, body := range ch.Files {
		p.held.paths[path] = true
		if strings.HasPrefix(path, "targets/plan/") {
			if plan, err := release.ParsePlan(body); err == nil {
				p.held.plan = plan
			}
		}
	}
	for _, path := range deleted {
		delete(p.held.paths, path)
		delete(p.old, path)
	}
	for _, path := range ch.Superseded {
		if _, known := p.old[path]; !known && p.held.paths[path] {
			p.old[path] = now
		}
	}
}

// due lists superseded files whose grace is over.
func (p *Publisher) due(now time.Time, put map[string][]byte) (paths []string) {
	for path, since := range p.old {
		if now.Sub(since) >= supersededGrace && put[path] == nil {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// load reads the repository unless what is held is still in force.
func (p *Publisher) load(ctx context.Context) error {
	v, err := p.Repository.RepositoryVersion(ctx)
	if err != nil {
		return fmt.Errorf("read repository version: %w", err)
	}
	if p.base == v && p.held.state != nil {
		return nil
	}
	files, v, err := p.Repository.RepositoryFiles(ctx, "")
	if err != nil {
		return fmt.Errorf("read repository: %w", err)
	}
	p.held = tree{state: tuf.State{}, paths: map[string]bool{}}
	newest := map[string]int64{}
	for _, f := range files {
		p.held.paths[f.Path] = true
		if body, ok := strings.CutPrefix(f.Path, "targets/plan/"); ok && body != "" {
			if plan, err := release.ParsePlan(f.Body); err == nil && plan.Version > p.held.plan.Version {
				p.held.plan = plan
			}
			continue
		}
		role := roleOf(f.Path)
		if n := version(f.Path); role != "" && (p.held.state[role] == nil || n > newest[role]) {
			newest[role], p.held.state[role] = n, f.Body
		}
	}
	p.base, p.old = v, p.stale(newest)
	return nil
}

// stale finds what nothing in force names: after a start, its grace begins anew.
func (p *Publisher) stale(newest map[string]int64) map[string]time.Time {
	kept := p.old
	out := map[string]time.Time{}
	for path := range p.held.paths {
		role := roleOf(path)
		isOld := role != "" && role != tuf.Root && version(path) < newest[role]
		if strings.HasPrefix(path, "targets/plan/") {
			isOld = !bytes.Contains(p.held.state[tuf.Rollout], []byte(planDigest(path)))
		}
		if !isOld {
			continue
		}
		out[path] = p.Now()
		if since, known := kept[path]; known {
			out[path] = since
		}
	}
	return out
}

func planDigest(path string) string {
	return strings.TrimSuffix(strings.TrimPrefix(path, "targets/plan/"), ".plan.json")
}

// roleOf reads the role of a metadata file's path; empty for a target.
func roleOf(path string) string {
	if strings.Contains(path, "/") {
		return ""
	}
	name, ok := strings.CutSuffix(path, ".json")
	if !ok {
		return ""
	}
	if _, role, ok := strings.Cut(name, "."); ok {
		return role
	}
	return name
}

// version reads the number before a metadata file's name; 0 if there is none.
func version(path string) int64 {
	n, _, _ := strings.Cut(path, ".")
	v, err := strconv.ParseInt(n, 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// PublishPlan publishes a plan if the rollouts ask for another one than is in
// force. Before root and targets are published there is nothing to do.
func (p *Publisher) PublishPlan(ctx context.Context) error {
	return p.Change(ctx, nil, func(s *Step) (tuf.Change, error) {
		if s.State[tuf.Targets] == nil {
			return tuf.Change{}, errNothing
		}
		// The rollouts are read after the repository: who commits on this version of
		// it has seen every rollout that an earlier plan has seen.
		open, err := p.Repository.OpenRollouts(ctx)
		if err != nil {
			return tuf.Change{}, fmt.Errorf("publish plan: %w", err)
		}
		offers, err := p.offered(ctx, open)
		if err != nil {
			return tuf.Change{}, fmt.Errorf("publish plan: %w", err)
		}
		plan := rollout.Plan(s.plan.Version+1, s.Now, p.Cadence, offers)
		if s.State[tuf.Rollout] != nil && samePlan(plan, s.plan) {
			return tuf.Change{}, errNothing
		}
		return p.sign(ctx, s, plan)
	})
}

func (p *Publisher) sign(ctx context.Context, s *Step, plan release.Plan) (tuf.Change, error) {
	b, err := json.Marshal(plan)
	if err != nil {
		return tuf.Change{}, fmt.Errorf("publish plan %d: %w", plan.Version, err)
	}
	ch, err := s.repo.SetPlan(b, s.Now)
	if err != nil {
		return ch, fmt.Errorf("publish plan %d: %w", plan.Version, err)
	}
	sum := sha256.Sum256(b)
	if err := s.Note("plan.published", "plan", "server", map[string]any{"version": plan.Version, "sha256": hex.EncodeToString(sum[:]), "offers": len(plan.Offers)}); err != nil {
		return ch, err
	}
	p.Log.LogAttrs(ctx, slog.LevelInfo, "plan signed", slog.Int64("version", plan.Version), slog.Int("offers", len(plan.Offers)))
	return ch, nil
}

// Note adds a ledger entry to the step's commit.
func (s *Step) Note(kind, subject, actor string, body any) error {
	d, err := ledger.New(kind, subject, actor, body)
	if err != nil {
		return err
	}
	s.commit.Drafts = append(s.commit.Drafts, d)
	return nil
}

// Record has vendors, releases and unlisted releases recorded with the step.
func (s *Step) Record(vendors []store.Vendor, releases []store.Release, unlist []store.ReleaseKey) {
	s.commit.Vendors, s.commit.Releases, s.commit.Unlist = vendors, releases, unlist
}

// Repo is the repository to change.
func (s *Step) Repo() tuf.Repo { return s.repo }

// Nothing ends the step without a commit.
func (s *Step) Nothing() (tuf.Change, error) { return tuf.Change{}, errNothing }

func (p *Publisher) offered(ctx context.Context, open []store.Rollout) ([]rollout.Offered, error) {
	out := make([]rollout.Offered, len(open))
	for i, r := range open {
		out[i] = rollout.Offered{Rollout: r.ID, Product: r.Product, Version: r.Version, Digest: r.Digest, State: r.State, Pace: r.Pace, Policy: r.Policy, Seed: r.Seed, Halted: r.Halted}
		if r.Coverage.Chosen > 0 && r.Pace.Cover > 0 && r.State.Active() {
			var err error
			if out[i].Chosen, err = p.Repository.Chosen(ctx, r.ID); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// samePlan compares what two plans ask, whatever their version and time.
func samePlan(a, b release.Plan) bool {
	a.Version, a.Issued = b.Version, b.Issued
	ja, errA := json.Marshal(a)
	jb, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(ja, jb)
}

// Renew signs timestamp, snapshot and rollout afresh where their life is half
// over, and clears away superseded files.
func (p *Publisher) Renew(ctx context.Context) error {
	return p.Change(ctx, nil, func(s *Step) (tuf.Change, error) {
		if s.State[tuf.Timestamp] == nil {
			return tuf.Change{}, errNothing
		}
		ch, ok, err := s.repo.Renew(s.Now)
		if err != nil {
			return ch, fmt.Errorf("renew metadata: %w", err)
		}
		if !ok && len(p.due(s.Now, nil)) == 0 {
			return ch, errNothing
		}
		return ch, nil
	})
}

// State is the metadata in force.
func (p *Publisher) State(ctx context.Context) (tuf.State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.load(ctx); err != nil {
		return nil, err
	}
	return maps.Clone(p.held.state), nil
}
