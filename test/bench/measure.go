package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/store/storetest"
)

// rounds is how often each side of a comparison is measured, in turn.
const rounds = 5

// measureCheck compares an update check that finds nothing new with a bare
// handler that answers the same bytes to the same load.
func measureCheck(ctx context.Context, s settings, t *table) error {
	r, err := newRig(ctx, s, "", 0, s.endpoints[0], "check")
	if err != nil {
		return err
	}
	defer r.stop()
	etag, body, err := r.timestamp(ctx)
	if err != nil {
		return err
	}
	bare, addr, err := startBare(ctx, etag, body)
	if err != nil {
		return err
	}
	defer end(bare)
	check := func(host string) call {
		return call{
			request: fmt.Appendf(nil, "GET /tuf/timestamp.json HTTP/1.1\r\nHost: %s\r\nIf-None-Match: %s\r\n\r\n", host, etag),
			answer: func(status int, _ []byte) error {
				if status != http.StatusNotModified {
					return fmt.Errorf("an unchanged timestamp.json was answered with status %d", status)
				}
				return nil
			},
		}
	}
	var ours, theirs []time.Duration
	for range rounds {
		a, err := perCall(ctx, s, r.addr, check(r.addr), func() (time.Duration, error) { return cpuOf([]int{r.server.Process.Pid}) })
		if err != nil {
			return err
		}
		b, err := perCall(ctx, s, addr, check(addr), func() (time.Duration, error) { return cpuOf([]int{bare.Process.Pid}) })
		if err != nil {
			return err
		}
		ours, theirs = append(ours, a), append(theirs, b)
	}
	a, b := median(ours), median(theirs)
	t.add("update check with nothing new (304)", fmt.Sprintf("%.1f µs of CPU", float64(a)/1e3), fmt.Sprintf("bare net/http %.1f µs", float64(b)/1e3), fmt.Sprintf("%.2f (goal 0.80)", float64(b)/float64(a)))
	return nil
}

func startBare(ctx context.Context, etag string, body []byte) (*exec.Cmd, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	c := exec.CommandContext(ctx, self, "bare", etag)
	c.Stdin, c.Stderr = bytes.NewReader(body), os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := c.Start(); err != nil {
		return nil, "", err
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	return c, strings.TrimSpace(addr), err
}

// timestamp reads timestamp.json once the server has no more to publish.
func (r *rig) timestamp(ctx context.Context) (etag string, body []byte, err error) {
	for same := 0; same < 10 && ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		resp, err := http.Get("http://" + r.addr + "/tuf/timestamp.json")
		if err != nil {
			return "", nil, err
		}
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return "", nil, fmt.Errorf("read timestamp.json: %s %w", resp.Status, err)
		}
		now := resp.Header.Get("Etag")
		if same++; now != etag {
			same = 0
		}
		etag = now
	}
	return etag, body, ctx.Err()
}

// end asks a process to end and waits for it.
func end(c *exec.Cmd) {
	c.Process.Signal(syscall.SIGTERM)
	if err := c.Wait(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s ended: %v\n", c.Path, err)
	}
}

// perCall is the processor time of one call under load.
func perCall(ctx context.Context, s settings, addr string, c call, cpu func() (time.Duration, error)) (time.Duration, error) {
	before, err := cpu()
	if err != nil {
		return 0, err
	}
	n, err := drive(ctx, addr, 32, repeat(c, s.seconds/rounds))
	if err != nil {
		return 0, err
	}
	after, err := cpu()
	return (after - before) / time.Duration(max(n, 1)), err
}

// fleetFigures are what measureFleet found: what as many pairs and held asks cost,
// how many a window of 100 let through, bytes of the server.
type fleetFigures struct {
	pairs   int
	proven  cost // of all pairs
	held    cost // of as many held asks
	through int64
	memory  int64
}

// perSecond is how many there were for each second of processor time.
func (f fleetFigures) perSecond(c cost) float64 { return float64(f.pairs) / c.total().Seconds() }

// add is both measurements as one.
func (f fleetFigures) add(m fleetFigures) fleetFigures {
	return fleetFigures{f.pairs + m.pairs, f.proven.plus(m.proven), f.held.plus(m.held), m.through, max(f.memory, m.memory)}
}

func measureFleet(ctx context.Context, s settings, e engine, dsn string, n int) (f fleetFigures, err error) {
	r, err := newRig(ctx, s, dsn, e.pid, n, fmt.Sprintf("%s-%d", e.name, n))
	if err != nil {
		return f, err
	}
	defer r.stop()
	digest, err := r.rollout(ctx, s.headgate, 100)
	if err != nil {
		return f, err
	}
	if err := r.ready(ctx, s, 1); err != nil {
		return f, err
	}
	f.pairs = min(s.pairs, n)
	if n == s.endpoints[0] { // 100 may go: everybody asks
		if f.through, _, err = r.ask(ctx, s, digest, 1, 0, n); err != nil {
			return f, err
		}
	}
	if _, f.held, err = r.ask(ctx, s, digest, 1, 0, f.pairs); err != nil {
		return f, err
	}
	if _, err := r.headgate(ctx, s.headgate, "rollout", "halt", "R-1", "--why", "bench"); err != nil {
		return f, err
	}
	if _, err := r.rollout(ctx, s.headgate, 2*n); err != nil {
		return f, err
	}
	if err := r.ready(ctx, s, 2); err != nil {
		return f, err
	}
	if f.proven, err = r.grantAndProve(ctx, s, digest, 2, f.pairs); err != nil {
		return f, err
	}
	m, err := memoryOf([]int{r.server.Process.Pid})
	f.memory = m.shared
	return f, err
}

