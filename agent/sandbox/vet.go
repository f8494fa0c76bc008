package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	seccomp "github.com/elastic/go-seccomp-bpf"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// reportFD is where vet tells its parent what is in force and how it ended.
const reportFD = 3

// report is one line on reportFD; a later line adds to an earlier one.
type report struct {
	Features []string `json:"features,omitempty"`
	Err      string   `json:"err,omitempty"`
	Ended    bool     `json:"ended,omitempty"`
	Exit     int      `json:"exit,omitempty"`
	Signal   int      `json:"signal,omitempty"`
}

// VetMain is the role "vet": "[--report] [--init] --spec JSON -- command...". It limits
// itself for good and becomes the command. With --init it is the first process
// of a namespace: the command is its child, and its own end ends all of it. Its
// status is the command's, or 125 if the command was never started.
func VetMain(args []string) int {
	if len(args) == 1 && args[0] == "--nothing" {
		return 0
	}
	runtime.LockOSThread() // no_new_privs and seccomp follow the thread that execs
	var out *os.File
	if len(args) > 0 && args[0] == "--report" {
		args = args[1:]
		out = os.NewFile(reportFD, "report")
		unix.CloseOnExec(reportFD)
	}
	code, err := vet(args, out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vet:", err)
		tell(out, report{Err: err.Error()})
		return 125
	}
	return code
}

func tell(out *os.File, r report) {
	if out != nil {
		json.NewEncoder(out).Encode(r) //nolint:errcheck // who reads the report misses it if it does not come
	}
}

func vet(args []string, out *os.File) (int, error) {
	isInit := len(args) > 0 && args[0] == "--init"
	if isInit {
		args = args[1:]
	}
	if len(args) < 4 || args[0] != "--spec" || args[2] != "--" {
		return 0, errors.New("usage: vet [--report] [--init] --spec JSON -- command [argument...]")
	}
	var spec Spec
	if err := json.Unmarshal([]byte(args[1]), &spec); err != nil {
		return 0, fmt.Errorf("read spec: %w", err)
	}
	path, err := exec.LookPath(args[3])
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", args[3], err)
	}
	features, err := spec.apply(path)
	if err != nil {
		return 0, err
	}
	if !isInit {
		tell(out, report{Features: features})
		return 0, fmt.Errorf("exec %s: %w", path, syscall.Exec(path, args[3:], os.Environ()))
	}
	tell(out, report{Features: append(features, UserNS)})
	return runAsInit(path, args[3:], out)
}

// runAsInit runs the command as a child. Signals to it are left to the kernel:
// when this process is killed, the namespace goes with it.
func runAsInit(path string, argv []string, out *os.File) (int, error) {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	cmd := exec.Command(path, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", path, err)
	}
	_ = cmd.Wait() // how it ended is in ProcessState
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	r := report{Ended: true, Exit: ws.ExitStatus()}
	if ws.Signaled() {
		r.Signal = int(ws.Signal())
		tell(out, r)
		return 128 + r.Signal, nil
	}
	tell(out, r)
	return r.Exit, nil
}

// apply limits the calling process for good and tells what took effect.
func (s Spec) apply(command string) ([]string, error) {
	if err := seccomp.SetNoNewPrivs(); err != nil {
		return nil, fmt.Errorf("set no_new_privs: %w", err)
	}
	features := []string{NoNewPrivs}
	limited, err := s.rlimits()
	if err != nil {
		return nil, err
	}
	if limited {
		features = append(features, Rlimits)
	}
	abi, err := llsys.LandlockGetABIVersion()
	if err != nil {
		abi = 0 // not built in, or switched off
	}
	if abi > 0 && !s.AnyFile {
		if err := s.landlock(abi, command); err != nil {
			return nil, fmt.Errorf("apply Landlock: %w", err)
		}
		features = append(features, Landlock)
	}
	if seccomp.Supported() {
		if err := s.seccomp(); err != nil {
			return nil, fmt.Errorf("apply seccomp: %w", err)
		}
		features = append(features, Seccomp)
	}
	return features, nil
}

func (s Spec) rlimits() (bool, error) {
	set := func(what int, name string, v uint64) error {
		if v == 0 {
			return nil
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(what, &now); err != nil {
			return fmt.Errorf("read limit of %s: %w", name, err)
		}
		v = min(v, now.Max)
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: v, Max: v}); err != nil {
			return fmt.Errorf("limit %s to %d: %w", name, v, err)
		}
		return nil
	}
	none := unix.Rlimit{}
	err := errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &none), // memory may hold what must not reach the disk
		set(unix.RLIMIT_CPU, "processor seconds", uint64(s.CPU.Seconds())),
		set(unix.RLIMIT_DATA, "memory", s.Memory),
		set(unix.RLIMIT_FSIZE, "file size", s.FileSize),
		set(unix.RLIMIT_NOFILE, "open files", s.Files),
	)
	return s.CPU > 0 || s.Memory > 0 || s.FileSize > 0 || s.Files > 0, err
}

// kernelCalls are of no use to content and of much use to an attacker.
var kernelCalls = []string{
	"ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd",
	"mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
	"kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot",
	"bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
	"unshare", "setns", "keyctl", "add_key", "request_key",
	"swapon", "swapoff", "acct", "quotactl", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime",
	"open_by_handle_at", "name_to_handle_at", "syslog", "personality", "sethostname", "setdomainname",
}

// networkCalls are denied without Network; io_uring, the way round, always is.
var networkCalls = []string{"socket", "connect", "bind", "listen", "accept", "accept4"}

func (s Spec) seccomp() error {
	deny := append([]string(nil), kernelCalls...)
	if !s.Network {
		deny = append(deny, networkCalls...)
	}
	return seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionAllow,
			// EPERM instead of a kill: a program that only asks must not look like one
			// that crashed.
			Syscalls: []seccomp.SyscallGroup{{Action: seccomp.ActionErrno, Names: deny}},
		},
	})
}
