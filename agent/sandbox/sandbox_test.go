package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is its own agent ("vet") and its own misbehaving content ("act").
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "vet" {
		os.Exit(VetMain(os.Args[2:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "act" {
		if err := act(os.Args[2], os.Args[3:]); err != nil {
			fmt.Println("denied:", err)
			os.Exit(9)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func act(what string, args []string) error {
	switch what {
	case "write":
		return os.WriteFile(args[0], []byte("x"), 0o600)
	case "read":
		_, err := os.ReadFile(args[0])
		return err
	case "dial":
		c, err := net.DialTimeout("tcp", args[0], time.Second)
		if err == nil {
			c.Close()
		}
		return err
	case "socket":
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		syscall.Close(fd)
		return err
	case "ptrace":
		return syscall.PtraceAttach(os.Getppid())
	case "mount":
		return syscall.Mount("none", "/tmp", "tmpfs", 0, "")
	case "unshare":
		return syscall.Unshare(syscall.CLONE_NEWUTS)
	case "memory":
		var hog [][]byte
		for range 64 {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			hog = append(hog, b)
		}
		fmt.Println(len(hog))
	case "spin":
		for i := 0; ; i++ {
			_ = i
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "daemon": // a child in its own session, which outlives its parent if it can
		cmd := exec.Command(os.Args[0], "act", "sleep", args[0])
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd.Start()
	case "panic":
		panic("index out of range [20] with length 20")
	case "abort":
		signalSelf(syscall.SIGKILL)
	}
	return nil
}

func signalSelf(s syscall.Signal) { syscall.Kill(os.Getpid(), s); time.Sleep(time.Second) }

func runner(t *testing.T) Runner {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Runner{Executable: self}
}

func run(t *testing.T, spec Spec, timeout time.Duration, args ...string) Result {
	t.Helper()
	r := runner(t)
	spec.Read = append(spec.Read, r.Executable)
	res, err := r.Run(context.Background(), spec, "/", nil, append([]string{r.Executable, "act"}, args...), timeout)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func both(t *testing.T, f func(t *testing.T, spec Spec)) {
	for _, ns := range []bool{false, true} {
		t.Run(fmt.Sprintf("namespaces=%v", ns), func(t *testing.T) { f(t, Spec{Namespaces: ns, CPU: 20 * time.Second}) })
	}
}

func TestTheSandboxDeniesWhatContentNeverNeeds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	outside, scratch := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, spec Spec) {
		spec.Write = []string{scratch}
		features := run(t, spec, time.Minute, "nothing").Features
		for _, c := range []struct {
			needs string
			args  []string
		}{
			{Landlock, []string{"write", filepath.Join(outside, "new")}},
			{Landlock, []string{"read", secret}},
			{Seccomp, []string{"dial", l.Addr().String()}},
			{Seccomp, []string{"socket"}},
			{Seccomp, []string{"ptrace"}},
			{Seccomp, []string{"mount"}},
			{Seccomp, []string{"unshare"}},
		} {
			if !slices.Contains(features, c.needs) {
				t.Logf("%v: this host has no %s", c.args, c.needs)
				continue
			}
			if res := run(t, spec, time.Minute, c.args...); res.Exit != 9 {
				t.Errorf("%v was not denied: %+v %s", c.args, res, res.Output)
			}
		}
		if res := run(t, spec, time.Minute, "write", filepath.Join(scratch, "new")); !res.Passed() {
			t.Errorf("scratch folder is not writable: %s", res.Output)
		}
	})
}

func TestLimitsEndWhatDoesNotEndItself(t *testing.T) {
	both(t, func(t *testing.T, spec Spec) {
		res := run(t, spec, 300*time.Millisecond, "sleep")
		if !res.TimedOut || res.Passed() || res.Elapsed > 5*time.Second {
			t.Errorf("time: %+v", res)
		}
		spec.CPU = time.Second
		if res = run(t, spec, time.Minute, "spin"); res.Passed() || res.TimedOut {
			t.Errorf("processor: %+v", res)
		}
		spec.CPU, spec.Memory = 20*time.Second, 256<<20
		if raceDetector {
			spec.Memory = 0 // its own memory is beyond any limit
		} else if res = run(t, spec, time.Minute, "memory"); res.Passed() || !strings.Contains(string(res.Output), "out of memory") {
			t.Errorf("memory: %+v %s", res, res.Output)
		}
		spec.Memory, spec.FileSize = 0, 10
		scratch := t.TempDir()
		spec.Write = []string{scratch}
		run(t, spec, time.Minute, "write", filepath.Join(scratch, "small"))
		if b, _ := os.ReadFile(filepath.Join(scratch, "small")); len(b) != 1 {
			t.Error("a small file could not be written")
		}
	})
}

func TestAGrandchildThatLeftItsGroupDiesWithTheNamespace(t *testing.T) {
	mark := "mark-" + strconv.Itoa(os.Getpid())
	res := run(t, Spec{Namespaces: true}, time.Minute, "daemon", mark)
	if !slices.Contains(res.Features, UserNS) {
		t.Skip("this host permits no user namespaces")
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if b, _ := os.ReadFile(p); strings.Contains(string(b), mark) {
			t.Fatalf("%s lives on: %q", p, b)
		}
	}
}

func TestACrashIsToldFromAFailure(t *testing.T) {
	both(t, func(t *testing.T, spec Spec) {
		if res := run(t, spec, time.Minute, "panic"); !res.Crashed() {
			t.Errorf("panic: %+v", res)
		}
		if res := run(t, spec, time.Minute, "abort"); !res.Crashed() || res.Signal != int(syscall.SIGKILL) {
			t.Errorf("signal: %+v", res)
		}
		if res := run(t, spec, time.Minute, "read", "/nowhere"); res.Crashed() || res.Passed() {
			t.Errorf("failure: %+v", res)
		}
	})
}

func TestACommandThatCannotStartIsNoVerdict(t *testing.T) {
	both(t, func(t *testing.T, spec Spec) {
		_, err := runner(t).Run(context.Background(), spec, "/", nil, []string{"/no/such/program"}, time.Minute)
		if !errors.Is(err, ErrSetup) {
			t.Fatal(err)
		}
	})
}

func TestProbeNamesWhatIsInForce(t *testing.T) {
	features, err := runner(t).Probe(context.Background())
	if err != nil || !slices.Contains(features, NoNewPrivs) || !slices.Contains(features, Rlimits) {
		t.Fatal(features, err)
	}
	t.Log(features)
}

func BenchmarkSandboxedStart(b *testing.B) {
	self, _ := os.Executable()
	for b.Loop() {
		if _, err := (Runner{Executable: self}).Run(context.Background(), Spec{Namespaces: true}, "/", nil, []string{"/bin/true"}, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}
