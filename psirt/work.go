package psirt

import (
	"slices"
)

// Work is what was done about the vulnerability and its kin.
type Work struct {
	Searches []VariantSearched  `json:"searches,omitempty"` // the newest by query and corpus
	Cause    *RootCauseSet      `json:"cause,omitempty"`
	Controls []ControlAdded     `json:"controls,omitempty"`
	Fixes    []FixBound         `json:"fixes,omitempty"`
	Opaque   []FixBound         `json:"opaque,omitempty"` // fixes that people found to give nothing away
	Evidence []EvidenceAttached `json:"evidence,omitempty"`
	Rollouts []int64            `json:"rollouts,omitempty"`
	Lanes    []Lane             `json:"lanes,omitempty"`
	Started  FactTime           `json:"started"` // of the first rollout
}

func (w Work) clone() Work {
	w.Searches, w.Controls, w.Fixes = slices.Clone(w.Searches), slices.Clone(w.Controls), slices.Clone(w.Fixes)
	w.Evidence, w.Rollouts, w.Opaque, w.Lanes = slices.Clone(w.Evidence), slices.Clone(w.Rollouts), slices.Clone(w.Opaque), slices.Clone(w.Lanes)
	return w
}

// VariantSearched is a bounded search for the vulnerability's kin: what was asked
// of what, how much of the result was looked at, and what was found.
type VariantSearched struct {
	Query    string   `json:"query"`
	Corpus   string   `json:"corpus"`
	Total    int64    `json:"total"`    // results of the query
	Reviewed int64    `json:"reviewed"` // of these, looked at
	Found    []string `json:"found,omitempty"`
}

// Kind implements Body.
func (*VariantSearched) Kind() Kind { return "variant.searched" }

func (b *VariantSearched) check() error {
	if b.Total < 0 || b.Reviewed < 0 || b.Reviewed > b.Total {
		return invalid("reviewed %d of %d", b.Reviewed, b.Total)
	}
	if int64(len(b.Found)) > b.Reviewed {
		return invalid("found: %d of %d reviewed", len(b.Found), b.Reviewed)
	}
	return first(line("query", b.Query), line("corpus", b.Corpus), lines("found", b.Found))
}

// Share is the part of the results that was reviewed; of none it is all.
func (b *VariantSearched) Share() float64 {
	if b.Total == 0 {
		return 1
	}
	return float64(b.Reviewed) / float64(b.Total)
}

func (b *VariantSearched) apply(c *Case, _ Fact) error {
	i := slices.IndexFunc(c.Work.Searches, func(s VariantSearched) bool { return s.Query == b.Query && s.Corpus == b.Corpus })
	switch {
	case i >= 0:
		c.Work.Searches[i] = *b
	case len(c.Work.Searches) >= MaxList:
		return illegal("%d searches already", MaxList)
	default:
		c.Work.Searches = append(c.Work.Searches, *b)
	}
	return nil
}

