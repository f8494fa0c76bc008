package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/agent/detect"
	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/artifact"
	"github.com/headgate/headgate/release/tuf"
)

// liveEvents is how many live events a release must survive in the engine to
// count as good.
const liveEvents = 2000

// site is what the simulated endpoints share: verified metadata, and what each
// release does to an engine.
type site struct {
	repo *tuf.Client
	dir  string
	seed uint64
	log  *slog.Logger
	plan atomic.Pointer[release.Plan]

	refreshing sync.Mutex // held through a refresh: one at a time

	mu     sync.Mutex // guards trials
	trials map[string]*trial
}

// trial is what became of a release in the engine.
type trial struct {
	mu        sync.Mutex // held through the trial
	done      bool
	preflight string // why preflight refuses it; empty if it passes
	crash     string // what the live stream made it die of; empty if it lives
}

func newSite(dir string, root []byte, f tuf.Fetcher, seed uint64, log *slog.Logger) (*site, error) {
	repo, err := tuf.Open(filepath.Join(dir, "tuf"), root, f)
	if err != nil {
		return nil, fmt.Errorf("open the site's metadata: %w", err)
	}
	return &site{repo: repo, dir: dir, seed: seed, log: log, trials: map[string]*trial{}}, nil
}

// current brings the shared plan up to a timestamp that an endpoint has seen.
func (s *site) current(ctx context.Context, etag string) (*release.Plan, error) {
	if have, _ := s.repo.Timestamp(); have == etag && s.plan.Load() != nil {
		return s.plan.Load(), nil
	}
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	if have, _ := s.repo.Timestamp(); have == etag && s.plan.Load() != nil {
		return s.plan.Load(), nil
	}
	if _, err := s.repo.Refresh(ctx, time.Now()); err != nil {
		return nil, fmt.Errorf("refresh the site's metadata: %w", err)
	}
	p, err := s.repo.Plan()
	if errors.Is(err, tuf.ErrNotFound) {
		return nil, nil // nothing is rolled out yet
	}
	if err != nil {
		return nil, err
	}
	s.plan.Store(&p)
	return &p, nil
}

// try finds out, once per digest, what a release does. A failure to fetch it is
// not remembered.
func (s *site) try(ctx context.Context, o release.Offer) (*trial, error) {
	s.mu.Lock()
	t := s.trials[o.Digest]
	if t == nil {
		t = &trial{}
		s.trials[o.Digest] = t
	}
	s.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return t, nil
	}
	dir, err := s.fetch(ctx, o)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	t.preflight, t.crash = run(dir, s.seed)
	t.done = true
	s.log.Info("release tried in the engine", "product", o.Product, "version", o.Version, "preflight", t.preflight, "crash", t.crash)
	return t, nil
}

// fetch downloads, verifies and unpacks a release.
func (s *site) fetch(ctx context.Context, o release.Offer) (dir string, err error) {
	rel, err := s.repo.Target(ctx, time.Now(), o.Product, o.Version)
	if err != nil {
		return "", fmt.Errorf("find %s %s: %w", o.Product, o.Version, err)
	}
	if rel.Digest != o.Digest {
		return "", fmt.Errorf("find %s %s: the plan offers artifact %s, the vendor signed %s", o.Product, o.Version, o.Digest, rel.Digest)
	}
	f, err := os.CreateTemp(s.dir, "artifact-*")
	if err != nil {
		return "", fmt.Errorf("mirror %s %s: %w", o.Product, o.Version, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := s.repo.Download(ctx, rel, f); err != nil {
		return "", fmt.Errorf("download %s %s: %w", o.Product, o.Version, err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return "", fmt.Errorf("mirror %s %s: %w", o.Product, o.Version, err)
	}
	if dir, err = os.MkdirTemp(s.dir, "content-*"); err != nil {
		return "", fmt.Errorf("mirror %s %s: %w", o.Product, o.Version, err)
	}
	if _, err := artifact.Unpack(f, dir); err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("unpack %s %s: %w", o.Product, o.Version, err)
	}
	return dir, nil
}

// run loads content into the demo engine as preflight does, then as life does. A
// panic here is what a crash of the engine's process is elsewhere.
func run(dir string, seed uint64) (preflight, crash string) {
	e, err := detect.Load(dir)
	if err != nil {
		return err.Error(), ""
	}
	if p := caught(func() { _, err = e.Replay() }); p != "" {
		return p, ""
	}
	if err != nil {
		return err.Error(), ""
	}
	s := detect.NewStream(seed)
	return "", caught(func() {
		for range liveEvents {
			e.Evaluate(s.Next())
		}
	})
}

func caught(f func()) (died string) {
	defer func() {
		if r := recover(); r != nil {
			died = fmt.Sprint("panic: ", r)
		}
	}()
	f()
	return ""
}

// usage is what an endpoint has used and uses.
type usage struct {
	at  time.Time
	cpu float64 // microseconds
}

// vitals are those of an endpoint whose engines use a five-hundredth of a core and
// 40 MiB, an eighth more or less from one endpoint to another, times what its
// products' versions need.
func (e *endpoint) vitals(now time.Time) ipc.Vitals {
	own := 1 + (float64(uint32(e.i)*2654435761)/(1<<32)-0.5)/4
	cpu, memory := own, own
	for _, p := range e.products {
		if e.f.Needs != nil && p.Version != "" {
			c, m := e.f.Needs(p.Version)
			cpu, memory = cpu*c, memory*m
		}
	}
	up := now.Sub(e.started)
	if e.used.at.IsZero() {
		e.used.at = e.started
	}
	e.used.cpu += cpu * float64(now.Sub(e.used.at).Microseconds()) / 500
	e.used.at = now
	return ipc.Vitals{CPUUS: int64(e.used.cpu), RSSBytes: int64(memory * (40 << 20)), Events: int64(up.Seconds() * 200), UptimeUS: up.Microseconds()}
}
