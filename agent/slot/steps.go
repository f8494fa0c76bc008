package slot

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxCrashes is how many abnormal exits in probation end a candidate, at any
// distance in time.
const MaxCrashes = 2

// Staged records a slot that Fetch made as the candidate.
func (s *Slot) Staged(ref Ref) error {
	if s.rec.State.candidateRuns() {
		return fmt.Errorf("stage while a candidate runs: %w", ErrState)
	}
	if _, err := s.content(&ref); err != nil { // Collect may have come between
		return err
	}
	if s.rec.State.open() {
		if err := s.Drop(); err != nil {
			return err
		}
	}
	return s.to(Staged, func(r *Record) {
		r.Candidate = &ref
		r.Attempt = Attempt{Digest: ref.Digest, Version: ref.Version, Rollout: ref.Rollout}
		r.TriesLeft, r.Crashes, r.UncleanBoots = 0, 0, 0
	})
}

// Vetted records that preflight passed.
func (s *Slot) Vetted() error { return s.to(Vetted, func(*Record) {}) }

// Refuse records that preflight failed, and quarantines the digest.
func (s *Slot) Refuse(reason, detail string) error {
	return s.to(Refused, func(r *Record) {
		r.quarantine(r.Candidate.Digest, reason)
		r.Attempt.Reason, r.Attempt.Detail = reason, clip(detail)
		r.Candidate = nil
	})
}

// Drop forgets a candidate that never ran.
func (s *Slot) Drop() error {
	if s.rec.State.candidateRuns() || !s.rec.State.open() {
		return fmt.Errorf("drop in state %q: %w", s.rec.State, ErrState)
	}
	return s.to(Idle, func(r *Record) { r.Candidate, r.Attempt = nil, Attempt{} })
}

// Grant is what the switch needs to know of a grant.
type Grant struct {
	Rollout   int64
	Expires   time.Duration // on the clock since boot
	Probation time.Duration
	Tries     int     // how often the candidate may be started
	GoodLoss  float64 // last known good's share of lost events; less than 0 if not known
	Reached   bool    // control plane reached within the hour
}

// Arm records the grant, and then the tries, each on disk before it returns.
func (s *Slot) Arm(g Grant) error {
	if err := s.to(Granted, func(r *Record) {
		r.GrantExpires, r.GrantBoot, r.Probation = g.Expires, s.env.BootID, g.Probation
		r.Attempt.Rollout = g.Rollout
	}); err != nil {
		return err
	}
	return s.to(Armed, func(r *Record) {
		r.TriesLeft, r.Crashes, r.UncleanBoots = g.Tries, 0, 0
		r.GoodLoss, r.Reached = g.GoodLoss, g.Reached
		r.BootID, r.Clean = s.env.BootID, false
	})
}

// Disarm goes back to waiting for a grant: nothing was started yet.
func (s *Slot) Disarm() error {
	if s.rec.State == Vetted {
		return nil
	}
	r, err := s.edited(Vetted, disarm)
	if err != nil {
		return err
	}
	r = s.settled(r)
	return errors.Join(s.force(r), s.pointTo(r.Runs()))
}

func disarm(r *Record) {
	r.State, r.TriesLeft, r.GrantExpires, r.GrantBoot = Vetted, 0, 0, ""
	a := r.Attempt
	r.Attempt = Attempt{Digest: a.Digest, Version: a.Version, Rollout: a.Rollout}
}

// Switch makes the candidate what runs, unless its grant has ended: the server
// may have halted since.
func (s *Slot) Switch() error {
	if !s.granted() {
		return ErrGrantExpired
	}
	r, err := s.edited(Switched, func(r *Record) {
		r.Generation++
		r.Safe, r.SafeBoot = "", ""
		r.Attempt.SwitchedAt = s.env.Now().UTC().Truncate(time.Microsecond)
		r.Attempt.SwitchedBoot, r.Attempt.SwitchedSince = s.env.BootID, s.env.Since()
	})
	if err != nil {
		return err
	}
	return s.switchTo(r)
}

func (s *Slot) granted() bool {
	return s.rec.GrantBoot == s.env.BootID && s.env.Since() < s.rec.GrantExpires
}

// Try takes one try off, on disk, before the candidate is started.
func (s *Slot) Try() error {
	if s.rec.State == Switched && !s.granted() {
		return ErrGrantExpired
	}
	if s.rec.TriesLeft <= 0 {
		return fmt.Errorf("start candidate: no tries left: %w", ErrState)
	}
	return s.to(Probation, func(r *Record) {
		r.TriesLeft--
		r.BootID, r.Clean = s.env.BootID, false
	})
}

// Crashed counts an abnormal exit of the candidate.
func (s *Slot) Crashed() error { return s.to(Probation, func(r *Record) { r.Crashes++ }) }

// Stopped records that the candidate was stopped on purpose: its try comes back
// and the end of this boot is no fault of its.
func (s *Slot) Stopped() error {
	if s.rec.State != Probation || s.rec.Clean {
		return nil
	}
	return s.to(Probation, func(r *Record) {
		r.Clean = true
		r.TriesLeft++
	})
}

