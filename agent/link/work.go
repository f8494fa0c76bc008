package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/headgate/headgate/agent/ipc"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/artifact"
)

// Times of the work lane.
const (
	maxGrant     = 60 * time.Second // no grant lives longer, whatever the server says
	defaultRetry = 10 * time.Second // after a WAIT without a time
	limitPrefix  = "tenant-"        // begins the reasons that are a tenant's limits
	stallTimeout = time.Minute      // a download without a byte for so long has failed
)

// job is what the work lane does now.
type job struct {
	want   Want
	cancel context.CancelFunc
}

// outcome is how one try for one product ended.
type outcome struct {
	err     error
	retry   time.Duration  // after which to look again; 0 is when something changes
	refused bool           // not to be tried again with this plan
	bad     bool           // not to be tried again at all: preflight said no
	until   time.Duration  // the tenant's limits keep it from here for so long
	floor   *time.Duration // the vendor's word on the release, newly read
	status  *ipc.Status
}

// wants chooses for all products by what is known now.
func (l *link) wants(now time.Time) []Want {
	have := make([]Have, 0, len(l.status.Products))
	for _, p := range l.status.Products {
		have = append(have, Have{Product: p, Refused: l.refused, Deferred: l.deferred, Floors: l.floors.of, Now: now, Labels: l.Labels})
	}
	if l.plan.Schema == "" {
		return nil
	}
	return Choose(l.plan, l.Identity.Endpoint, have)
}

// nextWork starts the first thing that is due; orders to go back come first.
func (l *link) nextWork(ctx context.Context, now time.Time) {
	l.work.due = now.Add(never)
	var next *Want
	for _, w := range l.wants(now) {
		m := l.memoryOf(w.Product)
		if w.Wait > 0 {
			l.work.due = minTime(l.work.due, now.Add(w.Wait))
		}
		if m.code != w.Code {
			m.code = w.Code
			l.Log.Info("plan chosen", "product", w.Product, "do", string(w.Do), "code", w.Code, "detail", w.Detail)
		}
		if !l.toDo(w) {
			continue
		}
		if m.notBefore.After(now) {
			l.work.due = minTime(l.work.due, m.notBefore)
			continue
		}
		if next == nil || w.Do == DoRevert && next.Do != DoRevert {
			next = &w
		}
	}
	if next == nil {
		return
	}
	w := *next
	jctx, cancel := context.WithCancel(ctx)
	l.current = &job{w, cancel}
	staged := l.isStaged(w)
	l.start(&l.work, func() func() {
		defer cancel()
		out := l.carryOut(jctx, w, staged)
		finished := jctx.Err() == nil // asked before cancel, not after
		return func() { l.worked(w, out, finished) }
	})
}

// toDo tells whether a want needs work now: what is staged and held needs none.
// Staging a release replaces the record of the last attempt, so its end must
// have reached the server before.
func (l *link) toDo(w Want) bool {
	switch w.Do {
	case DoRevert:
		return true
	case DoAsk:
		return l.isStaged(w) || l.told(w.Product)
	case DoStage:
		return w.Code == "floor-unknown" || !l.isStaged(w) && l.told(w.Product)
	}
	return w.Drop != ""
}

func (l *link) isStaged(w Want) bool {
	p := l.product(w.Product)
	return p != nil && p.Staged != nil && p.Staged.Digest == w.Offer.Digest && p.Staged.Rollout == w.Offer.Rollout
}

func (l *link) memoryOf(product string) *memory {
	m := l.products[product]
	if m == nil {
		m = &memory{back: l.newBackoff()}
		l.products[product] = m
	}
	return m
}

// reconsider ends the present job if the new plan does not want it any more.
func (l *link) reconsider() {
	if l.current == nil || !l.work.busy {
		return
	}
	for _, w := range l.wants(time.Now()) {
		if w.Product == l.current.want.Product && (w.Do != l.current.want.Do || w.Offer.Digest != l.current.want.Offer.Digest) {
			l.current.cancel()
		}
	}
}

