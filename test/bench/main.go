// Command bench measures Headgate's server as a whole process: processor time
// of the server and its database for each update check, grant and outcome, and
// memory. It prints one table of ratios against a stated peer or limit, all
// taken in the same run. It judges nothing and fails only if a measurement
// does not hold what it says (a grant too many, an answer not durable).
//
// Usage: go run ./test/bench [-headgate bin/headgate] [-endpoints 10000,1000000] [-time 3s]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	headgate  string        // the binary
	endpoints []int         // fleet sizes
	seconds   time.Duration // of each measured stretch
	pairs     int           // grants and outcomes measured for each fleet
	conns     int           // connections of the load
	only      string        // one engine
	profile   string        // folder; empty for no profiles
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "bare" {
		serveBare()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := parse()
	if err == nil {
		err = run(ctx, s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() (settings, error) {
	var s settings
	var fleets string
	flag.StringVar(&s.headgate, "headgate", "bin/headgate", "the binary to measure")
	flag.StringVar(&fleets, "endpoints", "10000,1000000", "fleet sizes")
	flag.DurationVar(&s.seconds, "time", 3*time.Second, "length of each stretch of update checks")
	flag.IntVar(&s.pairs, "pairs", 50000, "grants with outcomes for each fleet; one that is smaller is measured several times")
	flag.IntVar(&s.conns, "conns", 512, "connections of the load")
	flag.StringVar(&s.only, "engine", "", "only sqlite or postgres")
	flag.StringVar(&s.profile, "profile", "", "write a CPU profile of each measured server into this `folder`; what is measured then costs more")
	flag.Parse()
	for f := range strings.SplitSeq(fleets, ",") {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1000 {
			return s, fmt.Errorf("-endpoints %s: want numbers from 1000", fleets)
		}
		s.endpoints = append(s.endpoints, n)
	}
	// Commands run in a folder of their own.
	for _, path := range []*string{&s.headgate, &s.profile} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return s, err
		}
	}
	if s.conns < 1 || s.pairs < 1 {
		return s, errors.New("-conns and -pairs: want at least 1")
	}
	return s, nil
}
