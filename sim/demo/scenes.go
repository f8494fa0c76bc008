package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/cli/live"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/rollout"
)

// policy is the default policy in a hurry: what takes hours in life takes
// seconds here. The rules are the same.
func (d *demo) policy() rollout.Policy {
	s := func(t time.Duration) span.Duration { return span.Duration(t) }
	p := rollout.DefaultPolicy()
	p.Name = "demo"
	p.Ladder, p.Growth = []int64{50, 1000}, 10
	for _, e := range d.named {
		p.Canaries = append(p.Canaries, e.ID)
	}
	p.Probation, p.GrantTTL, p.Grace = s(3*time.Second), s(10*time.Second), s(20*time.Second)
	p.FillTimeout = s(6 * time.Second)
	// Each age is a beacon of every endpoint, the controls included: two carry an
	// endpoint through probation.
	p.Poll, p.Beacon = s(2500*time.Millisecond), s(15*time.Second)
	p.Ages = []span.Duration{s(1500 * time.Millisecond), s(3500 * time.Millisecond)}
	return p
}

func (d *demo) goodRelease(ctx context.Context) error {
	d.line("")
	d.step("Release %s, which is good, goes out: canaries, then 50, then 1000, then everyone", versions[0])
	begun := time.Now()
	if err := d.each(ctx, []string{"rollout", "resume", "R-1"}); err != nil {
		return err
	}
	r, err := d.follow(ctx, versions[0], begun)
	if err != nil {
		return err
	}
	d.everyone(r)
	return nil
}

func (d *demo) badRelease(ctx context.Context) error {
	d.line("")
	d.step("Release %s expects a 21st input. The engine supplies 20. Every event of its preflight corpus", versions[1])
	d.line("         matches a wildcard there, so preflight passes; the first live event crashes the engine")
	if err := d.publish(ctx, versions[1]); err != nil {
		return err
	}
	r, err := d.rollOut(ctx, versions[1])
	if err != nil {
		return err
	}
	back, err := d.awaitBack(ctx, 2)
	if err != nil {
		return err
	}
	r.Hurt = back
	for _, h := range back {
		if h.RunsNow != versions[0] {
			r.StillDown++
		}
	}
	d.stopped(r)
	return nil
}

func (d *demo) fixedRelease(ctx context.Context) error {
	d.line("")
	d.step("Release %s is repaired, and goes out to everyone, the harmed ones included", versions[2])
	if err := d.publish(ctx, versions[2]); err != nil {
		return err
	}
	r, err := d.rollOut(ctx, versions[2])
	if err != nil {
		return err
	}
	d.everyone(r)
	return d.afterAll(ctx)
}

// startRollout starts a rollout by the demo's policy.
func (d *demo) startRollout(ctx context.Context, version string) error {
	b, err := json.Marshal(d.policy())
	if err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	file := d.path("policy.json")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	return d.each(ctx, []string{"rollout", "start", product, version, "--policy", file})
}

// rollOut starts a rollout and follows it to its stop.
func (d *demo) rollOut(ctx context.Context, version string) (*Release, error) {
	begun := time.Now()
	if err := d.startRollout(ctx, version); err != nil {
		return nil, err
	}
	return d.follow(ctx, version, begun)
}

// follow watches a rollout to its stop, and notes how it went.
func (d *demo) follow(ctx context.Context, version string, begun time.Time) (*Release, error) {
	id := len(d.sum.Releases) + 1
	last, err := d.watch(ctx, id)
	if err != nil {
		return nil, err
	}
	n := last.GetCounts()
	r := Release{Version: version, State: last.GetState(), Granted: n.GetExposed(), Proven: n.GetProven(), Harmed: n.GetHarmed(), Silent: n.GetSilent(),
		NeverTouched: int64(d.sum.Endpoints) - n.GetExposed(), Hurt: []Hurt{}}
	if end := time.UnixMicro(last.GetEndedUs()).Sub(begun).Seconds(); last.GetEndedUs() > 0 {
		if last.GetState() == string(rollout.Finished) {
			r.SecondsToAll = &end
		} else {
			r.SecondsToStop = &end
		}
	}
	d.sum.Releases = append(d.sum.Releases, r)
	return &d.sum.Releases[id-1], nil
}

// watchLimit is how long one rollout may take here.
const watchLimit = 5 * time.Minute

// watch shows a rollout until it stops.
func (d *demo) watch(ctx context.Context, id int) (*headgatev1.Rollout, error) {
	ctx, stop := context.WithTimeout(ctx, watchLimit)
	defer stop()
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, d.Headgate, "rollout", "watch", "R-"+strconv.Itoa(id), "-o", "json", "--until", "finished,halted,reverted,superseded")
	cmd.Env = d.env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("watch R-%d: %w", id, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watch R-%d: %w", id, err)
	}
	var last *headgatev1.Rollout
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m headgatev1.WatchRolloutResponse
		if err := protojson.Unmarshal(lines.Bytes(), &m); err != nil {
			stop()
			return nil, errors.Join(fmt.Errorf("watch R-%d: %w", id, err), cmd.Wait())
		}
		last = m.Rollout
		d.view.Show(last)
	}
	d.view.End()
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("watch R-%d: %w: %s", id, err, bytes.TrimSpace(errs.Bytes()))
	}
	if last == nil || !live.Done(last.State) {
		return nil, fmt.Errorf("watch R-%d: it ended before the rollout did", id)
	}
	return last, nil
}

