package keeper

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/probe"
	"github.com/headgate/headgate/agent/sandbox"
	"github.com/headgate/headgate/agent/slot"
	"github.com/headgate/headgate/release"
)

// Limits of a probe, which must not become a burden to the endpoint.
const (
	probeCPU    = 10 * time.Second
	probeMemory = 512 << 20
	probeTime   = 20 * time.Second // for a file; a command has its own
)

// holds looks whether a check holds for the version that runs. A Refusal says why
// it does not ("differs", "exit-status") or why nobody can tell (all other
// reasons); what was read stays here.
func (u *unit) holds(ctx context.Context, c release.Check) error {
	var ref *slot.Ref
	var manifest release.Manifest
	err := u.ask(func() error {
		if u.ref == nil || u.ready.IsZero() && !u.applied {
			return &ipc.Refusal{Reason: "not-running", Detail: "no version of " + u.product + " runs"}
		}
		ref, manifest = u.ref, u.manifest
		return nil
	})
	if err != nil {
		return err
	}
	if c.Kind == release.CheckRuns {
		return compare(c, ref.Version)
	}
	p, ok := manifest.Probes[c.Probe]
	if !ok || p.Kind != c.Kind {
		return &ipc.Refusal{Reason: "no-probe", Detail: "version " + ref.Version + " declares no " + string(c.Kind) + " probe " + c.Probe}
	}
	// One at a time on the whole endpoint: they are never urgent.
	select {
	case u.k.probing <- struct{}{}:
		defer func() { <-u.k.probing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.Kind == release.CheckCommand {
		return u.probeCommand(ctx, p, ref)
	}
	return u.probeFile(ctx, c, p, ref)
}

// compare compares what was read with what is wanted.
func compare(c release.Check, read string) error {
	ok, err := c.Holds(read)
	switch {
	case err != nil:
		return &ipc.Refusal{Reason: "probe-error", Detail: err.Error()}
	case !ok:
		return &ipc.Refusal{Reason: "differs", Detail: "it is not as the check wants it"}
	}
	return nil
}

// probeSpec is the sandbox of a probe: it reads the product's own folders.
func (u *unit) probeSpec(ref *slot.Ref) sandbox.Spec {
	return sandbox.Spec{
		Read: []string{u.folder(ref), u.state(), u.k.cfg.Executable}, Namespaces: true,
		CPU: probeCPU, Memory: probeMemory, FileSize: 1, Files: 64,
	}
}

func (u *unit) probeFile(ctx context.Context, c release.Check, p release.Probe, ref *slot.Ref) error {
	folder, path, err := p.Beneath()
	if err != nil {
		return &ipc.Refusal{Reason: "probe-error", Detail: err.Error()}
	}
	dir := u.state()
	if folder == "slot" {
		dir = u.folder(ref)
	}
	argv := append([]string{u.k.cfg.Executable}, probe.Args(p, dir, path)...)
	res, err := u.k.runner.Run(ctx, u.probeSpec(ref), "/", []string{"LANG=C.UTF-8"}, argv, probeTime)
	switch {
	case err != nil:
		return unprobed(err)
	case res.TimedOut:
		return &ipc.Refusal{Reason: "timeout", Detail: "no end after " + probeTime.String()}
	case res.Exit == probe.ExitMissing:
		return &ipc.Refusal{Reason: "no-file", Detail: lastLine(res.Output)}
	case !res.Passed():
		return &ipc.Refusal{Reason: "probe-error", Detail: lastLine(res.Output)}
	}
	return compare(c, strings.TrimSuffix(string(res.Output), "\n"))
}

func (u *unit) probeCommand(ctx context.Context, p release.Probe, ref *slot.Ref) error {
	argv, env := u.command(p.Command, ref, u.state())
	limit := timeout(p.Command)
	res, err := u.k.runner.Run(ctx, u.probeSpec(ref), "/", env, argv, limit)
	switch {
	case err != nil:
		return unprobed(err)
	case res.TimedOut:
		return &ipc.Refusal{Reason: "timeout", Detail: "no end after " + limit.String()}
	case res.Signal != 0:
		return &ipc.Refusal{Reason: "probe-error", Detail: "a signal ended it: " + lastLine(res.Output)}
	case !res.Passed():
		return &ipc.Refusal{Reason: "exit-status", Detail: lastLine(res.Output)}
	}
	return nil
}

// unprobed is for a probe that was never carried out.
func unprobed(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &ipc.Refusal{Reason: "probe-error", Detail: err.Error()}
}
