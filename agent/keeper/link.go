package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/sandbox"
	"github.com/headgate/headgate/agent/slot"
	"github.com/headgate/headgate/release"
)

// goodbye is how long link may take for its last beacon.
const goodbye = 5 * time.Second

// keepLink starts link again whenever it ends, until ctx ends.
func (k *Keeper) keepLink(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		began := time.Now()
		err := k.runLink(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			n = 0
		}
		k.log.Warn("link ended", "err", err, "again_in", backoff(n))
		select {
		case <-ctx.Done():
		case <-time.After(backoff(n)):
		}
	}
}

// runLink runs one link process to its end.
func (k *Keeper) runLink(ctx context.Context) error {
	conn, theirs, err := ipc.Pair()
	if err != nil {
		return err
	}
	cmd := exec.Command(k.cfg.Link[0], k.cfg.Link[1:]...)
	cmd.ExtraFiles = []*os.File{theirs} // becomes ipc.LinkFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "NOTIFY_SOCKET=") && !strings.HasPrefix(e, "WATCHDOG_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Stderr = &logRelay{log: k.log}
	p, err := spawn(cmd, false, nil)
	theirs.Close()
	if err != nil {
		conn.Close()
		return err
	}
	// Requests outlive ctx: link's goodbye comes after its end.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ipc.Serve(serving, conn, k); err != nil {
			k.log.Error("link spoke nonsense, ended", "err", err)
		}
		p.kill() // a link without its socket is of no use
	})
	wg.Go(func() { k.pushStatus(serving, conn) })
	select {
	case <-p.done:
	case <-ctx.Done():
		_ = conn.Send(ipc.Message{Shutdown: &ipc.Shutdown{}}) // if it is gone, so much the faster
		select {
		case <-p.done:
		case <-time.After(goodbye):
			p.end(time.Second)
		}
	}
	stop()
	wg.Wait()
	<-p.done
	return fmt.Errorf("link: %v", p.cmd.ProcessState) // what it had to say is in the log
}

func (k *Keeper) pushStatus(ctx context.Context, conn *ipc.Conn) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.news:
			s := k.status()
			if conn.Send(ipc.Message{Status: &s}) != nil {
				return
			}
		}
	}
}

// Handle answers one request of link.
func (k *Keeper) Handle(ctx context.Context, m ipc.Message) ipc.Answer {
	err := k.handle(ctx, m)
	a := ipc.Answer{OK: true}
	if err != nil {
		a = refuse(err)
	}
	s := k.status()
	a.Status = &s
	return a
}

func (k *Keeper) handle(ctx context.Context, m ipc.Message) error {
	switch {
	case m.Hello != nil:
		return nil
	case m.Reachable != nil:
		k.reached()
		return nil
	case m.Acked != nil:
		return k.acked(*m.Acked)
	case m.Stage != nil:
		return k.with(m.Stage.Product, func(u *unit) error { return u.stage(ctx, *m.Stage) })
	case m.Activate != nil:
		return k.with(m.Activate.Product, func(u *unit) error {
			return u.ask(func() error { return u.activate(*m.Activate) })
		})
	case m.Revert != nil:
		return k.with(m.Revert.Product, func(u *unit) error {
			return u.ask(func() error { return u.ordered(*m.Revert) })
		})
	case m.Drop != nil:
		return k.with(m.Drop.Product, func(u *unit) error {
			return u.ask(func() error { return u.dropIf(m.Drop.Digest) })
		})
	case m.Check != nil:
		return k.with(m.Check.Product, func(u *unit) error { return u.holds(ctx, release.Check(*m.Check)) })
	}
	return &ipc.Refusal{Reason: "unknown-request", Detail: "this keeper does not know the request"}
}

func (k *Keeper) with(product string, f func(*unit) error) error {
	u := k.units[product]
	if u == nil {
		return &ipc.Refusal{Reason: "unknown-product", Detail: product + " is not kept here"}
	}
	return f(u)
}

func (k *Keeper) acked(a ipc.Acked) error {
	k.reached()
	for _, r := range a.Running {
		u := k.units[r.Product]
		if u == nil {
			continue
		}
		u.do(func() {
			if u.candidate() && u.ref != nil && u.ref.Digest == r.Digest && !u.ready.IsZero() {
				u.acks++
			}
		})
	}
	return nil
}

