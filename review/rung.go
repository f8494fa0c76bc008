package review

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/headgate/headgate/advisory"
	"github.com/headgate/headgate/psirt"
)

// RungKind is the kind of the facts that carry a decision on disclosure and the
// snapshot it was made from.
const RungKind psirt.Kind = "rung.opened"

// ReplayRung makes the decision of a rung.opened fact again, from its recorded
// snapshot at its recorded time, and compares the answers bit for bit. ErrDiffers
// says how they part; ErrNotDecision that the fact records no decision. subject
// names the case in errors.
func ReplayRung(subject string, f psirt.Fact) error {
	body, err := f.Decode()
	if err != nil {
		return fmt.Errorf("fact %d of %s: %w", f.Seq, subject, err)
	}
	opened, ok := body.(*psirt.RungOpened)
	if !ok {
		return fmt.Errorf("fact %d of %s is %s: %w", f.Seq, subject, f.Kind, ErrNotDecision)
	}
	var was struct {
		Snapshot advisory.Snapshot `json:"snapshot"`
		Decision json.RawMessage   `json:"decision"`
	}
	d := json.NewDecoder(bytes.NewReader(opened.Decision))
	d.DisallowUnknownFields() // what this program does not know it cannot replay
	if err := d.Decode(&was); err != nil {
		return fmt.Errorf("fact %d of %s: decision: %w", f.Seq, subject, err)
	}
	again, err := advisory.DecideRung(was.Snapshot, f.At)
	if err != nil {
		return fmt.Errorf("fact %d of %s: %w: %w", f.Seq, subject, err, ErrDiffers)
	}
	b, err := json.Marshal(again)
	if err != nil {
		return fmt.Errorf("fact %d of %s: %w", f.Seq, subject, err)
	}
	if !bytes.Equal(b, was.Decision) || again.Rung != opened.Rung {
		return fmt.Errorf("fact %d of %s: recorded %s of %s, made again %s: %w", f.Seq, subject, opened.Rung, was.Decision, b, ErrDiffers)
	}
	return nil
}