// worked takes an outcome into the loop's state.
func (l *link) worked(w Want, out outcome, finished bool) {
	now := time.Now()
	l.current = nil
	m := l.memoryOf(w.Product)
	if out.status != nil {
		l.took(*out.status)
	}
	l.work.due = now
	if out.floor != nil {
		l.grumble(l.floors.learn(w.Offer.Digest, *out.floor))
	}
	if out.refused || out.bad {
		l.refused[w.Offer.Digest] = out.bad
	}
	if out.until > 0 {
		l.deferred[w.Offer.Digest] = now.Add(Jitter(out.until, 0.2, l.rnd.Float64()))
	}
	switch {
	case !finished: // the plan changed its mind, or the agent stops
	case out.floor != nil && out.err == nil: // choose again with the vendor's word
		m.back.Reset()
	case out.err != nil:
		l.trouble(w.Product, out.err)
		pause := l.failed(m.back, out.err, 0)
		m.notBefore = now.Add(pause)
		l.Log.Warn("could not follow the plan", "product", w.Product, "rollout", w.Offer.Rollout, "do", string(w.Do), "err", out.err, "retry_in", pause)
	default:
		m.back.Reset()
		l.trouble(w.Product, nil)
		m.notBefore = now.Add(max(l.MinBackoff, Jitter(out.retry, 0.2, l.rnd.Float64())))
	}
}

// carryOut does one want; it runs as a job.
func (l *link) carryOut(ctx context.Context, w Want, staged bool) outcome {
	if w.Drop != "" {
		a, err := l.Keeper.Drop(ctx, ipc.Drop{Product: w.Product, Digest: w.Drop})
		if err = cmpErr(err, a.Err()); err != nil {
			return outcome{err: fmt.Errorf("drop %s: %w", w.Drop, err), status: a.Status}
		}
		if w.Do == DoNothing {
			return outcome{status: a.Status}
		}
	}
	if w.Do == DoRevert {
		a, err := l.Keeper.Revert(ctx, ipc.Revert{Product: w.Product, Digest: w.Offer.Digest, Rollout: w.Offer.Rollout, Reason: "ordered", Detail: w.Detail})
		if err = cmpErr(err, a.Err()); err != nil {
			return outcome{err: fmt.Errorf("go back from %s: %w", w.Offer.Version, err), status: a.Status}
		}
		// Keeper may still be on its way back; look again soon.
		return outcome{status: a.Status, retry: defaultRetry}
	}
	if w.Code == "floor-unknown" {
		rel, err := l.find(ctx, w.Offer)
		if err != nil {
			return outcome{err: err}
		}
		return outcome{floor: new(rel.Floor.Std())}
	}
	if !staged {
		if out, ok := l.stage(ctx, w); !ok {
			return out
		}
	}
	os.Remove(filepath.Join(l.spool, w.Offer.Digest+partialSuffix)) // what is staged needs no download
	if w.Do == DoStage {
		return l.withStatus(ctx, outcome{})
	}
	return l.ask(ctx, w)
}

func (l *link) withStatus(ctx context.Context, out outcome) outcome {
	if st, err := l.Keeper.Status(ctx); err == nil {
		out.status = &st
	}
	return out
}

