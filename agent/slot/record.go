package slot

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// State is how far the newest attempt has come.
type State string

// The states, and the only ways between them:
//
//	idle ─▶ staged ─▶ vetted ─▶ granted ─▶ armed ─▶ switched ─▶ probation ─▶ proven
//	          │         ▲          │         │          │            │          │
//	          ▼         └──────────┴─────────┴──────────┘            ▼          ▼
//	       refused        (grant gone before the first exec)      reverted   reverted
//
// refused, proven and reverted are idle again, with the attempt's end on record.
// The state "fetched" lies before this package: the artifact is in link's spool.
const (
	Idle      State = "idle"
	Staged    State = "staged"    // copied, and verified after the copy
	Vetted    State = "vetted"    // through preflight
	Refused   State = "refused"   // preflight failed
	Granted   State = "granted"   // the server counted us
	Armed     State = "armed"     // tries are on disk
	Switched  State = "switched"  // the pointer names the candidate
	Probation State = "probation" // the candidate was started at least once
	Proven    State = "proven"
	Reverted  State = "reverted"
)

var next = map[State][]State{
	Idle:      {Staged},
	Staged:    {Vetted, Refused, Idle},
	Vetted:    {Granted, Idle, Staged},
	Refused:   {Staged, Idle},
	Granted:   {Armed, Vetted, Idle},
	Armed:     {Switched, Vetted, Idle},
	Switched:  {Probation, Vetted, Reverted},
	Probation: {Probation, Proven, Reverted},
	Proven:    {Staged, Reverted, Idle},
	Reverted:  {Staged, Idle, Reverted},
}

// open tells whether an attempt is on its way.
func (s State) open() bool { return s.candidateRuns() || s == Staged || s.awaitsExec() }

// awaitsExec is between preflight and the candidate's first exec.
func (s State) awaitsExec() bool { return s == Vetted || s == Granted || s == Armed }

// candidateRuns tells whether the candidate is what must run.
func (s State) candidateRuns() bool { return s == Switched || s == Probation }

// Ref names one slot. Manifest is the SHA-256 of its list of files, so that the
// journal alone vouches for every byte.
type Ref struct {
	Digest   string `json:"digest"` // of the artifact
	Version  string `json:"version"`
	Rollout  int64  `json:"rollout"`
	Manifest string `json:"manifest"`
}

