// Package ledger is the append-only, hash-chained record of every fact and
// decision. It makes entries, checks chains, and makes and checks RFC 6962
// proofs and signed checkpoints; it stores nothing and holds no key.
package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxBody is the largest body of an entry in bytes.
const MaxBody = 1 << 20

// ErrBroken means that a chain, a proof or a checkpoint does not hold.
var ErrBroken = errors.New("ledger is broken")

// Hash is a SHA-256.
type Hash [32]byte

// String is the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads what String wrote.
func ParseHash(s string) (h Hash, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("hash %q: want 64 hex digits", s)
	}
	copy(h[:], b)
	return h, nil
}

// Draft is an entry before it has a place in the chain.
type Draft struct {
	Kind    string // "rollout.decided"
	Subject string // what it is about: "R-17"
	Actor   string // who: "operator:alice", "engine"
	Body    []byte // JSON
}

// Entry is one fact or decision in its place.
type Entry struct {
	Seq  int64     // from 0, without gaps
	Time time.Time // UTC, microseconds
	Draft
	Prev Hash // of the entry before; zero for the first
}

// Head is the end of a chain.
type Head struct {
	Size int64 // number of entries
	Last Hash  // of the last entry; zero if none
}

// New makes a draft with v as its body.
func New(kind, subject, actor string, v any) (Draft, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return Draft{}, fmt.Errorf("ledger entry %s of %s: %w", kind, subject, err)
	}
	return Draft{Kind: kind, Subject: subject, Actor: actor, Body: b}, nil
}

// Append gives a draft its place after head.
func Append(head Head, d Draft, now time.Time) (Entry, Head, error) {
	if d.Kind == "" || d.Actor == "" {
		return Entry{}, head, fmt.Errorf("ledger entry %q of %q by %q: kind and actor are needed", d.Kind, d.Subject, d.Actor)
	}
	if len(d.Body) > MaxBody || !json.Valid(d.Body) {
		return Entry{}, head, fmt.Errorf("ledger entry %s: body of %d bytes; want JSON of at most %d", d.Kind, len(d.Body), MaxBody)
	}
	e := Entry{Seq: head.Size, Time: now.UTC().Truncate(time.Microsecond), Draft: d, Prev: head.Last}
	return e, Head{Size: head.Size + 1, Last: e.Hash()}, nil
}

// Encode is the entry's exact bytes: what is hashed, and the leaf of the Merkle
// tree. Each field is preceded by its length, so that no two entries share an
// encoding.
func (e Entry) Encode() []byte {
	b := []byte("headgate.ledger/1\n")
	b = binary.BigEndian.AppendUint64(b, uint64(e.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixMicro()))
	b = append(b, e.Prev[:]...)
	for _, f := range [][]byte{[]byte(e.Kind), []byte(e.Subject), []byte(e.Actor), e.Body} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// Hash is the entry's hash, which the next entry carries.
func (e Entry) Hash() Hash { return sha256.Sum256(e.Encode()) }

// Follow checks that e comes right after head and returns the new head.
func Follow(head Head, e Entry) (Head, error) {
	if e.Seq != head.Size {
		return head, fmt.Errorf("entry %d stands where %d should: %w", e.Seq, head.Size, ErrBroken)
	}
	if e.Prev != head.Last {
		return head, fmt.Errorf("entry %d names %s as the one before, which is %s: %w", e.Seq, e.Prev, head.Last, ErrBroken)
	}
	return Head{Size: e.Seq + 1, Last: e.Hash()}, nil
}
