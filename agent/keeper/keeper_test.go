package keeper

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/ipc"
)

func TestEachRevertRuleBringsBackTheLastKnownGood(t *testing.T) {
	for mode, reason := range map[string]string{
		"crash":     "crash-loop",
		"early":     "exit-before-ready",
		"silent":    "watchdog",
		"checkfail": "check-failed",
		"spin":      "cpu-budget",
		"hog":       "memory-budget",
		"lossy":     "event-loss",
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			b.start()
			good := b.install("1.0.0", "good")
			bad := b.try("2.0.0", mode, time.Minute)
			began := time.Now()
			p := b.until("back", func(p ipc.Product) bool {
				b.ack(bad.Digest)
				return p.Attempt.State == ipc.AttemptHarmed && p.Healthy && p.Attempt.DownUS > 0
			})
			if p.Digest != good.Digest || p.Attempt.Reason != reason || p.Attempt.Rollout != 7 || p.Attempt.Digest != bad.Digest || p.Safe {
				t.Fatalf("%+v %+v", p, p.Attempt)
			}
			t.Logf("back after %s, down %s: %s", time.Since(began).Round(time.Millisecond), time.Duration(p.Attempt.DownUS)*time.Microsecond, p.Attempt.Detail)
			if _, a := b.stage("2.0.0", mode); a.OK || a.Reason != "quarantined" {
				t.Fatalf("a failed digest was staged again: %+v", a)
			}
			b.install("3.0.0", "good")
		})
	}
}

func TestAProvenVersionGoesBackWhenOrderedAndIsNoFailure(t *testing.T) {
	b := newBox(t)
	b.start()
	good := b.install("1.0.0", "good")
	next := b.install("2.0.0", "good")
	a, err := b.client.Revert(context.Background(), ipc.Revert{Product: product, Digest: next.Digest, Rollout: 7, Reason: "ordered"})
	if err != nil || !a.OK {
		t.Fatal(a, err)
	}
	p := b.until("back", func(p ipc.Product) bool { return p.Healthy && p.Digest == good.Digest })
	if p.Attempt.State != ipc.AttemptReverted || p.Attempt.Reason != "ordered" || len(p.Quarantine) != 0 {
		t.Fatalf("%+v %+v", p, p.Attempt)
	}
	if a, _ := b.client.Revert(context.Background(), ipc.Revert{Product: product, Digest: next.Digest}); !a.OK {
		t.Fatalf("the order repeated: %+v", a)
	}
}

func TestOneCrashIsForgivenAndPersisted(t *testing.T) {
	b := newBox(t)
	b.start()
	b.install("1.0.0", "good")
	st := b.try("2.0.0", "once", 50*time.Millisecond)
	b.until("proven", func(p ipc.Product) bool {
		b.ack(st.Digest)
		return p.Attempt.State == ipc.AttemptProven
	})
}

func TestNoProofWithoutTwoBeaconsFromTheNewVersion(t *testing.T) {
	b := newBox(t)
	b.start()
	good := b.install("1.0.0", "good")
	st := b.try("2.0.0", "good", time.Millisecond)
	b.until("healthy", func(p ipc.Product) bool { return p.Healthy })
	b.ack(good.Digest) // of a beacon from before the switch
	b.ack(good.Digest)
	b.ack(st.Digest)
	time.Sleep(300 * time.Millisecond) // what must not happen has no event to wait for
	if p := b.product(); p.Attempt.State != ipc.AttemptProbation {
		t.Fatalf("%+v", p.Attempt)
	}
	b.ack(st.Digest)
	b.until("proven", func(p ipc.Product) bool { return p.Attempt.State == ipc.AttemptProven })
}

func TestALostControlPlaneRevertsOnlyIfTheOldVersionReachedIt(t *testing.T) {
	b := newBox(t)
	b.change = func(c *Config) { c.ControlLost = 300 * time.Millisecond }
	b.start()
	st := b.try("1.0.0", "good", time.Millisecond) // never reached it: stays
	time.Sleep(600 * time.Millisecond)
	if p := b.product(); p.Attempt.State != ipc.AttemptProbation {
		t.Fatalf("%+v", p.Attempt)
	}
	b.ack(st.Digest)
	b.ack(st.Digest)
	b.until("proven", func(p ipc.Product) bool { return p.Attempt.State == ipc.AttemptProven })
	b.try("2.0.0", "good", time.Hour)
	p := b.until("back", func(p ipc.Product) bool { return p.Attempt.State == ipc.AttemptHarmed })
	if p.Digest != st.Digest || p.Attempt.Reason != "control-plane-lost" {
		t.Fatalf("%+v", p.Attempt)
	}
}

