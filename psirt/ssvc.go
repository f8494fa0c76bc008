package psirt

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// ssvcTables are the decision tables of Stakeholder-Specific Vulnerability
// Categorization, as data: CERT/CC's and CISA's rows in our own form. Each row's
// outcome stands where its inputs' values lead when the last input turns fastest.
//
//go:embed tables/ssvc.json
var ssvcTables []byte

// Table is a decision table of SSVC.
type Table struct {
	Name    string  `json:"name"` // "deployer"
	Version string  `json:"version"`
	Title   string  `json:"title"`
	Source  string  `json:"source"`
	Inputs  []Point `json:"inputs"`
	Outcome Point   `json:"outcome"`
	// Rows are keys of Outcome, one for each combination of the inputs' values.
	Rows []string `json:"rows"`
}

// ID is the table's name and version, as facts record it.
func (t Table) ID() string { return t.Name + " " + t.Version }

// Point is a decision point: a question with its answers.
type Point struct {
	Name   string  `json:"name"` // "exploitation"
	ID     string  `json:"id"`   // "ssvc:E:1.1.0"
	Title  string  `json:"title"`
	Values []Value `json:"values"`
}

// Value is an answer.
type Value struct {
	Key   string `json:"key"` // "A"
	Title string `json:"title"`
}

// tables are read once: each fact that cites one is checked against it.
var tables = readTables()

func readTables() (all []Table) {
	if err := json.Unmarshal(ssvcTables, &all); err != nil {
		panic("psirt: the embedded SSVC tables are not readable: " + err.Error())
	}
	return all
}

// SSVCTables are all tables, in the order of the data.
func SSVCTables() []Table { return slices.Clone(tables) }

// SSVCTable finds a table by its name, its newest version then, or by name and version:
// "deployer 1.0.0". In the data a newer version stands before an older one.
func SSVCTable(name string) (Table, error) {
	var names, versions []string
	of, _, _ := strings.Cut(name, " ")
	for _, t := range tables {
		if t.Name == name || t.ID() == name {
			return t, nil
		}
		if t.Name == of {
			versions = append(versions, t.Version)
		}
		names = append(names, t.Name)
	}
	if len(versions) > 0 {
		return Table{}, fmt.Errorf("SSVC table %q: this version is not known here; %s has %s: %w", name, of, strings.Join(versions, ", "), ErrInvalid)
	}
	return Table{}, fmt.Errorf("SSVC table %q: want one of %s: %w", name, strings.Join(names, ", "), ErrInvalid)
}

// Step is one answer on the way to an outcome.
type Step struct {
	Input string `json:"input"`
	Value string `json:"value"` // its title
}

// Categorized is what a table says, and why.
type Categorized struct {
	Table   string `json:"table"` // "deployer 1.0.0"
	Outcome string `json:"outcome"`
	Key     string `json:"key"`
	// Row is the row's number in the published table's order, from 1.
	Row  int    `json:"row"`
	Path []Step `json:"path"`
	// Changes are the single answers that would change the outcome.
	Changes []Change `json:"changes,omitempty"`
}

// Change is another answer to one input, and the outcome that it would lead to.
type Change struct {
	Step
	Outcome string `json:"outcome"`
}

// Decide looks the answers up: by input's name, the value's key or title in any
// case. A missing, unknown or surplus answer is an error that names it.
func (t Table) Decide(answers map[string]string) (Categorized, error) {
	at := make([]int, len(t.Inputs))
	c := Categorized{Table: t.ID()}
	for i, p := range t.Inputs {
		given, ok := answers[p.Name]
		if !ok {
			return c, fmt.Errorf("SSVC table %s: %s is not answered; want one of %s: %w", t.Name, p.Name, p.choices(), ErrInvalid)
		}
		if at[i] = p.find(given); at[i] < 0 {
			return c, fmt.Errorf("SSVC table %s: %s is %q; want one of %s: %w", t.Name, p.Name, given, p.choices(), ErrInvalid)
		}
		c.Path = append(c.Path, Step{p.Name, p.Values[at[i]].Title})
	}
	for name := range answers {
		if !slices.ContainsFunc(t.Inputs, func(p Point) bool { return p.Name == name }) {
			return c, fmt.Errorf("SSVC table %s has no input %q: %w", t.Name, name, ErrInvalid)
		}
	}
	row := t.row(at)
	c.Row, c.Key = row+1, t.Rows[row]
	c.Outcome = t.title(c.Key)
	c.Changes = t.changes(at, c.Key)
	return c, nil
}

// row is the index of the outcome of the inputs' values at.
func (t Table) row(at []int) (row int) {
	for i, p := range t.Inputs {
		row = row*len(p.Values) + at[i]
	}
	return row
}

// changes lists the single answers that lead elsewhere than to key.
func (t Table) changes(at []int, key string) (out []Change) {
	for i, p := range t.Inputs {
		other := slices.Clone(at)
		for v := range p.Values {
			other[i] = v
			if k := t.Rows[t.row(other)]; k != key {
				out = append(out, Change{Step{p.Name, p.Values[v].Title}, t.title(k)})
			}
		}
	}
	return out
}

func (t Table) title(key string) string {
	if i := t.Outcome.find(key); i >= 0 {
		return t.Outcome.Values[i].Title
	}
	return key
}

// find is the index of the value with this key or title, or -1.
func (p Point) find(s string) int {
	s = strings.TrimSpace(s)
	if i := slices.IndexFunc(p.Values, func(v Value) bool { return strings.EqualFold(v.Key, s) }); i >= 0 {
		return i
	}
	return slices.IndexFunc(p.Values, func(v Value) bool { return strings.EqualFold(v.Title, s) })
}

func (p Point) choices() string {
	var out []string
	for _, v := range p.Values {
		out = append(out, fmt.Sprintf("%s (%s)", v.Key, v.Title))
	}
	return strings.Join(out, ", ")
}
