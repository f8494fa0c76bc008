package ledger

import (
	"encoding/json"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// KeyKind and KeySubject are of entries that name the key which signs checkpoints
// from then on.
const (
	KeyKind    = "ledger.key"
	KeySubject = "ledger"
)

// Handover says that one key takes the place of another, as an entry tells it. Keys
// are in the form of package note, "name+hash+key".
type Handover struct {
	Seq    int64  `json:"-"` // of the entry
	Before string `json:"before"`
	Key    string `json:"key"`
	// Note is the first checkpoint that covers the entry, nil if there is none yet,
	// and Covers what the log has at that size.
	Note   []byte     `json:"-"`
	Covers Checkpoint `json:"-"`
}

// Draft is the handover's entry.
func (h Handover) Draft(actor string) (Draft, error) {
	for _, key := range []string{h.Before, h.Key} {
		if _, err := note.NewVerifier(key); err != nil {
			return Draft{}, fmt.Errorf("ledger key %q: %w", key, err)
		}
	}
	return New(KeyKind, KeySubject, actor, h)
}

// ParseHandover reads the handover of an entry of KeyKind.
func ParseHandover(e Entry) (Handover, error) {
	h := Handover{Seq: e.Seq}
	if err := json.Unmarshal(e.Body, &h); err != nil {
		return h, fmt.Errorf("entry %d: %s: %w: %w", e.Seq, KeyKind, err, ErrBroken)
	}
	return h, nil
}

// FollowKeys starts with a key that is believed and follows it through the
// handovers, which are in the order of the log, to the one in force. Each counts
// only if the key before it signed a checkpoint that covers it. Those of keys that
// were before the believed one are passed over.
func FollowKeys(key string, handovers []Handover) (string, error) {
	for _, h := range handovers {
		if h.Before != key {
			continue
		}
		v, err := note.NewVerifier(key)
		if err != nil {
			return "", fmt.Errorf("ledger key %q: %w", key, err)
		}
		c, err := OpenCheckpoint(h.Note, v)
		if err != nil {
			return "", fmt.Errorf("entry %d hands over to another key without the word of the one before: %w", h.Seq, err)
		}
		if c != h.Covers || c.Size <= h.Seq {
			return "", fmt.Errorf("entry %d hands over to another key; the checkpoint for it, of %d entries, is not of this log or does not cover it: %w", h.Seq, c.Size, ErrBroken)
		}
		key = h.Key
	}
	return key, nil
}
