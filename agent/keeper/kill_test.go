package keeper

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/ipc"
)

func itoa(n int) string { return strconv.Itoa(n) }

func pids() []int {
	var out []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if n, err := strconv.Atoi(filepath.Base(d)); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// keeperProcess is a keeper that can be killed.
type keeperProcess struct {
	b   *box
	cmd *exec.Cmd
}

func (b *box) spawnKeeper(killAfter int) *keeperProcess {
	b.t.Helper()
	arg, err := json.Marshal(keeperArgs{Dir: filepath.Join(b.dir, "agent"), Socket: b.socket, BootID: b.boot, KillAfter: killAfter})
	if err != nil {
		b.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(self, "keeper", string(arg))
	if testing.Verbose() {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	k := &keeperProcess{b, cmd}
	b.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) // if the test failed before
	if killAfter == 0 {
		b.connect()
	}
	return k
}

// kill is kill -9; its children must not outlive it.
func (k *keeperProcess) kill() {
	k.cmd.Process.Kill()
	k.cmd.Wait()
	if k.b.client != nil {
		k.b.client.Close()
	}
	k.b.noneLeft()
}

// TestKill9AtEveryStepOfAnUpdateLeavesExactlyOneVersion kills the keeper after
// each of its writes to the disk in an update to a good and to a failing
// version, and starts it again.
func TestKill9AtEveryStepOfAnUpdateLeavesExactlyOneVersion(t *testing.T) {
	for _, mode := range []string{"good", "early"} {
		step := 1
		if testing.Short() {
			step = 9
		}
		killed := 0
		for n := 1; ; n += step {
			if !killOnce(t, mode, n) {
				break
			}
			killed++
		}
		t.Logf("update to a version that is %s: %d kills", mode, killed)
	}
}

// killOnce tells whether the update was still under way after n writes.
func killOnce(t *testing.T, mode string, n int) bool {
	b := newBox(t)
	k := b.spawnKeeper(0)
	good := b.install("1.0.0", "good")
	k.kill()
	k = b.spawnKeeper(n)
	dead := make(chan struct{})
	go func() { k.cmd.Wait(); close(dead) }()
	st := b.spool("2.0.0", mode)
	finished := make(chan bool, 1)
	go func() { finished <- b.drive(st) }()
	select {
	case <-dead:
	case ok := <-finished:
		if ok {
			k.kill()
			return false
		}
		select {
		case <-dead:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s, killed after %d: update failed, keeper lives", mode, n)
		}
	}
	b.noneLeft()
	k = b.spawnKeeper(0)
	defer k.kill()
	p := b.until("one version runs", func(p ipc.Product) bool { return p.Healthy })
	if p.Digest != good.Digest && (mode == "early" || p.Digest != st.Digest) || p.Safe || len(b.engines()) != 1 {
		t.Fatalf("%s, killed after %d: %+v %+v, engines %v", mode, n, p, p.Attempt, b.engines())
	}
	return true
}

// drive is an update as link does it, until it ends or keeper is gone.
func (b *box) drive(st ipc.Stage) bool {
	b.listen.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(5 * time.Second))
	c, err := b.listen.Accept()
	if err != nil {
		return false
	}
	client := ipc.NewClient(ipc.NewConn(c))
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if a, err := client.Stage(ctx, st); err != nil || !a.OK {
		return false
	}
	if a, err := client.Activate(ctx, ipc.Activate{Product: product, Digest: st.Digest, Rollout: 7, ExpiresUS: (ipc.Boottime() + 30*time.Second).Microseconds(), ProbationUS: 1}); err != nil || !a.OK {
		return false
	}
	for ctx.Err() == nil {
		a, err := client.Acked(ctx, ipc.Acked{Running: []ipc.Running{{Product: product, Digest: st.Digest}}})
		if err != nil {
			return false
		}
		p := a.Status.Products[0]
		if s := p.Attempt; s != nil && p.Healthy && (s.State == ipc.AttemptProven || s.State == ipc.AttemptHarmed && s.DownUS > 0) {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}