// Variants lists what all searches found, each once.
func (w *Work) Variants() []string {
	var out []string
	for _, s := range w.Searches {
		for _, v := range s.Found {
			if !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return out
}

// RootCauseSet names the cause and the class that it belongs to.
type RootCauseSet struct {
	Class string `json:"class"`
	CWE   string `json:"cwe,omitempty"`
	Text  string `json:"text"`
}

// Kind implements Body.
func (*RootCauseSet) Kind() Kind { return "rootcause.set" }

func (b *RootCauseSet) check() error {
	if b.CWE != "" {
		if err := match("cwe", b.CWE, cweName, "CWE- and a number"); err != nil {
			return err
		}
	}
	if b.Text == "" {
		return invalid("text: is empty")
	}
	return first(line("class", b.Class), text("text", b.Text))
}

func (b *RootCauseSet) apply(c *Case, _ Fact) error {
	cause := *b
	c.Work.Cause = &cause
	return nil
}

// ControlAdded closes a class: a check (lint, type, ban, test) that fails on
// every known variant and passes on the fixed tree.
type ControlAdded struct {
	Class  string       `json:"class"`
	Check  string       `json:"check"`  // what runs
	Before []ControlRun `json:"before"` // on each known variant: must fail
	After  ControlRun   `json:"after"`  // on the fixed tree: must pass
}

// ControlRun is one run of a control.
type ControlRun struct {
	On     string `json:"on"` // the variant, or the tree
	Passed bool   `json:"passed"`
	Output string `json:"output,omitempty"` // SHA-256 of what it printed
}

// Kind implements Body.
func (*ControlAdded) Kind() Kind { return "control.added" }

func (b *ControlAdded) check() error {
	err := first(line("class", b.Class), line("check", b.Check), line("after.on", b.After.On))
	switch {
	case err != nil:
		return err
	case len(b.Before) == 0 || len(b.Before) > MaxList:
		return invalid("before: %d runs; want 1 to %d", len(b.Before), MaxList)
	case !b.After.Passed:
		return invalid("after: the control fails on the fixed tree")
	}
	for i, r := range b.Before {
		if r.Passed {
			return invalid("before[%d]: the control passes on %q, which it must find", i, r.On)
		}
		if err := line("before.on", r.On); err != nil {
			return err
		}
	}
	for _, r := range append(slices.Clone(b.Before), b.After) {
		if r.Output != "" {
			if err := match("output", r.Output, digestName, "64 hex digits"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *ControlAdded) apply(c *Case, _ Fact) error {
	if c.Work.Cause == nil || c.Work.Cause.Class != b.Class {
		return illegal("class %q is not that of the root cause", b.Class)
	}
	for _, v := range c.Work.Variants() {
		if !slices.ContainsFunc(b.Before, func(r ControlRun) bool { return r.On == v }) {
			return illegal("before: no run on %q, a known variant", v)
		}
	}
	if len(c.Work.Controls) >= MaxList {
		return illegal("%d controls already", MaxList)
	}
	c.Work.Controls = append(c.Work.Controls, *b)
	return nil
}

// FixBound binds a fix to a release.
type FixBound struct {
	Product string `json:"product"`
	Version string `json:"version"`
}

// Kind implements Body.
func (*FixBound) Kind() Kind { return "fix.bound" }

func (b *FixBound) check() error {
	return first(line("product", b.Product), line("version", b.Version))
}

// A bound fix is a ready one.
func (b *FixBound) apply(c *Case, f Fact) error {
	if len(c.Work.Fixes) >= MaxList {
		return illegal("%d fixes already", MaxList)
	}
	if err := c.event(FixReady, f); err != nil {
		return err
	}
	if !slices.Contains(c.Work.Fixes, *b) {
		c.Work.Fixes = append(c.Work.Fixes, *b)
	}
	return nil
}

// EvidenceAttached is a signed attestation about a fix.
type EvidenceAttached struct {
	Predicate string `json:"predicate"` // in-toto predicate type
	Digest    string `json:"digest"`    // SHA-256 of the envelope
	Key       string `json:"key"`       // id of the key that signed it
	Subject   string `json:"subject,omitempty"`
}

// Kind implements Body.
func (*EvidenceAttached) Kind() Kind { return "evidence.attached" }

func (b *EvidenceAttached) check() error {
	return first(line("predicate", b.Predicate), match("digest", b.Digest, digestName, "64 hex digits"), line("key", b.Key), optionalLine("subject", b.Subject))
}

func (b *EvidenceAttached) apply(c *Case, _ Fact) error {
	if len(c.Work.Evidence) >= MaxList {
		return illegal("%d attestations already", MaxList)
	}
	c.Work.Evidence = append(c.Work.Evidence, *b)
	return nil
}

// RolloutBound binds a rollout to the case.
type RolloutBound struct {
	Rollout int64 `json:"rollout"` // 17 of R-17
	// Lane is the emergency's policy that it goes by, and Why it does; empty if it does
	// not.
	Lane string `json:"lane,omitempty"`
	Why  string `json:"why,omitempty"`
}

// Kind implements Body.
func (*RolloutBound) Kind() Kind { return "rollout.bound" }

func (b *RolloutBound) check() error {
	if b.Rollout < 1 {
		return invalid("rollout: %d", b.Rollout)
	}
	return first(optionalLine("lane", b.Lane), optionalLine("why", b.Why))
}

func (b *RolloutBound) apply(c *Case, f Fact) error {
	if !c.State.Has(FixReady) {
		return illegal("no fix is ready")
	}
	if b.Lane != "" {
		l, err := c.Work.lane(b.Rollout)
		if err != nil {
			return err
		}
		l.Taken, l.Why = b.Lane, b.Why
	}
	if slices.Contains(c.Work.Rollouts, b.Rollout) {
		return nil
	}
	if len(c.Work.Rollouts) >= MaxList {
		return illegal("%d rollouts already", MaxList)
	}
	c.Work.Rollouts = append(c.Work.Rollouts, b.Rollout)
	c.Work.Started.set(f)
	return nil
}
