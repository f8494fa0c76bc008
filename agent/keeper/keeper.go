// Package keeper is the supervisor of an endpoint: it owns the slots of all
// products, starts and watches their engines and link, vets a candidate in the
// sandbox, switches when link brings a grant, and goes back by itself when a
// rule says so.
//
// It opens no network connection, reads no content but the manifest, and is not
// replaced in the same step as what it supervises. Its decisions on a running
// version are the pure functions in rules.go.
//
// Its words: unit (one product here), probation, safe mode.
package keeper

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

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/sandbox"
	"github.com/headgate/headgate/agent/slot"
	"github.com/headgate/headgate/release"
)

// Config is what a keeper needs to know.
type Config struct {
	// Dir is the agent's folder; slots are in Dir/products/VENDOR/PRODUCT.
	Dir string
	// Executable is the agent's own binary, for the roles link and vet and for
	// "{headgate}" in manifests. Default: this process's.
	Executable string
	// Products, "vendor/product", that run here; at least one.
	Products []string
	// Link is the command line of link, which finds its socket at ipc.LinkFD.
	// Default: Executable link --dir Dir.
	Link   []string
	Logger *slog.Logger
	// BootIDFile names this boot. Default /proc/sys/kernel/random/boot_id.
	BootIDFile string
	// Tries is how often a candidate may be started before it is proven; default 4.
	Tries int
	// ControlLost is how long the control plane may be out of reach in probation;
	// default 10 m.
	ControlLost time.Duration
	// PreflightMemory and PreflightCPU limit preflight; default 2 GiB and 60 s.
	PreflightMemory uint64
	PreflightCPU    time.Duration

	// For tests of this package.
	tick        time.Duration
	controlLost time.Duration
	cpuWindow   time.Duration
	spans       []time.Duration // of counts: release.MeasureSpans
	fs          func(slot.FS) slot.FS
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" || len(c.Products) == 0 || c.Logger == nil {
		return c, fmt.Errorf("keeper: Dir, Products and Logger must be set")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("keeper: folder %s: %w", c.Dir, err)
	}
	c.Dir = dir
	if c.Executable == "" {
		if c.Executable, err = os.Executable(); err != nil {
			return c, fmt.Errorf("keeper: find own executable: %w", err)
		}
	}
	if len(c.Link) == 0 {
		c.Link = []string{c.Executable, "link", "--dir", c.Dir}
	}
	if c.BootIDFile == "" {
		c.BootIDFile = "/proc/sys/kernel/random/boot_id"
	}
	if c.fs == nil {
		c.fs = func(f slot.FS) slot.FS { return f }
	}
	c.controlLost = c.ControlLost
	if c.spans == nil {
		c.spans = release.MeasureSpans
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&c.tick, 250 * time.Millisecond}, {&c.controlLost, defaultControlLost}, {&c.cpuWindow, cpuWindow}, {&c.PreflightCPU, time.Minute}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.Tries == 0 {
		c.Tries = defaultTries
	}
	if c.PreflightMemory == 0 {
		c.PreflightMemory = 2 << 30
	}
	return c, nil
}

// Keeper is a running keeper; Run makes one.
type Keeper struct {
	cfg      Config
	ctx      context.Context
	log      *slog.Logger
	runner   sandbox.Runner
	features []string
	units    map[string]*unit
	order    []*unit
	news     chan struct{}
	probing  chan struct{} // holds one while a check's probe runs
	gone     atomic.Int64  // events of engines that ended
	goneLost atomic.Int64  // and the events that they lost

	mu   sync.Mutex // guards last
	last time.Time  // control plane was reached
}

// Run keeps the products of cfg until ctx ends, then stops everything cleanly:
// link says goodbye first, engines are stopped last. It returns an error only
// if it could not begin.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return fmt.Errorf("make agent folder: %w", err)
	}
	held, err := lock(cfg.Dir)
	if err != nil {
		return err
	}
	defer held.Close()
	k := &Keeper{cfg: cfg, ctx: ctx, log: cfg.Logger, runner: sandbox.Runner{Executable: cfg.Executable}, units: map[string]*unit{}, news: make(chan struct{}, 1), probing: make(chan struct{}, 1)}
	if k.features, err = k.runner.Probe(ctx); err != nil {
		// Not fatal: what runs must go on running. Preflight will say it again.
		k.log.Error("sandbox does not work here", "err", err)
	}
	for _, p := range cfg.Products {
		if err := k.add(p); err != nil {
			return err
		}
	}
	return k.keep(ctx)
}

