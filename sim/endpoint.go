package sim

import (
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/link"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
)

const (
	staging = 2 * time.Second // download and preflight
	apply   = time.Second     // from the grant to the switch
	crashes = 3 * time.Second // from the switch until a crash loop is known and reverted
)

// poll is one endpoint's look at the plan, and what follows from it.
func (w *World) poll(e *Endpoint) {
	w.after(w.jitter(w.plan.Poll.Std()), func() { w.poll(e) })
	if e.online() && !w.Dead {
		if every := w.plan.Beacon.Std(); every != e.every {
			w.beaconEvery(e, every)
		}
		w.follow(e)
	}
}

// beaconEvery is a new plan's schedule: from the next interval on.
func (w *World) beaconEvery(e *Endpoint, every time.Duration) {
	e.every = every
	w.after(w.jitter(every/2), func() { w.beacon(e, every) })
}

// beacon says that the endpoint lives, until another schedule comes.
func (w *World) beacon(e *Endpoint, every time.Duration) {
	if e.down || e.every != every {
		return
	}
	w.after(w.jitter(every), func() { w.beacon(e, every) })
	if !e.cut && !w.Dead {
		e.lastSeen = w.Now
	}
}

// follow does what the agent's own choice says.
func (w *World) follow(e *Endpoint) {
	have := link.Have{Product: ipc.Product{Product: Product, Version: e.Version, Digest: e.digest}}
	for d := range e.quarantine {
		have.Quarantine = append(have.Quarantine, ipc.Quarantined{Digest: d})
	}
	if e.staged != "" {
		have.Staged = &ipc.Staged{Digest: e.staged}
	}
	want := link.Choose(w.plan, e.ID, []link.Have{have})[0]
	if want.Drop != "" {
		e.staged = ""
	}
	switch want.Do {
	case link.DoRevert:
		w.revert(e, want.Offer, false)
	case link.DoStage:
		w.stage(e, want.Offer, func() {})
	case link.DoAsk:
		w.stage(e, want.Offer, func() { w.askAndActivate(e, want.Offer) })
	}
}

// stage downloads and runs preflight.
func (w *World) stage(e *Endpoint, o release.Offer, then func()) {
	if e.staged == o.Digest {
		then()
		return
	}
	w.after(w.jitter(staging), func() {
		if !e.online() || e.quarantine[o.Digest] {
			return
		}
		if w.faults[o.Digest] == Preflight {
			e.quarantine[o.Digest] = true
			w.rollout(o).Snapshot.PreflightFailed++
			return
		}
		e.staged = o.Digest
		then()
	})
}

func (w *World) rollout(o release.Offer) *Rollout { return w.rollouts[o.Rollout-1] }

func (w *World) askAndActivate(e *Endpoint, o release.Offer) {
	if w.Dead || !e.online() || e.staged != o.Digest {
		return // no answer, no activation
	}
	r := w.rollout(o)
	switch a := w.ask(r, e); a.Verdict {
	case rollout.Granted:
		w.after(w.jitter(apply), func() { w.activate(e, o) })
	case rollout.Wait:
		w.after(w.jitter(a.Retry), func() { w.followIfThere(e) })
	case rollout.Refused:
		e.staged = ""
	}
}

func (w *World) followIfThere(e *Endpoint) {
	if e.online() && !w.Dead {
		w.follow(e)
	}
}

// activate switches, and lets the fault strike or probation pass.
func (w *World) activate(e *Endpoint, o release.Offer) {
	if e.staged != o.Digest {
		return
	}
	e.lkg, e.Version, e.digest, e.staged = [2]string{e.Version, e.digest}, o.Version, o.Digest, ""
	e.probation++
	attempt := e.probation
	still := func(then func()) func() {
		return func() {
			if e.probation == attempt && e.digest == o.Digest {
				then()
			}
		}
	}
	prove := still(func() { w.report(e, o, health.Proven) })
	switch w.faults[o.Digest] {
	case Crash:
		w.after(w.jitter(crashes), still(func() { w.revert(e, o, true) }))
	case Hang:
		e.down = true
	case LateCrash:
		w.after(o.Probation.Std(), prove)
		w.after(o.Probation.Std()+w.jitter(10*time.Minute), still(func() { w.revert(e, o, true) }))
	default:
		w.after(o.Probation.Std(), prove)
	}
}

// revert goes back to the last known good, and says so.
func (w *World) revert(e *Endpoint, o release.Offer, failed bool) {
	e.Version, e.digest = e.lkg[0], e.lkg[1]
	e.quarantine[o.Digest] = true
	e.probation++
	if failed {
		w.report(e, o, health.Harmed)
	}
	w.tellReverted(e, o)
}

// report brings an outcome to the server, sooner or later: a beacon repeats
// until it is answered.
func (w *World) report(e *Endpoint, o release.Offer, to health.State) {
	if e.down {
		return
	}
	if e.cut || w.Dead {
		w.after(w.jitter(w.plan.Poll.Std()), func() { w.report(e, o, to) })
		return
	}
	r := w.rollout(o)
	w.settle(r, e.exposures[o.Rollout], to)
}

func (w *World) tellReverted(e *Endpoint, o release.Offer) {
	if e.down {
		return
	}
	if e.cut || w.Dead {
		w.after(w.jitter(w.plan.Poll.Std()), func() { w.tellReverted(e, o) })
		return
	}
	if x := e.exposures[o.Rollout]; !x.reverted {
		x.reverted = true
		w.rollout(o).Snapshot.Reverted++
	}
}

// Running counts the endpoints that run a version.
func (w *World) Running(version string) (n int) {
	for _, e := range w.Endpoints {
		if e.Version == version && !e.down {
			n++
		}
	}
	return n
}

// Touched counts the endpoints that were ever granted a rollout.
func (w *World) Touched(r *Rollout) (n int) {
	for _, e := range w.Endpoints {
		if e.exposures[r.Snapshot.Rollout] != nil {
			n++
		}
	}
	return n
}
