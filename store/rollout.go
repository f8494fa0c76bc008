package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/rollout"
)

// Rollout is a rollout as it stands.
type Rollout struct {
	ID       int64
	Product  string
	Version  string
	Digest   string
	State    rollout.State
	Revision int64 // rises with each decision and order
	Policy   rollout.Policy
	// PolicyRevision is which revision of an applied policy it is; 0 if none.
	PolicyRevision int64
	// Lane is the emergency lane that was chosen, nil if none was; LaneAskedBy who
	// wishes to switch to one and waits for another operator.
	Lane        *rollout.Choice
	LaneAskedBy string
	Pace        rollout.Pace
	Seed        []byte
	Floor       time.Duration
	HeldBy      string // "engine" or an operator's token name
	Started     time.Time
	StartedBy   string // actor
	RungSince   time.Time
	Ended       time.Time // zero while it moves
	// ResumeAskedBy is the operator who asked to resume after a halt and waits for
	// another one.
	ResumeAskedBy string
	// LiftAskedBy is the operator who asked to take the halted segment LiftAskedOf
	// in again and waits for another one.
	LiftAskedBy, LiftAskedOf string
	Counts                   health.Counts
	PreflightFailed          int64
	Reverted                 int64
	// The last decision or order.
	Action  rollout.Action
	Reasons []rollout.Reason
	Decided time.Time
	// When the engine stopped all of it last, and why; zero if it never did.
	Stopped    time.Time
	StoppedWhy []rollout.Reason
	// With a budget: the segments left out, and what the last look left.
	Halted    []rollout.HaltedSegment
	Coverage  fleet.Reach // without members
	Knowledge rollout.Knowledge
	// Accepted is what people accepted when they resumed it; nil if they never did.
	Accepted *rollout.Accepted
}

// Start is the wish to roll a release out.
type Start struct {
	RequestID string // idempotency key; empty is none
	Product   string
	Version   string
	Policy    rollout.Policy // checked by the caller
	// PolicyRevision is which revision of an applied policy it is; 0 if none.
	PolicyRevision int64
	// Choice is the lane that was chosen in an emergency; nil if none was.
	Choice   *rollout.Choice
	Pace     rollout.Pace // to begin with
	Seed     []byte       // random; the digest is taken in its place if the release has a floor
	Actor    string
	Coverage fleet.Reach // who was chosen for coverage
	// Looked are the embargoed cases that the caller compared the release with.
	Looked []EmbargoedFix
	For    *CaseOf
}

// StartRollout starts a rollout of a listed release; a repeat with the same
// request id returns the rollout that it made. It supersedes the product's
// older rollouts, but for the newest finished one, which stays on offer until
// this one finishes. ErrNotFound if there is no such listed release; ErrState
// if rollout.MayStart refuses or evidence is lacking; ErrExists if the request id was used
// for another release.
func (s *Store) StartRollout(ctx context.Context, st Start, now time.Time, inTx InTx) (ro Rollout, err error) {
	err = s.inWrite(ctx, fmt.Sprintf("start rollout of %s %s", st.Product, st.Version), func(c conn) error {
		ro, err = c.start(ctx, st, now, inTx)
		return err
	})
	return ro, err
}

