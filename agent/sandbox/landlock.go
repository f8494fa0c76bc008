package sandbox

import (
	"fmt"
	"os"
	"path/filepath"

	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// systemRead is what any program needs to start.
var systemRead = []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/usr", "/opt", "/etc", "/nix", "/proc", "/dev/zero", "/dev/urandom", "/dev/random", "/sys/kernel/mm/transparent_hugepage"}

const (
	fileRights = llsys.AccessFSExecute | llsys.AccessFSReadFile | llsys.AccessFSWriteFile | llsys.AccessFSTruncate | llsys.AccessFSIoctlDev
	readRights = llsys.AccessFSExecute | llsys.AccessFSReadFile | llsys.AccessFSReadDir
)

// landlock restricts the calling thread, and what it execs or forks. The
// library's own Restrict synchronises all threads by way of /proc, which hangs
// in a process namespace that has not mounted its own; one thread is enough here.
func (s Spec) landlock(abi int, command string) error {
	handled := uint64(1<<13 - 1) // ABI 1
	for _, add := range []struct {
		abi   int
		right uint64
	}{{2, llsys.AccessFSRefer}, {3, llsys.AccessFSTruncate}, {5, llsys.AccessFSIoctlDev}} {
		if abi >= add.abi {
			handled |= add.right
		}
	}
	fd, err := llsys.LandlockCreateRuleset(&llsys.RulesetAttr{HandledAccessFS: handled}, 0)
	if err != nil {
		return fmt.Errorf("create ruleset: %w", err)
	}
	defer unix.Close(fd)
	if abs, err := filepath.Abs(command); err == nil {
		command = abs
	}
	read := append([]string{command}, systemRead...)
	for _, p := range append(read, s.Read...) {
		if err := allow(fd, p, readRights&handled); err != nil {
			return err
		}
	}
	for _, p := range append([]string{"/dev/null"}, s.Write...) {
		if err := allow(fd, p, handled&^llsys.AccessFSExecute); err != nil {
			return err
		}
	}
	if err := llsys.LandlockRestrictSelf(fd, 0); err != nil {
		return fmt.Errorf("enforce ruleset: %w", err)
	}
	return nil
}

// allow adds a rule for path; one that is not on this host needs none.
func allow(ruleset int, path string, rights uint64) error {
	f, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(f)
	if st, err := os.Stat(path); err == nil && !st.IsDir() {
		rights &= fileRights
	}
	if err := llsys.LandlockAddPathBeneathRule(ruleset, &llsys.PathBeneathAttr{ParentFd: f, AllowedAccess: rights}, 0); err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	return nil
}
