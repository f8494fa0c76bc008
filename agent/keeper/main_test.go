package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/probe"
	"github.com/headgate/headgate/agent/sandbox"
	"github.com/headgate/headgate/agent/slot"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

// The test binary is every process of an agent: vet, link (which relays to the
// test), keeper, and the product's engine, which behaves as the file "mode" in
// its slot says.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case "vet":
		os.Exit(sandbox.VetMain(os.Args[2:]))
	case "probe":
		os.Exit(probe.Main(os.Args[2:]))
	case "probed": // a probe that is a command
		probed(os.Args[2])
	case "link":
		relay(os.Args[2])
	case "keeper":
		keeperMain(os.Args[2])
	case "engine":
		engineMain(os.Args[2])
	case "check":
		b, _ := os.ReadFile(filepath.Join(os.Args[2], "mode"))
		if strings.HasPrefix(string(b), "checkfail") {
			fmt.Println("EICAR not found")
			os.Exit(1)
		}
		if strings.HasPrefix(string(b), "measured") {
			runs, _ := os.ReadFile("runs")
			os.WriteFile("runs", append(runs, '.'), 0o600)
			fmt.Printf("4 samples\nheadgate: count false-positives %d\nheadgate: value exec-latency 0.25\nheadgate: count no number\n", 1000+3*len(runs))
		}
	case "preflight":
		if b, _ := os.ReadFile(filepath.Join(os.Args[2], "mode")); strings.HasPrefix(string(b), "badload") {
			panic("cannot load")
		}
	case "shot": // apply or stop, for a product that is not long-running
		if b, _ := os.ReadFile(filepath.Join(os.Args[3], "mode")); os.Args[2] == "apply" && strings.HasPrefix(string(b), "noapply") {
			os.Exit(3)
		}
		if f, err := os.OpenFile("applied", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			fmt.Fprintln(f, os.Args[2], filepath.Base(filepath.Dir(os.Args[3]))[:4])
		}
	default:
		os.Exit(m.Run())
	}
	os.Exit(0)
}

func probed(how string) {
	switch how {
	case "fails":
		os.Exit(1)
	case "hangs":
		time.Sleep(time.Hour)
	case "writes":
		if os.WriteFile(filepath.Join(os.Getenv("HOME"), "written"), []byte("content"), 0o600) != nil {
			os.Exit(4)
		}
	}
}

func relay(socket string) {
	up := os.NewFile(ipc.LinkFD, "keeper")
	down, err := net.Dial("unix", socket)
	if err != nil {
		os.Exit(1)
	}
	go func() { io.Copy(down, up); os.Exit(0) }()
	io.Copy(up, down)
}

func say(text string) {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		panic(err)
	}
	c.Write([]byte(text))
	c.Close()
}

func engineMain(dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "mode"))
	if err != nil {
		panic(err)
	}
	mode, _, _ := strings.Cut(string(b), " ")
	if mode == "early" {
		panic("before ready")
	}
	say("READY=1")
	switch mode {
	case "crash":
		panic("index out of range [20] with length 20")
	case "once": // crashes on its first start only
		if _, err := os.Stat("started"); err != nil {
			os.WriteFile("started", nil, 0o600)
			panic("first start")
		}
	case "measured": // crashes once after it was ready
		if _, err := os.Stat("started"); err != nil {
			os.WriteFile("started", nil, 0o600)
			go func() { time.Sleep(500 * time.Millisecond); panic("now and then") }()
		}
	case "fork": // a child that leaves the group
		cmd := exec.Command(os.Args[0], "engine", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if os.Getenv("CHILD") == "" {
			cmd.Env = append(os.Environ(), "CHILD=1")
			cmd.Start()
		}
	case "spin":
		go func() {
			for i := 0; ; i++ {
				_ = i
			}
		}()
	case "hog":
		hog := make([]byte, 200<<20)
		for i := 0; i < len(hog); i += 4096 {
			hog[i] = 1
		}
		defer func() { _ = hog[0] }()
	case "lossy":
		say("X_HEADGATE_EVENTS=500\nX_HEADGATE_LOST=500")
	case "good":
		say("X_HEADGATE_EVENTS=1000\nX_HEADGATE_LOST=0")
	}
	for mode != "silent" {
		say("WATCHDOG=1")
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Hour)
}

