// Package sandbox runs a command in a child that can do little and not for
// long: resource limits, no_new_privs, Landlock, seccomp and, where they are
// permitted, namespaces of its own. It needs no privilege.
//
// What the kernel does not offer is left out and reported, never silently
// assumed: the features in force come back with the result. It does not judge
// the command's outcome and keeps nothing.
//
// The mechanism: the agent's own executable is started as "vet --spec JSON --
// command", limits itself, and becomes (or, in a process namespace, parents)
// the command.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The features that may be in force.
const (
	NoNewPrivs = "no_new_privs"
	Rlimits    = "rlimits"
	Landlock   = "landlock"
	Seccomp    = "seccomp"
	UserNS     = "userns"
)

// Spec says what the command may do.
type Spec struct {
	// Read are files and folders that may be read and executed, besides the
	// system's libraries and programs; Write those that may be written.
	Read  []string `json:"read,omitempty"`
	Write []string `json:"write,omitempty"`
	// AnyFile leaves the file system open (no Landlock), Network the network: for
	// a product's engine, which has its work to do. Both false is for preflight.
	AnyFile bool `json:"any_file,omitempty"`
	Network bool `json:"network,omitempty"`
	// Namespaces asks for user, network, process, IPC and UTS namespaces. With
	// them a timeout kills every descendant, even one that left its group.
	Namespaces bool `json:"namespaces,omitempty"`
	// Limits; zero is none.
	CPU      time.Duration `json:"cpu,omitempty"`        // processor time, whole seconds
	Memory   uint64        `json:"memory,omitempty"`     // bytes of private writable memory per process
	FileSize uint64        `json:"file_size,omitempty"`  // bytes of a file written
	Files    uint64        `json:"open_files,omitempty"` // open descriptors
}

// Result is how a command ended.
type Result struct {
	Exit     int  // status; -1 if a signal ended it
	Signal   int  // the signal, or 0
	TimedOut bool // the wall-clock limit was reached
	Elapsed  time.Duration
	Output   []byte // the end of stdout and stderr together, at most 8 KiB
	Features []string
}

// Passed tells whether the command ended with status 0 in time.
func (r Result) Passed() bool { return r.Exit == 0 && r.Signal == 0 && !r.TimedOut }

// Crashed tells whether a signal, or a Go panic (status 2 with its trace),
// ended it.
func (r Result) Crashed() bool {
	return r.Signal != 0 || (r.Exit == 2 && strings.Contains(string(r.Output), "goroutine "))
}

// ErrSetup means that the command was never started: no verdict on it.
var ErrSetup = errors.New("sandbox could not start the command")

// Runner starts commands by way of an executable whose "vet" role is VetMain.
type Runner struct {
	Executable string // the agent itself
	Role       string // default "vet"
}