// Attempt is the newest attempt's end, or its course so far.
type Attempt struct {
	Digest  string `json:"digest"`
	Version string `json:"version"`
	Rollout int64  `json:"rollout"`
	// Harmed tells a failure from an ordered way back, in state reverted.
	Harmed bool   `json:"harmed,omitempty"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// SwitchedAt is the instant of the switch by the machine's wall clock and,
	// valid in the boot SwitchedBoot only, by its clock since boot.
	SwitchedAt    time.Time     `json:"switched_at,omitzero"`
	SwitchedBoot  string        `json:"switched_boot,omitempty"`
	SwitchedSince time.Duration `json:"switched_since,omitempty"`
	// Down is from the failure until the last known good ran again.
	Down time.Duration `json:"down,omitempty"`
}

// Failed is a quarantined digest.
type Failed struct {
	Digest string `json:"digest"`
	Reason string `json:"reason"`
}

// MaxQuarantine is how many failed digests are remembered, the newest ones.
const MaxQuarantine = 32

// Record is all that is known of a product on this endpoint. Each transition
// writes a whole new one: there is nothing else that it could disagree with.
type Record struct {
	Schema string `json:"schema"` // "headgate.slot/1"
	Seq    uint64 `json:"seq"`
	State  State  `json:"state"`
	// Good is the last known good; Before is the one before it, to which an
	// ordered revert goes back. Candidate is the newest attempt's slot.
	Good      *Ref `json:"good,omitempty"`
	Before    *Ref `json:"before,omitempty"`
	Candidate *Ref `json:"candidate,omitempty"`
	// Generation rises with each switch, there and back.
	Generation uint64 `json:"generation"`
	// TriesLeft is how often the candidate may still be started; it is on disk,
	// one less, before each exec.
	TriesLeft int `json:"tries_left"`
	// Crashes are abnormal exits of the candidate in probation.
	Crashes int `json:"crashes"`
	// BootID is the boot in which the candidate was last started, Clean whether it
	// was stopped on purpose since; UncleanBoots counts boots that ended otherwise.
	BootID       string `json:"boot_id,omitempty"`
	Clean        bool   `json:"clean"`
	UncleanBoots int    `json:"unclean_boots"`
	// GrantExpires is the end of the grant on the clock since boot, of GrantBoot.
	GrantExpires time.Duration `json:"grant_expires,omitempty"`
	GrantBoot    string        `json:"grant_boot,omitempty"`
	Probation    time.Duration `json:"probation,omitempty"`
	// GoodLoss is the last known good's share of lost events, or less than 0 if
	// not known; Reached whether the control plane was reached in the hour before
	// the switch.
	GoodLoss float64 `json:"good_loss,omitempty"`
	Reached  bool    `json:"reached,omitempty"`
	Attempt  Attempt `json:"attempt,omitzero"`
	// Safe is why nothing runs although something was installed.
	Safe       string   `json:"safe,omitempty"`
	SafeBoot   string   `json:"safe_boot,omitempty"`
	Quarantine []Failed `json:"quarantine,omitempty"`
}

// Runs is what must run: the candidate or the last known good; nil for nothing.
func (r Record) Runs() *Ref {
	switch {
	case r.Safe != "":
		return nil
	case r.State.candidateRuns():
		return r.Candidate
	}
	return r.Good
}

// Quarantined tells whether digest failed here before, and why.
func (r Record) Quarantined(digest string) (reason string, ok bool) {
	for _, q := range r.Quarantine {
		if q.Digest == digest {
			return q.Reason, true
		}
	}
	return "", false
}

// refs are the slots that must be kept.
func (r Record) refs() []*Ref {
	return slices.DeleteFunc([]*Ref{r.Good, r.Before, r.Candidate}, func(p *Ref) bool { return p == nil })
}

func (r *Record) quarantine(digest, reason string) {
	if _, ok := r.Quarantined(digest); ok {
		return
	}
	r.Quarantine = append(slices.Clone(r.Quarantine), Failed{digest, reason})
	if n := len(r.Quarantine); n > MaxQuarantine {
		r.Quarantine = r.Quarantine[n-MaxQuarantine:]
	}
}

// The journal's frame: magic, length and CRC-32C of the JSON record, the
// record, zeros up to frameSize. The size is fixed so that a journal is written
// over in place: a full disk cannot keep us from recording a revert.
const (
	frameMagic = "HGJ1"
	frameSize  = 16 << 10
	frameHead  = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errFrame = errors.New("not a valid frame")

func encodeFrame(r Record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record %d: %w", r.Seq, err)
	}
	if len(body) > frameSize-frameHead {
		return nil, fmt.Errorf("encode record %d: %d bytes, limit %d", r.Seq, len(body), frameSize-frameHead)
	}
	b := make([]byte, frameSize)
	copy(b, frameMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(body, castagnoli))
	copy(b[frameHead:], body)
	return b, nil
}

func decodeFrame(b []byte) (Record, error) {
	var r Record
	if len(b) < frameHead || string(b[:4]) != frameMagic {
		return r, fmt.Errorf("no head: %w", errFrame)
	}
	n := binary.BigEndian.Uint32(b[4:])
	if n > frameSize-frameHead || int(n) > len(b)-frameHead {
		return r, fmt.Errorf("length %d: %w", n, errFrame)
	}
	body := b[frameHead : frameHead+int(n)]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		return r, fmt.Errorf("checksum: %w", errFrame)
	}
	// Unknown keys pass: after a downgrade the older agent must still find its way.
	if err := json.Unmarshal(body, &r); err != nil {
		return r, fmt.Errorf("%w: %w", err, errFrame)
	}
	if r.Schema != schema || next[r.State] == nil {
		return r, fmt.Errorf("schema %q, state %q: %w", r.Schema, r.State, errFrame)
	}
	if (r.State.open()) != (r.Candidate != nil) {
		return r, fmt.Errorf("state %q and candidate do not fit: %w", r.State, errFrame)
	}
	return r, nil
}