// keeperArgs are what a keeper process is told, for tests that kill it.
type keeperArgs struct {
	Dir, Socket, BootID string
	KillAfter           int // kill -9 ourselves after so many writes to the disk
}

func keeperMain(arg string) {
	var a keeperArgs
	if err := json.Unmarshal([]byte(arg), &a); err != nil {
		panic(err)
	}
	cfg := config(a.Dir, a.Socket, a.BootID)
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if a.KillAfter > 0 {
		cfg.fs = func(f slot.FS) slot.FS { return &killFS{FS: f, left: a.KillAfter} }
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// killFS kills the process after a number of operations that write.
type killFS struct {
	slot.FS
	mu   sync.Mutex
	left int
}

func (k *killFS) step(err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left--; k.left == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return err
}

func (k *killFS) Overwrite(p string, b []byte) error { return k.step(k.FS.Overwrite(p, b)) }
func (k *killFS) Link(a, b string) error             { return k.step(k.FS.Link(a, b)) }
func (k *killFS) Rename(a, b string) error           { return k.step(k.FS.Rename(a, b)) }
func (k *killFS) RemoveAll(p string) error           { return k.step(k.FS.RemoveAll(p)) }
func (k *killFS) SyncDir(p string) error             { return k.step(k.FS.SyncDir(p)) }
func (k *killFS) MkdirAll(p string) error            { return k.step(k.FS.MkdirAll(p)) }

const product = "acme/detect"

func config(dir, socket, boot string) Config {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Config{
		Dir: dir, Executable: self, Products: []string{product}, Link: []string{self, "link", socket}, BootIDFile: boot,
		Logger: slog.New(slog.DiscardHandler), tick: 20 * time.Millisecond, cpuWindow: time.Second,
	}
}

// box is one endpoint under test.
type box struct {
	t      *testing.T
	dir    string
	socket string
	boot   string
	listen net.Listener
	client *ipc.Client
	change func(*Config)
	stop   func()
}

func newBox(t *testing.T) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "hg") // short: a socket's path is
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, dir: dir, socket: filepath.Join(dir, "s"), boot: filepath.Join(dir, "boot")}
	b.setBoot("boot-1")
	if b.listen, err = net.Listen("unix", b.socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b.stop != nil {
			b.stop()
		}
		b.listen.Close()
		b.noneLeft()
		os.RemoveAll(dir)
	})
	return b
}

func (b *box) setBoot(id string) {
	if err := os.WriteFile(b.boot, []byte(id), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// start runs a keeper in this process and connects as its link.
func (b *box) start() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cfg := config(filepath.Join(b.dir, "agent"), b.socket, b.boot)
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if b.change != nil {
		b.change(&cfg)
	}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
		b.client.Close()
		b.stop = nil
	}
	b.connect()
}

func (b *box) connect() {
	b.t.Helper()
	b.listen.(*net.UnixListener).SetDeadline(time.Now().Add(20 * time.Second))
	c, err := b.listen.Accept()
	if err != nil {
		b.t.Fatal("link does not come: ", err)
	}
	client := ipc.NewClient(ipc.NewConn(c))
	b.client = client
	go func() { <-client.Shutdown(); client.Close() }()
}

