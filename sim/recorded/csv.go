package recorded

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/headgate/headgate/fleet"
)

// maxLine is the longest line of a CSV file in bytes: every field as long as it
// may be, and quoted.
const maxLine = MaxColumns * (2*MaxField + 3)

// ReadCSV reads records from CSV (RFC 4180) with a header. Times are RFC 3339.
// Errors name the line.
func ReadCSV(r io.Reader) ([]Record, error) {
	in := csv.NewReader(&shortLines{r: bufio.NewReader(r)})
	in.ReuseRecord = true
	names, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("line 1: %w: %w", err, ErrInvalid)
	}
	c, err := layout(names)
	if err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	var out []Record
	var lines []int
	for {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			return out, distinct(out, func(i int) string { return fmt.Sprint("line ", lines[i]) })
		}
		if err != nil { // package csv's errors name the line
			return nil, fmt.Errorf("%w: %w", err, ErrInvalid)
		}
		line, _ := in.FieldPos(0)
		if len(out) == MaxRecords {
			return nil, fmt.Errorf("line %d: more than %d records: %w", line, MaxRecords, ErrInvalid)
		}
		rec, err := c.text(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w: %w", line, err, ErrInvalid)
		}
		out, lines = append(out, rec), append(lines, line)
	}
}

// text makes a record of a line's fields.
func (c columns) text(fields []string) (r Record, err error) {
	for i, f := range fields {
		if len(f) > MaxField {
			return r, fmt.Errorf("field %d has %d bytes, limit %d", i+1, len(f), MaxField)
		}
	}
	r.Endpoint, r.Outcome = fields[c.endpoint], Outcome(fields[c.outcome])
	if r.Exposed, err = instant(fields[c.exposed]); err != nil {
		return r, fmt.Errorf("exposed_at: %w", err)
	}
	if r.OutcomeAt, err = instant(fields[c.outcomeAt]); err != nil {
		return r, fmt.Errorf("outcome_at: %w", err)
	}
	for i, key := range c.labels {
		r.label(key, fields[i])
	}
	return r, r.check()
}

// label sets a label; an empty field is none.
func (r *Record) label(key, value string) {
	if value == "" {
		return
	}
	if r.Labels == nil {
		r.Labels = fleet.Labels{}
	}
	r.Labels[key] = value
}

// instant reads a time; an empty field is none.
func instant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err == nil && (t.Year() < 1970 || t.Year() > 2261) {
		err = fmt.Errorf("the year %d; want 1970 to 2261", t.Year())
	}
	return t.UTC(), err
}

// shortLines fails on a line that is too long, so that a file without line ends
// is not read into memory.
type shortLines struct {
	r   *bufio.Reader
	now int
}

func (s *shortLines) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	for _, b := range p[:n] {
		if s.now++; b == '\n' {
			s.now = 0
		}
		if s.now > maxLine {
			return 0, fmt.Errorf("a line is longer than %d bytes: %w", maxLine, ErrInvalid)
		}
	}
	return n, err
}