func (c conn) start(ctx context.Context, st Start, now time.Time, inTx InTx) (Rollout, error) {
	id, err := c.next(ctx, "rollout") // its row is the lock of all starts
	if err != nil {
		return Rollout{}, fmt.Errorf("number rollout: %w", err)
	}
	if made, err := c.rolloutOfRequest(ctx, st); err != nil || made.ID != 0 {
		return made, err
	}
	var digest string
	var floor int64
	err = c.row(ctx, `SELECT digest, floor FROM release WHERE product = $1 AND version = $2 AND listed`, st.Product, st.Version).Scan(&digest, &floor)
	if err != nil {
		return Rollout{}, fmt.Errorf("listed release %s %s: %w", st.Product, st.Version, found(err))
	}
	if err := c.mayStart(ctx, st, now); err != nil {
		return Rollout{}, err
	}
	if err := c.retire(ctx, Rollout{Product: st.Product, ID: id, State: rollout.Running}, now); err != nil {
		return Rollout{}, err
	}
	if floor > 0 {
		// Endpoints keep the floor by the digest's order; called in the same order,
		// those whose turn it is may go. Who holds the seed could not hurry it anyway.
		st.Seed = []byte(digest)
	}
	if err := c.insertRollout(ctx, id, st, digest, floor, now); err != nil {
		return Rollout{}, err
	}
	covering, err := c.choose(ctx, id, st.Coverage)
	if err != nil {
		return Rollout{}, err
	}
	if err := c.startLane(ctx, id, st, now); err != nil {
		return Rollout{}, err
	}
	if err := c.bindRollout(ctx, st.For, id, st.Choice, now); err != nil {
		return Rollout{}, err
	}
	if err := c.withhold(ctx, psirt.FixBound{Product: st.Product, Version: st.Version}, now); err != nil {
		return Rollout{}, err
	}
	ro, err := c.rollout(ctx, id)
	if err != nil {
		return Rollout{}, err
	}
	d, err := ledger.New("rollout.started", subjectOf(id), st.Actor, map[string]any{
		"coverage": st.Coverage, "covering_sha256": covering,
		"product": st.Product, "version": st.Version, "digest": digest, "policy": st.Policy, "policy_revision": st.PolicyRevision, "pace": st.Pace, "seed": st.Seed, "floor_us": floor,
	})
	if err != nil {
		return Rollout{}, err
	}
	if err := c.run(inTx); err != nil {
		return Rollout{}, err
	}
	_, err = c.appendLedger(ctx, now, d)
	return ro, err
}

// mayStart refuses what may not start now: beside the product's other rollouts,
// without evidence, or against an embargo.
func (c conn) mayStart(ctx context.Context, st Start, now time.Time) error {
	others, err := c.others(ctx, st.Product)
	if err != nil {
		return err
	}
	if err := rollout.MayStart(st.Version, others); err != nil {
		return fmt.Errorf("product %s: %w", st.Product, err)
	}
	if err := c.checkEvidence(ctx, st); err != nil {
		return err
	}
	return c.checkLooked(ctx, st, now)
}

// DownTime is how long the endpoints that a rollout harmed were down, summed.
func (s *Store) DownTime(ctx context.Context, rollout int64) (down time.Duration, err error) {
	err = s.inRead(ctx, fmt.Sprintf("sum down time of R-%d", rollout), func(c conn) error {
		var us int64
		err := c.row(ctx, `SELECT CAST(COALESCE(SUM(down), 0) AS BIGINT) FROM exposure WHERE rollout = $1`, rollout).Scan(&us)
		down = time.Duration(us) * time.Microsecond
		return err
	})
	return down, err
}