// noneLeft fails if any process of this box lives on.
func (b *box) noneLeft() {
	b.t.Helper()
	var left []string
	for range 100 {
		left = nil
		procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range procs {
			if cmd, _ := os.ReadFile(p); strings.Contains(string(cmd), b.dir) {
				left = append(left, p+" "+strings.ReplaceAll(string(cmd), "\x00", " "))
			}
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Errorf("left over: %v", left)
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// command gives a manifest's command of the test binary.
func command(args ...string) release.Command { return release.Command{Run: args} }

func manifest(mode string) release.Manifest {
	m := release.Manifest{Schema: "headgate.manifest/1", Preflight: command("{headgate}", "preflight", "{slot}"), Check: command("{headgate}", "check", "{slot}")}
	m.Check.Interval = 100e6
	run := func(how string, limit span.Duration) release.Probe {
		return release.Probe{Kind: release.CheckCommand, Command: release.Command{Run: []string{"{headgate}", "probed", how}, Timeout: limit}}
	}
	m.Probes = map[string]release.Probe{
		"mode": {Kind: release.CheckHash, Path: "{slot}/mode"}, "out": {Kind: release.CheckHash, Path: "{state}/out"},
		"tls": {Kind: release.CheckSetting, Path: "{state}/app.conf", Key: "tls"}, "key": {Kind: release.CheckAge, Path: "{state}/key"},
		"self-test": run("ends", 0), "fails": run("fails", 0), "hangs": run("hangs", 500e6), "writes": run("writes", 0),
	}
	if strings.Contains(mode, "apply") {
		m.Activate, m.Stop = command("{headgate}", "shot", "apply", "{slot}"), command("{headgate}", "shot", "stop", "{slot}")
		return m
	}
	m.Activate = release.Command{Run: []string{"{headgate}", "engine", "{slot}"}, LongRunning: true, Notify: true, Watchdog: 2e9, MaxRSS: 150 << 20}
	switch mode {
	case "spin":
		m.Activate.MaxCPU = 0.3
	case "silent":
		m.Activate.Watchdog = 3e8
	}
	return m
}

// spool writes a version to the spool, as link does.
func (b *box) spool(version, mode string) ipc.Stage {
	b.t.Helper()
	m, err := json.Marshal(manifest(mode))
	if err != nil {
		b.t.Fatal(err)
	}
	st := ipc.Stage{Product: product, Version: version, Digest: sum(version + mode), Rollout: 7, Dir: filepath.Join(b.dir, "spool-"+version)}
	if err := os.MkdirAll(st.Dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	for name, content := range map[string]string{"headgate.json": string(m), "mode": mode + " " + version} {
		if err := os.WriteFile(filepath.Join(st.Dir, name), []byte(content), 0o644); err != nil {
			b.t.Fatal(err)
		}
		st.Files = append(st.Files, ipc.File{Path: name, SHA256: sum(content), Size: int64(len(content)), Mode: 0o644})
	}
	return st
}

func (b *box) stage(version, mode string) (ipc.Stage, ipc.Answer) {
	b.t.Helper()
	st := b.spool(version, mode)
	a, err := b.client.Stage(context.Background(), st)
	if err != nil {
		b.t.Fatal(err)
	}
	return st, a
}

func (b *box) activate(st ipc.Stage, probation time.Duration) ipc.Answer {
	b.t.Helper()
	a, err := b.client.Activate(context.Background(), ipc.Activate{Product: product, Digest: st.Digest, Rollout: 7, ExpiresUS: (ipc.Boottime() + 30*time.Second).Microseconds(), ProbationUS: probation.Microseconds()})
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func (b *box) ack(digest string) {
	if _, err := b.client.Acked(context.Background(), ipc.Acked{Seq: 1, Running: []ipc.Running{{Product: product, Digest: digest}}}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) product() ipc.Product {
	b.t.Helper()
	s, err := b.client.Status(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Products[0]
}

// until polls the product's status.
func (b *box) until(what string, ok func(ipc.Product) bool) ipc.Product {
	b.t.Helper()
	var p ipc.Product
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if p = b.product(); ok(p) {
			return p
		}
	}
	b.t.Fatalf("never %s: %+v %+v", what, p, p.Attempt)
	return p
}

// try stages and activates, and expects both to work.
func (b *box) try(version, mode string, probation time.Duration) ipc.Stage {
	b.t.Helper()
	st, a := b.stage(version, mode)
	if !a.OK {
		b.t.Fatal(a.Err())
	}
	if a := b.activate(st, probation); !a.OK {
		b.t.Fatal(a.Err())
	}
	return st
}

// install brings a version to proof.
func (b *box) install(version, mode string) ipc.Stage {
	b.t.Helper()
	st := b.try(version, mode, 50*time.Millisecond)
	b.until("proven", func(p ipc.Product) bool {
		b.ack(st.Digest)
		return p.Attempt != nil && p.Attempt.State == ipc.AttemptProven
	})
	b.until("healthy", func(p ipc.Product) bool { return p.Healthy })
	return st
}
