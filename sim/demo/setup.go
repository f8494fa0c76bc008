package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// endpoint is what the demo reads of an endpoint.
type endpoint struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	LastSeenUs    int64  `json:"lastSeenUs,string"`
	Installations []struct {
		Product string `json:"product"`
		Version string `json:"version"`
		Healthy bool   `json:"healthy"`
	} `json:"installations"`
	Exposures []struct {
		Rollout int64  `json:"rollout,string"`
		State   string `json:"state"`
		Reason  string `json:"reason"`
		DownUs  int64  `json:"downUs,string"`
	} `json:"exposures"`
}

// runs is the version that the endpoint runs in health; empty if none.
func (e endpoint) runs() string {
	for _, i := range e.Installations {
		if i.Product == product && i.Healthy {
			return i.Version
		}
	}
	return ""
}

// json runs a command with -o json and reads its result.
func (d *demo) json(ctx context.Context, v any, args ...string) error {
	out, err := d.command(ctx, append(args, "-o", "json", "--yes")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("headgate %s: read its JSON: %w", strings.Join(args, " "), err)
	}
	return nil
}

// each runs commands one after another, and shows them.
func (d *demo) each(ctx context.Context, commands ...[]string) error {
	for _, c := range commands {
		d.line("         $ headgate %s", strings.ReplaceAll(strings.Join(c, " "), d.dir+"/", ""))
		if _, err := d.command(ctx, append(c, "--yes")...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) startServer(ctx context.Context) error {
	d.step("A server with an embedded database, in %s", d.dir)
	r, w := io.Pipe()
	defer r.Close()
	argv := append([]string{d.Headgate, "server", "--data", d.path("server"), "--listen", "127.0.0.1:0", "--poll", "2s", "--beacon", "4s", "-o", "json"}, d.serverFlags...)
	p, err := d.kids.start("headgate server", d.Keep, d.path("server.log"), os.Environ(), w, argv...)
	if err != nil {
		return err
	}
	go func() { <-p.done; w.Close() }()
	lines := make(chan []byte, 1)
	go func() {
		defer close(lines)
		if line, err := bufio.NewReader(r).ReadBytes('\n'); err == nil {
			lines <- line
		}
	}()
	var s struct {
		URL       string `json:"url"`
		Pin       string `json:"pin"`
		TokenFile string `json:"token_file"`
	}
	select {
	case line, ok := <-lines:
		if !ok {
			return fmt.Errorf("the server ended before it was ready: %s", tail(d.path("server.log")))
		}
		if err := json.Unmarshal(line, &s); err != nil {
			return fmt.Errorf("read where the server is: %w", err)
		}
	case <-time.After(30 * time.Second):
		return fmt.Errorf("the server was not ready within 30s: %s", tail(d.path("server.log")))
	case <-ctx.Done():
		return ctx.Err()
	}
	d.env = append(withoutHeadgate(os.Environ()), "HEADGATE_SERVER="+s.URL, "HEADGATE_PIN="+s.Pin, "HEADGATE_TOKEN_FILE="+s.TokenFile)
	d.step("The API is at %s", s.URL)
	return nil
}

// makeTrust makes the operators' and the vendor's keys, which the server never
// sees, and the root of trust.
func (d *demo) makeTrust(ctx context.Context) error {
	key := func(name string) string { return d.path("keys", name) }
	d.step("Keys that stay outside the server: two operators, and a vendor of whose three keys two must sign")
	return d.each(ctx,
		[]string{"key", "new", key("alice.key"), key("bob.key"), key("acme1.key"), key("acme2.key"), key("acme3.key")},
		[]string{"root", "new", "--operator", key("alice.key.pub"), "--operator", key("bob.key.pub"), "--key", key("alice.key"), "--key", key("bob.key")},
		[]string{"vendor", "add", vendor, "--vendor-key", key("acme1.key.pub"), "--vendor-key", key("acme2.key.pub"), "--vendor-key", key("acme3.key.pub"),
			"--threshold", "2", "--key", key("alice.key"), "--key", key("bob.key")},
		[]string{"product", "add", product, "--description", "a small detection engine's rules"},
		[]string{"tenant", "add", tenant})
}

// versions are the demo product's releases: good, broken, repaired.
var versions = []string{"1.0.0", "2.0.0", "3.0.0"}

// signReleases signs the first release; the others are signed when their time
// comes.
func (d *demo) signReleases(ctx context.Context) error {
	d.step("The vendor signs %s %s, one person after another, and publishes it", product, versions[0])
	return d.publish(ctx, versions[0])
}

func (d *demo) publish(ctx context.Context, version string) error {
	dir, bundle := d.path("releases", version), d.path("releases", version+".bundle")
	return d.each(ctx,
		[]string{"release", "init", dir, "--demo", version},
		[]string{"release", "sign", "--dir", dir, "--product", product, "--version", version, "--bundle", bundle, "--key", d.path("keys", "acme1.key")},
		[]string{"release", "sign", "--bundle", bundle, "--key", d.path("keys", "acme2.key")},
		[]string{"release", "publish", "--bundle", bundle})
}

// startFleet enrols and starts the real agents and the simulated endpoints.
func (d *demo) startFleet(ctx context.Context) error {
	token, err := d.command(ctx, "tenant", "token", tenant)
	if err != nil {
		return err
	}
	tokenFile := d.path("keys", "enrol.token")
	if err := os.WriteFile(tokenFile, token, 0o600); err != nil {
		return fmt.Errorf("write enrolment token: %w", err)
	}
	d.step("%d real agents, each with processes and a folder of its own, and %d simulated endpoints", d.Agents, d.Simulated)
	if err := d.enrolAgents(ctx, tokenFile); err != nil {
		return err
	}
	if err := d.pickCanaries(ctx); err != nil {
		return err
	}
	// Held from its start, the first rollout tells everybody what to stage, and how
	// often to ask; nobody is granted it yet.
	if err := d.startRollout(ctx, versions[0]); err != nil {
		return err
	}
	if err := d.each(ctx, []string{"rollout", "hold", "R-1", "--why", "until everyone is there"}); err != nil {
		return err
	}
	if err := d.awaitPlan(ctx); err != nil {
		return err
	}
	if d.sims, err = d.startSims(ctx, strings.TrimSpace(string(token))); err != nil {
		return err
	}
	for i := range d.Agents {
		dir := d.path("agents", agentName(i))
		if _, err := d.kids.start(agentName(i), d.Keep, dir+".log", withoutHeadgate(os.Environ()), nil, d.Headgate, "agent", "run", "--dir", dir); err != nil {
			return err
		}
	}
	return d.awaitFleet(ctx)
}

// awaitPlan waits until the plan with the first rollout is signed: an endpoint
// that met the empty plan before it would ask again after a minute only.
func (d *demo) awaitPlan(ctx context.Context) error {
	for {
		var log struct {
			Entries []struct {
				Body string `json:"body"`
			} `json:"entries"`
		}
		if err := d.json(ctx, &log, "ledger", "log", "--subject", "plan", "--limit", "1"); err != nil {
			return err
		}
		var plan struct {
			Offers int `json:"offers"`
		}
		if len(log.Entries) > 0 {
			if err := json.Unmarshal([]byte(log.Entries[0].Body), &plan); err != nil {
				return fmt.Errorf("read the ledger's entry of the plan: %w", err)
			}
		}
		if plan.Offers > 0 {
			return nil
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// enrolAgents enrols the agents, a few at once.
func (d *demo) enrolAgents(ctx context.Context, tokenFile string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	next := make(chan int)
	errs := make(chan error, 4)
	for range cap(errs) {
		wg.Go(func() {
			for i := range next {
				if err := d.enrolAgent(ctx, i, tokenFile); err != nil {
					errs <- err
					stop()
					return
				}
			}
		})
	}
	for i := range d.Agents {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return ctx.Err()
	}
}

func (d *demo) enrolAgent(ctx context.Context, i int, tokenFile string) error {
	name := agentName(i)
	dir := d.path("agents", name)
	labels := []string{"os=linux", "ring=" + []string{"office", "plant", "shop"}[i%3]}
	args := []string{"agent", "enrol", "--dir", dir, "--enrolment-token-file", tokenFile, "--name", name, "--product", product, "--poll", firstPoll.String()}
	for _, l := range labels {
		args = append(args, "--label", l)
	}
	_, err := d.command(ctx, args...)
	return err
}

func agentName(i int) string { return fmt.Sprintf("agent-%02d", i+1) }

// awaitFleet waits until everyone is enrolled and heard from.
func (d *demo) awaitFleet(ctx context.Context) error {
	for said := time.Now(); d.sims.enrolled() < d.Simulated; {
		if time.Since(said) > 2*time.Second {
			d.step("%d of %d simulated endpoints are enrolled", d.sims.enrolled(), d.Simulated)
			said = time.Now()
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
		if err := d.alive(); err != nil {
			return err
		}
	}
	for { // all of them heard from: who is not heard from is a silent control
		all, err := d.endpoints(ctx)
		if err != nil {
			return err
		}
		if len(all) != d.sum.Endpoints {
			return fmt.Errorf("%d endpoints enrolled, the server has %d", d.sum.Endpoints, len(all))
		}
		heard := 0
		for _, e := range all {
			if e.LastSeenUs > 0 {
				heard++
			}
		}
		if heard == len(all) {
			d.step("All %d are there", len(all))
			return nil
		}
		d.step("%d of %d endpoints are heard from", heard, len(all))
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
		if err := d.alive(); err != nil {
			return err
		}
	}
}

// pickCanaries finds the first agents among the enrolled.
func (d *demo) pickCanaries(ctx context.Context) error {
	all, err := d.endpoints(ctx)
	if err != nil {
		return err
	}
	for i := range canaries {
		for _, e := range all {
			if e.Name == agentName(i) {
				d.named = append(d.named, e)
			}
		}
	}
	if len(d.named) != canaries {
		return fmt.Errorf("found %d of the %d canaries among the endpoints", len(d.named), canaries)
	}
	d.step("%s are the canaries: what breaks, breaks there, for real", d.canaryNames())
	return nil
}

func (d *demo) canaryNames() string {
	var s []string
	for _, e := range d.named {
		s = append(s, e.Name)
	}
	return strings.Join(s, ", ")
}

// endpoints lists endpoints, filtered.
func (d *demo) endpoints(ctx context.Context, filter ...string) ([]endpoint, error) {
	var res struct {
		Endpoints []endpoint `json:"endpoints"`
	}
	args := append([]string{"endpoint", "list", "--limit", fmt.Sprint(d.sum.Endpoints + 1)}, filter...)
	return res.Endpoints, d.json(ctx, &res, args...)
}

// wait waits, or is interrupted.
func wait(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t):
		return nil
	}
}

// withoutHeadgate is an environment without our own variables: an agent must
// live from its folder alone.
func withoutHeadgate(env []string) []string {
	var out []string
	for _, v := range env {
		if !strings.HasPrefix(v, "HEADGATE_") {
			out = append(out, v)
		}
	}
	return out
}

func lookup(env []string, name string) string {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// tail is the end of a log, for an error.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	b = bytes.TrimSpace(b)
	return string(b[max(0, len(b)-2000):])
}
