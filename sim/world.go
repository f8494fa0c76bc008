// Package sim is a world in memory, in virtual time: a fleet whose endpoints
// crash, hang, vanish and come back, and a server that runs the same Decide,
// Admit and Plan as the real one. The same seed gives the same history.
//
// It never sleeps, opens no file and no socket; sim/wire is for the network.
package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
)

// Epoch is the first instant of every world.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Product is the one product of a world.
const Product = "acme/rules"

// Fault says what a version does to an endpoint that activates it.
type Fault string

// The faults.
const (
	Good      Fault = "good"      // none
	Crash     Fault = "crash"     // its first live event crashes it; the endpoint reverts and says so
	Hang      Fault = "hang"      // the endpoint never speaks again
	Preflight Fault = "preflight" // its preflight crashes; nothing is activated
	LateCrash Fault = "late"      // crashes after probation, while it is proven
)

// Endpoint is one endpoint of a world.
type Endpoint struct {
	ID      string
	Tenant  string
	Labels  fleet.Labels
	Domain  string
	Version string // what runs
	digest  string
	lkg     [2]string // version and digest of the last known good

	down       bool // hung: never speaks again
	cut        bool // no network
	exposures  map[int64]*exposure
	staged     string // digest that passed preflight
	quarantine map[string]bool
	probation  int // counts switches; an event of an older switch is void
	lastSeen   time.Time
	every      time.Duration // between beacons
}

type exposure struct {
	state    health.State
	granted  time.Time
	reverted bool
}

// online tells whether the endpoint could reach the server.
func (e *Endpoint) online() bool { return !e.down && !e.cut }

// Config says what a world is made of.
type Config struct {
	Seed      uint64
	Endpoints int
	Tick      time.Duration // between decisions; default 1s
	// Domains puts the first 2n endpoints into n failure domains of two each.
	Domains int
}

// World is a fleet and its server.
type World struct {
	Now       time.Time
	Endpoints []*Endpoint
	Head      ledger.Head
	Entries   []ledger.Entry
	// Dead means that the control plane is down: no decision, no grant, no report.
	Dead bool
	// OnDecision, if set, hears of each decision that changed something.
	OnDecision func(r *Rollout, d rollout.Decision)

	rng      *rand.Rand
	tick     time.Duration
	events   events
	seq      int64
	rollouts []*Rollout
	plan     release.Plan
	faults   map[string]Fault // by digest
}

// Rollout is one rollout of a world.
type Rollout struct {
	Snapshot rollout.Snapshot
	Digest   string
	Seed     []byte
	Last     rollout.Decision
	Ended    time.Time
	// MaxUnproven is the most that were ever exposed and unproven at once.
	MaxUnproven int64
	first       map[string]bool
	// resumeAskedBy waits for a second operator.
	resumeAskedBy string
}

// New makes a world.
func New(c Config) *World {
	w := &World{Now: Epoch, rng: rand.New(rand.NewPCG(c.Seed, 1)), tick: c.Tick, faults: map[string]Fault{}}
	if w.tick == 0 {
		w.tick = time.Second
	}
	for i := range c.Endpoints {
		e := &Endpoint{
			ID: fmt.Sprintf("E-%013d", i), Tenant: fmt.Sprint("tenant-", i%7), exposures: map[int64]*exposure{}, quarantine: map[string]bool{},
			Labels: fleet.Labels{"arch": []string{"amd64", "amd64", "amd64", "arm64"}[w.rng.IntN(4)], "os": fmt.Sprint("os-", w.rng.IntN(5))},
		}
		if i < 2*c.Domains {
			e.Domain, e.Tenant = fmt.Sprint("pair-", i/2), "tenant-pairs"
		}
		w.Endpoints = append(w.Endpoints, e)
	}
	w.publish()
	for _, e := range w.Endpoints {
		e.lastSeen = w.Now
		w.after(time.Duration(w.rng.Int64N(int64(w.plan.Poll))), func() { w.poll(e) })
		w.beaconEvery(e, w.plan.Beacon.Std())
	}
	w.after(w.tick, w.decide)
	return w
}

// event is something that happens at a time; seq keeps ties in order.
type event struct {
	at  time.Time
	seq int64
	do  func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].seq < q[j].seq
	}
	return q[i].at.Before(q[j].at)
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *events) Push(x any) { *q = append(*q, x.(event)) }

// Pop implements heap.Interface.
func (q *events) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

func (w *World) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.Now.Add(d), w.seq, do})
}

// jitter is d varied by up to ±20 %.
func (w *World) jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*w.rng.Float64()))
}

// Run lets the world go on for d, or until stop says so after an event.
func (w *World) Run(d time.Duration, stop func() bool) {
	end := w.Now.Add(d)
	for len(w.events) > 0 && !w.events[0].at.After(end) {
		e := heap.Pop(&w.events).(event)
		w.Now = e.at
		e.do()
		if stop != nil && stop() {
			return
		}
	}
	w.Now = end
}

// Cut takes a share of the endpoints off the network, or brings all back at 0.
func (w *World) Cut(share float64) {
	for _, e := range w.Endpoints {
		e.cut = w.rng.Float64() < share
	}
}

// record appends to the ledger.
func (w *World) record(kind, subject, actor string, v any) {
	d, err := ledger.New(kind, subject, actor, v)
	if err != nil {
		panic("sim: " + err.Error())
	}
	e, head, err := ledger.Append(w.Head, d, w.Now)
	if err != nil {
		panic("sim: " + err.Error())
	}
	w.Entries, w.Head = append(w.Entries, e), head
}