// others lists the rollouts of a product that are not superseded.
func (c conn) others(ctx context.Context, product string) (out []rollout.Other, err error) {
	rows, err := c.rows(ctx, `SELECT id, version, state FROM rollout WHERE product = $1 AND state <> 'superseded' ORDER BY id`, product)
	err = each(rows, err, func() error {
		var o rollout.Other
		if err := rows.Scan(&o.Rollout, &o.Version, &o.State); err != nil {
			return err
		}
		out = append(out, o)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the other rollouts of %s: %w", product, err)
	}
	return out, nil
}

// rolloutOfRequest finds what an earlier call with the same request id made.
func (c conn) rolloutOfRequest(ctx context.Context, st Start) (Rollout, error) {
	if st.RequestID == "" {
		return Rollout{}, nil
	}
	var made int64
	err := c.row(ctx, `SELECT id FROM rollout WHERE request_id = $1`, st.RequestID).Scan(&made)
	if errors.Is(err, sql.ErrNoRows) {
		return Rollout{}, nil
	}
	if err != nil {
		return Rollout{}, fmt.Errorf("look for request %q: %w", st.RequestID, err)
	}
	ro, err := c.rollout(ctx, made)
	if err == nil && (ro.Product != st.Product || ro.Version != st.Version) {
		return Rollout{}, fmt.Errorf("request %q started R-%d of %s %s: %w", st.RequestID, made, ro.Product, ro.Version, ErrExists)
	}
	return ro, err
}

func (c conn) insertRollout(ctx context.Context, id int64, st Start, digest string, floor int64, now time.Time) error {
	policy, err := json.Marshal(st.Policy)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	request := sql.NullString{String: st.RequestID, Valid: st.RequestID != ""}
	_, err = c.exec(ctx, `INSERT INTO rollout (id, request_id, product, version, digest, floor, policy, seed, started, started_by, state, revision,
		rung, window_size, ceiling, turn, boost, held_by, rung_since, ended, resume_asked_by, preflight_failed, reverted, segments, action, reasons, decided,
		quiet_until, accepted_harm, accepted_refusals, policy_revision)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'running', 1, $11, $12, $13, $14, $15, '', $9, 0, '', 0, 0, 0, '', '[]', 0, 0, 0, 0, $16)`,
		id, request, st.Product, st.Version, digest, floor, string(policy), st.Seed, micros(now), st.Actor,
		st.Pace.Rung, st.Pace.Window, st.Pace.Ceiling, st.Pace.Turn, st.Pace.Boost, st.PolicyRevision)
	if err != nil {
		return fmt.Errorf("insert rollout R-%d: %w", id, err)
	}
	if _, err := c.exec(ctx, textNew, id, "", 0, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("begin counts of rollout R-%d: %w", id, err)
	}
	return nil
}

const rolloutColumns = `r.id, r.product, r.version, r.digest, r.floor, r.policy, r.policy_revision, r.lane, r.lane_asked_by, r.seed, r.started, r.started_by, r.state, r.revision,
	r.rung, r.window_size, r.ceiling, r.turn, r.boost, r.cover, r.coverage, r.halted, r.knowledge, r.quiet_until, r.accepted_harm, r.accepted_refusals, r.held_by, r.rung_since, r.ended, r.resume_asked_by, r.lift_asked_by, r.lift_asked_of, r.small, r.preflight_failed, r.reverted,
	r.action, r.reasons, r.decided, r.stopped, r.stopped_why, n.exposed, n.proven, n.harmed, n.silent, n.still_open`

const fromRollout = ` FROM rollout r JOIN rollout_count n ON n.rollout = r.id AND n.segment = '' `

func (c conn) rollouts(ctx context.Context, text string, args ...any) (out []Rollout, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var r Rollout
		var policy, lane, reasons, stoppedWhy, coverage, halted, knowledge []byte
		var floor, started, since, ended, decided, stopped int64
		p, n := &r.Pace, &r.Counts
		if err := rows.Scan(&r.ID, &r.Product, &r.Version, &r.Digest, &floor, &policy, &r.PolicyRevision, &lane, &r.LaneAskedBy, &r.Seed, &started, &r.StartedBy, &r.State, &r.Revision,
			&p.Rung, &p.Window, &p.Ceiling, &p.Turn, &p.Boost, &p.Cover, &coverage, &halted, &knowledge, &p.QuietUntil, &p.AcceptedHarm, &p.AcceptedRefusals, &r.HeldBy, &since, &ended, &r.ResumeAskedBy, &r.LiftAskedBy, &r.LiftAskedOf, &p.Small, &r.PreflightFailed, &r.Reverted,
			&r.Action, &reasons, &decided, &stopped, &stoppedWhy, &n.Exposed, &n.Proven, &n.Harmed, &n.Silent, &n.Open); err != nil {
			return err
		}
		r.Floor = time.Duration(floor) * time.Microsecond
		r.Started, r.RungSince, r.Ended, r.Decided, r.Stopped = fromMicros(started), fromMicros(since), fromMicros(ended), fromMicros(decided), fromMicros(stopped)
		if err := errors.Join(json.Unmarshal(policy, &r.Policy), json.Unmarshal(reasons, &r.Reasons), json.Unmarshal(stoppedWhy, &r.StoppedWhy), json.Unmarshal(halted, &r.Halted)); err != nil {
			return fmt.Errorf("rollout R-%d: %w", r.ID, err)
		}
		if len(coverage) > 0 {
			if err := json.Unmarshal(coverage, &r.Coverage); err != nil {
				return fmt.Errorf("rollout R-%d: coverage: %w", r.ID, err)
			}
		}
		if len(lane) > 0 {
			if err := json.Unmarshal(lane, &r.Lane); err != nil {
				return fmt.Errorf("rollout R-%d: lane: %w", r.ID, err)
			}
		}
		if r.Knowledge, r.Accepted, err = decodeKnowledge(knowledge); err != nil {
			return fmt.Errorf("rollout R-%d: %w", r.ID, err)
		}
		out = append(out, r)
		return nil
	})
	return out, err
}

func (c conn) rollout(ctx context.Context, id int64) (Rollout, error) {
	out, err := c.rollouts(ctx, `SELECT `+rolloutColumns+fromRollout+`WHERE r.id = $1`, id)
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("rollout R-%d: %w", id, ErrNotFound)
	}
	if err != nil {
		return Rollout{}, err
	}
	return out[0], nil
}

