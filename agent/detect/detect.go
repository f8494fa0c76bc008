// Package detect is the demo product: a small detection engine that evaluates
// rule content on a stream of events, so that Headgate has something real to
// update, break and bring back.
//
// It knows nothing of rollouts, slots or servers. Its words: content (a folder
// with rules.json and corpus.jsonl), rule, criterion, event, input.
//
// It carries one deliberate bug, in (criterion).matches, and that bug is the
// point of the demo: see there.
package detect

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/tidwall/match"
)

// EventInputs is how many inputs this engine supplies with each event.
const EventInputs = 20

// Files of a content folder.
const (
	RulesFile  = "rules.json"
	CorpusFile = "corpus.jsonl"
)

// Limits of content.
const (
	MaxRulesBytes  = 4 << 20
	MaxCorpusBytes = 16 << 20
	MaxRules       = 10_000
	MaxFields      = 64   // criteria of one rule, and inputs that content may declare
	MaxText        = 1024 // bytes of an id, a kind or a match
	MaxInput       = 4096 // bytes of one input of the corpus
)

// matchWork bounds the backtracking of one glob, in steps per byte of input.
const matchWork = 100

// ErrInvalid marks content that breaks a rule of this package.
var ErrInvalid = errors.New("invalid")

// Event is something that happened on the endpoint: a kind, and exactly
// EventInputs inputs.
type Event struct {
	Kind   string
	Inputs []string
}

// Sample is one line of the preflight corpus: an event, and the rules that must
// match it, sorted.
type Sample struct {
	Kind   string   `json:"kind"`
	Inputs []string `json:"inputs"`
	Expect []string `json:"expect,omitempty"`
}

// Engine is loaded content. It is immutable: many goroutines may evaluate.
type Engine struct {
	byKind map[string][]rule
	rules  int
	corpus []Sample
}

type rule struct {
	id       string
	criteria []criterion
}

type criterion struct {
	index   int
	pattern string
	how     how
}

type how uint8

const (
	wildcard how = iota // matches without reading its input
	exact
	glob
)

// rulesFile is the form of rules.json.
type rulesFile struct {
	Inputs int        `json:"inputs"`
	Rules  []ruleJSON `json:"rules"`
}

type ruleJSON struct {
	ID     string      `json:"id"`
	Kind   string      `json:"kind"`
	Fields []fieldJSON `json:"fields"`
}

type fieldJSON struct {
	Index int    `json:"index"`
	Match string `json:"match"`
}

// Load reads a content folder.
func Load(dir string) (*Engine, error) {
	rules, err := readLimited(filepath.Join(dir, RulesFile), MaxRulesBytes)
	if err != nil {
		return nil, fmt.Errorf("load content: %w", err)
	}
	corpus, err := readLimited(filepath.Join(dir, CorpusFile), MaxCorpusBytes)
	if err != nil {
		return nil, fmt.Errorf("load content: %w", err)
	}
	e, err := Parse(rules, corpus)
	if err != nil {
		return nil, fmt.Errorf("load content %s: %w", dir, err)
	}
	return e, nil
}

// Parse makes an engine from the bytes of rules.json and corpus.jsonl.
func Parse(rules, corpus []byte) (*Engine, error) {
	var f rulesFile
	if err := strict(rules, &f); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", RulesFile, err, ErrInvalid)
	}
	if f.Inputs < 1 || f.Inputs > MaxFields {
		return nil, fmt.Errorf("%s: inputs %d; want 1 to %d: %w", RulesFile, f.Inputs, MaxFields, ErrInvalid)
	}
	if len(f.Rules) == 0 || len(f.Rules) > MaxRules {
		return nil, fmt.Errorf("%s: %d rules; want 1 to %d: %w", RulesFile, len(f.Rules), MaxRules, ErrInvalid)
	}
	e := &Engine{byKind: map[string][]rule{}, rules: len(f.Rules)}
	seen := map[string]bool{}
	for i, rj := range f.Rules {
		if seen[rj.ID] {
			return nil, fmt.Errorf("%s: rule %d: id %q is taken: %w", RulesFile, i, rj.ID, ErrInvalid)
		}
		seen[rj.ID] = true
		r, err := rj.compile(f.Inputs)
		if err != nil {
			return nil, fmt.Errorf("%s: rule %d: %w", RulesFile, i, err)
		}
		e.byKind[rj.Kind] = append(e.byKind[rj.Kind], r)
	}
	var err error
	e.corpus, err = parseCorpus(corpus)
	return e, err
}

