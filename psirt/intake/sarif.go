package intake

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The part of SARIF 2.1.0 that a report is made of. Our own structs: the public
// model turns an absent ruleIndex into 0, which is the first rule, where the
// specification (3.27.6) says -1.
type (
	sarifLog struct {
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver     sarifComponent   `json:"driver"`
			Extensions []sarifComponent `json:"extensions"`
		} `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifComponent struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID     string       `json:"id"`
		Name   string       `json:"name"`
		Short  sarifMessage `json:"shortDescription"`
		Full   sarifMessage `json:"fullDescription"`
		Help   sarifMessage `json:"help"`
		URI    string       `json:"helpUri"`
		Config struct {
			Level string `json:"level"`
		} `json:"defaultConfiguration"`
		Messages   map[string]sarifMessage `json:"messageStrings"`
		Properties struct {
			Tags     []string        `json:"tags"`
			Severity json.RawMessage `json:"security-severity"`
		} `json:"properties"`
	}
	sarifMessage struct {
		ID        string   `json:"id"`
		Text      string   `json:"text"`
		Markdown  string   `json:"markdown"`
		Arguments []string `json:"arguments"`
	}
	sarifResult struct {
		RuleID    string `json:"ruleId"`
		RuleIndex *int   `json:"ruleIndex"`
		Rule      *struct {
			ID            string `json:"id"`
			Index         *int   `json:"index"`
			ToolComponent struct {
				Index *int `json:"index"`
			} `json:"toolComponent"`
		} `json:"rule"`
		Kind         string          `json:"kind"`
		Level        string          `json:"level"`
		Baseline     string          `json:"baselineState"`
		Message      sarifMessage    `json:"message"`
		Locations    []sarifLocation `json:"locations"`
		Suppressions []struct {
			Status string `json:"status"`
		} `json:"suppressions"`
	}
	sarifLocation struct {
		Physical struct {
			Artifact struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
			Region struct {
				Line int `json:"startLine"`
			} `json:"region"`
		} `json:"physicalLocation"`
	}
)

// ReadSARIF reads a SARIF 2.1.0 log: a draft for each rule of a run that found
// something, with the places. Results that are no failure, are suppressed, or
// that the tool says are gone, are passed over.
func ReadSARIF(b []byte) (Import, error) {
	var log sarifLog
	if err := json.Unmarshal(b, &log); err != nil {
		return Import{}, jsonError(b, err)
	}
	if log.Version != "2.1.0" {
		return Import{}, fmt.Errorf("/version: %.20q, want \"2.1.0\": %w", log.Version, ErrInvalid)
	}
	if len(log.Runs) == 0 {
		return Import{}, fmt.Errorf("/runs: none: the log reports nothing: %w", ErrInvalid)
	}
	im := Import{Passed: map[string]int{}}
	for i, run := range log.Runs {
		if run.Tool.Driver.Name == "" {
			return Import{}, fmt.Errorf("/runs/%d/tool/driver/name: missing: %w", i, ErrInvalid)
		}
		drafts, err := run.drafts(fmt.Sprintf("/runs/%d", i), im.Passed)
		if err != nil {
			return Import{}, err
		}
		if im.Drafts = append(im.Drafts, drafts...); len(im.Drafts) > MaxDrafts {
			return Import{}, fmt.Errorf("/runs/%d: more than %d rules found something: %w", i, MaxDrafts, ErrInvalid)
		}
	}
	return im, nil
}

// finding is one rule's results in a run.
type finding struct {
	rule   sarifRule
	level  string
	places []string
	first  string // the first result's message
	n      int
}

func (run sarifRun) drafts(at string, passed map[string]int) ([]Draft, error) {
	var order []string
	found := map[string]*finding{}
	for i, r := range run.Results {
		here := fmt.Sprintf("%s/results/%d", at, i)
		if why := r.passedOver(); why != "" {
			passed[why]++
			continue
		}
		rule, err := run.ruleOf(r, here)
		if err != nil {
			return nil, err
		}
		f := found[rule.ID]
		if f == nil {
			f = &finding{rule: rule, level: firstOf(r.Level, firstOf(rule.Config.Level, "warning")), first: r.Message.say(rule)}
			found[rule.ID], order = f, append(order, rule.ID)
		}
		if f.n++; len(f.places) < maxPlaces {
			f.places = append(f.places, r.place())
		}
	}
	var out []Draft
	for _, id := range order {
		out = append(out, found[id].draft(run.Tool.Driver))
	}
	return out, nil
}

func (r sarifResult) passedOver() string {
	if r.Kind != "" && r.Kind != "fail" && r.Kind != "open" && r.Kind != "review" {
		return "kind " + cut(Line(r.Kind), 20)
	}
	if r.Baseline == "absent" {
		return "gone since the baseline"
	}
	for _, s := range r.Suppressions {
		if s.Status == "" || s.Status == "accepted" { // 3.35.3: absent means accepted
			return "suppressed"
		}
	}
	return ""
}

// ruleOf finds a result's rule: by reference, by index, by id; a rule that the
// tool does not describe is known by its id alone.
func (run sarifRun) ruleOf(r sarifResult, at string) (sarifRule, error) {
	rules, index, id := run.Tool.Driver.Rules, r.RuleIndex, r.RuleID
	if r.Rule != nil {
		id, index = firstOf(id, r.Rule.ID), r.Rule.Index
		if r.RuleIndex != nil {
			index = r.RuleIndex
		}
		if c := r.Rule.ToolComponent.Index; c != nil && *c >= 0 {
			if *c >= len(run.Tool.Extensions) {
				return sarifRule{}, fmt.Errorf("%s/rule/toolComponent/index: %d, but the tool has %d extensions: %w", at, *c, len(run.Tool.Extensions), ErrInvalid)
			}
			rules = run.Tool.Extensions[*c].Rules
		}
	}
	if index != nil && *index >= 0 {
		if *index >= len(rules) {
			return sarifRule{}, fmt.Errorf("%s: rule index %d, but the tool has %d rules: %w", at, *index, len(rules), ErrInvalid)
		}
		rule := rules[*index]
		rule.ID = firstOf(rule.ID, id)
		return rule, nil
	}
	if id == "" {
		return sarifRule{}, fmt.Errorf("%s: neither ruleId nor rule index: %w", at, ErrInvalid)
	}
	if i := slices.IndexFunc(rules, func(x sarifRule) bool { return x.ID == id }); i >= 0 {
		return rules[i], nil
	}
	return sarifRule{ID: id}, nil
}

// say is a message's text; by id it stands with the rule, with arguments to put in.
func (m sarifMessage) say(rule sarifRule) string {
	if m.Text == "" && m.Markdown == "" && m.ID != "" {
		args := m.Arguments
		m = rule.Messages[m.ID]
		m.Arguments = args
	}
	text := firstOf(m.Markdown, m.Text)
	for i, a := range m.Arguments {
		if i >= maxList || len(text) > MaxText {
			break
		}
		text = strings.ReplaceAll(text, "{"+strconv.Itoa(i)+"}", a) // 3.11.5
	}
	return text
}

func (r sarifResult) place() string {
	if len(r.Locations) == 0 || r.Locations[0].Physical.Artifact.URI == "" {
		return "no place given"
	}
	p := r.Locations[0].Physical
	if p.Region.Line > 0 {
		return fmt.Sprintf("%s:%d", p.Artifact.URI, p.Region.Line)
	}
	return p.Artifact.URI
}

// cweTag is how tools tag a rule with its weakness: external/cwe/cwe-079, CWE-79.
var cweTag = regexp.MustCompile(`(?i)(?:^|/)cwe-0*([1-9][0-9]{0,4})(?::|$)`)

func (f *finding) draft(tool sarifComponent) Draft {
	title := firstOf(f.rule.Short.Text, firstOf(f.rule.Name, f.rule.ID))
	d := Draft{Ref: tool.Name + "/" + f.rule.ID, Title: cut(Line(tool.Name+": "+title), MaxTitle)}
	var b strings.Builder
	for _, s := range []string{firstOf(f.rule.Full.Markdown, f.rule.Full.Text), f.first, firstOf(f.rule.Help.Markdown, f.rule.Help.Text)} {
		if s != "" {
			b.WriteString(s + "\n\n")
		}
	}
	fmt.Fprintf(&b, "Rule `%s`, level %s, found by %s %s in %d places:\n\n", f.rule.ID, f.level, tool.Name, tool.Version, f.n)
	for _, p := range f.places {
		b.WriteString("* `" + strings.ReplaceAll(Line(p), "`", "'") + "`\n")
	}
	if n := f.n - len(f.places); n > 0 {
		fmt.Fprintf(&b, "* and %d more\n", n)
	}
	if s := strings.Trim(string(f.rule.Properties.Severity), `"`); s != "" && s != "null" {
		fmt.Fprintf(&b, "\nThe tool's own severity: %s\n", s)
	}
	d.Text = b.String()
	for _, t := range f.rule.Properties.Tags {
		if m := cweTag.FindStringSubmatch(t); m != nil {
			d.Weaknesses = append(d.Weaknesses, "CWE-"+m[1])
		}
	}
	d.Weaknesses = distinct(d.Weaknesses)
	if f.rule.URI != "" {
		d.Links = []string{f.rule.URI}
	}
	return d
}
