// Package recorded reads what happened in a rollout, ours or another product's,
// and plays another policy over it: with rollout.Decide, in virtual time, whom
// would it have exposed, whom harmed, and when would it have stopped?
//
// It assumes that what becomes of an endpoint goes by its age since exposure;
// Assumptions lists all that an answer rests on. It never talks to a server.
package recorded

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/fleet"
)

// ErrInvalid marks a record that cannot be meant.
var ErrInvalid = errors.New("invalid record")

// Limits of a file.
const (
	MaxRecords = 10_000_000
	MaxColumns = 4 + fleet.MaxLabels
	MaxField   = 255 // bytes
)

// Outcome is what became of an endpoint.
type Outcome string

// The outcomes: nothing happened, a reported failure, not heard from again.
const (
	Healthy Outcome = "healthy"
	Harmed  Outcome = "harmed"
	Silent  Outcome = "silent"
)

// Record is one endpoint of a rollout. An endpoint that failed before it was
// exposed, or that never was, failed as a control.
type Record struct {
	Endpoint  string
	Exposed   time.Time // zero: never
	Outcome   Outcome
	OutcomeAt time.Time // when the failure became known; zero if healthy
	Labels    fleet.Labels
}

// labelPrefix stands before the key in the name of a label's column.
const labelPrefix = "label."

// columns says which column holds what: endpoint, exposed_at, outcome,
// outcome_at, and the labels; -1 is missing.
type columns struct {
	endpoint, exposed, outcome, outcomeAt int
	labels                                map[int]string // column to key
}

// layout reads the names of a file's columns.
func layout(names []string) (c columns, err error) {
	c = columns{-1, -1, -1, -1, map[int]string{}}
	if len(names) > MaxColumns {
		return c, fmt.Errorf("%d columns, limit %d: %w", len(names), MaxColumns, ErrInvalid)
	}
	known := map[string]*int{"endpoint": &c.endpoint, "exposed_at": &c.exposed, "outcome": &c.outcome, "outcome_at": &c.outcomeAt}
	for i, name := range names {
		if key, ok := strings.CutPrefix(name, labelPrefix); ok {
			if err := (fleet.Labels{key: ""}).Check(); err != nil {
				return c, fmt.Errorf("column %d: %w: %w", i+1, err, ErrInvalid)
			}
			c.labels[i] = key
			continue
		}
		at := known[name]
		if at == nil {
			return c, fmt.Errorf("column %d is %q; want endpoint, exposed_at, outcome, outcome_at or %sKEY: %w", i+1, name, labelPrefix, ErrInvalid)
		}
		if *at >= 0 {
			return c, fmt.Errorf("column %q stands twice: %w", name, ErrInvalid)
		}
		*at = i
	}
	for name, at := range known {
		if *at < 0 {
			return c, fmt.Errorf("column %q is missing: %w", name, ErrInvalid)
		}
	}
	return c, nil
}

// check refuses a record that contradicts itself.
func (r Record) check() error {
	switch {
	case r.Endpoint == "" || len(r.Endpoint) > MaxField:
		return fmt.Errorf("endpoint of %d bytes; want 1 to %d", len(r.Endpoint), MaxField)
	case r.Outcome != Healthy && r.Outcome != Harmed && r.Outcome != Silent:
		return fmt.Errorf("outcome %q; want healthy, harmed or silent", r.Outcome)
	case r.Outcome == Healthy && !r.OutcomeAt.IsZero():
		return errors.New("outcome_at is set, and the outcome is healthy")
	case r.Outcome != Healthy && r.OutcomeAt.IsZero():
		return fmt.Errorf("outcome %s without outcome_at", r.Outcome)
	}
	return r.Labels.Check()
}

// distinct refuses a file in which an endpoint stands twice; line says where a
// record stood.
func distinct(records []Record, line func(i int) string) error {
	order := make([]int, len(records))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(records[a].Endpoint, records[b].Endpoint), cmp.Compare(a, b))
	})
	for i := 1; i < len(order); i++ {
		if a, b := order[i-1], order[i]; records[a].Endpoint == records[b].Endpoint {
			return fmt.Errorf("%s: endpoint %q stands in %s already: %w", line(b), records[b].Endpoint, line(a), ErrInvalid)
		}
	}
	if len(records) == 0 {
		return fmt.Errorf("no records: %w", ErrInvalid)
	}
	return nil
}
