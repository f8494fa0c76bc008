package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/sim/wire"
)

// probes is what the vendor adds to the product's manifest: where a check may
// look.
const probes = `{"api-key": {"kind": "file_age", "path": "{state}/api.key"}}`

// simulatedOthers is how many endpoints each tenant has that is not affected.
const simulatedOthers = 8

// startTenants makes twelve tenants and their endpoints: two of the affected are
// large, one has real agents only.
func (r *response) startTenants(ctx context.Context) error {
	r.step("Twelve tenants: three run %s, nine run %s", product, other)
	for _, t := range append(append([]string{}, affectedTenants...), otherTenants...) {
		if _, err := r.command(ctx, "tenant", "add", t, "--yes"); err != nil {
			return err
		}
	}
	for i, t := range affectedTenants {
		token, err := r.command(ctx, "tenant", "token", t)
		if err != nil {
			return err
		}
		if err := r.startAgents(ctx, i, t, token); err != nil {
			return err
		}
		if t == rotating {
			continue
		}
		if err := r.startSimulated(ctx, t, string(token), product, r.Simulated/2); err != nil {
			return err
		}
	}
	for _, t := range otherTenants {
		token, err := r.command(ctx, "tenant", "token", t)
		if err != nil {
			return err
		}
		if err := r.startSimulated(ctx, t, string(token), other, simulatedOthers); err != nil {
			return err
		}
	}
	return r.awaitEnrolled(ctx)
}

// startAgents enrols and starts a tenant's share of the real agents, each with an
// old key in its product's state.
func (r *response) startAgents(ctx context.Context, tenant int, name string, token []byte) error {
	file := r.path("keys", name+".token")
	if err := os.WriteFile(file, token, 0o600); err != nil {
		return fmt.Errorf("write enrolment token: %w", err)
	}
	for i := range r.Agents {
		if i%len(affectedTenants) != tenant {
			continue
		}
		if err := r.enrolAgent(ctx, i, file); err != nil {
			return err
		}
		dir := r.path("agents", agentName(i))
		if _, err := r.kids.start(agentName(i), r.Keep, dir+".log", withoutHeadgate(os.Environ()), nil, r.Headgate, "agent", "run", "--dir", dir); err != nil {
			return err
		}
	}
	return nil
}

func (r *response) startSimulated(ctx context.Context, tenant, token, product string, n int) error {
	f, err := wire.New(wire.Config{
		Server: lookup(r.env, "HEADGATE_SERVER"), Pin: lookup(r.env, "HEADGATE_PIN"), EnrolmentToken: strings.TrimSpace(token),
		N: n, Products: []string{product}, Seed: uint64(len(r.fleets)) + 1, Poll: firstPoll, Dir: r.path("simulated-" + tenant), Concurrency: 8,
		Goodbye: r.Keep, // as in startSims
	})
	if err != nil {
		return fmt.Errorf("make simulated endpoints of %s: %w", tenant, err)
	}
	s := &sims{fleet: f, ended: make(chan struct{})}
	ctx, s.cancel = context.WithCancel(ctx)
	s.wg.Go(func() {
		s.err = f.Run(ctx)
		close(s.ended)
	})
	r.fleets = append(r.fleets, s)
	r.out.Endpoints += n
	return nil
}

