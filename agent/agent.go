// Package agent is an endpoint: it enrols with a server, and runs the keeper,
// which starts link and the products' engines as processes of their own
// (agent/keeper, agent/link). This package lays out an agent's home and joins
// its parts; it decides nothing about updates.
//
// Its words: home, enrolment.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/agent/keeper"
	"github.com/headgate/headgate/agent/link"
	"github.com/headgate/headgate/internal/slim"
)

// Options are what a run may vary. The zero value is right for a real endpoint.
type Options struct {
	// Executable is the binary whose roles link, vet and engine are started;
	// default: this process's own.
	Executable string
	Log        *slog.Logger
}

// Run is an enrolled agent: this process becomes its keeper, until ctx ends.
// Then link says goodbye and everything that was started is stopped.
func Run(ctx context.Context, home Home, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	slim.Keep()
	abs, err := filepath.Abs(string(home))
	if err != nil {
		return fmt.Errorf("run agent: %w", err)
	}
	home = Home(abs)
	c, err := home.Config()
	if err != nil {
		return fmt.Errorf("run agent: %w", err)
	}
	id, err := link.ReadIdentity(home.IdentityFile())
	if err != nil {
		return fmt.Errorf("run agent: %w", err)
	}
	if o.Executable == "" {
		if o.Executable, err = os.Executable(); err != nil {
			return fmt.Errorf("run agent: find own executable: %w", err)
		}
	}
	if err := os.MkdirAll(home.LinkDir(), 0o700); err != nil {
		return fmt.Errorf("run agent: %w", err)
	}
	if _, err := link.ReadLabels(home.LinkDir()); errors.Is(err, fs.ErrNotExist) {
		// Enrolled by an agent that did not keep them: what it says of itself now is
		// the best guess at what it said then.
		if err := link.WriteLabels(home.LinkDir(), withFacts(c.Labels)); err != nil {
			return fmt.Errorf("run agent: %w", err)
		}
	}
	poll := c.Poll.Std()
	if poll == 0 {
		poll = time.Minute
	}
	return keeper.Run(ctx, keeper.Config{
		Dir: home.KeeperDir(), Executable: o.Executable, Products: c.Products,
		Link:   []string{o.Executable, "link", "--identity", home.IdentityFile(), "--dir", home.LinkDir(), "--poll", poll.String()},
		Logger: o.Log.With("endpoint", id.Endpoint),
	})
}
