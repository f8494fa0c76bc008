package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/sandbox"
	"github.com/headgate/headgate/agent/slot"
	"github.com/headgate/headgate/release"
)

// unit is one product on this endpoint: its slot and what runs of it. One loop
// owns all of it; others ask by do.
type unit struct {
	k       *Keeper
	product string
	dir     string
	log     *slog.Logger
	slot    *slot.Slot
	calls   chan func()
	wake    chan struct{}
	results chan result
	ended   chan struct{} // closed when the loop ended

	proc     *process // what runs, or nil
	ref      *slot.Ref
	manifest release.Manifest
	ready    time.Time // zero until ready
	applied  bool      // a command that is not long-running ended well
	startAt  time.Time // when to start again; zero is not at all
	ends     int       // ends since it last was up for long
	crashes  int64     // abnormal exits of the running version
	crashed  []time.Time
	failedAt time.Time // of a candidate, until the last known good runs

	switchedAt time.Time
	acks       int
	samples    []sample
	rss        int64

	checkAt  time.Time
	checking bool
	checked  int
	failing  string // why the last check failed, or empty
	meter    meter

	staging string // digest being staged
	cancel  context.CancelFunc
	work    sync.WaitGroup // checks under way

	mu   sync.Mutex // guards seen
	seen view
}

type sample struct {
	at  time.Time
	cpu time.Duration
}

// view is what others may read of a unit.
type view struct {
	status      ipc.Product
	record      slot.Record
	said        notice
	healthy, up bool
}

func (u *unit) run(ctx context.Context) {
	defer close(u.ended)
	tick := time.NewTicker(u.k.cfg.tick)
	defer tick.Stop()
	u.start()
	u.publish()
	for {
		var done chan struct{}
		if u.proc != nil {
			done = u.proc.done
		}
		select {
		case <-ctx.Done():
			u.shutdown()
			u.publish()
			return
		case f := <-u.calls:
			f()
		case <-done:
			u.exited()
		case r := <-u.results:
			u.checkedAs(r)
		case <-u.wake:
		case <-tick.C:
		}
		u.look()
		u.publish()
	}
}

// do runs f in the loop and waits for it; false if the loop has ended.
func (u *unit) do(f func()) bool {
	done := make(chan struct{})
	select {
	case u.calls <- func() { defer close(done); f(); u.publish() }: // whoever asked sees what became of it
		<-done
		return true
	case <-u.ended:
		return false
	}
}

func (u *unit) poke() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// start starts what the record says must run. A candidate costs a try, which is
// on disk before the exec.
func (u *unit) start() {
	u.startAt, u.ready, u.applied, u.samples, u.failing, u.checkAt, u.checked = time.Time{}, time.Time{}, false, nil, "", time.Time{}, 0
	r := u.slot.Record()
	u.ref = r.Runs()
	if u.ref == nil {
		if r.Safe != "" {
			u.log.Error("safe mode: nothing of this product runs", "reason", r.Safe)
		}
		return
	}
	if u.candidate() {
		if err := u.slot.Try(); err != nil {
			u.untried(err)
			return
		}
		if u.switchedAt.IsZero() { // a restart of the keeper: probation begins anew
			u.switchedAt = time.Now()
		}
	}
	u.meter.runs(u.ref.Digest, time.Now())
	if err := u.spawn(); err != nil {
		u.log.Error("version does not start", "digest", u.ref.Digest, "err", err)
		u.failed(true, false, err.Error())
		return
	}
	u.log.Info("version started", "version", u.ref.Version, "digest", u.ref.Digest, "pid", u.proc.cmd.Process.Pid)
}

// untried handles a candidate whose start could not be noted on disk.
func (u *unit) untried(err error) {
	if errors.Is(err, slot.ErrGrantExpired) {
		u.log.Warn("grant ended before the candidate was started", "digest", u.ref.Digest)
		if err := u.slot.Disarm(); err != nil {
			u.log.Error("way back is not on disk", "err", err)
		}
		u.start()
		return
	}
	u.revert("crash-loop", err.Error(), true)
}

func (u *unit) candidate() bool {
	s := u.slot.Record().State
	return s == slot.Switched || s == slot.Probation
}

func (u *unit) spawn() error {
	m, err := u.readManifest(u.ref)
	if err != nil {
		return err
	}
	u.manifest = m
	argv, env := u.command(m.Activate, u.ref, u.state())
	cmd, err := u.k.runner.Command(engineSpec, argv)
	if err != nil {
		return err
	}
	cmd.Env, cmd.Dir = env, u.state()
	if m.Activate.LongRunning { // what another command leaves running is its own affair
		cmd.Env = append(cmd.Env, unitMark+"="+u.dir)
	}
	if w := m.Activate.Watchdog.Std(); w > 0 {
		cmd.Env = append(cmd.Env, "WATCHDOG_USEC="+strconv.FormatInt(w.Microseconds(), 10))
	}
	u.proc, err = spawn(cmd, m.Activate.Notify, u.poke)
	return err
}

// engineSpec leaves an engine its work and takes what no engine needs.
var engineSpec = sandbox.Spec{AnyFile: true, Network: true}

func (u *unit) state() string { return filepath.Join(u.dir, "state") }

func (u *unit) folder(r *slot.Ref) string { return filepath.Join(u.dir, slot.Folder(r)) }

