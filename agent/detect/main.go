package detect

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/headgate/headgate/internal/slim"
)

// tick is how often the live engine evaluates what has come in since.
const tick = 50 * time.Millisecond

// Main is "headgate engine": it returns the exit status. A panic in evaluation
// is not caught: the process dies, as an engine with that bug does.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, args, os.Stdout, os.Stderr)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("headgate engine", flag.ContinueOnError)
	fs.SetOutput(stderr)
	content := fs.String("content", "", "content `folder` (rules.json, corpus.jsonl)")
	preflight := fs.Bool("preflight", false, "load the content, replay its corpus, exit")
	rate := fs.Int("events-per-second", 200, "live events a second, 1 to 1000000")
	seed := fs.Uint64("seed", uint64(os.Getpid()), "seed of the live events")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if *content == "" || fs.NArg() > 0 || *rate < 1 || *rate > 1_000_000 {
		fmt.Fprintln(stderr, "headgate engine: want --content FOLDER and no arguments, --events-per-second 1 to 1000000")
		return 2
	}
	e, err := Load(*content)
	if err != nil {
		fmt.Fprintln(stderr, "headgate engine:", err)
		return 1
	}
	if *preflight {
		n, err := e.Replay()
		if err != nil {
			fmt.Fprintln(stderr, "headgate engine: preflight:", err)
			return 1
		}
		fmt.Fprintf(stdout, "%d rules loaded, %d events as expected\n", e.Rules(), n)
		return 0
	}
	// One engine must stay small beside what it protects.
	runtime.GOMAXPROCS(1)
	debug.SetMemoryLimit(64 << 20)
	slim.Keep()
	if err := e.Live(ctx, NewStream(*seed), *rate, notify); err != nil {
		fmt.Fprintln(stderr, "headgate engine:", err)
		return 1
	}
	return 0
}

func notify(state string) error {
	_, err := daemon.SdNotify(false, state)
	return err
}

// Live evaluates a stream at rate events a second until ctx ends. It says
// READY=1 first, then about each second WATCHDOG=1 with the events seen and
// lost since the start. More than one second of backlog is lost, not queued.
func (e *Engine) Live(ctx context.Context, s *Stream, rate int, notify func(string) error) error {
	if err := notify(daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("tell the supervisor that the engine is ready: %w", err)
	}
	t := time.NewTicker(tick)
	defer t.Stop()
	start := time.Now()
	var done, lost int64
	said := start
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		due := int64(time.Since(start).Seconds() * float64(rate))
		if backlog := due - done - lost; backlog > int64(rate) {
			lost += backlog - int64(rate)
		}
		for done+lost < due {
			e.Evaluate(s.Next())
			done++
		}
		if time.Since(said) >= time.Second {
			said = time.Now()
			if err := notify(fmt.Sprintf("%s\nX_HEADGATE_EVENTS=%d\nX_HEADGATE_LOST=%d", daemon.SdNotifyWatchdog, done, lost)); err != nil {
				return fmt.Errorf("tell the supervisor that the engine lives: %w", err)
			}
		}
	}
}
