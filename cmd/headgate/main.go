// Headgate's one binary: the server, the command line, and the agent with its
// roles, each a process of its own. This file only joins the parts.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"

	"golang.org/x/mod/sumdb/note"

	"github.com/headgate/headgate/agent/detect"
	"github.com/headgate/headgate/agent/link"
	"github.com/headgate/headgate/agent/probe"
	"github.com/headgate/headgate/agent/sandbox"
	"github.com/headgate/headgate/cli"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/server"
	"github.com/headgate/headgate/store"
)

// roles are the processes that an agent starts. They come before the command
// line is even built: an endpoint pays for none of it.
var roles = map[string]func(args []string) int{
	"engine": detect.Main,
	"link":   link.Main,
	"probe":  probe.Main,
	"vet":    sandbox.VetMain,
}

func main() {
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			os.Exit(role(os.Args[2:]))
		}
	}
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := cli.Programs{Serve: serve, VerifyLedger: verifyLedger, Doctor: doctor, Replay: replay}
	return cli.Main(ctx, p, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// collectAt is the server's GOGC: its heap is a few megabytes beside what the
// database keeps, so that collecting at each doubling would be a tenth of its
// work and save nobody anything.
const collectAt = 400

// profiled runs f and writes where its processor time went to the file.
func profiled(file string, f func() error) error {
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return errors.Join(fmt.Errorf("profile: %w", err), out.Close())
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, out.Close())
}

// serve runs a server until ctx ends.
func serve(ctx context.Context, o cli.ServeOptions) error {
	if file := o.CPUProfile; file != "" {
		o.CPUProfile = ""
		return profiled(file, func() error { return serve(ctx, o) })
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	cfg, err := config(o)
	if err != nil {
		return err
	}
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		data = cfg.Data
	}
	o.Ready(cli.Serving{URL: s.URL(), Pin: s.Fingerprint(), TokenFile: filepath.Join(data, "operator.token"), Data: data})
	failed := make(chan error, 1)
	go func() { failed <- s.Wait() }()
	select {
	case err := <-failed:
		return errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	case <-ctx.Done():
		err := s.Stop(context.WithoutCancel(ctx))
		return errors.Join(err, <-failed)
	}
}

// config is the configuration file with the flags over it.
func config(o cli.ServeOptions) (c server.Config, err error) {
	if o.Config != "" {
		if c, err = server.LoadConfig(o.Config); err != nil {
			return c, err
		}
	}
	for _, f := range []struct {
		flag  string
		field *string
	}{
		{o.Data, &c.Data}, {o.Listen, &c.Listen}, {o.Database, &c.Database}, {o.DatabaseFile, &c.DatabaseFile},
		{o.CertFile, &c.CertFile}, {o.KeyFile, &c.KeyFile},
	} {
		if f.flag != "" {
			*f.field = f.flag
		}
	}
	if o.Poll != 0 {
		c.Poll = span.Duration(o.Poll)
	}
	if o.Beacon != 0 {
		c.Beacon = span.Duration(o.Beacon)
	}
	c.Hosts = append(c.Hosts, o.Hosts...)
	c.InsecureHTTP = c.InsecureHTTP || o.InsecureHTTP
	c.Log = o.Log
	return c, nil
}

// replay makes every recorded decision of a database again.
func replay(ctx context.Context, database string) (_ cli.Replayed, err error) {
	s, err := open(ctx, database)
	if err != nil {
		return cli.Replayed{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r, err := server.Replay(ctx, s)
	return cli.Replayed(r), err
}

// open opens a database that must exist: a check makes none.
func open(ctx context.Context, database string) (*store.Store, error) {
	if !strings.Contains(database, "://") {
		if _, err := os.Stat(strings.TrimPrefix(database, "sqlite:")); err != nil {
			return nil, fmt.Errorf("open database: %w", err)
		}
	}
	return store.Open(ctx, database, slog.New(slog.DiscardHandler))
}

// verifyLedger checks the whole ledger of a database and, if the ledger's key is
// given, the signature of its newest checkpoint by that key or by those it handed
// over to.
func verifyLedger(ctx context.Context, database, key string) (r cli.LedgerReport, err error) {
	s, err := open(ctx, database)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	found, err := s.VerifyLedger(ctx)
	if err != nil {
		return r, err
	}
	r = cli.LedgerReport{Size: found.Head.Size, Last: found.Head.Last.String(), Root: found.Root.String(), Checkpoints: found.Checkpoints}
	if key == "" || found.Latest == nil {
		return r, nil
	}
	if _, err := note.NewVerifier(key); err != nil {
		return r, fmt.Errorf("ledger key %q: %w", key, err)
	}
	if r.Key, err = ledger.FollowKeys(key, found.Handovers); err != nil {
		return r, err
	}
	v, err := note.NewVerifier(r.Key)
	if err != nil {
		return r, fmt.Errorf("ledger key %q: %w", r.Key, err)
	}
	c, err := ledger.OpenCheckpoint(found.Latest, v)
	if err == nil && c != found.Covers {
		err = fmt.Errorf("the newest checkpoint's note is of %d entries with another root than the ledger's: %w", c.Size, ledger.ErrBroken)
	}
	r.Signed = err == nil
	return r, err
}

// doctor checks what must hold in a database: the ledger, and all that the
// store knows of its rows.
func doctor(ctx context.Context, database string) (found []cli.Finding, err error) {
	r, err := verifyLedger(ctx, database, "")
	switch {
	case err == nil:
		found = append(found, cli.Finding{Check: "ledger", OK: true, Detail: fmt.Sprintf("%d entries follow one another", r.Size)})
	case errors.Is(err, ledger.ErrBroken):
		found = append(found, cli.Finding{Check: "ledger", Detail: err.Error()})
	default:
		return nil, err
	}
	s, err := open(ctx, database)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	problems, err := s.Doctor(ctx)
	if err != nil {
		return nil, err
	}
	if len(problems) == 0 {
		return append(found, cli.Finding{Check: "rows", OK: true, Detail: "exposed = proven + harmed + silent + open everywhere; every count is the count of its rows"}), nil
	}
	for _, p := range problems {
		found = append(found, cli.Finding{Check: p.Code, Detail: p.Subject + ": " + p.Detail})
	}
	return found, nil
}
