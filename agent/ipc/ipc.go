// Package ipc is what keeper and link say to each other over one inherited
// Unix socket. Link asks (Stage, Activate, Acked, ...), keeper answers each
// request once and pushes a Status whenever something changed.
//
// It carries facts about files and never their content, keeps no state, and
// decides nothing. Keeper trusts link for what the repository says (link is the
// one that verifies TUF metadata) and for nothing about the disk: it copies and
// hashes every file itself.
//
// Its words: request, answer, push, attempt.
package ipc

import (
	"errors"
	"fmt"
	"strings"

	"github.com/headgate/headgate/release"
)

// LinkFD is the descriptor at which link finds its socket to keeper.
const LinkFD = 3

// MaxMessage is the largest message in bytes; a Stage of release.MaxFiles files
// fits.
const MaxMessage = 1 << 20

// ErrInvalid marks a message that breaks a rule of this package.
var ErrInvalid = errors.New("invalid")

// Message is one frame. Exactly one of the bodies is set.
type Message struct {
	// ID numbers link's requests from 1; keeper's answer repeats it; a push has 0.
	ID uint64 `json:"id"`

	// Link to keeper.
	Hello     *Hello     `json:"hello,omitempty"`
	Stage     *Stage     `json:"stage,omitempty"`
	Activate  *Activate  `json:"activate,omitempty"`
	Acked     *Acked     `json:"acked,omitempty"`
	Reachable *Reachable `json:"reachable,omitempty"`
	Revert    *Revert    `json:"revert,omitempty"`
	Drop      *Drop      `json:"drop,omitempty"`
	Check     *Check     `json:"check,omitempty"`

	// Keeper to link.
	Answer   *Answer   `json:"answer,omitempty"`
	Status   *Status   `json:"status,omitempty"`
	Shutdown *Shutdown `json:"shutdown,omitempty"`
}

// Hello asks for the Status; link sends it at its start and before each beacon.
type Hello struct{}

// Stage asks keeper to copy an unpacked artifact from the spool, verify every
// file after the copy, and run preflight. The answer comes after preflight, so
// it may take as long as the manifest's preflight timeout. A repeat for the
// digest that is staged already answers at once.
//
// Failure reasons: "quarantined", "already-running", "busy" (an attempt is in
// probation), "unknown-product", "spool-mismatch", "disk-full", "io",
// "manifest", "preflight-failed", "preflight-crash", "preflight-timeout",
// "dropped".
type Stage struct {
	Product string `json:"product"` // "vendor/product"
	Version string `json:"version"`
	Digest  string `json:"digest"` // SHA-256 of the artifact, lower-case hex
	Rollout int64  `json:"rollout"`
	// Dir is the folder that the artifact was unpacked into; keeper reads from it
	// and follows no symbolic link in it.
	Dir   string `json:"dir"`
	Files []File `json:"files"`
}

// File is one file of an unpacked artifact.
type File struct {
	Path   string `json:"path"` // relative, slashes
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Mode   uint32 `json:"mode"` // 0644 or 0755
}

// Activate tells keeper that the server granted the staged release. The answer
// comes as soon as the switch is durable and the new version was started (its
// probation is then told by Status), or with the failure.
//
// Failure reasons: "not-staged", "grant-expired", "quarantined", "disk-full",
// "io", "unknown-product".
type Activate struct {
	Product string `json:"product"`
	Digest  string `json:"digest"`
	Rollout int64  `json:"rollout"`
	// Expires is when the grant ends on this machine's clock since boot
	// (ipc.Boottime), microseconds: Boottime at the answer's receipt plus the
	// grant's TTL. Keeper checks it again right before the switch, and takes none
	// that lies more than 60 s ahead.
	ExpiresUS int64 `json:"expires_us"`
	// ProbationUS is how long the version must stay healthy, microseconds.
	ProbationUS int64 `json:"probation_us"`
}

// Acked says that the server acknowledged a beacon, and what that beacon had
// reported as running. Two of them from the new version are needed for proof.
// It implies Reachable.
type Acked struct {
	Seq     int64     `json:"seq"`
	Running []Running `json:"running"`
}

// Running is a product and the digest of what ran.
type Running struct {
	Product string `json:"product"`
	Digest  string `json:"digest"`
}

// Reachable says that the control plane answered an authenticated request.
type Reachable struct{}

