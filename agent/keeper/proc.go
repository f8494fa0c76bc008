package keeper

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// hertz is the unit of times in /proc/PID/stat: USER_HZ, 100 on every Linux.
const hertz = 100

// usage is what a process and its children use.
type usage struct {
	cpu time.Duration // of it and of the children that it waited for
	rss int64
}

// procUsage reads /proc/PID/stat (proc_pid_stat(5)); ok is false if the process
// is gone.
func procUsage(pid int) (usage, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, false
	}
	end := bytes.LastIndexByte(b, ')') // the name before it may hold anything
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 22 {
		return usage{}, false
	}
	var ticks, pages int64
	for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
		v, _ := strconv.ParseInt(f[i], 10, 64)
		ticks += v
	}
	pages, _ = strconv.ParseInt(f[21], 10, 64)
	return usage{time.Duration(ticks) * time.Second / hertz, pages * int64(os.Getpagesize())}, true
}

// children lists the direct children of pid (CONFIG_PROC_CHILDREN; without it
// there are none to see).
func children(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var out []int
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(string(b)) {
			if c, err := strconv.Atoi(f); err == nil {
				out = append(out, c)
			}
		}
	}
	return out
}

// treeUsage adds up pid and all its descendants.
func treeUsage(pid int) usage {
	sum, _ := procUsage(pid)
	for _, c := range children(pid) {
		u := treeUsage(c)
		sum.cpu += u.cpu
		sum.rss += u.rss
	}
	return sum
}

// treeMemory adds up the memory of pid and all its descendants, a page that
// several of them share counted once (Pss): the agent's processes are one
// binary. Where the kernel does not tell, it is the resident set.
func treeMemory(pid int) int64 {
	sum := proportional(pid)
	for _, c := range children(pid) {
		sum += treeMemory(c)
	}
	return sum
}

// proportional reads Pss from /proc/PID/smaps_rollup (proc_pid_smaps(5)).
func proportional(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				if kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64); err == nil {
					return kb << 10
				}
			}
		}
	}
	use, _ := procUsage(pid)
	return use.rss
}

// unitMark is the environment variable by which keeper finds what an engine
// left, its own or its predecessor's: a process that left its group is not
// killed with it, and Pdeathsig reaches a direct child only.
const unitMark = "HEADGATE_UNIT"

// killStrays ends what engines of the unit at dir left running. None of them may
// be meant to run.
func killStrays(dir string) int {
	mark := []byte("\x00" + unitMark + "=" + dir + "\x00")
	procs, _ := filepath.Glob("/proc/[0-9]*/environ")
	n := 0
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil || !bytes.Contains(append([]byte{0}, append(b, 0)...), mark) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err == nil && pid != os.Getpid() && syscall.Kill(pid, syscall.SIGKILL) == nil {
			n++
		}
	}
	return n
}

// lock takes the agent folder for this process; it is let go when the process
// ends, however it ends.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "keeper.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock agent folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock agent folder %s: another keeper runs there: %w", dir, err)
	}
	return f, nil
}

// bootID names this boot of the machine.
func bootID(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if id == "" || len(id) > 64 {
		return "", fmt.Errorf("read boot id from %s: %d bytes: %w", file, len(id), fs.ErrInvalid)
	}
	return id, nil
}