// stage fetches, verifies and unpacks a release, and has keeper preflight it.
func (l *link) stage(ctx context.Context, w Want) (outcome, bool) {
	o := w.Offer
	rel, err := l.find(ctx, o)
	if err != nil {
		return outcome{err: err}, false
	}
	dir := filepath.Join(l.spool, rel.Digest)
	defer os.RemoveAll(dir) // keeper has its own copy by then, or does not want one
	files, err := l.fetch(ctx, rel, dir)
	if err != nil {
		return outcome{err: err}, false
	}
	a, err := l.Keeper.Stage(ctx, ipc.Stage{Product: o.Product, Version: o.Version, Digest: o.Digest, Rollout: o.Rollout, Dir: dir, Files: files})
	if err != nil {
		return outcome{err: fmt.Errorf("stage %s %s: %w", o.Product, o.Version, err)}, false
	}
	if a.OK {
		return outcome{}, true
	}
	if a.Reason != "busy" { // else it is wanted again
		os.Remove(dir + partialSuffix)
	}
	switch a.Reason {
	case "busy", "disk-full", "io", "spool-mismatch":
		return outcome{err: fmt.Errorf("stage %s %s: %w", o.Product, o.Version, a.Err()), status: a.Status}, false
	}
	// A verdict on the release, or keeper's own news: not to be tried again with
	// this plan. Keeper's status carries it to the server.
	l.Log.Warn("release refused before activation", "product", o.Product, "version", o.Version, "rollout", o.Rollout, "code", a.Reason, "detail", a.Detail)
	return outcome{status: a.Status, bad: a.Reason != "dropped" && a.Reason != "already-running"}, false
}

// find reads what the vendor signed about an offered release.
func (l *link) find(ctx context.Context, o release.Offer) (release.Release, error) {
	rel, err := l.repo.Target(ctx, time.Now(), o.Product, o.Version)
	if err != nil {
		return rel, fmt.Errorf("find %s %s: %w", o.Product, o.Version, err)
	}
	if rel.Digest != o.Digest {
		return rel, fmt.Errorf("find %s %s: the plan offers artifact %s, the vendor signed %s", o.Product, o.Version, o.Digest, rel.Digest)
	}
	return rel, nil
}

// fetch downloads an artifact into the spool and unpacks it as dir. What a try left
// of the download, this process's or one's before, is where it goes on.
func (l *link) fetch(ctx context.Context, rel release.Release, dir string) ([]ipc.File, error) {
	tar := dir + partialSuffix
	f, err := os.OpenFile(tar, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool %s %s: %w", rel.Product, rel.Version, err)
	}
	defer f.Close()
	if err := l.download(ctx, rel, f); err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			os.Remove(tar) // the room is for others to use meanwhile
		}
		return nil, fmt.Errorf("download %s %s: %w", rel.Product, rel.Version, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("spool %s %s: %w", rel.Product, rel.Version, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("spool %s %s: %w", rel.Product, rel.Version, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool %s %s: %w", rel.Product, rel.Version, err)
	}
	unpacked, err := artifact.Unpack(f, dir)
	if err != nil {
		os.Remove(tar)
		return nil, fmt.Errorf("unpack %s %s: %w", rel.Product, rel.Version, err)
	}
	files := make([]ipc.File, 0, len(unpacked))
	for _, u := range unpacked {
		files = append(files, ipc.File{Path: u.Path, SHA256: u.SHA256, Size: u.Size, Mode: uint32(u.Mode.Perm())})
	}
	return files, nil
}

// download ends when no byte moves for stallTimeout.
func (l *link) download(ctx context.Context, rel release.Release, f *os.File) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stallTimeout, func() { cancel(fmt.Errorf("no data for %s", stallTimeout)) })
	defer stalled.Stop()
	err := l.repo.DownloadRest(ctx, rel, &alive{f, stalled})
	if why := context.Cause(ctx); err != nil && why != nil && !errors.Is(err, why) {
		err = fmt.Errorf("%w: %w", err, why)
	}
	return err
}

// alive restarts a timer with each byte that moves.
type alive struct {
	f *os.File
	t *time.Timer
}

func (a *alive) Read(p []byte) (int, error) {
	a.t.Reset(stallTimeout)
	return a.f.Read(p)
}

func (a *alive) Write(p []byte) (int, error) {
	a.t.Reset(stallTimeout)
	return a.f.Write(p)
}

func (a *alive) Seek(offset int64, whence int) (int64, error) { return a.f.Seek(offset, whence) }

