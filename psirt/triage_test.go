package psirt

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A fact of a score or of a table's outcome that does not follow from what it
// cites is refused, so that none is stored.
func TestTriageFactsFollowFromWhatTheyCite(t *testing.T) {
	scored, err := Scored("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", "alice")
	if err != nil {
		t.Fatal(err)
	}
	placed, err := Categorize("supplier", map[string]string{"exploitation": "P", "utility": "efficient", "technical-impact": "total", "public-safety-impact": "S"})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []Body{scored, placed} {
		if _, err := Draft(b, time.Time{}, Amber); err != nil {
			t.Errorf("%s: %v", b.Kind(), err)
		}
	}
	for want, b := range map[string]Body{
		"scores 7.5":      &TriageScored{Scheme: "CVSS:3.1", Vector: scored.Vector, Score: 9.8, Scorer: "alice"},
		"is of CVSS:3.1":  &TriageScored{Scheme: "CVSS:4.0", Vector: scored.Vector, Score: 7.5, Scorer: "alice"},
		"CVSS vector":     &TriageScored{Scheme: "CVSS:3.1", Vector: "AV", Score: 7.5, Scorer: "alice"},
		"lead to":         &TriageSSVC{Table: placed.Table, Inputs: placed.Inputs, Outcome: "Defer"},
		"is not answered": &TriageSSVC{Table: placed.Table, Inputs: nil, Outcome: placed.Outcome},
	} {
		if _, err := Draft(b, time.Time{}, Amber); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", b, err, want)
		}
	}
}