// compile checks a rule against the number of inputs that the content itself
// declares. That the content may declare more than the engine supplies is what
// the validator of 19 July 2024 overlooked too.
func (rj ruleJSON) compile(inputs int) (rule, error) {
	if rj.ID == "" || len(rj.ID) > MaxText || rj.Kind == "" || len(rj.Kind) > MaxText {
		return rule{}, fmt.Errorf("id %.40q, kind %.40q: want 1 to %d bytes each: %w", rj.ID, rj.Kind, MaxText, ErrInvalid)
	}
	if len(rj.Fields) == 0 || len(rj.Fields) > MaxFields {
		return rule{}, fmt.Errorf("id %.40q: %d fields; want 1 to %d: %w", rj.ID, len(rj.Fields), MaxFields, ErrInvalid)
	}
	r := rule{id: rj.ID, criteria: make([]criterion, 0, len(rj.Fields))}
	for i, f := range rj.Fields {
		if f.Index < 0 || f.Index >= inputs {
			return rule{}, fmt.Errorf("id %.40q, field %d: index %d of %d inputs: %w", rj.ID, i, f.Index, inputs, ErrInvalid)
		}
		if f.Match == "" || len(f.Match) > MaxText {
			return rule{}, fmt.Errorf("id %.40q, field %d: match of %d bytes; want 1 to %d: %w", rj.ID, i, len(f.Match), MaxText, ErrInvalid)
		}
		r.criteria = append(r.criteria, newCriterion(f))
	}
	return r, nil
}

func newCriterion(f fieldJSON) criterion {
	c := criterion{index: f.Index, pattern: f.Match, how: exact}
	switch {
	case f.Match == "*":
		c.how = wildcard
	case bytes.ContainsAny([]byte(f.Match), `*?\`):
		c.how = glob
	}
	return c
}

// Rules is how many rules are loaded.
func (e *Engine) Rules() int { return e.rules }

// Evaluate returns the ids of the rules that match, in the content's order.
func (e *Engine) Evaluate(ev Event) []string {
	var hits []string
	for _, r := range e.byKind[ev.Kind] {
		if r.matches(ev.Inputs) {
			hits = append(hits, r.id)
		}
	}
	return hits
}

// matches compares criteria in order and stops at the first that fails, so a
// criterion is read only if all before it matched.
func (r rule) matches(inputs []string) bool {
	for _, c := range r.criteria {
		if !c.matches(inputs) {
			return false
		}
	}
	return true
}

func (c criterion) matches(inputs []string) bool {
	if c.how == wildcard {
		return true
	}
	// THE DELIBERATE BUG, the defect of 19 July 2024 in miniature: the index is
	// the content's word, and nobody compares it with the inputs that this engine
	// really supplies. A 21st criterion (index 20) that is no wildcard panics here.
	// Do not mend it: Headgate exists for the engine whose bug is not known yet.
	in := inputs[c.index]
	if c.how == exact {
		return in == c.pattern
	}
	ok, _ := match.MatchLimit(in, c.pattern, matchWork)
	return ok
}

// Replay evaluates the corpus, and fails at the first event whose matches are
// not those expected. It is the preflight and the check.
func (e *Engine) Replay() (events int, err error) {
	for i, s := range e.corpus {
		got := e.Evaluate(Event{Kind: s.Kind, Inputs: s.Inputs})
		slices.Sort(got)
		if !slices.Equal(got, s.Expect) {
			return i, fmt.Errorf("%s: event %d matches %q, expected %q", CorpusFile, i, got, s.Expect)
		}
	}
	return len(e.corpus), nil
}

func parseCorpus(b []byte) ([]Sample, error) {
	if len(b) > MaxCorpusBytes {
		return nil, fmt.Errorf("%s: %d bytes, limit %d: %w", CorpusFile, len(b), MaxCorpusBytes, ErrInvalid)
	}
	var out []Sample
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if len(bytes.TrimSpace(sc.Bytes())) == 0 {
			continue
		}
		var s Sample
		if err := strict(sc.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("%s: event %d: %w: %w", CorpusFile, len(out), err, ErrInvalid)
		}
		if s.Kind == "" || len(s.Inputs) != EventInputs {
			return nil, fmt.Errorf("%s: event %d: kind %q with %d inputs; want a kind and %d: %w", CorpusFile, len(out), s.Kind, len(s.Inputs), EventInputs, ErrInvalid)
		}
		for i, in := range s.Inputs {
			if len(in) > MaxInput {
				return nil, fmt.Errorf("%s: event %d: input %d has %d bytes, limit %d: %w", CorpusFile, len(out), i, len(in), MaxInput, ErrInvalid)
			}
		}
		slices.Sort(s.Expect)
		out = append(out, s)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("%s: event %d: %w: %w", CorpusFile, len(out), err, ErrInvalid)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no events: %w", CorpusFile, ErrInvalid)
	}
	return out, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes: %w", path, limit, ErrInvalid)
	}
	return b, nil
}

// strict decodes exactly one JSON value with known keys only.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON value")
	}
	return nil
}