func (a *alive) Truncate(size int64) error { return a.f.Truncate(size) }

// partialSuffix ends the name of a download, after its digest.
const partialSuffix = ".tar"

// tidySpool leaves in the spool only downloads of what the plan offers: all that
// could go on.
func (l *link) tidySpool() error {
	all, err := os.ReadDir(l.spool)
	if err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	for _, e := range all {
		digest, partial := strings.CutSuffix(e.Name(), partialSuffix)
		offered := slices.ContainsFunc(l.plan.Offers, func(o release.Offer) bool { return o.Digest == digest })
		if !partial || !offered {
			err = errors.Join(err, os.RemoveAll(filepath.Join(l.spool, e.Name())))
		}
	}
	return err
}

// ask asks for a grant and, if there is one, has keeper switch.
func (l *link) ask(ctx context.Context, w Want) outcome {
	o := w.Offer
	// What was staged while the metadata was fresh is not installed from it later.
	if err := l.repo.Fresh(time.Now()); err != nil {
		return outcome{err: fmt.Errorf("ask for a grant under R-%d: %w", o.Rollout, err)}
	}
	// The grant's life counts from before the question: however long the answer
	// was under way, it never lives longer than the server meant.
	asked := ipc.Boottime()
	call, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := l.api.Grant(call, connect.NewRequest(&v1.GrantRequest{Rollout: o.Rollout, Digest: o.Digest}))
	if err != nil {
		return l.withStatus(ctx, outcome{err: fmt.Errorf("ask for a grant under R-%d: %w", o.Rollout, err)})
	}
	_, _ = l.Keeper.Reachable(ctx) // if keeper is gone, the loop will notice
	g := resp.Msg
	switch g.Verdict {
	case v1.GrantVerdict_GRANT_VERDICT_GRANTED:
		ttl := min(max(0, time.Duration(g.TtlUs)*time.Microsecond), maxGrant)
		return l.activate(ctx, o, asked+ttl)
	case v1.GrantVerdict_GRANT_VERDICT_WAIT:
		retry := time.Duration(g.RetryAfterUs) * time.Microsecond
		if retry <= 0 {
			retry = defaultRetry
		}
		l.Log.Debug("grant: wait", "rollout", o.Rollout, "code", g.Reason, "retry_in", retry)
		if strings.HasPrefix(g.Reason, limitPrefix) {
			return l.withStatus(ctx, outcome{until: retry})
		}
		return l.withStatus(ctx, outcome{retry: retry})
	case v1.GrantVerdict_GRANT_VERDICT_REFUSED:
		l.Log.Info("grant refused", "rollout", o.Rollout, "code", g.Reason, "detail", g.Detail)
		return l.withStatus(ctx, outcome{refused: true})
	}
	return outcome{err: fmt.Errorf("ask for a grant under R-%d: verdict %s is not known here", o.Rollout, g.Verdict)}
}

func (l *link) activate(ctx context.Context, o release.Offer, expires time.Duration) outcome {
	if ipc.Boottime() >= expires {
		return outcome{err: fmt.Errorf("activate %s %s: the grant ended before its answer came", o.Product, o.Version)}
	}
	a, err := l.Keeper.Activate(ctx, ipc.Activate{Product: o.Product, Digest: o.Digest, Rollout: o.Rollout, ExpiresUS: expires.Microseconds(), ProbationUS: o.Probation.Std().Microseconds()})
	if err = cmpErr(err, a.Err()); err != nil {
		return outcome{err: fmt.Errorf("activate %s %s: %w", o.Product, o.Version, err), status: a.Status}
	}
	l.Log.Info("release activated", "product", o.Product, "version", o.Version, "rollout", o.Rollout)
	return outcome{status: a.Status, retry: time.Second}
}

// cmpErr is the first error there is: the connection's, else keeper's answer.
func cmpErr(conn, answer error) error {
	if conn != nil {
		return conn
	}
	return answer
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