// Revert tells keeper to leave a version because the server ordered it: from
// probation or from proven, to the last known good. If Digest does not run
// (any more), nothing happens and the answer is OK.
type Revert struct {
	Product string `json:"product"`
	Digest  string `json:"digest"`
	Rollout int64  `json:"rollout"`
	Reason  string `json:"reason"` // stable code, usually "ordered"
	Detail  string `json:"detail,omitempty"`
}

// Drop tells keeper to forget a staged release; running versions stay.
type Drop struct {
	Product string `json:"product"`
	Digest  string `json:"digest"`
}

// Check asks keeper whether something holds for the version that runs, by a probe
// of its manifest. OK is that it holds. The answer may take as long as the probe.
//
// Failure reasons: "differs" and "exit-status" are that it does not hold; all
// others that nobody can tell: "no-probe", "no-file", "not-running", "timeout",
// "probe-error", "unknown-product".
type Check release.Check

// Answer ends a request.
type Answer struct {
	OK bool `json:"ok"`
	// Reason is a stable code and Detail the same for people; both empty with OK.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Status after the request; always set.
	Status *Status `json:"status,omitempty"`
}

// Err is nil for an answer that is OK.
func (a Answer) Err() error {
	if a.OK {
		return nil
	}
	return &Refusal{a.Reason, a.Detail}
}

// Refusal is a failed answer as an error.
type Refusal struct{ Reason, Detail string }

func (r *Refusal) Error() string { return r.Reason + ": " + r.Detail }

// Shutdown tells link that the agent stops: say goodbye and exit.
type Shutdown struct{}

// Status is all that keeper knows and the server may hear.
type Status struct {
	Products []Product `json:"products"`
	Vitals   Vitals    `json:"vitals"`
}

// Product is the state of one product.
type Product struct {
	Product string `json:"product"`
	// Version and Digest run now; empty if nothing is installed.
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"`
	// Healthy: it is up, and the last check passed.
	Healthy bool `json:"healthy"`
	// Safe is safe mode: neither candidate nor last known good can run.
	Safe bool `json:"safe,omitempty"`
	// Crashes are abnormal exits of the running version.
	Crashes int64 `json:"crashes"`
	// Measures of how the running version does; what is not known is left out.
	Measures []Measure `json:"measures,omitempty"`
	// Staged is what waits for a grant, if anything.
	Staged *Staged `json:"staged,omitempty"`
	// LastGood is the digest that a revert would go back to.
	LastGood string `json:"last_good,omitempty"`
	// Attempt is the latest attempt to bring a release here.
	Attempt *Attempt `json:"attempt,omitempty"`
	// Quarantine lists digests that failed here and are refused.
	Quarantine []Quarantined `json:"quarantine,omitempty"`
}

// Measure is headgate.v1.ProductMeasure: a value, or of a count how many there were
// in each of release.MeasureSpans, -1 if that is not known.
type Measure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value,omitempty"`
	Lately []int64 `json:"lately,omitempty"`
}

// Staged is a release that passed preflight and waits for a grant.
type Staged struct {
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Rollout int64  `json:"rollout"`
}

// Quarantined is a digest that this endpoint refuses, and why.
type Quarantined struct {
	Digest string `json:"digest"`
	Reason string `json:"reason"`
}

// AttemptState is headgate.v1.AttemptState as a word.
type AttemptState string

// The states of an attempt.
const (
	AttemptStaged          AttemptState = "staged"
	AttemptPreflightFailed AttemptState = "preflight-failed"
	AttemptProbation       AttemptState = "probation"
	AttemptProven          AttemptState = "proven"
	AttemptHarmed          AttemptState = "harmed"
	AttemptReverted        AttemptState = "reverted"
)

// Attempt is what became of bringing one release onto this endpoint; the fields
// are those of headgate.v1.Attempt.
type Attempt struct {
	Rollout int64        `json:"rollout"`
	Digest  string       `json:"digest"`
	State   AttemptState `json:"state"`
	Reason  string       `json:"reason,omitempty"`
	Detail  string       `json:"detail,omitempty"`
	AgeUS   int64        `json:"age_us,omitempty"`
	DownUS  int64        `json:"down_us,omitempty"`
}

