package psirt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/internal/strict"
)

// Kind says what a fact tells: "case.opened".
type Kind string

// Fact is one thing that is known of a case or a report, in its place.
type Fact struct {
	ID       int64           `json:"id"`       // random
	Seq      int64           `json:"seq"`      // in the case or report: from 0, without gaps
	Kind     Kind            `json:"kind"`     // which of the bodies
	At       time.Time       `json:"at"`       // when we learned of it: UTC, microseconds, not after Recorded
	Recorded time.Time       `json:"recorded"` // when it was written down
	Actor    string          `json:"actor"`    // who wrote it: "operator:alice", "engine"
	TLP      TLP             `json:"tlp"`
	Only     []string        `json:"only,omitempty"` // if not empty: only these principals may read it
	Body     json.RawMessage `json:"body"`           // the kind's struct
}

// maxOnly is how many principals a fact's access list may name.
const maxOnly = 100

// Draft makes a fact of a body, without its place. A zero at is the time of
// recording; a zero label is AMBER+STRICT.
func Draft(b Body, at time.Time, tlp TLP, only ...string) (Fact, error) {
	raw, err := json.Marshal(b)
	if err != nil {
		return Fact{}, fmt.Errorf("fact %s: %w", b.Kind(), err)
	}
	f := Fact{Kind: b.Kind(), At: at, TLP: tlp, Only: only, Body: raw}
	if f.TLP == "" {
		f.TLP = AmberStrict
	}
	_, err = f.Decode()
	return f, err
}

// Body is what a fact of one kind says.
type Body interface {
	Kind() Kind
	// check refuses what breaks a rule whatever the case is.
	check() error
}

// caseBody is a body that changes a case. apply changes nothing if it errs.
type caseBody interface {
	Body
	apply(c *Case, f Fact) error
}

// reportBody is a body that changes a report.
type reportBody interface {
	Body
	applyReport(r *Report, f Fact) error
}

// Decode reads the body strictly: an unknown key is an error, as are two values
// or a text longer than MaxBody.
func (f Fact) Decode() (Body, error) {
	b, err := DecodeBody(f.Kind, f.Body)
	if err != nil {
		return nil, err
	}
	if f.TLP.Rank() < 0 {
		return nil, invalid("fact %s: label %q", f.Kind, f.TLP)
	}
	if len(f.Only) > maxOnly {
		return nil, invalid("fact %s: %d principals in its access list; at most %d", f.Kind, len(f.Only), maxOnly)
	}
	for _, p := range f.Only {
		if err := CheckPrincipal(p); err != nil {
			return nil, fmt.Errorf("fact %s: access list: %w", f.Kind, err)
		}
	}
	return b, nil
}

// DecodeBody reads the body of a fact of kind.
func DecodeBody(kind Kind, raw []byte) (Body, error) {
	fresh, ok := kinds[kind]
	if !ok {
		return nil, invalid("fact %q: no such kind", kind)
	}
	if len(raw) > MaxBody {
		return nil, invalid("fact %s: body of %d bytes; at most %d", kind, len(raw), MaxBody)
	}
	b := fresh()
	if err := strict.Decode(raw, b); err != nil {
		return nil, invalid("fact %s: body: %v", kind, err)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("fact %s: %w", kind, err)
	}
	return b, nil
}

// Kinds lists all kinds of facts by name.
func Kinds() []Kind {
	out := make([]Kind, 0, len(kinds))
	for k := range kinds {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// MayRead tells whether a reader with clearance up to a label may read the fact.
func (f Fact) MayRead(principal string, upTo TLP) bool {
	return f.TLP.Rank() <= upTo.Rank() && (len(f.Only) == 0 || slices.Contains(f.Only, principal))
}

// Canonical is the fact's exact bytes: what a commitment is made of.
func (f Fact) Canonical() []byte {
	f.At, f.Recorded = f.At.UTC(), f.Recorded.UTC()
	b, err := json.Marshal(f)
	if err != nil {
		panic("psirt: a fact that was decoded cannot be encoded: " + err.Error())
	}
	return b
}

// Salt hides the contents of a commitment from whoever guesses them.
type Salt [32]byte

// Commit is the commitment to content: the hex SHA-256 of salt and content. It
// stands in the ledger in the content's place; who holds both can check it, and
// nobody else learns anything from it.
func Commit(salt Salt, content []byte) string {
	h := sha256.New()
	h.Write(salt[:])
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

// place checks a fact's place in its sequence and its times.
func (f Fact) place(next int64) error {
	switch {
	case f.Seq != next:
		return invalid("fact %d stands where %d should", f.Seq, next)
	case f.Seq >= MaxFacts:
		return illegal("fact %d: at most %d", f.Seq, MaxFacts)
	case f.Actor == "":
		return invalid("fact %s: nobody says it", f.Kind)
	case f.Recorded.IsZero() || f.At.IsZero():
		return invalid("fact %s: has no time", f.Kind)
	case f.At.After(f.Recorded):
		return invalid("fact %s: at %s, which is after it is recorded", f.Kind, f.At.UTC().Format(time.RFC3339))
	}
	return nil
}

// CheckNew refuses a body that is well-formed and may stand in a record, but that nobody
// may write anew: what it cites is not known here (any more).
func CheckNew(b Body) error {
	n, ok := b.(interface{ checkNew() error })
	if !ok {
		return nil
	}
	if err := n.checkNew(); err != nil {
		return fmt.Errorf("fact %s: %w", b.Kind(), err)
	}
	return nil
}

// Blank is an empty body of a kind, for whoever wants to describe it; nil if there
// is no such kind.
func Blank(kind Kind) Body {
	if fresh, ok := kinds[kind]; ok {
		return fresh()
	}
	return nil
}

// BelongsTo tells whether bodies of this kind change a case and a report.
func BelongsTo(b Body) (ofCase, ofReport bool) {
	_, ofCase = b.(caseBody)
	_, ofReport = b.(reportBody)
	return ofCase, ofReport
}

// ByHand tells whether people may write facts of a kind: others are measured or
// decided by the server.
func ByHand(kind Kind) bool { return !slices.Contains(engineOnly, kind) }