// awaitEnrolled waits until everyone is enrolled.
func (r *response) awaitEnrolled(ctx context.Context) error {
	for want := r.out.Endpoints; ; {
		n := 0
		for _, f := range r.fleets {
			n += f.enrolled()
		}
		if n >= want {
			break
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if err := r.alive(); err != nil {
			return err
		}
	}
	r.out.Endpoints += r.Agents
	r.step("%d endpoints are there: %d real agents, the others simulated", r.out.Endpoints, r.Agents)
	return nil
}

// fastPolicy brings a release to everyone in seconds, step by step; evidence names
// what must be attested first.
func (r *response) fastPolicy(evidence ...string) rollout.Policy {
	s := func(t time.Duration) span.Duration { return span.Duration(t) }
	p := r.policy()
	p.Name, p.Evidence = "demo-response", evidence
	// Steps in which half, nine tenths and all of the affected come to have it.
	n := int64(r.Simulated + r.Agents)
	p.Ladder = []int64{n / 20, n/2 + n/20, n/4 + n/16, n}
	p.Probation = s(3 * time.Second)
	return p
}

// emergencyPolicy is the preset for a hole under attack, in a hurry: cohorts under
// a harm budget, never without canaries, silence and halt.
func (r *response) emergencyPolicy(evidence ...string) (rollout.Policy, error) {
	p, err := rollout.Preset("emergency")
	if err != nil {
		return p, err
	}
	f := r.fastPolicy(evidence...)
	p.Name, p.Evidence = "demo-emergency", evidence
	p.Probation, p.GrantTTL, p.Grace, p.FillTimeout = f.Probation, f.GrantTTL, f.Grace, f.FillTimeout
	p.Poll, p.Beacon, p.Ages = f.Poll, f.Beacon, f.Ages
	p.Budget.Horizons[0].Age = f.Probation
	return p, p.Check()
}

func (r *response) start(ctx context.Context, product, version string, p rollout.Policy, flags ...string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	file := r.path("policy.json")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	return r.each(ctx, append([]string{"rollout", "start", product, version, "--policy", file}, flags...))
}

// release packs, signs and publishes a demo version, with the probes in its
// manifest.
func (r *response) release(ctx context.Context, product, version string) error {
	name := strings.TrimPrefix(product, vendor+"/") + "-" + version
	dir, bundle := r.path("releases", name), r.path("releases", name+".bundle")
	if _, err := r.command(ctx, "release", "init", dir, "--demo", version); err != nil {
		return err
	}
	if err := addProbes(dir + "/headgate.json"); err != nil {
		return err
	}
	return r.each(ctx,
		[]string{"release", "sign", "--dir", dir, "--product", product, "--version", version, "--bundle", bundle, "--key", r.path("keys", "acme1.key")},
		[]string{"release", "sign", "--bundle", bundle, "--key", r.path("keys", "acme2.key")},
		[]string{"release", "publish", "--bundle", bundle})
}

// addProbes declares the probes in a manifest.
func addProbes(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("add probes: %w", err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("add probes to %s: %w", file, err)
	}
	m["probes"] = json.RawMessage(probes)
	if b, err = json.MarshalIndent(m, "", "  "); err != nil {
		return fmt.Errorf("add probes to %s: %w", file, err)
	}
	return os.WriteFile(file, b, 0o644)
}

// vulnerableRelease brings the release that turns out to be vulnerable, and what
// the other tenants run, to everyone.
func (r *response) vulnerableRelease(ctx context.Context) error {
	r.line("")
	r.step("Some time before: %s %s reaches three tenants, %s %s the others", product, versions[0], other, versions[0])
	for _, p := range []string{product, other} {
		if err := r.release(ctx, p, versions[0]); err != nil {
			return err
		}
		if err := r.start(ctx, p, versions[0], r.fastPolicy()); err != nil {
			return err
		}
	}
	for id := range 2 {
		if err := r.finished(ctx, id+1); err != nil {
			return err
		}
	}
	return nil
}

// finished follows a rollout to its end, which must be that everyone has it.
func (r *response) finished(ctx context.Context, id int) error {
	last, err := r.watch(ctx, id)
	if err != nil {
		return err
	}
	if last.State != string(rollout.Finished) || last.Counts.GetHarmed()+last.Counts.GetSilent() > 0 {
		return fmt.Errorf("rollout R-%d of a good release is %s with %d harmed and %d silent", id, last.State, last.Counts.GetHarmed(), last.Counts.GetSilent())
	}
	return nil
}
