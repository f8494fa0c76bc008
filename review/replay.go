// Package review draws what happened from the ledger: for now, it decides every
// recorded decision again. It reads entries that it is given and keeps nothing.
//
// Its words: review, replay.
package review

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/rollout"
)

// DecisionKind is the kind of the ledger entries that carry a decision and the
// snapshot it was made from.
const DecisionKind = "rollout.decided"

// ErrDiffers means that a decision, made again from its recorded snapshot, is
// not the recorded one.
var ErrDiffers = errors.New("the decision made again differs from the recorded one")

// ErrNotDecision means that an entry records no decision.
var ErrNotDecision = errors.New("entry records no decision")

// Decision is a recorded decision with all that it depended on.
type Decision struct {
	Snapshot rollout.Snapshot
	Decision rollout.Decision
	raw      []byte // the recorded decision's exact bytes
}

// Read takes the decision out of an entry.
func Read(e ledger.Entry) (Decision, error) {
	if e.Kind != DecisionKind {
		return Decision{}, fmt.Errorf("entry %d is %s: %w", e.Seq, e.Kind, ErrNotDecision)
	}
	var body struct {
		Snapshot rollout.Snapshot `json:"snapshot"`
		Decision json.RawMessage  `json:"decision"`
	}
	d := json.NewDecoder(bytes.NewReader(e.Body))
	d.DisallowUnknownFields() // what this program does not know it cannot replay
	if err := d.Decode(&body); err != nil {
		return Decision{}, fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	out := Decision{Snapshot: body.Snapshot, raw: body.Decision}
	if err := json.Unmarshal(body.Decision, &out.Decision); err != nil {
		return Decision{}, fmt.Errorf("entry %d: decision: %w", e.Seq, err)
	}
	return out, nil
}

// Replay makes the decision of an entry again, from its recorded snapshot at its
// recorded time, and compares the answers bit for bit. ErrDiffers says how they
// part.
func Replay(e ledger.Entry) error {
	was, err := Read(e)
	if err != nil {
		return err
	}
	again, err := rollout.Decide(was.Snapshot, e.Time)
	if err != nil {
		return fmt.Errorf("entry %d: %w: %w", e.Seq, err, ErrDiffers)
	}
	b, err := json.Marshal(again)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	if !bytes.Equal(b, was.raw) {
		return fmt.Errorf("entry %d of %s: recorded %s, made again %s: %w", e.Seq, e.Subject, was.raw, b, ErrDiffers)
	}
	return nil
}
