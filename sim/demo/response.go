package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/headgate/headgate/cli/live"
	"github.com/headgate/headgate/internal/atomicfile"
)

// MinSimulatedResponse is how many simulated endpoints a demo of a response
// needs: with fewer affected, no count could say that 99 % are fixed.
const MinSimulatedResponse = 320

// other is a second product, which is not vulnerable.
const other = vendor + "/probe"

// affectedTenants run the vulnerable product; the last of them must rotate a key.
var affectedTenants = []string{"aoba", "birch", "cedar"}

// rotating is the tenant that must rotate a key besides.
const rotating = "cedar"

// otherTenants run something else.
var otherTenants = []string{"dune", "elm", "fjord", "gorse", "heath", "iris", "juniper", "kelp", "larch"}

// response is the demo of a security response: a vulnerability from its first
// report to notices that are closed by proof, and to its review.
type response struct {
	*demo
	fleets []*sims
	out    ResponseSummary
	kase   string // "C-..."
	page   string // the reporter's page
	tracks string // the report's number
}

// ResponseSummary is what happened, for a program.
type ResponseSummary struct {
	Endpoints int    `json:"endpoints"`
	Affected  int64  `json:"affected"`
	Case      string `json:"case"`
	Report    string `json:"report"`
	// Notices by tenant, with their state in the end.
	Notices map[string]string `json:"notices"`
	// Rungs are the openings of the ladder in their order.
	Rungs    []RungOpened `json:"rungs"`
	LedgerOK bool         `json:"ledger_ok"`
	DoctorOK bool         `json:"doctor_ok"`
	ReplayOK bool         `json:"replay_ok"`
	URLs     []Link       `json:"urls"`
	Seconds  float64      `json:"seconds"`
	OK       bool         `json:"ok"`
	Failures []string     `json:"failures"`
}

// RungOpened is one opening of the ladder.
type RungOpened struct {
	Rung    string  `json:"rung"`
	Lower   float64 `json:"lower"` // of the verified-fixed fraction
	Seconds float64 `json:"seconds"`
	Reason  string  `json:"reason"`
}

// Link is an address to look at.
type Link struct {
	What string `json:"what"`
	URL  string `json:"url"`
}

// RunResponse runs the demo of a security response to its end. The error is nil
// only if everything held.
func RunResponse(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o, start: time.Now(), kids: newChildren(), view: live.New(o.Out)}
	r := &response{demo: d, out: ResponseSummary{Notices: map[string]string{}, Failures: []string{}}}
	if o.Simulated < MinSimulatedResponse {
		return fmt.Errorf("demo of a response with %d simulated endpoints: want at least %d", o.Simulated, MinSimulatedResponse)
	}
	if err := d.prepare(); err != nil {
		return err
	}
	defer d.kids.close()
	defer func() { err = errors.Join(err, r.cleanUp(err)) }()
	if err := r.story(ctx); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted; everything that was started is ended")
		}
		return fmt.Errorf("%w (logs are in %s)", err, d.dir)
	}
	r.out.Seconds = time.Since(d.start).Seconds()
	r.out.OK = len(r.out.Failures) == 0
	if err := r.report(); err != nil {
		return err
	}
	if !r.out.OK {
		return ErrNotHeld
	}
	return nil
}

// story is the response from its first to its last scene.
func (r *response) story(ctx context.Context) error {
	for _, scene := range []func(context.Context) error{
		r.openDoors, r.startTenants, r.vulnerableRelease,
		r.reports, r.triage, r.embargo, r.mitigate, r.bindFix,
		r.findAffected, r.deployFix, r.awaitRungs, r.awaitNotices, r.rotateKey, r.lookBack, r.checkAll,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
		if err := r.alive(); err != nil {
			return err
		}
	}
	return nil
}

func (r *response) alive() error {
	for _, f := range r.fleets {
		if err := f.failed(); err != nil {
			return err
		}
	}
	return r.kids.ended()
}

func (r *response) cleanUp(failed error) error {
	for _, f := range r.fleets {
		f.stop()
	}
	return r.demo.cleanUp(failed)
}

func (r *response) failf(format string, a ...any) {
	r.out.Failures = append(r.out.Failures, fmt.Sprintf(format, a...))
}

// openDoors starts the server with its public door open and makes the trust.
func (r *response) openDoors(ctx context.Context) error {
	config := map[string]any{"intake": map[string]any{"name": "Acme"}, "disclose_every": "250ms", "follow_every": "1s"}
	b, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("write the server's configuration: %w", err)
	}
	file := r.path("server.json")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return fmt.Errorf("write the server's configuration: %w", err)
	}
	r.serverFlags = []string{"--config", file}
	if err := r.startServer(ctx); err != nil {
		return err
	}
	if err := r.makeTrust(ctx); err != nil {
		return err
	}
	base := lookup(r.env, "HEADGATE_SERVER")
	r.out.URLs = []Link{
		{"the reporter's form", base + "/report"}, {"security.txt", base + "/.well-known/security.txt"},
		{"the TUF root", base + "/tuf/1.root.json"}, {"the ledger's checkpoint", base + "/ledger/checkpoint"},
		{"the certificate, throw-away", r.path("server", "tls", "cert.pem")},
	}
	return r.each(ctx,
		[]string{"product", "add", other, "--description", "what the other tenants run"},
		[]string{"report", "triager", "add", "admin"})
}

// report writes the summary, for people and for programs.
func (r *response) report() error {
	r.out.write(r.Out)
	if r.Summary != "" {
		b, err := json.MarshalIndent(r.out, "", "  ")
		if err != nil {
			return fmt.Errorf("write summary: %w", err)
		}
		if err := atomicfile.Write(r.Summary, append(b, '\n'), 0o644); err != nil {
			return fmt.Errorf("write summary: %w", err)
		}
	}
	if !r.out.OK {
		return nil
	}
	r.line("")
	if !r.Keep {
		r.line("What to try next:")
		r.line("  headgate demo response --keep   the same, and look around in what it leaves running")
		r.line("  docs/case.md, docs/notice.md    the same, command by command")
		return nil
	}
	r.line("Look around:")
	for _, u := range r.out.URLs {
		r.line("  %-28s %s", u.What, u.URL)
	}
	for _, v := range []string{"HEADGATE_SERVER", "HEADGATE_PIN", "HEADGATE_TOKEN_FILE"} {
		r.line("  export %s=%s", v, lookup(r.env, v))
	}
	for _, c := range []string{"case show", "case explain", "ladder explain", "affected show", "notice list --case", "review timeline"} {
		r.line("  %s %s %s", r.Headgate, c, r.kase)
	}
	r.line("  %s demo --end %s      ends server and agents", r.Headgate, r.dir)
	return nil
}