// Vitals are those of headgate.v1.Vitals.
type Vitals struct {
	CPUUS      int64    `json:"cpu_us"`
	RSSBytes   int64    `json:"rss_bytes"`
	Events     int64    `json:"events"`
	EventsLost int64    `json:"events_lost"`
	UptimeUS   int64    `json:"uptime_us"`
	Sandbox    []string `json:"sandbox"`
}

func (m Message) bodies() int {
	n := 0
	for _, set := range []bool{m.Hello != nil, m.Stage != nil, m.Activate != nil, m.Acked != nil, m.Reachable != nil, m.Revert != nil, m.Drop != nil, m.Check != nil, m.Answer != nil, m.Status != nil, m.Shutdown != nil} {
		if set {
			n++
		}
	}
	return n
}

// check refuses a message that no honest peer would send.
func (m Message) check() error {
	if n := m.bodies(); n != 1 {
		return fmt.Errorf("message %d has %d bodies, want 1: %w", m.ID, n, ErrInvalid)
	}
	if push := m.Status != nil || m.Shutdown != nil; push != (m.ID == 0) {
		return fmt.Errorf("message id %d: requests and answers have one, pushes none: %w", m.ID, ErrInvalid)
	}
	switch {
	case m.Stage != nil:
		return m.Stage.check()
	case m.Activate != nil:
		if m.Activate.ProbationUS < 0 || m.Activate.ProbationUS > 30*24*3600*1e6 || m.Activate.ExpiresUS < 0 {
			return fmt.Errorf("activate: probation %d µs, expiry %d µs: %w", m.Activate.ProbationUS, m.Activate.ExpiresUS, ErrInvalid)
		}
		return checkRelease(m.Activate.Product, m.Activate.Digest)
	case m.Revert != nil:
		return checkRelease(m.Revert.Product, m.Revert.Digest)
	case m.Drop != nil:
		return checkRelease(m.Drop.Product, m.Drop.Digest)
	case m.Check != nil:
		if err := release.Check(*m.Check).Validate(); err != nil {
			return fmt.Errorf("%w: %w", err, ErrInvalid)
		}
	}
	return nil
}

func checkRelease(product, digest string) error {
	if _, _, err := release.SplitProduct(product); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	if err := release.CheckDigest(digest); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	return nil
}

func (s *Stage) check() error {
	if err := checkRelease(s.Product, s.Digest); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	if err := release.CheckVersion(s.Version); err != nil {
		return fmt.Errorf("stage: %w: %w", err, ErrInvalid)
	}
	if !strings.HasPrefix(s.Dir, "/") {
		return fmt.Errorf("stage: folder %q is not absolute: %w", s.Dir, ErrInvalid)
	}
	if len(s.Files) == 0 || len(s.Files) > release.MaxFiles {
		return fmt.Errorf("stage: %d files, want 1 to %d: %w", len(s.Files), release.MaxFiles, ErrInvalid)
	}
	seen := map[string]bool{}
	var total int64
	for _, f := range s.Files {
		if err := f.check(); err != nil {
			return fmt.Errorf("stage: %w", err)
		}
		if total += f.Size; seen[f.Path] || total > release.MaxArtifact {
			return fmt.Errorf("stage: file %q comes twice, or the files exceed %d bytes: %w", f.Path, release.MaxArtifact, ErrInvalid)
		}
		seen[f.Path] = true
	}
	return nil
}

func (f File) check() error {
	if err := CheckPath(f.Path); err != nil {
		return err
	}
	if err := release.CheckDigest(f.SHA256); err != nil {
		return fmt.Errorf("file %q: %w: %w", f.Path, err, ErrInvalid)
	}
	if f.Size < 0 || f.Size > release.MaxArtifact || (f.Mode != 0o644 && f.Mode != 0o755) {
		return fmt.Errorf("file %q: size %d, mode %o: want up to %d bytes and mode 644 or 755: %w", f.Path, f.Size, f.Mode, release.MaxArtifact, ErrInvalid)
	}
	return nil
}

// CheckPath refuses a path that could leave the folder it is meant for.
func CheckPath(p string) error {
	if p == "" || len(p) > release.MaxPath || strings.ContainsAny(p, "\x00\\") {
		return fmt.Errorf("path %q: want 1 to %d bytes without NUL and backslash: %w", p, release.MaxPath, ErrInvalid)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("path %q: want a clean relative path: %w", p, ErrInvalid)
		}
	}
	return nil
}
