package keeper

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/slot"
	"github.com/headgate/headgate/release"
)

// look brings the unit up to date with time and with what its engine said.
func (u *unit) look() {
	now := time.Now()
	if !u.startAt.IsZero() && !now.Before(u.startAt) {
		u.start()
	}
	if u.proc != nil && u.ready.IsZero() {
		a := u.manifest.Activate
		switch {
		case a.Notify && u.proc.notice().ready, a.LongRunning && !a.Notify && now.Sub(u.proc.started) >= time.Second:
			u.becomeReady()
		}
	}
	u.sample(now)
	u.judge(now)
	u.check(now)
}

func (u *unit) becomeReady() {
	now := time.Now()
	u.ready, u.checkAt = now, now
	if a := u.manifest.Activate; a.Notify || !a.LongRunning { // of any other the first check says it
		u.meter.ready(now)
	}
	if u.failedAt.IsZero() {
		return
	}
	if u.slot.Record().State == slot.Reverted {
		if err := u.slot.Down(now.Sub(u.failedAt)); err != nil {
			u.log.Error("down time is not on disk", "err", err)
		}
	}
	u.failedAt = time.Time{}
}

// sample measures the engine, once a second.
func (u *unit) sample(now time.Time) {
	if u.proc == nil {
		u.rss = 0
		return
	}
	if n := len(u.samples); n > 0 && now.Sub(u.samples[n-1].at) < time.Second {
		return
	}
	use := treeUsage(u.proc.cmd.Process.Pid)
	u.rss = use.rss
	u.samples = append(u.samples, sample{now, use.cpu})
	for len(u.samples) > 2 && now.Sub(u.samples[1].at) >= u.k.cfg.cpuWindow {
		u.samples = u.samples[1:]
	}
}

// cores is the mean use over the window, less than 0 before it is full.
func (u *unit) cores() float64 {
	if len(u.samples) < 2 {
		return -1
	}
	first, last := u.samples[0], u.samples[len(u.samples)-1]
	span := last.at.Sub(first.at)
	if span < u.k.cfg.cpuWindow {
		return -1
	}
	return float64(last.cpu-first.cpu) / float64(span)
}

func (u *unit) facts(now time.Time) facts {
	r := u.slot.Record()
	f := facts{
		now: now, readyAt: u.ready, activate: u.manifest.Activate, rss: u.rss, cores: u.cores(),
		probation: r.Probation, switchedAt: u.switchedAt, acks: u.acks, checked: u.checked,
		goodLoss: r.GoodLoss, reached: r.Reached, lastContact: u.k.contact(), controlLost: u.k.cfg.controlLost,
	}
	if u.proc != nil {
		f.started, f.said = u.proc.started, u.proc.notice()
	}
	return f
}

func (u *unit) judge(now time.Time) {
	if u.proc == nil && !u.applied {
		return
	}
	f := u.facts(now)
	if !u.candidate() {
		if r := f.alive(); r.reason != "" && u.proc != nil && u.proc.killed == "" {
			u.proc.killed = r.reason + ": " + r.detail // its end counts as a crash
			u.proc.kill()
		}
		return
	}
	r := f.candidate()
	switch {
	case r.reason != "":
		u.revert(r.reason, r.detail, true)
	case r.proven && !u.checking && u.failing == "":
		u.prove()
	}
}

func (u *unit) prove() {
	if err := u.slot.Prove(); err != nil {
		u.log.Error("proof is not on disk", "err", err) // it stays in probation
		return
	}
	u.log.Info("version is proven", "version", u.ref.Version, "digest", u.ref.Digest)
	u.ref = u.slot.Record().Good
	u.switchedAt, u.acks, u.ends = time.Time{}, 0, 0
	u.slot.Collect()
}

// check runs the manifest's check at its interval, one at a time, beside the loop.
func (u *unit) check(now time.Time) {
	if u.checking || u.ref == nil || u.ready.IsZero() || u.checkAt.IsZero() || now.Before(u.checkAt) {
		return
	}
	c, ref := u.manifest.Check, u.ref
	every := c.Interval.Std()
	if every <= 0 {
		every = 10 * time.Second
	}
	u.checkAt, u.checking = now.Add(every), true
	argv, env := u.command(c, ref, u.state())
	ctx, cancel := context.WithCancel(u.k.ctx)
	u.work.Go(func() {
		defer cancel()
		res, err := u.k.runner.Run(ctx, engineSpec, u.state(), env, argv, timeout(c))
		why := ""
		switch {
		case err != nil:
			why = err.Error()
		case res.TimedOut:
			why = fmt.Sprintf("no end after %s", timeout(c))
		case !res.Passed():
			why = fmt.Sprintf("exit status %d, signal %d: %s", res.Exit, res.Signal, lastLine(res.Output))
		}
		said, unread := release.ParseSaid(res.Output)
		u.results <- result{ref, why, said, unread} // has room: one check at a time
	})
}

