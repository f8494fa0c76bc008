package release

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Measures of how a product does. Two are the agent's own, of every product.
const (
	MeasureCrashes = "crashes" // a count: abnormal exits of the version that runs
	MeasureStart   = "start"   // a value: seconds from the version's first start here until it was ready
)

// MaxMeasures is how many measures a product may say of itself.
const MaxMeasures = 16

// MeasureSpans are the spans over which counts are known.
var MeasureSpans = []time.Duration{time.Minute, 10 * time.Minute, time.Hour}

var measureName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)

// CheckMeasure refuses what cannot be a measure's name.
func CheckMeasure(name string) error {
	if !measureName.MatchString(name) {
		return fmt.Errorf("measure %.50q: want 1 to 40 of a-z, 0-9 and inner hyphens, a letter first: %w", name, ErrInvalid)
	}
	return nil
}

// CheckMeasured refuses what cannot have been measured.
func CheckMeasured(v float64) error {
	if !(v >= 0 && v <= 1e15) {
		return fmt.Errorf("%v; want 0 to 1e15: %w", v, ErrInvalid)
	}
	return nil
}

// Said is one measure as a product's check command says it.
type Said struct {
	Name  string
	Count bool // Value is how many so far, and not what is measured now
	Value float64
}

// ParseSaid reads the measures in a check command's output, a line each:
//
//	headgate: count false-positives 12
//	headgate: value exec-latency 0.0031
//
// What it cannot read is left out, for it is unknown and not 0; err is the first
// such line. All other output is the product's own.
func ParseSaid(output []byte) (said []Said, err error) {
	for line := range strings.Lines(string(output)) {
		text, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "headgate: ")
		if !ok {
			continue
		}
		s, e := parseSaid(text)
		switch {
		case e == nil && slices.ContainsFunc(said, func(o Said) bool { return o.Name == s.Name }):
			e = fmt.Errorf("%s is said twice: %w", s.Name, ErrInvalid)
		case e == nil && len(said) == MaxMeasures:
			e = fmt.Errorf("more than %d measures: %w", MaxMeasures, ErrInvalid)
		}
		if e == nil {
			said = append(said, s)
		} else if err == nil {
			err = fmt.Errorf("%.100q: %w", text, e)
		}
	}
	return said, err
}

func parseSaid(text string) (s Said, err error) {
	f := strings.Fields(text)
	if len(f) != 3 || f[0] != "count" && f[0] != "value" {
		return s, fmt.Errorf("want \"count NAME NUMBER\" or \"value NAME NUMBER\": %w", ErrInvalid)
	}
	s.Name, s.Count = f[1], f[0] == "count"
	if err := CheckMeasure(s.Name); err != nil {
		return s, err
	}
	if s.Name == MeasureCrashes || s.Name == MeasureStart {
		return s, fmt.Errorf("%s is the agent's own: %w", s.Name, ErrInvalid)
	}
	v, err := strconv.ParseFloat(f[2], 64)
	if err != nil {
		return s, fmt.Errorf("%.30q is no number: %w", f[2], ErrInvalid)
	}
	if s.Count && v != math.Trunc(v) {
		return s, errors.Join(errors.New("a count is a whole number"), ErrInvalid)
	}
	s.Value = v
	return s, CheckMeasured(v)
}
