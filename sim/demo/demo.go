// Package demo is "headgate demo": a real server, real agents and simulated
// endpoints on this machine; a good release, the defect of 19 July 2024 in
// miniature, and its repair; and the question whether what Headgate promises
// really held.
//
// It drives the headgate binary as a person would, command by command, and
// knows nothing of the server's inside. It never goes on when something did not
// hold without saying so, and never leaves a process behind unless told to.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/cli/live"
	"github.com/headgate/headgate/internal/atomicfile"
)

// Options are what a demo may be told.
type Options struct {
	Headgate  string // the binary; this one if empty
	Agents    int    // real agents, at least MinAgents
	Simulated int    // simulated endpoints
	Keep      bool   // leave server and agents running
	Dir       string // the throw-away folder; a temporary one if empty
	Summary   string // file for the summary in JSON; none if empty
	Out       io.Writer
}

// MinAgents is how many real agents a demo needs: the canaries, and one that is
// none.
const MinAgents = canaries + 1

// canaries is how many of the real agents go first.
const canaries = 4

// Names of what the demo sets up.
const (
	vendor  = "acme"
	product = vendor + "/rules"
	tenant  = "example-corp"
)

type demo struct {
	Options
	dir   string
	env   []string // of the commands and the agents
	start time.Time
	kids  *children
	view  *live.Table
	sum   Summary
	sims  *sims      // nil before and after
	named []endpoint // the canaries
	// serverFlags are further flags of the server.
	serverFlags []string
}

// ErrNotHeld means that the demo ran to its end and something did not hold.
var ErrNotHeld = errors.New("something that Headgate promises did not hold; see FAILED above")

// Run runs the demo to its end. The error is nil only if everything held.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o, start: time.Now(), kids: newChildren(), view: live.New(o.Out)}
	d.sum = Summary{Endpoints: o.Agents + o.Simulated, Agents: o.Agents, Simulated: o.Simulated, Failures: []string{}}
	if err := d.prepare(); err != nil {
		return err
	}
	defer d.kids.close()
	defer func() { err = errors.Join(err, d.cleanUp(err)) }()
	if err := d.story(ctx); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted; everything that was started is ended")
		}
		return fmt.Errorf("%w (logs are in %s)", err, d.dir)
	}
	d.sum.Seconds = time.Since(d.start).Seconds()
	d.sum.OK = len(d.sum.Failures) == 0
	if err := d.report(); err != nil {
		return err
	}
	if !d.sum.OK {
		return ErrNotHeld
	}
	return nil
}

// prepare makes the folder and finds the binary.
func (d *demo) prepare() (err error) {
	if d.Agents < MinAgents || d.Simulated < 0 || d.Agents > 1000 || d.Simulated > 1_000_000 {
		return fmt.Errorf("demo with %d agents and %d simulated endpoints: want %d to 1000 agents and up to 1000000 simulated", d.Agents, d.Simulated, MinAgents)
	}
	if d.Headgate == "" {
		if d.Headgate, err = os.Executable(); err != nil {
			return fmt.Errorf("find the headgate binary: %w", err)
		}
	}
	if d.Dir == "" {
		d.dir, err = os.MkdirTemp("", "headgate-demo-")
	} else if d.dir, err = filepath.Abs(d.Dir); err == nil {
		if old, _ := os.ReadDir(d.dir); len(old) > 0 {
			return fmt.Errorf("folder %s is not empty: the demo wants one of its own", d.dir)
		}
		err = os.MkdirAll(d.dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	for _, sub := range []string{"keys", "agents", "releases"} {
		if err := os.Mkdir(filepath.Join(d.dir, sub), 0o700); err != nil {
			return fmt.Errorf("make the demo's folder: %w", err)
		}
	}
	return nil
}

// story is the demo from its first to its last scene.
func (d *demo) story(ctx context.Context) error {
	for _, scene := range []func(context.Context) error{
		d.startServer, d.makeTrust, d.signReleases, d.startFleet,
		d.goodRelease, d.badRelease, d.fixedRelease, d.verify,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
		if err := d.alive(); err != nil {
			return err
		}
	}
	return nil
}

// alive tells whether all that was started still runs.
func (d *demo) alive() error {
	if d.sims != nil {
		if err := d.sims.failed(); err != nil {
			return err
		}
	}
	return d.kids.ended()
}

// report writes the summary, for people and for programs.
func (d *demo) report() error {
	d.sum.write(d.Out)
	if d.Summary != "" {
		b, err := json.MarshalIndent(d.sum, "", "  ")
		if err != nil {
			return fmt.Errorf("write summary: %w", err)
		}
		if err := atomicfile.Write(d.Summary, append(b, '\n'), 0o644); err != nil {
			return fmt.Errorf("write summary: %w", err)
		}
	}
	if d.sum.OK {
		d.whatNext()
	}
	return nil
}

func (d *demo) whatNext() {
	d.line("")
	d.line("What to try next:")
	if !d.Keep {
		d.line("  headgate demo --keep      the same, and look around in what it leaves running")
		d.line("  docs/quickstart.md        the real job, command by command")
		d.line("  examples/clamav           a real product: signatures for ClamAV")
		return
	}
	for _, v := range []string{"HEADGATE_SERVER", "HEADGATE_PIN", "HEADGATE_TOKEN_FILE"} {
		d.line("  export %s=%s", v, lookup(d.env, v))
	}
	d.line("  %s rollout list", d.Headgate)
	d.line("  %s endpoint list --rollout R-2 --state harmed", d.Headgate)
	d.line("  %s ledger log --subject R-2", d.Headgate)
	d.line("  %s demo --end %s      ends server and agents", d.Headgate, d.dir)
}

// cleanUp ends what was started, and removes the folder unless somebody wants
// to look into it.
func (d *demo) cleanUp(failed error) error {
	if d.sims != nil {
		d.sims.stop()
	}
	if d.Keep && failed == nil {
		return d.kids.leave(d.dir)
	}
	d.kids.stop()
	if d.Dir != "" || failed != nil {
		return nil //nolint:nilerr // the caller has failed
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return fmt.Errorf("remove the demo's folder: %w", err)
	}
	return nil
}

// step says what comes, with the time since the start.
func (d *demo) step(format string, a ...any) {
	d.line("[%5.1fs] %s", time.Since(d.start).Seconds(), fmt.Sprintf(format, a...))
}

func (d *demo) line(format string, a ...any) { fmt.Fprintf(d.Out, format+"\n", a...) }

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}