// lockRollout reads a rollout that nobody else can change until the commit.
func (c conn) lockRollout(ctx context.Context, id int64) (Rollout, error) {
	var same int64
	if err := c.row(ctx, `SELECT id FROM rollout WHERE id = $1`+c.s.dialect.lock, id).Scan(&same); err != nil {
		return Rollout{}, fmt.Errorf("lock rollout R-%d: %w", id, found(err))
	}
	return c.rollout(ctx, id)
}

// Rollout finds one rollout. ErrNotFound.
func (s *Store) Rollout(ctx context.Context, id int64) (ro Rollout, err error) {
	err = s.inRead(ctx, "read rollout", func(c conn) error {
		ro, err = c.rollout(ctx, id)
		return err
	})
	return ro, err
}

// ListRollouts lists the rollouts of a product, or all if product is empty,
// newest first.
func (s *Store) ListRollouts(ctx context.Context, product string) (out []Rollout, err error) {
	err = s.inRead(ctx, "list rollouts", func(c conn) error {
		out, err = c.rollouts(ctx, `SELECT `+rolloutColumns+fromRollout+`WHERE $1 = '' OR r.product = $1 ORDER BY r.id DESC`, product)
		return err
	})
	return out, err
}

// OpenRollouts lists the rollouts that are not superseded, oldest first: those
// the plan offers, and those a decision may concern.
func (s *Store) OpenRollouts(ctx context.Context) (out []Rollout, err error) {
	err = s.inRead(ctx, "list open rollouts", func(c conn) error {
		out, err = c.rollouts(ctx, `SELECT `+rolloutColumns+fromRollout+`WHERE r.state <> 'superseded' ORDER BY r.id`)
		return err
	})
	return out, err
}

// DecisionCommit is a decision with the snapshot it was made from.
type DecisionCommit struct {
	Snapshot rollout.Snapshot
	Decision rollout.Decision
	Actor    string // "engine"
}

// CommitDecision records a decision, if the rollout is still at the snapshot's
// revision; else ErrConflict. The ledger entry carries decision and snapshot,
// so that it can be replayed. A decision that changes nothing (same action,
// reason codes, state, pace and holder as the last) writes nothing and does not
// call inTx.
func (s *Store) CommitDecision(ctx context.Context, d DecisionCommit, now time.Time, inTx InTx) (ro Rollout, err error) {
	id := d.Snapshot.Rollout
	err = s.inWrite(ctx, fmt.Sprintf("commit decision on R-%d", id), func(c conn) error {
		if ro, err = c.lockRollout(ctx, id); err != nil {
			return err
		}
		if ro.Revision != d.Snapshot.Revision {
			return fmt.Errorf("decided at revision %d, it stands at %d: %w", d.Snapshot.Revision, ro.Revision, ErrConflict)
		}
		if ro.decided(d.Decision) {
			return c.keepKnowledge(ctx, ro, d)
		}
		if to := d.Decision.State; to != ro.State && !ro.State.CanBecome(to) {
			return fmt.Errorf("%s cannot become %s: %w", ro.State, to, ErrState)
		}
		if err := c.haltSegments(ctx, ro, d.Decision.HaltSegments); err != nil {
			return err
		}
		if err := c.noteStop(ctx, ro, d.Decision, now); err != nil {
			return err
		}
		entry, err := ledger.New("rollout.decided", subjectOf(id), d.Actor, map[string]any{"snapshot": d.Snapshot, "decision": d.Decision})
		if err != nil {
			return err
		}
		ro.apply(d.Decision, now)
		return c.commitRollout(ctx, &ro, now, inTx, entry)
	})
	return ro, err
}

// noteStop keeps when and why the engine stopped all of a rollout.
func (c conn) noteStop(ctx context.Context, ro Rollout, d rollout.Decision, now time.Time) error {
	stops := func(s rollout.State) bool {
		return s == rollout.Halted || s == rollout.Reverting || s == rollout.Reverted
	}
	if !stops(d.State) || stops(ro.State) {
		return nil
	}
	why, err := json.Marshal(d.Reasons)
	if err != nil {
		return fmt.Errorf("reasons: %w", err)
	}
	_, err = c.exec(ctx, `UPDATE rollout SET stopped = $2, stopped_why = $3 WHERE id = $1`, ro.ID, micros(now), string(why))
	return err
}

