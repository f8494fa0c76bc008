package psirt

import (
	"slices"
	"strings"
	"time"
)

// Triage is how bad it is, by everyone who said so.
type Triage struct {
	Scores []TriageScored `json:"scores,omitempty"` // the newest by scheme and scorer
	SSVC   []TriageSSVC   `json:"ssvc,omitempty"`   // the newest by table
	CWEs   []string       `json:"cwes,omitempty"`
	KEV    FactTime       `json:"kev"` // listed as known exploited
	EPSS   float64        `json:"epss,omitempty"`
	First  FactTime       `json:"first"` // when it was first assessed
}

func (t Triage) clone() Triage {
	t.Scores, t.SSVC, t.CWEs = slices.Clone(t.Scores), slices.Clone(t.SSVC), slices.Clone(t.CWEs)
	return t
}

// Severity is a word for a CVSS score.
type Severity string

// The severities, by CVSS v3.1 §5 and v4.0 §6; NotScored if nobody scored it.
const (
	NotScored Severity = ""
	None      Severity = "none"
	Low       Severity = "low"
	Medium    Severity = "medium"
	High      Severity = "high"
	Critical  Severity = "critical"
)

// SeverityOf is the word for a score from 0 to 10.
func SeverityOf(score float64) Severity {
	switch {
	case score <= 0:
		return None
	case score < 4:
		return Low
	case score < 7:
		return Medium
	case score < 9:
		return High
	}
	return Critical
}

// Severity is that of the highest score: when scorers differ, the clocks follow
// the one who is more worried.
func (t *Triage) Severity() Severity {
	if len(t.Scores) == 0 {
		return NotScored
	}
	highest := 0.0
	for _, s := range t.Scores {
		highest = max(highest, s.Score)
	}
	return SeverityOf(highest)
}

// TriageScored is one scorer's CVSS score. Scorers are kept apart.
type TriageScored struct {
	Scheme string  `json:"scheme"` // "CVSS:4.0"
	Vector string  `json:"vector"`
	Score  float64 `json:"score"` // 0 to 10
	Scorer string  `json:"scorer"`
}

// Kind implements Body.
func (*TriageScored) Kind() Kind { return "triage.scored" }

func (b *TriageScored) check() error {
	if !(b.Score >= 0 && b.Score <= 10) {
		return invalid("score: %v; want 0 to 10", b.Score)
	}
	if err := first(line("scheme", b.Scheme), optionalLine("vector", b.Vector), line("scorer", b.Scorer)); err != nil {
		return err
	}
	if !strings.HasPrefix(b.Scheme, "CVSS:") {
		return nil
	}
	s, err := ScoreVector(b.Vector, b.Scorer)
	if err != nil {
		return err
	}
	if b.Scheme != "CVSS:"+s.Version || b.Score != s.Score {
		return invalid("scheme %s, score %v: the vector is of CVSS:%s and scores %v", b.Scheme, b.Score, s.Version, s.Score)
	}
	return nil
}

// Scored is the fact of a CVSS vector's score.
func Scored(vector, scorer string) (*TriageScored, error) {
	s, err := ScoreVector(vector, scorer)
	if err != nil {
		return nil, err
	}
	return &TriageScored{Scheme: "CVSS:" + s.Version, Vector: s.Vector, Score: s.Score, Scorer: scorer}, nil
}

func (b *TriageScored) apply(c *Case, f Fact) error {
	i := slices.IndexFunc(c.Triage.Scores, func(s TriageScored) bool { return s.Scheme == b.Scheme && s.Scorer == b.Scorer })
	switch {
	case i >= 0:
		c.Triage.Scores[i] = *b
	case len(c.Triage.Scores) >= MaxList:
		return illegal("%d scores already", MaxList)
	default:
		c.Triage.Scores = append(c.Triage.Scores, *b)
	}
	c.Triage.First.set(f)
	return nil
}

// TriageSSVC is what a decision table says, and the path through it.
type TriageSSVC struct {
	Table   string            `json:"table"`
	Inputs  map[string]string `json:"inputs"`
	Outcome string            `json:"outcome"`
	Path    []string          `json:"path,omitempty"`
}

// Kind implements Body.
func (*TriageSSVC) Kind() Kind { return "triage.ssvc" }

