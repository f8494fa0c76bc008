//go:build unix

// Package cputime says what processor time this process has used, for benchmarks
// whose goals are said for one core: wall time on a machine that is busy with other
// work says more of that work.
package cputime

import (
	"fmt"
	"syscall"
	"time"
)

// Used is the user and system time of this process, of all its threads, so far
// (getrusage(2), RUSAGE_SELF).
func Used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprintf("cputime: getrusage of this very process: %v", err))
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