// add opens a product's slot.
func (k *Keeper) add(product string) error {
	vendor, name, err := release.SplitProduct(product)
	if err != nil {
		return fmt.Errorf("keep product: %w", err)
	}
	if k.units[product] != nil {
		return fmt.Errorf("keep product %s: named twice", product)
	}
	dir := filepath.Join(k.cfg.Dir, "products", vendor, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep product %s: %w", product, err)
	}
	if n := killStrays(dir); n > 0 {
		k.log.Warn("ended processes that an earlier keeper left", "product", product, "count", n)
	}
	boot, err := bootID(k.cfg.BootIDFile)
	if err != nil {
		return fmt.Errorf("keep product %s: %w", product, err)
	}
	log := k.log.With("product", product)
	s, err := slot.Open(k.cfg.fs(slot.Disk(dir)), slot.Env{BootID: boot, Since: ipc.Boottime, Now: time.Now, Log: log})
	if err != nil {
		return fmt.Errorf("keep product %s: %w", product, err)
	}
	u := &unit{k: k, product: product, dir: dir, log: log, slot: s, calls: make(chan func()), wake: make(chan struct{}, 1), results: make(chan result, 1), meter: meter{spans: k.cfg.spans}, ended: make(chan struct{})}
	k.units[product] = u
	k.order = append(k.order, u)
	return nil
}

// keep runs everything; link's end comes before the engines'.
func (k *Keeper) keep(ctx context.Context) error {
	engines, stopEngines := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngines()
	var units, rest sync.WaitGroup
	for _, u := range k.order {
		units.Go(func() { u.run(engines) })
	}
	rest.Go(func() { k.keepLink(ctx) })
	rest.Go(func() { k.tellManager(ctx) })
	rest.Wait()
	stopEngines()
	units.Wait()
	return nil
}

func (k *Keeper) tellManager(ctx context.Context) {
	tellManager("READY=1\nSTATUS=keeping products")
	defer tellManager("STOPPING=1")
	every := managerWatchdog()
	if every == 0 {
		<-ctx.Done()
		return
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			tellManager("WATCHDOG=1")
		}
	}
}

// reached notes that the control plane answered.
func (k *Keeper) reached() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = time.Now()
}

// contact is when the control plane answered last, in this keeper's life.
func (k *Keeper) contact() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

// changed has link told of a new Status soon.
func (k *Keeper) changed() {
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// remember keeps the counters of an engine that ended; its CPU time the kernel
// adds to our children's.
func (k *Keeper) remember(p *process) {
	n := p.notice()
	k.gone.Add(n.events)
	k.goneLost.Add(n.lost)
}

// status is all that link may hear.
func (k *Keeper) status() ipc.Status {
	now := ipc.Boottime()
	use := treeUsage(os.Getpid())
	s := ipc.Status{Products: []ipc.Product{}, Vitals: ipc.Vitals{CPUUS: use.cpu.Microseconds(), RSSBytes: treeMemory(os.Getpid()), UptimeUS: now.Microseconds(), Sandbox: k.features, Events: k.gone.Load(), EventsLost: k.goneLost.Load()}}
	if s.Vitals.Sandbox == nil {
		s.Vitals.Sandbox = []string{}
	}
	for _, u := range k.order {
		v := u.view()
		p := v.status
		if p.Attempt != nil {
			a := *p.Attempt
			a.AgeUS = age(v.record.Attempt, u.slot.Boot(), now).Microseconds()
			p.Attempt = &a
		}
		s.Products = append(s.Products, p)
		s.Vitals.Events += v.said.events
		s.Vitals.EventsLost += v.said.lost
	}
	return s
}

// age is the time since an attempt's switch: by the clock since boot, or after
// another boot by the wall clock.
func age(a slot.Attempt, boot string, now time.Duration) time.Duration {
	switch {
	case a.SwitchedAt.IsZero():
		return 0
	case a.SwitchedBoot == boot:
		return max(0, now-a.SwitchedSince)
	}
	return max(0, time.Since(a.SwitchedAt))
}

// refuse makes a failed answer; what is not a Refusal is the disk's fault.
func refuse(err error) ipc.Answer {
	var r *ipc.Refusal
	switch {
	case errors.As(err, &r):
		return ipc.Answer{Reason: r.Reason, Detail: r.Detail}
	case isFull(err):
		return ipc.Answer{Reason: "disk-full", Detail: err.Error()}
	case errors.Is(err, slot.ErrGrantExpired):
		return ipc.Answer{Reason: "grant-expired", Detail: err.Error()}
	case errors.Is(err, slot.ErrContent), errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrInvalid):
		return ipc.Answer{Reason: "spool-mismatch", Detail: err.Error()}
	}
	return ipc.Answer{Reason: "io", Detail: err.Error()}
}