// Prove makes the candidate the last known good.
func (s *Slot) Prove() error {
	return s.to(Proven, func(r *Record) {
		if r.Good != nil && r.Good.Digest != r.Candidate.Digest {
			r.Before = r.Good
		}
		r.Good, r.Candidate = r.Candidate, nil
		r.TriesLeft, r.Crashes, r.UncleanBoots = 0, 0, 0
	})
}

// Revert leaves what runs for the last known good: from the candidate to Good,
// from a proven version to Before. With harmed the digest is quarantined. It
// takes effect even if the disk refuses to note it; the error says so.
func (s *Slot) Revert(reason, detail string, harmed bool) error {
	if s.rec.State.awaitsExec() || s.rec.State == Staged {
		if err := s.Drop(); err != nil {
			s.env.Log.Error("candidate is not dropped", "err", err)
		}
	}
	r := s.reverted(s.rec, reason, detail, harmed)
	r = s.settled(r)
	return errors.Join(s.force(r), s.pointTo(r.Runs()))
}

func (s *Slot) reverted(r Record, reason, detail string, harmed bool) Record {
	var left *Ref
	if r.State.candidateRuns() {
		left, r.Candidate = r.Candidate, nil
	} else {
		left, r.Good, r.Before = r.Good, r.Before, nil
	}
	r.State = Reverted
	r.Generation++
	if left == nil {
		return r
	}
	if r.Attempt.Digest != left.Digest {
		r.Attempt = Attempt{Digest: left.Digest, Version: left.Version, Rollout: left.Rollout}
	}
	r.Attempt.Harmed, r.Attempt.Reason, r.Attempt.Detail, r.Attempt.Down = harmed, reason, clip(detail), 0
	if harmed && reason != reasonBroken {
		r.quarantine(left.Digest, reason)
	}
	r.TriesLeft, r.UncleanBoots = 0, 0
	return r
}

// Down notes how long nothing ran after a revert.
func (s *Slot) Down(d time.Duration) error {
	return s.to(Reverted, func(r *Record) { r.Attempt.Down = d })
}

// Unsafe enters safe mode: even the last known good cannot run.
func (s *Slot) Unsafe(reason string) error {
	r := s.rec
	r.Safe, r.SafeBoot = clip(reason), s.env.BootID
	return errors.Join(s.force(r), s.pointTo(nil))
}

const (
	reasonBroken  = "files-broken"
	reasonUnclean = "unclean-boots"
	reasonTries   = "crash-loop"
)

// recovered is the record that follows from what was found at Open.
func (s *Slot) recovered(r Record) Record {
	switch {
	case r.State == Staged:
		r.State, r.Candidate, r.Attempt = Idle, nil, Attempt{} // preflight did not end
	case r.State.awaitsExec(), r.State == Switched:
		// Never started. The grant may have ended meanwhile: wait for a new one.
		disarm(&r)
		if err := s.intact(r.Candidate); err != nil {
			s.env.Log.Warn("staged release is damaged, dropped", "digest", r.Candidate.Digest, "err", err)
			r.State, r.Candidate, r.Attempt = Idle, nil, Attempt{}
		}
	case r.State == Probation:
		r = s.resumed(r)
	}
	if r.Safe != "" && r.SafeBoot != s.env.BootID {
		r.Safe, r.SafeBoot = "", "" // each boot gives the last known good one chance
	}
	return s.settled(r)
}

// resumed decides whether a candidate that was started before may start again.
func (s *Slot) resumed(r Record) Record {
	if r.BootID != s.env.BootID && !r.Clean {
		r.UncleanBoots++
	}
	r.BootID = s.env.BootID
	if err := s.intact(r.Candidate); err != nil {
		return s.reverted(r, reasonBroken, err.Error(), true)
	}
	if r.UncleanBoots >= 2 {
		return s.reverted(r, reasonUnclean, fmt.Sprintf("%d boots ended without a clean stop in probation", r.UncleanBoots), true)
	}
	if r.TriesLeft <= 0 || r.Crashes >= MaxCrashes {
		return s.reverted(r, reasonTries, fmt.Sprintf("%d tries left after %d abnormal exits", r.TriesLeft, r.Crashes), true)
	}
	return r
}

// settled makes sure that a last known good which must run now is whole: else
// the one before it, else safe mode.
func (s *Slot) settled(r Record) Record {
	if r.State.candidateRuns() || r.Safe != "" {
		return r
	}
	had := r.State == Reverted || r.Good != nil
	for r.Good != nil {
		err := s.intact(r.Good)
		if err == nil {
			return r
		}
		s.env.Log.Error("last known good is damaged", "digest", r.Good.Digest, "err", err)
		r.Good, r.Before = r.Before, nil
	}
	if had {
		r.Safe, r.SafeBoot = "no last known good is whole", s.env.BootID
	}
	return r
}

func clip(s string) string {
	const most = 500
	if len(s) <= most {
		return s
	}
	return string(slices.Clip([]byte(s)[:most-3])) + "..."
}
