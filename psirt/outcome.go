package psirt

import (
	"encoding/json"
	"slices"
)

// DeployedAt is the lower confidence bound of the verified-fixed fraction at
// which a fix counts as deployed in the model's sense. The fraction itself is
// kept too: who wants a number must not make do with a letter.
const DeployedAt = 0.99

// Outcome is whom it concerned, what they were told, and what came of it.
type Outcome struct {
	Fixed       *FixMeasured      `json:"fixed,omitempty"`    // the newest measurement
	Ranges      []AffectedRange   `json:"ranges,omitempty"`   // which versions are vulnerable, as last set
	Affected    *AffectedFrozen   `json:"affected,omitempty"` // the newest snapshot
	Action      *ActionSet        `json:"action,omitempty"`
	Waves       []NoticeWave      `json:"waves,omitempty"`
	Ladder      *Ladder           `json:"ladder,omitempty"` // if not the default
	Overrides   []Overridden      `json:"overrides,omitempty"`
	Corrections []CorrectionState `json:"corrections,omitempty"`
	Feedback    []Feedback        `json:"feedback,omitempty"`
}

func (o Outcome) clone() Outcome {
	o.Ranges = slices.Clone(o.Ranges)
	o.Waves, o.Overrides, o.Corrections, o.Feedback = slices.Clone(o.Waves), slices.Clone(o.Overrides), slices.Clone(o.Corrections), slices.Clone(o.Feedback)
	return o
}

// FixMeasured is the verified-fixed fraction of the affected endpoints.
type FixMeasured struct {
	Lower    float64 `json:"lower"`    // lower confidence bound of the fraction
	N        int64   `json:"n"`        // affected endpoints, stale ones included
	Verified int64   `json:"verified"` // of these, verified fixed
	Stale    int64   `json:"stale"`    // of these, not heard from lately: not fixed
}

// Kind implements Body.
func (*FixMeasured) Kind() Kind { return "fix.deployed" }

func (b *FixMeasured) check() error {
	if !(b.Lower >= 0 && b.Lower <= 1) || b.N < 0 || b.Verified < 0 || b.Stale < 0 || b.Verified+b.Stale > b.N || b.Verified+b.Stale < 0 {
		return invalid("lower %v of n %d, verified %d, stale %d: want 0 <= lower <= 1 and verified + stale <= n", b.Lower, b.N, b.Verified, b.Stale)
	}
	return nil
}

// Marks are the fractions whose crossing is worth a fact.
var Marks = []float64{0.5, 0.9, DeployedAt}

// Mark is how many marks a measurement reached: 0 for nothing verified, 1 for
// something, 2 for the first of Marks, by the lower bound.
func (b *FixMeasured) Mark() int {
	if b.Verified == 0 {
		return 0
	}
	n := 1
	for _, m := range Marks {
		if b.Lower >= m {
			n++
		}
	}
	return n
}

func (b *FixMeasured) apply(c *Case, f Fact) error {
	if !c.State.Has(FixReady) {
		return illegal("no fix is ready")
	}
	if b.N > 0 && b.Lower >= DeployedAt {
		if err := c.event(FixDeployed, f); err != nil {
			return err
		}
	}
	m := *b
	c.Outcome.Fixed = &m
	return nil
}

// MaxRanges is how many ranges a case may name.
const MaxRanges = 1000

// AffectedRange says which versions of a component are vulnerable: a product, a
// PURL or a CPE, and a vers range. Package release reads both.
type AffectedRange struct {
	Name  string `json:"name"`
	Range string `json:"range"`
}

// AffectedSet says which versions are vulnerable: all of them, in the place of
// what was set before.
type AffectedSet struct {
	Ranges []AffectedRange `json:"ranges"`
}

// Kind implements Body.
func (*AffectedSet) Kind() Kind { return "affected.set" }

func (b *AffectedSet) check() error {
	if len(b.Ranges) == 0 || len(b.Ranges) > MaxRanges {
		return invalid("ranges: %d; want 1 to %d", len(b.Ranges), MaxRanges)
	}
	for i, r := range b.Ranges {
		if r.Name == "" || r.Range == "" {
			return invalid("ranges[%d]: want a name and a range", i)
		}
	}
	return nil
}