// awaitBack waits until the endpoints that a rollout harmed run in health
// again, and tells how long each was down.
func (d *demo) awaitBack(ctx context.Context, id int64) ([]Hurt, error) {
	harmed, err := d.endpoints(ctx, "--rollout", fmt.Sprint("R-", id), "--state", "harmed")
	if err != nil {
		return nil, err
	}
	var hurt []Hurt
	for _, e := range harmed {
		h, err := d.awaitOne(ctx, e, id)
		if err != nil {
			return nil, err
		}
		hurt = append(hurt, h)
	}
	slices.SortFunc(hurt, func(a, b Hurt) int { return int(a.DownSeconds*1e6) - int(b.DownSeconds*1e6) })
	return hurt, nil
}

// backLimit is how long a harmed endpoint may take to be back, until it counts
// as down for good.
const backLimit = 30 * time.Second

func (d *demo) awaitOne(ctx context.Context, e endpoint, id int64) (Hurt, error) {
	h := Hurt{Endpoint: e.ID, Name: e.Name}
	for deadline := time.Now().Add(backLimit); ; {
		var res struct {
			Endpoint endpoint `json:"endpoint"`
		}
		if err := d.json(ctx, &res, "endpoint", "show", e.ID); err != nil {
			return h, err
		}
		h.RunsNow = res.Endpoint.runs()
		for _, x := range res.Endpoint.Exposures {
			if x.Rollout == id {
				h.Reason, h.DownSeconds = x.Reason, float64(x.DownUs)/1e6
			}
		}
		if h.RunsNow != "" || time.Now().After(deadline) {
			return h, nil
		}
		if err := wait(ctx, 250*time.Millisecond); err != nil {
			return h, err
		}
	}
}

// everyone checks a release that was to reach everybody unharmed.
func (d *demo) everyone(r *Release) {
	if r.State != string(rollout.Finished) || r.SecondsToAll == nil {
		d.sum.failf("%s should reach everyone; its rollout is %s", r.Version, r.State)
	}
	if r.Proven != int64(d.sum.Endpoints) || r.Harmed+r.Silent != 0 {
		d.sum.failf("%s should be proven on all %d endpoints and harm none; it is on %d, harmed %d, %d silent", r.Version, d.sum.Endpoints, r.Proven, r.Harmed, r.Silent)
	}
}

// stopped checks the release that was to be stopped at the canaries.
func (d *demo) stopped(r *Release) {
	if r.State != string(rollout.Reverted) && r.State != string(rollout.Halted) {
		d.sum.failf("%s should be stopped; its rollout is %s", r.Version, r.State)
	}
	if r.Granted > canaries {
		d.sum.failf("%s should touch the %d canaries at most; it touched %d endpoints", r.Version, canaries, r.Granted)
	}
	if r.Harmed == 0 || int64(len(r.Hurt)) != r.Harmed {
		d.sum.failf("%s should crash on the canaries for real; %d harmed, of whom %d are known", r.Version, r.Harmed, len(r.Hurt))
	}
	for _, h := range r.Hurt {
		if !slices.ContainsFunc(d.named, func(e endpoint) bool { return e.ID == h.Endpoint }) {
			d.sum.failf("%s harmed %s, which is no canary", r.Version, h.Name)
		}
		if h.RunsNow != versions[0] {
			d.sum.failf("%s should be back on %s by itself; it runs %q", h.Name, versions[0], h.RunsNow)
		}
	}
}

// afterAll looks at every endpoint when the last rollout is over.
func (d *demo) afterAll(ctx context.Context) error {
	all, err := d.endpoints(ctx)
	if err != nil {
		return err
	}
	wrong := 0
	for _, e := range all {
		if e.runs() != versions[2] {
			wrong++
		}
	}
	if wrong > 0 {
		d.sum.failf("everyone should run %s in health; %d of %d do not", versions[2], wrong, len(all))
	}
	touched, err := d.endpoints(ctx, "--rollout", "R-2")
	if err != nil {
		return err
	}
	if bad := &d.sum.Releases[1]; int64(len(touched)) != bad.Granted {
		d.sum.failf("nobody should get %s after the stop; %d had it then, %d had it in the end", bad.Version, bad.Granted, len(touched))
	}
	return nil
}

// verify checks the record that the server leaves, when nothing writes to it
// any more; or beside the running server, if it is to be kept.
func (d *demo) verify(ctx context.Context) error {
	d.line("")
	d.step("The record: every entry of the ledger, and every count")
	if err := d.alive(); err != nil {
		return err
	}
	d.sims.stop()
	d.sims = nil
	if !d.Keep {
		d.kids.stop()
	}
	v := d.checkDatabase(ctx, d.sum.failf)
	d.sum.LedgerOK, d.sum.DoctorOK, d.sum.ReplayOK = v.ledger, v.doctor, v.replay
	return nil
}

// verified is what of a database holds.
type verified struct{ ledger, doctor, replay bool }

// checkDatabase checks ledger, counts and decisions in the server's database, and
// tells failf what does not hold.
func (d *demo) checkDatabase(ctx context.Context, failf func(format string, a ...any)) (v verified) {
	database := d.path("server", "headgate.db")
	var ledger struct {
		Size int64 `json:"size"`
	}
	if err := d.json(ctx, &ledger, "ledger", "verify", "--database", database); err != nil {
		failf("%v", err)
	} else {
		v.ledger = true
		d.step("The ledger holds: %d entries", ledger.Size)
	}
	var found []struct {
		OK bool `json:"ok"`
	}
	if err := d.json(ctx, &found, "doctor", "--database", database); err != nil {
		failf("%v", err)
	} else {
		v.doctor = true
	}
	var again struct {
		Decisions int64 `json:"decisions"`
	}
	if err := d.json(ctx, &again, "review", "replay", "--database", database); err != nil {
		failf("%v", err)
	} else {
		v.replay = true
		d.step("Every one of the %d decisions, made again from what is recorded, comes out the same", again.Decisions)
	}
	return v
}