func (b *TriageSSVC) check() error {
	if len(b.Inputs) > MaxList {
		return invalid("inputs: %d; at most %d", len(b.Inputs), MaxList)
	}
	for k, v := range b.Inputs {
		if err := first(line("inputs", k), line("inputs."+k, v)); err != nil {
			return err
		}
	}
	if err := first(line("table", b.Table), line("outcome", b.Outcome), lines("path", b.Path)); err != nil {
		return err
	}
	// What was recorded by a table that this program does not have stays as it was
	// recorded: tables come and go, and facts are for ever.
	i := slices.IndexFunc(tables, func(t Table) bool { return t.ID() == b.Table })
	if i < 0 {
		return nil
	}
	c, err := tables[i].Decide(b.Inputs)
	if err != nil {
		return err
	}
	if b.Outcome != c.Outcome {
		return invalid("table %s, outcome %s: its inputs lead to %s", b.Table, b.Outcome, c.Outcome)
	}
	return nil
}

// checkNew refuses a table, or a version of one, that nothing here can be checked by.
func (b *TriageSSVC) checkNew() error {
	t, err := SSVCTable(b.Table)
	if err == nil && t.ID() != b.Table {
		err = invalid("SSVC table %q: want its version too: %q", b.Table, t.ID())
	}
	return err
}

// Categorize is the fact of what a table says to answers.
func Categorize(table string, answers map[string]string) (*TriageSSVC, error) {
	t, err := SSVCTable(table)
	if err != nil {
		return nil, err
	}
	c, err := t.Decide(answers)
	if err != nil {
		return nil, err
	}
	b := &TriageSSVC{Table: c.Table, Inputs: map[string]string{}, Outcome: c.Outcome}
	for _, step := range c.Path {
		b.Inputs[step.Input] = step.Value
		b.Path = append(b.Path, step.Input+": "+step.Value)
	}
	return b, nil
}

func (b *TriageSSVC) apply(c *Case, f Fact) error {
	i := slices.IndexFunc(c.Triage.SSVC, func(s TriageSSVC) bool { return s.Table == b.Table })
	switch {
	case i >= 0:
		c.Triage.SSVC[i] = *b
	case len(c.Triage.SSVC) >= MaxList:
		return illegal("%d outcomes already", MaxList)
	default:
		c.Triage.SSVC = append(c.Triage.SSVC, *b)
	}
	c.Triage.First.set(f)
	return nil
}

// TriageCWE says which weaknesses it is of; the newest list is in force.
type TriageCWE struct {
	CWEs []string `json:"cwes"`
}

// Kind implements Body.
func (*TriageCWE) Kind() Kind { return "triage.cwe" }

func (b *TriageCWE) check() error {
	if len(b.CWEs) == 0 || len(b.CWEs) > MaxList {
		return invalid("cwes: %d; want 1 to %d", len(b.CWEs), MaxList)
	}
	for _, w := range b.CWEs {
		if err := match("cwes", w, cweName, "CWE- and a number"); err != nil {
			return err
		}
	}
	return nil
}

func (b *TriageCWE) apply(c *Case, _ Fact) error {
	c.Triage.CWEs = b.CWEs
	return nil
}

// KEVListed says that a catalogue lists it as known exploited.
type KEVListed struct {
	Catalogue string    `json:"catalogue"`
	CVE       string    `json:"cve"`
	Added     time.Time `json:"added"`
	Due       time.Time `json:"due,omitzero"`
}

// Kind implements Body.
func (*KEVListed) Kind() Kind { return "kev.listed" }

func (b *KEVListed) check() error {
	return first(line("catalogue", b.Catalogue), match("cve", b.CVE, cveName, "CVE-YEAR-NUMBER"))
}

// A listing is evidence of attacks.
func (b *KEVListed) apply(c *Case, f Fact) error {
	if err := c.event(AttackObserved, f); err != nil {
		return err
	}
	c.Triage.KEV.set(f)
	return nil
}

// EPSSScored is the probability of exploitation within 30 days.
type EPSSScored struct {
	CVE        string  `json:"cve"`
	Score      float64 `json:"score"`      // 0 to 1
	Percentile float64 `json:"percentile"` // 0 to 1
	Day        string  `json:"day"`        // the model's day
}

// Kind implements Body.
func (*EPSSScored) Kind() Kind { return "epss.scored" }

func (b *EPSSScored) check() error {
	if !(b.Score >= 0 && b.Score <= 1 && b.Percentile >= 0 && b.Percentile <= 1) {
		return invalid("score %v, percentile %v: want 0 to 1", b.Score, b.Percentile)
	}
	return first(match("cve", b.CVE, cveName, "CVE-YEAR-NUMBER"), line("day", b.Day))
}

func (b *EPSSScored) apply(c *Case, _ Fact) error {
	c.Triage.EPSS = b.Score
	return nil
}