// Command prepares argv under spec without namespaces, for a caller that
// supervises the process by itself. The process becomes argv by exec.
func (r Runner) Command(spec Spec, argv []string) (*exec.Cmd, error) {
	spec.Namespaces = false
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode sandbox spec: %w", err)
	}
	role := r.Role
	if role == "" {
		role = "vet"
	}
	cmd := exec.Command(r.Executable, append([]string{role, "--spec", string(b), "--"}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// Run runs argv in dir under spec for at most timeout and kills what is left of
// it. env is the command's whole environment.
func (r Runner) Run(ctx context.Context, spec Spec, dir string, env, argv []string, timeout time.Duration) (Result, error) {
	res, err := r.run(ctx, spec, dir, env, argv, timeout)
	if spec.Namespaces && errors.Is(err, errNamespaces) {
		spec.Namespaces = false
		res, err = r.run(ctx, spec, dir, env, argv, timeout)
	}
	return res, err
}

var errNamespaces = errors.New("namespaces are not permitted")

func (r Runner) run(ctx context.Context, spec Spec, dir string, env, argv []string, timeout time.Duration) (Result, error) {
	ns := spec.Namespaces
	cmd, err := r.Command(spec, argv)
	if err != nil {
		return Result{}, err
	}
	flags := []string{"--report"}
	if ns {
		namespaces(cmd.SysProcAttr)
		flags = append(flags, "--init")
	}
	cmd.Args = slices.Insert(cmd.Args, 2, flags...)
	report, reportW, err := os.Pipe()
	if err != nil {
		return Result{}, fmt.Errorf("make report pipe: %w", err)
	}
	defer report.Close()
	out := &tail{}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, out, out
	cmd.ExtraFiles = []*os.File{reportW}
	cmd.WaitDelay = time.Second // for a grandchild that holds stdout
	start := time.Now()
	said := make(chan []byte, 1)
	timedOut, err := supervise(ctx, cmd, timeout, func() {
		reportW.Close()
		go func() {
			b, _ := io.ReadAll(io.LimitReader(report, 4096))
			said <- b
		}()
	})
	reportW.Close()
	if cmd.Process == nil {
		if ns && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EACCES)) {
			return Result{}, errNamespaces
		}
		return Result{}, fmt.Errorf("start %s: %w: %w", argv[0], err, ErrSetup)
	}
	res := Result{TimedOut: timedOut, Elapsed: time.Since(start), Output: out.bytes()}
	if err := ctx.Err(); err != nil {
		return res, fmt.Errorf("run %s: %w", argv[0], err)
	}
	return res, res.read(<-said, cmd.ProcessState)
}

// supervise starts cmd and waits for it, on a thread that lives as long as the
// child: Pdeathsig is sent when the thread that forked ends.
func supervise(ctx context.Context, cmd *exec.Cmd, timeout time.Duration, started func()) (timedOut bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err = cmd.Start(); err != nil {
			return
		}
		started()
		stop := context.AfterFunc(ctx, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		err = cmd.Wait()
		timedOut = !stop() && errors.Is(ctx.Err(), context.DeadlineExceeded)
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left in its group
	}()
	<-done
	return timedOut, err
}

// read takes the child's report and how it ended.
func (r *Result) read(said []byte, state *os.ProcessState) error {
	var rep report
	for line := range strings.SplitSeq(strings.TrimSpace(string(said)), "\n") {
		if err := json.Unmarshal([]byte(line), &rep); err != nil && line != "" {
			return fmt.Errorf("read the sandbox's report: %w: %w", err, ErrSetup)
		}
	}
	if rep.Err != "" {
		return fmt.Errorf("%s: %w", rep.Err, ErrSetup)
	}
	r.Features = rep.Features
	ws := state.Sys().(syscall.WaitStatus)
	r.Exit, r.Signal = ws.ExitStatus(), 0
	if ws.Signaled() {
		r.Signal = int(ws.Signal())
	}
	if rep.Ended {
		r.Exit, r.Signal = rep.Exit, rep.Signal
	}
	if len(rep.Features) == 0 && !r.TimedOut {
		return fmt.Errorf("the sandbox ended (%s) before it was set up: %w", state, ErrSetup)
	}
	return nil
}

func namespaces(a *syscall.SysProcAttr) {
	a.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
}

// Probe tries what this host permits, by running the executable itself.
func (r Runner) Probe(ctx context.Context) ([]string, error) {
	spec := Spec{Namespaces: true, Read: []string{r.Executable}, CPU: 5 * time.Second}
	res, err := r.Run(ctx, spec, "/", nil, []string{r.Executable, "vet", "--nothing"}, 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("probe the sandbox: %w", err)
	}
	return res.Features, nil
}

// tail keeps the end of what is written.
type tail struct{ b []byte }

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b); n > 2*tailSize {
		t.b = slices.Clone(t.b[n-tailSize:])
	}
	return len(p), nil
}

func (t *tail) bytes() []byte { return t.b[max(0, len(t.b)-tailSize):] }