// decided tells whether the rollout stands already as d would have it.
func (r Rollout) decided(d rollout.Decision) bool {
	if len(d.HaltSegments) > 0 || d.Accepted != nil || r.Action != d.Action || r.State != d.State || r.Pace != d.Pace || r.HeldBy != d.HeldBy || d.NewRung {
		return false
	}
	return reflect.DeepEqual(codes(r.Reasons), codes(d.Reasons))
}

func codes(reasons []rollout.Reason) (out []string) {
	for _, r := range reasons {
		out = append(out, r.Code)
	}
	return out
}

func (r *Rollout) apply(d rollout.Decision, now time.Time) {
	if d.NewRung {
		r.RungSince = now
	}
	switch moves := d.State.Active() || d.State == rollout.Reverting; {
	case moves:
		r.Ended = time.Time{}
	case r.Ended.IsZero():
		r.Ended = now
	}
	if d.Knowledge != nil {
		r.Knowledge = *d.Knowledge
	}
	if d.Accepted != nil {
		r.Accepted = d.Accepted
	}
	for _, h := range d.HaltSegments {
		h.AtUS = micros(now)
		r.Halted = append(r.Halted, h)
	}
	r.Halted = rollout.Without(r.Halted, d.LiftSegments)
	r.Action, r.Reasons, r.State, r.Pace, r.HeldBy, r.Decided = d.Action, d.Reasons, d.State, d.Pace, d.HeldBy, now
}

// retire ends the older rollouts of a product that a newer one supersedes, but for
// finished ones that tenants' limits still need.
func (c conn) retire(ctx context.Context, newer Rollout, now time.Time) error {
	var kept map[int64]bool
	if newer.State == rollout.Finished {
		var err error
		if kept, err = c.kept(ctx, newer, now); err != nil {
			return err
		}
	}
	older, err := c.others(ctx, newer.Product)
	if err != nil {
		return err
	}
	for _, o := range older {
		if o.Rollout >= newer.ID || !newer.State.Retires(o.State) || kept[o.Rollout] {
			continue
		}
		if _, err := c.exec(ctx, `UPDATE rollout SET state = 'superseded', revision = revision + 1 WHERE id = $1 AND state = $2`, o.Rollout, string(o.State)); err != nil {
			return fmt.Errorf("supersede R-%d: %w", o.Rollout, err)
		}
	}
	return nil
}

// commitRollout writes what can change of a locked rollout, at its next
// revision, together with the caller's own part and the ledger entry. A
// rollout that finishes takes the place of the one that was on offer before.
func (c conn) commitRollout(ctx context.Context, r *Rollout, now time.Time, inTx InTx, entry ledger.Draft) error {
	reasons, err := json.Marshal(r.Reasons)
	if err != nil {
		return fmt.Errorf("reasons: %w", err)
	}
	knowledge, halted, err := r.evidence()
	if err != nil {
		return err
	}
	n, err := c.exec(ctx, `UPDATE rollout SET state = $3, revision = revision + 1, rung = $4, window_size = $5, ceiling = $6, turn = $7, boost = $8,
		held_by = $9, rung_since = $10, ended = $11, resume_asked_by = $12, action = $13, reasons = $14, decided = $15,
		quiet_until = $16, accepted_harm = $17, accepted_refusals = $18, cover = $19, halted = $20, knowledge = $21, lift_asked_by = $22, lift_asked_of = $23, small = $24 WHERE id = $1 AND revision = $2`,
		r.ID, r.Revision, string(r.State), r.Pace.Rung, r.Pace.Window, r.Pace.Ceiling, r.Pace.Turn, r.Pace.Boost,
		r.HeldBy, micros(r.RungSince), micros(r.Ended), r.ResumeAskedBy, string(r.Action), string(reasons), micros(r.Decided),
		r.Pace.QuietUntil, r.Pace.AcceptedHarm, r.Pace.AcceptedRefusals, r.Pace.Cover, halted, knowledge, r.LiftAskedBy, r.LiftAskedOf, r.Pace.Small)
	if err != nil {
		return err
	}
	if n != 1 {
		return ErrConflict
	}
	r.Revision++
	if r.State == rollout.Finished {
		if err := c.retire(ctx, *r, now); err != nil {
			return err
		}
	}
	if err := c.run(inTx); err != nil {
		return err
	}
	_, err = c.appendLedger(ctx, now, entry)
	return err
}
