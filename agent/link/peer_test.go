package link

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/agent/detect"
	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/link/linktest"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

// peer is keeper's end of the socket with a script instead of slots: these
// tests are about what link says and when. agent's tests join link with the real
// keeper.
type peer struct {
	t    *testing.T
	conn *ipc.Conn

	mu     sync.Mutex // guards all below
	status ipc.Product
	refuse *ipc.Answer // to Stage
	log    []string    // requests by name
	grants []ipc.Activate
	acked  []ipc.Acked
	checks map[string]ipc.Answer // to Check, by probe
	looked []ipc.Check
}

func (p *peer) Handle(_ context.Context, m ipc.Message) ipc.Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := ipc.Answer{OK: true}
	switch {
	case m.Stage != nil:
		a = p.stage(m.Stage)
	case m.Activate != nil:
		p.log = append(p.log, "activate")
		p.grants = append(p.grants, *m.Activate)
		s := p.status.Staged
		if s == nil || s.Digest != m.Activate.Digest {
			a = ipc.Answer{Reason: "not-staged"}
			break
		}
		p.status.Version, p.status.Digest, p.status.Staged = s.Version, s.Digest, nil
		p.status.Attempt = &ipc.Attempt{Rollout: m.Activate.Rollout, Digest: s.Digest, State: ipc.AttemptProbation, AgeUS: 1}
	case m.Acked != nil:
		p.acked = append(p.acked, *m.Acked)
	case m.Check != nil:
		p.looked = append(p.looked, *m.Check)
		a = p.checks[m.Check.Probe]
	case m.Drop != nil:
		p.log = append(p.log, "drop")
		p.status.Staged = nil
	case m.Revert != nil:
		p.log = append(p.log, "revert")
		p.status.Attempt = &ipc.Attempt{Rollout: m.Revert.Rollout, Digest: m.Revert.Digest, State: ipc.AttemptReverted, Reason: "ordered"}
		p.status.Version, p.status.Digest = "", ""
	}
	st := p.statusLocked()
	a.Status = &st
	return a
}

// stage checks what keeper would: the files are there, with these digests.
func (p *peer) stage(s *ipc.Stage) ipc.Answer {
	p.log = append(p.log, "stage")
	for _, f := range s.Files {
		b, err := os.ReadFile(filepath.Join(s.Dir, f.Path))
		sum := sha256.Sum256(b)
		if err != nil || hex.EncodeToString(sum[:]) != f.SHA256 {
			p.t.Errorf("staged file %s is not as said: %v", f.Path, err)
		}
	}
	if p.refuse != nil {
		p.status.Attempt = &ipc.Attempt{Rollout: s.Rollout, Digest: s.Digest, State: ipc.AttemptPreflightFailed, Reason: p.refuse.Reason, Detail: p.refuse.Detail}
		return *p.refuse
	}
	p.status.Staged = &ipc.Staged{Version: s.Version, Digest: s.Digest, Rollout: s.Rollout}
	p.status.Attempt = &ipc.Attempt{Rollout: s.Rollout, Digest: s.Digest, State: ipc.AttemptStaged}
	return ipc.Answer{OK: true}
}

func (p *peer) statusLocked() ipc.Status {
	prod := p.status
	if prod.Attempt != nil {
		a := *prod.Attempt
		prod.Attempt = &a
	}
	return ipc.Status{Products: []ipc.Product{prod}}
}

// set changes the status and pushes it, as keeper does.
func (p *peer) set(f func(*ipc.Product)) {
	p.mu.Lock()
	f(&p.status)
	st := p.statusLocked()
	p.mu.Unlock()
	if err := p.conn.Send(ipc.Message{Status: &st}); err != nil {
		p.t.Error(err)
	}
}

func (p *peer) count(name string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.log {
		if l == name {
			n++
		}
	}
	return n
}

// rig is a link between a world and a peer.
type rig struct {
	*peer
	w    *linktest.World
	id   Identity
	dir  string
	logs *logs
	done chan error
	stop context.CancelFunc

	maxBackoff time.Duration // 50 ms if 0
}

// logs collects what the link logs.
type logs struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), s)
}

func newRig(t *testing.T, w *linktest.World) *rig {
	t.Helper()
	resp, err := API(w.HTTP.Client(), w.HTTP.URL, "").Enrol(t.Context(), enrolRequest())
	if err != nil {
		t.Fatal(err)
	}
	m := resp.Msg
	r := &rig{w: w, dir: t.TempDir(), id: Identity{Server: w.HTTP.URL, Pin: w.Pin(), Endpoint: m.EndpointId, Tenant: m.Tenant, Token: m.Token, Root: m.Root}}
	r.peer = &peer{t: t, status: ipc.Product{Product: linktest.Product, Healthy: true}}
	return r
}

// start runs the link until the test ends or halt is called.
func (r *rig) start(t *testing.T) {
	t.Helper()
	conn, file, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	r.conn, r.logs = conn, &logs{}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- ipc.Serve(ctx, conn, r.peer) }()
	keeper := ipc.NewClient(inheritTest(t, file))
	r.done = make(chan error, 1)
	go func() {
		r.done <- Run(ctx, Config{Identity: r.id, Dir: r.dir, Keeper: keeper, Poll: 20 * time.Millisecond,
			MinBackoff: 5 * time.Millisecond, MaxBackoff: cmp.Or(r.maxBackoff, 50*time.Millisecond), Seed: 1, Log: slog.New(slog.NewTextHandler(r.logs, nil))})
	}()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			if err := conn.Send(ipc.Message{Shutdown: &ipc.Shutdown{}}); err != nil {
				t.Error(err)
			}
			if err := <-r.done; err != nil {
				t.Errorf("link ended: %v", err)
			}
			cancel()
			keeper.Close()
			<-served
		})
	}
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			lines := strings.SplitAfter(logged(r), "\n")
			t.Log(strings.Join(lines[max(0, len(lines)-12):], ""))
		}
	})
}

// inheritTest does what link's process does with its descriptor.
func inheritTest(t *testing.T, file *os.File) *ipc.Conn {
	t.Helper()
	fd, err := unix.Dup(int(file.Fd()))
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ipc.Inherit(uintptr(fd))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually waits for a condition with a deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 10 s: %s", what)
}

// publish serves a demo version and returns an offer of it to everybody.
func publish(t *testing.T, w *linktest.World, rollout int64, version string, custom ...release.Custom) release.Offer {
	t.Helper()
	dir := filepath.Join(t.TempDir(), version)
	if err := detect.DemoContent(version, dir); err != nil {
		t.Fatal(err)
	}
	rel := w.Publish(version, dir, custom...)
	return release.Offer{Rollout: rollout, Product: rel.Product, Version: version, Digest: rel.Digest, Action: release.ActionOffer,
		Seed: []byte("s"), Turn: 1, Probation: span.Duration(time.Minute)}
}

var planVersion int64

func plan(offers ...release.Offer) release.Plan {
	planVersion++
	return release.Plan{Schema: "headgate.plan/1", Version: planVersion, Issued: time.Now().UTC(), Poll: span.Duration(20 * time.Millisecond),
		PollJitter: 0.2, Beacon: span.Duration(40 * time.Millisecond), Offers: offers}
}

// last is the endpoint's newest beacon about the product.
func (r *rig) last() *v1.ProductState {
	bs := r.w.Beacons(r.id.Endpoint)
	if len(bs) == 0 {
		return &v1.ProductState{}
	}
	return bs[len(bs)-1].Products[0]
}
