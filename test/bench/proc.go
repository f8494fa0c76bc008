package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpuOf sums the processor time of a process, its threads and its descendants
// that live, from /proc/PID/schedstat of each thread (nanoseconds).
func cpuOf(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return 0, fmt.Errorf("processor time of %d: %w", pid, err)
		}
		for _, t := range tasks {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, t.Name()))
			if err != nil {
				continue // a thread that ended meanwhile
			}
			ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("schedstat of %d: %w", pid, err)
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}

// family lists a process and all that descend from it.
func family(pid int) []int {
	parents := map[int][]int{}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return []int{pid}
	}
	for _, p := range procs {
		id, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
		if err != nil {
			continue
		}
		// The command's name may hold spaces: fields count from its closing bracket.
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if parent, err := strconv.Atoi(f[1]); err == nil {
			parents[parent] = append(parents[parent], id)
		}
	}
	out := []int{pid}
	for i := 0; i < len(out); i++ {
		out = append(out, parents[out[i]]...)
	}
	return out
}

// memory is the resident memory of processes, bytes. Whole is the plain sum, in
// which what they share counts once for each; shared counts it once (Pss).
type memory struct{ whole, shared int64 }

// memoryOf sums the resident memory of processes.
func memoryOf(pids []int) (m memory, err error) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return m, fmt.Errorf("memory of %d: %w", pid, err)
		}
		for line := range strings.Lines(string(b)) {
			for name, sum := range map[string]*int64{"Rss:": &m.whole, "Pss:": &m.shared} {
				rest, ok := strings.CutPrefix(line, name)
				if !ok {
					continue
				}
				kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					return m, fmt.Errorf("memory of %d: %w", pid, err)
				}
				*sum += kb << 10
			}
		}
	}
	return m, nil
}