// ask runs f in the unit's loop.
func (u *unit) ask(f func() error) (err error) {
	if !u.do(func() { err = f() }) {
		return &ipc.Refusal{Reason: "stopping", Detail: "the agent stops"}
	}
	return err
}

// stage copies, verifies and vets a release; it runs beside the loop.
func (u *unit) stage(ctx context.Context, s ipc.Stage) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun, err := false, error(nil)
	if err := u.ask(func() error { begun, err = u.beginStage(s, cancel); return err }); err != nil || !begun {
		return err
	}
	err = u.vet(ctx, s)
	if ctx.Err() != nil {
		err = &ipc.Refusal{Reason: "dropped", Detail: "the candidate was dropped meanwhile"}
	}
	u.do(func() {
		u.staging, u.cancel = "", nil
		if err != nil && u.slot.Record().State == slot.Staged {
			if err := u.slot.Drop(); err != nil {
				u.log.Error("candidate is not dropped", "err", err)
			}
		}
		u.slot.Collect()
	})
	return err
}

// beginStage says whether there is anything to do.
func (u *unit) beginStage(s ipc.Stage, cancel context.CancelFunc) (bool, error) {
	r := u.slot.Record()
	if why, ok := r.Quarantined(s.Digest); ok {
		return false, &ipc.Refusal{Reason: "quarantined", Detail: "it failed here before: " + why}
	}
	if run := r.Runs(); run != nil && run.Digest == s.Digest {
		return false, &ipc.Refusal{Reason: "already-running", Detail: "version " + run.Version + " runs"}
	}
	switch {
	case u.staging != "", u.candidate():
		return false, &ipc.Refusal{Reason: "busy", Detail: "another candidate is being staged or in probation"}
	case r.State == slot.Vetted && r.Candidate.Digest == s.Digest:
		return false, nil
	}
	u.staging, u.cancel = s.Digest, cancel
	return true, nil
}

func (u *unit) vet(ctx context.Context, s ipc.Stage) error {
	open, done, err := slot.Spool(s.Dir)
	if err != nil {
		return err
	}
	defer done() //nolint:errcheck // a folder that was only read
	files := make([]slot.Entry, len(s.Files))
	for i, f := range s.Files {
		files[i] = slot.Entry{Path: f.Path, SHA256: f.SHA256, Size: f.Size, Exec: f.Mode == 0o755}
	}
	ref, err := u.slot.Fetch(ctx, s.Digest, s.Version, s.Rollout, files, open)
	if err != nil {
		return err
	}
	if err := u.ask(func() error { return u.slot.Staged(ref) }); err != nil {
		return err
	}
	refused := u.preflight(ctx, &ref)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return u.ask(func() error {
		r := u.slot.Record()
		if r.State != slot.Staged || r.Candidate.Digest != ref.Digest {
			return &ipc.Refusal{Reason: "dropped", Detail: "the candidate was dropped meanwhile"}
		}
		var why *ipc.Refusal
		if errors.As(refused, &why) {
			return errors.Join(refused, u.slot.Refuse(why.Reason, why.Detail))
		}
		if refused != nil {
			return refused // no verdict on the release: it may be staged again
		}
		return u.slot.Vetted()
	})
}

