// Package slim keeps the memory of a small long-lived process small: the one
// binary holds much that a role needs at its start only, or never.
package slim

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// When memory is given back after the start, and how often from then on. Freed
// memory costs a collection; the program's pages cost less than a millisecond in
// all when they are needed again.
const (
	soon         = 2 * time.Second
	heapEvery    = 30 * time.Second
	programEvery = 3 * time.Second
)

// Keep has the process collect its garbage often, and give back what its start
// needed: freed memory, and the pages of the executable that were read in for it.
// Those are clean, and are read in again if they are needed after all. It returns
// at once; call it early, while /proc can be read.
func Keep() {
	debug.SetGCPercent(50)
	program := mappings("/proc/self/maps", "/proc/self/exe")
	for _, m := range program {
		// Read in what is touched, not sixteen pages around it. A kernel that refuses
		// costs memory only.
		_ = m.advise(unix.MADV_RANDOM)
	}
	giveBack := func() {
		for _, m := range program {
			_ = m.advise(unix.MADV_DONTNEED)
		}
	}
	every(heapEvery, func() { debug.FreeOSMemory(); giveBack() })
	every(programEvery, giveBack)
}

// every calls f soon, and then again and again.
func every(d time.Duration, f func()) {
	var again func()
	again = func() {
		f()
		time.AfterFunc(d, again)
	}
	time.AfterFunc(soon, again)
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// advise calls madvise(2) by address: there is no Go value to take it from.
func (m mapping) advise(advice int) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, uintptr(advice)); errno != 0 {
		return errno
	}
	return nil
}

// mappings finds the read-only mappings of the executable: its code and constants.
// Nothing is found where /proc is not there to be read.
func mappings(maps, exe string) (out []mapping) {
	name, err := os.Readlink(exe)
	if err != nil {
		return nil
	}
	b, err := os.ReadFile(maps)
	if err != nil {
		return nil
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		var m mapping
		var access string
		if n, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &m.from, &m.to, &access); n != 3 || err != nil {
			continue
		}
		if strings.HasSuffix(lines.Text(), " "+name) && (access == "r-xp" || access == "r--p") && m.to > m.from {
			out = append(out, m)
		}
	}
	return out
}