func TestPreflightFailureCostsNothingAndIsQuarantined(t *testing.T) {
	b := newBox(t)
	b.start()
	good := b.install("1.0.0", "good")
	st, a := b.stage("2.0.0", "badload")
	if a.OK || a.Reason != "preflight-crash" {
		t.Fatalf("%+v", a)
	}
	p := b.product()
	if p.Digest != good.Digest || !p.Healthy || p.Attempt.State != ipc.AttemptPreflightFailed || p.Attempt.Digest != st.Digest {
		t.Fatalf("%+v %+v", p, p.Attempt)
	}
	if a := b.activate(st, time.Second); a.OK {
		t.Fatal("what failed preflight was activated")
	}
}

func TestNothingIsActivatedWithoutALivingGrant(t *testing.T) {
	b := newBox(t)
	b.start()
	good := b.install("1.0.0", "good")
	st, _ := b.stage("2.0.0", "good")
	for _, left := range []time.Duration{-time.Second, 10 * time.Minute} {
		a, err := b.client.Activate(context.Background(), ipc.Activate{Product: product, Digest: st.Digest, ExpiresUS: (ipc.Boottime() + left).Microseconds()})
		if err != nil || a.Reason != "grant-expired" {
			t.Fatal(left, a, err)
		}
	}
	if p := b.product(); p.Digest != good.Digest || p.Staged == nil {
		t.Fatalf("%+v", p)
	}
	if _, err := b.client.Drop(context.Background(), ipc.Drop{Product: product, Digest: st.Digest}); err != nil {
		t.Fatal(err)
	}
	if a := b.activate(st, time.Second); a.Reason != "not-staged" {
		t.Fatalf("%+v", a)
	}
}

func TestAnOperatorsStopIsNoCrash(t *testing.T) {
	b := newBox(t)
	b.start()
	b.install("1.0.0", "good")
	st := b.try("2.0.0", "good", time.Hour)
	for range 3 { // the agent is stopped and started
		b.until("healthy", func(p ipc.Product) bool { return p.Healthy && p.Digest == st.Digest })
		b.stop()
		b.start()
	}
	for range 2 { // and the engine, by hand
		b.until("healthy", func(p ipc.Product) bool { return p.Healthy })
		for _, pid := range b.engines() {
			syscall.Kill(pid, syscall.SIGTERM)
		}
		b.until("down", func(p ipc.Product) bool { return !p.Healthy })
	}
	if p := b.until("healthy", func(p ipc.Product) bool { return p.Healthy }); p.Digest != st.Digest || p.Crashes != 0 {
		t.Fatalf("%+v %+v", p, p.Attempt)
	}
}

func TestTwoUncleanBootsBringBackTheLastKnownGood(t *testing.T) {
	b := newBox(t)
	for i, boot := range []string{"boot-1", "boot-2", "boot-3"} {
		b.setBoot(boot)
		k := b.spawnKeeper(0)
		if i == 0 {
			b.install("1.0.0", "good")
			b.try("2.0.0", "good", time.Hour)
		}
		p := b.until("healthy", func(p ipc.Product) bool { return p.Healthy })
		if want := map[bool]string{true: "2.0.0", false: "1.0.0"}[i < 2]; p.Version != want {
			t.Fatalf("%s: %s runs, want %s; %+v", boot, p.Version, want, p.Attempt)
		}
		if i == 2 && p.Attempt.Reason != "unclean-boots" {
			t.Fatalf("%+v", p.Attempt)
		}
		k.kill()
	}
}

func TestAFailingLastKnownGoodEndsInSafeModeAndANewReleaseLeadsOut(t *testing.T) {
	b := newBox(t)
	b.start()
	b.install("1.0.0", "good")
	for range goodCrashes {
		b.until("healthy", func(p ipc.Product) bool { return p.Healthy })
		for _, pid := range b.engines() {
			syscall.Kill(pid, syscall.SIGSEGV)
		}
		b.until("down", func(p ipc.Product) bool { return !p.Healthy })
	}
	b.until("safe", func(p ipc.Product) bool { return p.Safe && p.Digest == "" })
	b.install("2.0.0", "good")
}