// preflight has the candidate loaded in the sandbox. A Refusal is a verdict on
// the release; any other error is this host's fault.
func (u *unit) preflight(ctx context.Context, ref *slot.Ref) error {
	m, err := u.readManifest(ref)
	if err != nil {
		return &ipc.Refusal{Reason: "manifest", Detail: err.Error()}
	}
	scratch, err := os.MkdirTemp(u.dir, "scratch-")
	if err != nil {
		return fmt.Errorf("make preflight's scratch folder: %w", err)
	}
	defer os.RemoveAll(scratch)
	argv, env := u.command(m.Preflight, ref, scratch) // nothing live is in its reach
	env = append(env, "TMPDIR="+scratch)
	spec := sandbox.Spec{
		Read: []string{u.folder(ref), u.k.cfg.Executable}, Write: []string{scratch}, Namespaces: true,
		CPU: u.k.cfg.PreflightCPU, Memory: u.k.cfg.PreflightMemory, FileSize: 1 << 30, Files: 1024,
	}
	limit := timeout(m.Preflight)
	res, err := u.k.runner.Run(ctx, spec, scratch, env, argv, limit)
	switch {
	case errors.Is(err, sandbox.ErrSetup) && errors.Is(startable(argv[0]), os.ErrNotExist):
		return &ipc.Refusal{Reason: "preflight-failed", Detail: fmt.Sprintf("%s is not on this endpoint", argv[0])}
	case err != nil:
		return err
	case res.TimedOut:
		return &ipc.Refusal{Reason: "preflight-timeout", Detail: fmt.Sprintf("no end after %s", limit)}
	case res.Crashed():
		return &ipc.Refusal{Reason: "preflight-crash", Detail: fmt.Sprintf("exit status %d, signal %d: %s", res.Exit, res.Signal, lastLine(res.Output))}
	case !res.Passed():
		return &ipc.Refusal{Reason: "preflight-failed", Detail: fmt.Sprintf("exit status %d: %s", res.Exit, lastLine(res.Output))}
	}
	return nil
}

// startable looks for a program as the sandbox does.
func startable(name string) error {
	_, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		return os.ErrNotExist
	}
	return err
}

// activate switches to the candidate under a grant.
func (u *unit) activate(a ipc.Activate) error {
	r := u.slot.Record()
	if run := r.Runs(); run != nil && run.Digest == a.Digest {
		return nil // a repeat
	}
	if why, ok := r.Quarantined(a.Digest); ok {
		return &ipc.Refusal{Reason: "quarantined", Detail: "it failed here before: " + why}
	}
	if r.State != slot.Vetted || r.Candidate.Digest != a.Digest {
		return &ipc.Refusal{Reason: "not-staged", Detail: "state is " + string(r.State)}
	}
	expires := time.Duration(a.ExpiresUS) * time.Microsecond
	if left := expires - ipc.Boottime(); left <= 0 || left > maxGrant {
		return &ipc.Refusal{Reason: "grant-expired", Detail: fmt.Sprintf("%s left; want more than 0 and at most %s", left, maxGrant)}
	}
	last := u.k.contact()
	g := slot.Grant{
		Rollout: a.Rollout, Expires: expires, Probation: time.Duration(a.ProbationUS) * time.Microsecond, Tries: u.k.cfg.Tries,
		GoodLoss: -1, Reached: !last.IsZero() && time.Since(last) < contactHour,
	}
	if u.proc != nil {
		g.GoodLoss = lossShare(u.proc.notice())
	}
	if err := u.slot.Arm(g); err != nil {
		if back := u.slot.Disarm(); back != nil {
			u.log.Error("grant is not taken back", "err", back)
		}
		return err
	}
	u.stop()
	if err := u.slot.Switch(); err != nil { // the grant is checked here, last
		if back := u.slot.Disarm(); back != nil {
			u.log.Error("way back is not on disk", "err", back)
		}
		u.start()
		return err
	}
	u.settled()
	u.switchedAt = time.Now()
	u.start()
	if run := u.slot.Record().Runs(); run == nil || run.Digest != a.Digest {
		u.log.Warn("candidate did not survive its start", "digest", a.Digest)
	}
	return nil
}

const maxGrant = time.Minute

// ordered leaves a version because the server said so.
func (u *unit) ordered(o ipc.Revert) error {
	if run := u.slot.Record().Runs(); run == nil || run.Digest != o.Digest {
		return u.dropIf(o.Digest)
	}
	reason := o.Reason
	if reason == "" {
		reason = "ordered"
	}
	u.revert(reason, o.Detail, false)
	return nil
}

// dropIf forgets digest if it waits; otherwise there is nothing to do.
func (u *unit) dropIf(digest string) error {
	if u.staging == digest && u.cancel != nil {
		u.cancel()
		return nil
	}
	r := u.slot.Record()
	if r.State != slot.Vetted || r.Candidate.Digest != digest {
		return nil
	}
	err := u.slot.Drop()
	u.slot.Collect()
	return err
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func lastLine(b []byte) string {
	o := &output{tail: b}
	return o.telling()
}
