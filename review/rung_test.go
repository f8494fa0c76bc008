package review

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/advisory"
	"github.com/headgate/headgate/psirt"
)

var start = time.Date(1999, 12, 31, 12, 0, 0, 0, time.UTC)

// fact places a body as a case's fact number seq, an hour after the one before.
func fact(t *testing.T, seq int64, b psirt.Body) psirt.Fact {
	t.Helper()
	at := start.Add(time.Duration(seq) * time.Hour)
	f, err := psirt.Draft(b, at, psirt.Amber)
	if err != nil {
		t.Fatal(err)
	}
	f.Seq, f.Recorded, f.Actor = seq, at, "operator:alice"
	return f
}

func TestRungDecisionsAreMadeAgain(t *testing.T) {
	at := start.Add(3 * time.Hour)
	s := advisory.Of("C-1", psirt.Case{Opened: start.Add(-48 * time.Hour), Rung: psirt.Sealed}, advisory.Protection{}, at)
	d, err := advisory.DecideRung(s, at)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(advisory.Recorded{Snapshot: s, Decision: d})
	if err != nil {
		t.Fatal(err)
	}
	good := psirt.RungOpened{Rung: d.Rung, Decision: raw}
	if err := ReplayRung("C-1", fact(t, 3, &good)); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]psirt.RungOpened{
		"another rung":    {Rung: psirt.PublicRung, Decision: raw},
		"another reason":  {Rung: d.Rung, Decision: json.RawMessage(strings.Replace(string(raw), "opens:", "opened:", 1))},
		"another measure": {Rung: d.Rung, Decision: json.RawMessage(strings.Replace(string(raw), `"lower":0`, `"lower":0.5`, 1))},
	} {
		if err := ReplayRung("C-1", fact(t, 3, &bad)); !errors.Is(err, ErrDiffers) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := ReplayRung("C-1", fact(t, 3, &psirt.CaseOpened{Title: "x"})); !errors.Is(err, ErrNotDecision) {
		t.Errorf("no decision: %v", err)
	}
}