func (b *AffectedSet) apply(c *Case, _ Fact) error {
	c.Outcome.Ranges = slices.Clone(b.Ranges)
	return nil
}

// AffectedFrozen says that a snapshot of who is affected was frozen.
type AffectedFrozen struct {
	Hash      string `json:"hash"`
	Tenants   int64  `json:"tenants"`
	Resources int64  `json:"resources"`
}

// Kind implements Body.
func (*AffectedFrozen) Kind() Kind { return "affected.frozen" }

func (b *AffectedFrozen) check() error {
	if b.Tenants < 0 || b.Resources < 0 {
		return invalid("tenants %d, resources %d", b.Tenants, b.Resources)
	}
	return match("hash", b.Hash, digestName, "64 hex digits")
}

func (b *AffectedFrozen) apply(c *Case, _ Fact) error {
	a := *b
	c.Outcome.Affected = &a
	return nil
}

// Action is what customers must do.
type Action string

// The actions (customer_action).
const (
	ActNone      Action = "none"
	ActVerify    Action = "verify"
	ActConfigure Action = "configure"
	ActRotate    Action = "rotate"
	ActUpdate    Action = "update"
	ActPeer      Action = "peer"
)

// ActionSet says what customers must do. Its steps are notify's to read.
type ActionSet struct {
	Action Action          `json:"customer_action"`
	Steps  json.RawMessage `json:"steps,omitempty"` // JSON
}

// Kind implements Body.
func (*ActionSet) Kind() Kind { return "action.set" }

func (b *ActionSet) check() error {
	return oneOf("customer_action", b.Action, ActNone, ActVerify, ActConfigure, ActRotate, ActUpdate, ActPeer)
}

func (b *ActionSet) apply(c *Case, _ Fact) error {
	a := *b
	c.Outcome.Action = &a
	return nil
}

// RungOpened says that the ladder opened a rung, by which decision.
type RungOpened struct {
	Rung     Rung            `json:"rung"`
	Decision json.RawMessage `json:"decision"` // JSON: reasons and numbers
}

// Kind implements Body.
func (*RungOpened) Kind() Kind { return "rung.opened" }

func (b *RungOpened) check() error {
	if len(b.Decision) == 0 {
		return invalid("decision: is missing")
	}
	return oneOf("rung", b.Rung, Rungs[1:]...)
}

func (b *RungOpened) apply(c *Case, f Fact) error {
	if b.Rung.At() <= c.Rung.At() {
		return illegal("rung %s: %s is open already", b.Rung, c.Rung)
	}
	if b.Rung.At() >= PublicRung.At() {
		if err := c.expose(Public, f); err != nil {
			return err
		}
	}
	c.Rung = b.Rung
	return nil
}

// LadderOverride is a person's wish to open or hold a rung against the ladder.
type LadderOverride struct {
	Rung Rung   `json:"rung"`
	Why  string `json:"why"`
}

// Kind implements Body.
func (*LadderOverride) Kind() Kind { return "ladder.override" }

func (b *LadderOverride) check() error {
	return first(oneOf("rung", b.Rung, Rungs...), line("why", b.Why))
}

func (b *LadderOverride) apply(c *Case, f Fact) error {
	if len(c.Outcome.Overrides) >= MaxList {
		return illegal("%d overrides already", MaxList)
	}
	c.Outcome.Overrides = append(c.Outcome.Overrides, Overridden{Rung: b.Rung, By: f.Actor, Why: b.Why})
	return nil
}

// Overridden is one person's wish to open a rung on too little protection.
type Overridden struct {
	Rung Rung   `json:"rung"`
	By   string `json:"by"`
	Why  string `json:"why"`
}

// NoticeWave says that notices went out.
type NoticeWave struct {
	Rung       Rung   `json:"rung"`
	Recipients int64  `json:"recipients"`
	Hash       string `json:"hash"` // of what was sent
}

// Kind implements Body.
func (*NoticeWave) Kind() Kind { return "notice.wave" }

func (b *NoticeWave) check() error {
	if b.Recipients < 0 {
		return invalid("recipients: %d", b.Recipients)
	}
	return first(oneOf("rung", b.Rung, Rungs...), match("hash", b.Hash, digestName, "64 hex digits"))
}