func TestAProductThatIsNotLongRunningIsAppliedAndStopped(t *testing.T) {
	b := newBox(t)
	b.start()
	one := b.install("1.0.0", "apply")
	b.try("2.0.0", "noapply", time.Hour)
	p := b.until("back", func(p ipc.Product) bool { return p.Attempt.State == ipc.AttemptHarmed && p.Healthy })
	if p.Digest != one.Digest || p.Attempt.Reason != "exit-before-ready" {
		t.Fatalf("%+v", p.Attempt)
	}
	log, err := os.ReadFile(filepath.Join(b.dir, "agent/products", product, "state/applied"))
	if short := one.Digest[:4]; err != nil || string(log) != "apply "+short+"\nstop "+short+"\napply "+short+"\n" {
		t.Fatalf("%q %v", log, err)
	}
}

func TestVitalsCountEveryProcess(t *testing.T) {
	b := newBox(t)
	b.start()
	b.install("1.0.0", "good")
	s, err := b.client.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if v := s.Vitals; v.RSSBytes < 1<<20 || v.CPUUS <= 0 || v.Events != 1000 || len(v.Sandbox) == 0 || v.UptimeUS <= 0 {
		t.Fatalf("%+v", v)
	}
}

func TestNoChildOfAnEngineIsLeftOver(t *testing.T) {
	for name, end := range map[string]func(b *box, k *keeperProcess){
		"version left": func(b *box, k *keeperProcess) { b.install("2.0.0", "good") },
		"engine killed": func(b *box, k *keeperProcess) {
			for _, pid := range b.engines() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			b.until("down", func(p ipc.Product) bool { return !p.Healthy })
		},
		"agent stopped": func(b *box, k *keeperProcess) {
			k.cmd.Process.Signal(syscall.SIGTERM)
			k.cmd.Wait()
		},
		"agent killed, and started": func(b *box, k *keeperProcess) {
			k.cmd.Process.Kill()
			k.cmd.Wait()
			again := b.spawnKeeper(0)
			b.until("healthy", func(p ipc.Product) bool { return p.Healthy })
			again.cmd.Process.Signal(syscall.SIGTERM)
			again.cmd.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			k := b.spawnKeeper(0)
			b.install("1.0.0", "fork")
			if n := len(b.engines()); n != 2 {
				t.Fatalf("%d engine processes, want one and its child", n)
			}
			before := b.engines()
			end(b, k)
			for range 200 {
				if !slices.ContainsFunc(b.engines(), func(pid int) bool { return slices.Contains(before, pid) }) {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if now := b.engines(); slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(before, pid) }) {
				t.Errorf("of %v live on %v", before, now)
			}
			k.cmd.Process.Signal(syscall.SIGTERM)
			k.cmd.Wait()
			b.client.Close()
		})
	}
}

func TestLinkIsStartedAgain(t *testing.T) {
	b := newBox(t)
	b.start()
	b.install("1.0.0", "good")
	b.client.Close() // the relay ends
	b.connect()
	if p := b.product(); !p.Healthy {
		t.Fatalf("%+v", p)
	}
}

func TestTwoKeepersNeverShareAFolder(t *testing.T) {
	b := newBox(t)
	b.start()
	if err := Run(context.Background(), config(filepath.Join(b.dir, "agent"), b.socket, b.boot)); err == nil {
		t.Fatal("a second keeper ran")
	}
}

func TestASpoolThatIsNotWhatLinkSaidIsRefused(t *testing.T) {
	b := newBox(t)
	b.start()
	st := b.spool("1.0.0", "good")
	if err := os.WriteFile(filepath.Join(st.Dir, "mode"), []byte("evil 1.0.0"), 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := b.client.Stage(context.Background(), st)
	if err != nil || a.Reason != "spool-mismatch" {
		t.Fatal(a, err)
	}
	if _, a := b.stage("1.0.0", "good"); !a.OK { // and it is no verdict on the release
		t.Fatal(a.Err())
	}
}

// engines are the pids of the engine processes of this box.
func (b *box) engines() []int {
	var out []int
	for _, pid := range pids() {
		cmd, _ := os.ReadFile(filepath.Join("/proc", itoa(pid), "cmdline"))
		if a := strings.Split(string(cmd), "\x00"); len(a) > 2 && a[1] == "engine" && strings.HasPrefix(a[2], b.dir) {
			out = append(out, pid)
		}
	}
	return out
}
