package demo

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// measured are the measures that this story must have.
var measured = []string{"acknowledge", "triage", "mitigate", "deploy", "verified-first", "verified-50", "verified-90", "verified-99", "notify", "customers-done", "disclose"}

// lookBack draws the review, and looks at the reporter's page as she does.
func (r *response) lookBack(ctx context.Context) error {
	r.line("")
	r.step("REVIEW: drawn from the facts")
	if err := r.each(ctx, []string{"review", "correct", r.kase, "count the inputs when content is loaded", "--check", "regression"}); err != nil {
		return err
	}
	var review struct {
		Measures []struct {
			Code    string `json:"code"`
			Name    string `json:"name"`
			TookUs  int64  `json:"tookUs,string"`
			Unknown string `json:"unknown"`
		} `json:"measures"`
	}
	if err := r.json(ctx, &review, "review", "show", r.kase); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, m := range review.Measures {
		took := (time.Duration(m.TookUs) * time.Microsecond).Round(10 * time.Millisecond).String()
		if m.Unknown != "" {
			took = "unknown: " + m.Unknown
		} else {
			known[m.Code] = true
		}
		r.line("         %-16s %-12s %s", m.Code, took, m.Name)
	}
	for _, code := range measured {
		if !known[code] {
			r.failf("the review does not know %q", code)
		}
	}
	for _, name := range []string{"review.html", "review.md"} {
		if _, err := r.command(ctx, "review", "export", r.kase, r.path(name)); err != nil {
			return err
		}
		r.out.URLs = append(r.out.URLs, Link{"the review, " + strings.TrimPrefix(filepath.Ext(name), "."), "file://" + r.path(name)})
	}
	return r.reporterSees(ctx)
}

// reporterSees looks at the reporter's page: it tells how far it is fixed, and of
// no tenant.
func (r *response) reporterSees(ctx context.Context) error {
	c, err := r.browser()
	if err != nil {
		return err
	}
	page, err := r.get(ctx, c, r.page)
	if err != nil {
		return err
	}
	if !strings.Contains(string(page), "fixed on at least") {
		r.failf("the reporter's page does not say how far it is fixed")
	}
	for _, t := range append(append([]string{}, affectedTenants...), otherTenants...) {
		if strings.Contains(string(page), t) {
			r.failf("the reporter's page names tenant %s", t)
		}
	}
	return nil
}

// checkAll checks what is kept: the case against the ledger, and the database.
func (r *response) checkAll(ctx context.Context) error {
	r.step("The record: the case's facts, every entry of the ledger, every count, every decision")
	if err := r.each(ctx, []string{"case", "verify", r.kase}); err != nil {
		return err
	}
	if err := r.alive(); err != nil {
		return err
	}
	for _, f := range r.fleets {
		f.stop()
	}
	r.fleets = nil
	if !r.Keep {
		r.kids.stop()
	}
	v := r.checkDatabase(ctx, r.failf)
	r.out.LedgerOK, r.out.DoctorOK, r.out.ReplayOK = v.ledger, v.doctor, v.replay
	return nil
}

// write tells the summary in a reader's words.
func (s *ResponseSummary) write(w io.Writer) {
	say := func(format string, a ...any) { fmt.Fprintf(w, format+"\n", a...) }
	say("")
	say("What happened: report %s became case %s.", s.Report, s.Case)
	say("  %d of %d endpoints were affected, of 3 of 12 tenants.", s.Affected, s.Endpoints)
	for _, o := range s.Rungs {
		say("  after %-8s %-9s %s", seconds(o.Seconds), o.Rung, o.Reason)
	}
	for _, t := range affectedTenants {
		say("  the notice to %-6s is %s", t, s.Notices[t])
	}
	say("  The ledger %s, the doctor %s, and every decision, made again, %s.",
		holds(s.LedgerOK, "holds", "DOES NOT HOLD"), holds(s.DoctorOK, "finds every count right", "FINDS FAULTS"), holds(s.ReplayOK, "comes out the same", "COMES OUT OTHERWISE"))
	say("  All of it took %s.", seconds(s.Seconds))
	for _, f := range s.Failures {
		say("  FAILED: %s", f)
	}
}