func (b *NoticeWave) apply(c *Case, _ Fact) error {
	if len(c.Outcome.Waves) >= MaxList {
		return illegal("%d waves already", MaxList)
	}
	c.Outcome.Waves = append(c.Outcome.Waves, *b)
	return nil
}

// Recorded is a published record.
type Recorded struct {
	ID string   `json:"id"`
	At FactTime `json:"published"`
}

// RecordPublished says that a CVE record or an advisory was published.
type RecordPublished struct {
	ID    string `json:"id"` // "CVE-1900-0001", "HG-2026-7"
	Where string `json:"where,omitempty"`
}

// Kind implements Body.
func (*RecordPublished) Kind() Kind { return "record.published" }

func (b *RecordPublished) check() error {
	return first(line("id", b.ID), optionalLine("where", b.Where))
}

func (b *RecordPublished) apply(c *Case, f Fact) error {
	if len(c.Records) >= MaxList {
		return illegal("%d records already", MaxList)
	}
	c.Records = append(c.Records, Recorded{b.ID, FactTime{f.At, f.Seq}})
	return nil
}

// Notified is a notification that the law asks for.
type Notified struct {
	Duty  string   `json:"duty"` // "eu-cra-14"
	Stage string   `json:"stage"`
	At    FactTime `json:"made"`
}

// AuthorityNotified says that an authority was told.
type AuthorityNotified struct {
	Duty      string `json:"duty"`      // "eu-cra-14"
	Stage     string `json:"stage"`     // "early-warning", "notification", "final"
	Reference string `json:"reference"` // the authority's own
}

// Kind implements Body.
func (*AuthorityNotified) Kind() Kind { return "authority.notified" }

func (b *AuthorityNotified) check() error {
	return first(match("duty", b.Duty, wordName, "a lower-case word"), match("stage", b.Stage, wordName, "a lower-case word"), optionalLine("reference", b.Reference))
}

func (b *AuthorityNotified) apply(c *Case, f Fact) error {
	if len(c.Told) >= MaxList {
		return illegal("%d notifications already", MaxList)
	}
	c.Told = append(c.Told, Notified{b.Duty, b.Stage, FactTime{f.At, f.Seq}})
	return nil
}

// CorrectionState is a corrective action and how its check stands.
type CorrectionState struct {
	Text  string `json:"text"`
	Check string `json:"check"`
	Red   bool   `json:"red"`   // the check was seen to fail
	Green bool   `json:"green"` // and to pass after that
}

// CorrectionAdded is something to be done so that it does not happen again.
type CorrectionAdded struct {
	Text  string `json:"text"`
	Check string `json:"check"` // what must go red, then green
}

// Kind implements Body.
func (*CorrectionAdded) Kind() Kind { return "correction.added" }

func (b *CorrectionAdded) check() error { return first(line("text", b.Text), line("check", b.Check)) }

func (b *CorrectionAdded) apply(c *Case, _ Fact) error {
	if len(c.Outcome.Corrections) >= MaxList {
		return illegal("%d corrections already", MaxList)
	}
	c.Outcome.Corrections = append(c.Outcome.Corrections, CorrectionState{Text: b.Text, Check: b.Check})
	return nil
}

// CorrectionChecked is one run of a correction's check.
type CorrectionChecked struct {
	Correction int64  `json:"correction"` // from 0
	Result     string `json:"result"`     // "red" or "green"
}

// Kind implements Body.
func (*CorrectionChecked) Kind() Kind { return "correction.checked" }

func (b *CorrectionChecked) check() error {
	if b.Correction < 0 {
		return invalid("correction: %d", b.Correction)
	}
	return oneOf("result", b.Result, "red", "green")
}

// A check that was never red proves nothing when it is green.
func (b *CorrectionChecked) apply(c *Case, _ Fact) error {
	if b.Correction >= int64(len(c.Outcome.Corrections)) {
		return illegal("there is no correction %d", b.Correction)
	}
	s := &c.Outcome.Corrections[b.Correction]
	s.Red = s.Red || b.Result == "red"
	s.Green = s.Red && b.Result == "green"
	return nil
}