// result is how a check of a version went; why is empty if it passed.
type result struct {
	ref    *slot.Ref
	why    string
	said   []release.Said
	unread error // of a measure that could not be read
}

// checkedAs takes a check's result, unless another version runs by now.
func (u *unit) checkedAs(r result) {
	u.checking = false
	if u.ref == nil || u.ref.Digest != r.ref.Digest || u.ready.IsZero() || u.k.ctx.Err() != nil {
		return
	}
	if r.unread != nil {
		u.log.Warn("the check says a measure that cannot be read", "digest", r.ref.Digest, "err", r.unread)
	}
	u.failing = r.why
	if r.why == "" {
		u.checked++
		u.meter.ready(time.Now())
		u.meter.take(r.said, time.Now())
		return
	}
	u.log.Warn("check failed", "digest", r.ref.Digest, "why", r.why)
	if u.candidate() {
		u.revert("check-failed", r.why, true)
	}
}

// publish lets others see the unit, and link hear of a change.
func (u *unit) publish() {
	r := u.slot.Record()
	v := view{record: r, up: u.ref != nil && !u.ready.IsZero(), healthy: u.ref != nil && !u.ready.IsZero() && u.failing == ""}
	if u.proc != nil {
		v.said = u.proc.notice()
	}
	v.status = productStatus(u.product, r, v.healthy, u.crashes)
	if u.ref != nil {
		v.status.Measures = u.meter.said(time.Now())
	}
	u.mu.Lock()
	changed := !sameStatus(u.seen.status, v.status)
	u.seen = v
	u.mu.Unlock()
	if changed {
		u.k.changed()
	}
}

func (u *unit) view() view {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen
}

func productStatus(product string, r slot.Record, healthy bool, crashes int64) ipc.Product {
	p := ipc.Product{Product: product, Healthy: healthy, Safe: r.Safe != "", Crashes: crashes}
	if run := r.Runs(); run != nil {
		p.Version, p.Digest = run.Version, run.Digest
	}
	back := r.Good
	if r.State != slot.Switched && r.State != slot.Probation {
		back = r.Before
	}
	if back != nil {
		p.LastGood = back.Digest
	}
	for _, q := range r.Quarantine {
		p.Quarantine = append(p.Quarantine, ipc.Quarantined{Digest: q.Digest, Reason: q.Reason})
	}
	a := ipc.Attempt{Rollout: r.Attempt.Rollout, Digest: r.Attempt.Digest, Reason: r.Attempt.Reason, Detail: r.Attempt.Detail, DownUS: r.Attempt.Down.Microseconds()}
	switch r.State {
	case slot.Vetted, slot.Granted, slot.Armed:
		a.State = ipc.AttemptStaged
		p.Staged = &ipc.Staged{Version: r.Candidate.Version, Digest: r.Candidate.Digest, Rollout: r.Attempt.Rollout}
	case slot.Refused:
		a.State = ipc.AttemptPreflightFailed
	case slot.Switched, slot.Probation:
		a.State = ipc.AttemptProbation
	case slot.Proven:
		a.State = ipc.AttemptProven
	case slot.Reverted:
		a.State = ipc.AttemptReverted
		if r.Attempt.Harmed {
			a.State = ipc.AttemptHarmed
		}
	default:
		return p
	}
	if a.Digest != "" {
		p.Attempt = &a
	}
	return p
}

func sameStatus(a, b ipc.Product) bool {
	if (a.Attempt == nil) != (b.Attempt == nil) || (a.Staged == nil) != (b.Staged == nil) {
		return false
	}
	if a.Attempt != nil && *a.Attempt != *b.Attempt || a.Staged != nil && *a.Staged != *b.Staged {
		return false
	}
	return a.Version == b.Version && a.Digest == b.Digest && a.Healthy == b.Healthy && a.Safe == b.Safe && a.Crashes == b.Crashes && a.LastGood == b.LastGood && len(a.Quarantine) == len(b.Quarantine)
}