// token is that of the i-th endpoint to ask.
func (r *rig) token(i int) string {
	i = r.order[i]
	secret := storetest.Secret(i)
	return "hge_" + strings.TrimPrefix(ids.Format("E", r.ids[i]), "E-") + "_" + base64.RawURLEncoding.EncodeToString(secret[:])
}

// grant makes the i-th endpoint's request for a grant.
func (r *rig) grant(i int, rollout int64, digest string) []byte {
	b, err := proto.Marshal(&headgatev1.GrantRequest{Rollout: rollout, Digest: digest})
	if err != nil {
		panic("bench: a message of our own does not encode: " + err.Error())
	}
	return post(r.addr, headgatev1connect.AgentServiceGrantProcedure, r.token(i), b)
}

// ready waits until the server's first decision has let somebody in.
func (r *rig) ready(ctx context.Context, s settings, rollout int64) error {
	for ctx.Err() == nil {
		out, err := r.headgate(ctx, s.headgate, "rollout", "show", fmt.Sprint("R-", rollout))
		if err != nil {
			return err
		}
		var is struct {
			Rollout struct {
				Ceiling int64 `json:"ceiling,string"`
			} `json:"rollout"`
		}
		if err := json.Unmarshal(out, &is); err != nil {
			return fmt.Errorf("read the rollout: %w", err)
		}
		if is.Rollout.Ceiling > 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return ctx.Err()
}

// ask has endpoints from..to ask for a grant, all at once, and counts who got one.
func (r *rig) ask(ctx context.Context, s settings, digest string, rollout int64, from, to int) (granted int64, cpu cost, err error) {
	var yes atomic.Int64
	calls := make([]call, 0, to-from)
	for i := from; i < to; i++ {
		calls = append(calls, call{r.grant(i, rollout, digest), func(status int, body []byte) error {
			resp, err := grantAnswer(status, body)
			if resp.GetVerdict() == headgatev1.GrantVerdict_GRANT_VERDICT_GRANTED {
				yes.Add(1)
			}
			return err
		}})
	}
	cpu, err = r.timed(func() error {
		_, err := drive(ctx, r.addr, s.conns, inTurn(calls))
		return err
	})
	return yes.Load(), cpu, err
}

func grantAnswer(status int, body []byte) (*headgatev1.GrantResponse, error) {
	resp := new(headgatev1.GrantResponse)
	if status != http.StatusOK {
		return resp, fmt.Errorf("grant: status %d: %s", status, body)
	}
	return resp, proto.Unmarshal(body, resp)
}

// timed is the processor time that f costs the server and its database.
func (r *rig) timed(f func() error) (cost, error) {
	before, err := r.cpu()
	if err != nil {
		return cost{}, err
	}
	if err := f(); err != nil {
		return cost{}, err
	}
	after, err := r.cpu()
	return cost{after.server - before.server, after.database - before.database}, err
}

// grantAndProve has n endpoints ask, be granted, and report health, each on its
// connection right after its grant.
func (r *rig) grantAndProve(ctx context.Context, s settings, digest string, rollout int64, n int) (cost, error) {
	var mu sync.Mutex // guards beacons
	var beacons []call
	var proven atomic.Int64
	grants := make([]call, 0, n)
	for i := range n {
		beacon, err := proto.Marshal(&headgatev1.BeaconRequest{Seq: 1, Products: []*headgatev1.ProductState{{
			Product: product, Version: next, Digest: digest, Healthy: true,
			Attempt: &headgatev1.Attempt{Rollout: rollout, Digest: digest, State: headgatev1.AttemptState_ATTEMPT_STATE_PROVEN, AgeUs: 2000},
		}}, Vitals: &headgatev1.Vitals{CpuUs: 1e6, RssBytes: 40 << 20, UptimeUs: 1e9}})
		if err != nil {
			return cost{}, err
		}
		report := call{post(r.addr, headgatev1connect.AgentServiceBeaconProcedure, r.token(i), beacon), func(status int, body []byte) error {
			if status != http.StatusOK {
				return fmt.Errorf("beacon: status %d: %s", status, body)
			}
			proven.Add(1)
			return nil
		}}
		grants = append(grants, call{r.grant(i, rollout, digest), func(status int, body []byte) error {
			resp, err := grantAnswer(status, body)
			if err == nil && resp.Verdict != headgatev1.GrantVerdict_GRANT_VERDICT_GRANTED {
				err = fmt.Errorf("a grant was refused: %s: %s", resp.Reason, resp.Detail)
			}
			mu.Lock()
			defer mu.Unlock()
			beacons = append(beacons, report)
			return err
		}})
	}
	cpu, err := r.timed(func() error {
		if _, err := drive(ctx, r.addr, s.conns, inTurn(grants)); err != nil {
			return err
		}
		_, err := drive(ctx, r.addr, s.conns, inTurn(beacons))
		return err
	})
	if err != nil {
		return cost{}, err
	}
	return cpu, r.counted(ctx, s, rollout, n)
}

// counted checks that the server counts exactly the n proven.
func (r *rig) counted(ctx context.Context, s settings, rollout int64, n int) error {
	out, err := r.headgate(ctx, s.headgate, "rollout", "show", fmt.Sprint("R-", rollout))
	if err != nil {
		return err
	}
	if want := fmt.Sprintf(`"proven":"%d"`, n); !bytes.Contains(bytes.ReplaceAll(out, []byte(" "), nil), []byte(want)) {
		return fmt.Errorf("the server does not count %d proven: %s", n, out)
	}
	return nil
}
