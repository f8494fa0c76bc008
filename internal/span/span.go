// Package span is a time.Duration that reads and writes as "36h" in JSON.
package span

import (
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a time.Duration in its text form: "90s", "36h", "1h30m".
type Duration time.Duration

// String gives the text form.
func (d Duration) String() string { return time.Duration(d).String() }

// Std gives the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// MarshalJSON writes the text form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads the text form, and nothing else: a bare number has no unit.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("duration %s: want a text such as \"90s\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("duration %q: want a text such as \"90s\"", s)
	}
	*d = Duration(v)
	return nil
}