// command fills in a manifest's command and gives its whole environment.
func (u *unit) command(c release.Command, r *slot.Ref, state string) (argv, env []string) {
	fill := strings.NewReplacer("{slot}", u.folder(r), "{state}", state, "{headgate}", u.k.cfg.Executable)
	for _, a := range c.Run {
		argv = append(argv, fill.Replace(a))
	}
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return argv, []string{"PATH=" + path, "HOME=" + state, "LANG=C.UTF-8"}
}

func (u *unit) readManifest(r *slot.Ref) (release.Manifest, error) {
	f, err := slot.Disk(u.dir).Open(slot.Folder(r) + "/" + release.ManifestName)
	if err != nil {
		return release.Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	defer f.Close()
	b := make([]byte, release.MaxManifest+1)
	n := 0
	for n < len(b) {
		k, err := f.Read(b[n:])
		if n += k; err != nil {
			break
		}
	}
	return release.ParseManifest(b[:n])
}

// exited handles an end that we did not ask for.
func (u *unit) exited() {
	p := u.proc
	p.close()
	u.proc = nil
	u.k.remember(p)
	killStrays(u.dir)
	abnormal, text := p.outcome()
	if !u.manifest.Activate.LongRunning && !abnormal && p.killed == "" {
		u.applied = true
		u.becomeReady()
		return
	}
	u.log.Warn("version ended", "digest", u.ref.Digest, "abnormal", abnormal, "how", text)
	wasReady := !u.ready.IsZero()
	u.ready = time.Time{}
	u.failed(abnormal, wasReady, text)
}

// failed decides what follows an end: another start, or the way back.
func (u *unit) failed(abnormal, wasReady bool, text string) {
	if abnormal {
		u.crashes++
		u.meter.crashes.total++
	}
	if !u.candidate() {
		u.goodFailed(abnormal, text)
		return
	}
	if !wasReady && abnormal {
		u.revert("exit-before-ready", text, true)
		return
	}
	if abnormal {
		if err := u.slot.Crashed(); err != nil {
			u.log.Error("crash is not on disk", "err", err)
			u.revert("crash-loop", text, true)
			return
		}
		if n := u.slot.Record().Crashes; n >= slot.MaxCrashes {
			u.revert("crash-loop", fmt.Sprintf("%d abnormal exits in probation; the last: %s", n, text), true)
			return
		}
	}
	u.again()
}

func (u *unit) again() {
	u.startAt, u.ready = time.Now().Add(backoff(u.ends)), time.Time{}
	u.ends++
}

// goodFailed gives the last known good several chances, for there is little to
// put in its place.
func (u *unit) goodFailed(abnormal bool, text string) {
	now := time.Now()
	if abnormal {
		u.crashed = append(u.crashed, now)
	}
	for len(u.crashed) > 0 && now.Sub(u.crashed[0]) > goodWindow {
		u.crashed = u.crashed[1:]
	}
	if len(u.crashed) < goodCrashes {
		u.again()
		return
	}
	u.crashed = nil
	if u.slot.Record().Before != nil {
		u.revert("crash-loop", fmt.Sprintf("%d abnormal exits within %s; the last: %s", goodCrashes, goodWindow, text), true)
		return
	}
	u.log.Error("safe mode: the last known good fails too", "digest", u.ref.Digest, "how", text)
	if err := u.slot.Unsafe("last known good fails: " + text); err != nil {
		u.log.Error("safe mode is not on disk", "err", err)
	}
	u.ref = nil
}

// revert leaves what runs for the last known good.
func (u *unit) revert(reason, detail string, harmed bool) {
	u.log.Error("version is left", "reason", reason, "detail", detail, "harmed", harmed)
	u.failedAt = time.Now()
	u.stop()
	if err := u.slot.Revert(reason, detail, harmed); err != nil {
		u.log.Error("way back is not on disk", "err", err)
	}
	u.settled()
	u.start()
	u.slot.Collect()
}

// settled forgets what belonged to the version before.
func (u *unit) settled() {
	u.ends, u.crashes, u.crashed, u.acks, u.switchedAt = 0, 0, nil, 0, time.Time{}
}

// stop ends what runs: by the manifest's stop command if it has one.
func (u *unit) stop() {
	p := u.proc
	u.proc, u.startAt = nil, time.Time{}
	if u.ref != nil && len(u.manifest.Stop.Run) > 0 && (p != nil || u.applied) {
		argv, env := u.command(u.manifest.Stop, u.ref, u.state())
		res, err := u.k.runner.Run(context.Background(), engineSpec, u.state(), env, argv, timeout(u.manifest.Stop))
		if err != nil || !res.Passed() {
			u.log.Warn("stop command failed", "digest", u.ref.Digest, "exit", res.Exit, "timed_out", res.TimedOut, "err", err)
		}
	}
	u.applied = false
	if p == nil {
		return
	}
	grace := 10 * time.Second
	if t := u.manifest.Stop.Timeout.Std(); t > 0 {
		grace = t
	}
	if !u.failedAt.IsZero() {
		grace = min(grace, time.Second) // what failed has no claim on patience
	}
	p.end(grace)
	u.k.remember(p)
	killStrays(u.dir)
}

// shutdown is the keeper's own, clean end. What is not long-running stays in
// effect.
func (u *unit) shutdown() {
	if u.cancel != nil {
		u.cancel()
	}
	if u.proc != nil || u.manifest.Activate.LongRunning {
		u.stop()
	}
	if err := u.slot.Stopped(); err != nil {
		u.log.Error("clean stop is not on disk", "err", err)
	}
	u.work.Wait()
}
