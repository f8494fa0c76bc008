package rollout

import (
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/health"
)

// MaxBoost bounds how much wider than planned an unfilled rung calls.
const MaxBoost = 1 << 20

// Decide says what a rollout does next. It is total: any snapshot that is not
// absurd gets a decision with at least one reason, hold included; an absurd one
// gets an error that names the field. Safety comes before progress: an
// unhealthy rollout halts even while an operator holds it.
func Decide(s Snapshot, now time.Time) (Decision, error) {
	if err := s.check(); err != nil {
		return Decision{}, err
	}
	switch s.State {
	case Reverting:
		return s.decideReverting(), nil
	case Halted, Reverted, Superseded:
		return s.stay(Hold, Reason{string(s.State), "only people move a rollout that is " + string(s.State)}), nil
	}
	return s.strike(s.decide(now), now), nil
}

// decide is Decide for a rollout that is not over.
func (s Snapshot) decide(now time.Time) Decision {
	halt, hold := s.signals(now)
	if halt != nil {
		return s.stop(*halt)
	}
	if s.Policy.Budget != nil {
		return s.decideBudget(now)
	}
	finding := health.Judge(s.Counts, s.Control, health.Limits{
		MaxHarmed: s.Policy.MaxHarmed, MaxShare: s.Policy.MaxHarmedShare, MinControls: s.Policy.MinControls,
		Returning: now.UnixMicro() < s.Pace.QuietUntil, Accepted: s.Pace.AcceptedHarm,
	})
	if finding.Verdict == health.Unhealthy {
		return s.stop(Reason{finding.Code, finding.Detail})
	}
	if limit := s.Policy.MaxPreflightFailed + s.Pace.AcceptedRefusals; s.PreflightFailed >= limit {
		return s.stop(Reason{"preflight-failed", fmt.Sprintf("%d endpoints refused it in preflight; the limit is %d", s.PreflightFailed, limit)})
	}
	if s.State == Held && s.HeldBy != byEngine {
		return s.stay(Hold, Reason{"operator", "held by " + s.HeldBy})
	}
	if finding.Verdict == health.Unknown {
		return s.holdForEvidence(finding, now)
	}
	if s.State == Finished {
		return s.watch(now)
	}
	if len(hold) > 0 {
		return s.holdForSignals(hold)
	}
	return s.progress(now)
}

// holdForEvidence holds while nobody can know. Every look at silent controls
// gives the endpoints that come back afterwards a full deadline to speak; it is
// moved on in steps, so that an outage is not a decision a second.
func (s Snapshot) holdForEvidence(f health.Finding, now time.Time) Decision {
	d := s.stay(Hold, Reason{f.Code, f.Detail})
	if s.State == Running {
		d.State, d.HeldBy = Held, byEngine
	}
	allow := 2*s.Policy.Beacon.Std() + s.Policy.Grace.Std()
	if f.Code == "controls-silent" && time.UnixMicro(s.Pace.QuietUntil).Sub(now) < allow {
		d.Pace.QuietUntil = now.Add(allow + allow/2).UnixMicro()
	}
	return d
}

// maxFleet keeps counts exact as floating-point numbers.
const maxFleet = 1 << 40

// byEngine is HeldBy when nobody but missing evidence holds the rollout: the
// engine lets go by itself when the evidence is back.
const byEngine = "engine"

// check refuses what no rollout can look like.
func (s Snapshot) check() error {
	bad := func(field string, err error) error {
		return fmt.Errorf("snapshot of R-%d: %s: %w: %w", s.Rollout, field, err, ErrInvalid)
	}
	if err := s.Policy.Check(); err != nil {
		return bad("policy", err)
	}
	if err := s.Counts.Check(); err != nil {
		return bad("counts", err)
	}
	for name, c := range s.Segments {
		if err := c.Check(); err != nil {
			return bad("segment "+name, err)
		}
	}
	if err := s.checkSignals(); err != nil {
		return bad("signals", err)
	}
	if err := s.Accepted.check(); err != nil {
		return bad("accepted", err)
	}
	c := s.Control
	if min(c.Fit, c.Deferred, c.Online, c.Unexposed, c.Heard, c.Gone, s.PreflightFailed, s.Reverted, s.Pace.QuietUntil, s.Pace.AcceptedHarm, s.Pace.AcceptedRefusals, s.Pace.Rung, s.Pace.Window, s.Pace.Ceiling) < 0 {
		return bad("control and pace", fmt.Errorf("%+v %+v: want no negative numbers", c, s.Pace))
	}
	if !(s.Pace.Turn >= 0 && s.Pace.Turn <= 1) || !(s.Pace.Boost >= 0 && s.Pace.Boost <= MaxBoost) {
		return bad("pace", fmt.Errorf("turn %v, boost %v: want 0 to 1, and 0 to %d", s.Pace.Turn, s.Pace.Boost, MaxBoost))
	}
	if s.Pace.Cover < 0 || s.Pace.Cover > s.Pace.Ceiling {
		return bad("pace", fmt.Errorf("cover %d of a ceiling of %d", s.Pace.Cover, s.Pace.Ceiling))
	}
	if s.Policy.Budget != nil && s.Observed != nil {
		if c.Fit > maxFleet {
			return bad("observed", fmt.Errorf("a fleet of %d; at most %d", c.Fit, int64(maxFleet)))
		}
		if err := s.Observed.check(*s.Policy.Budget); err != nil {
			return bad("observed", err)
		}
	}
	if _, known := next[s.State]; !known && s.State != Superseded {
		return bad("state", fmt.Errorf("%q is unknown", s.State))
	}
	return nil
}

// stay is a decision that leaves the rollout as it is.
func (s Snapshot) stay(a Action, reasons ...Reason) Decision {
	return Decision{Action: a, Reasons: reasons, State: s.State, Pace: s.Pace, HeldBy: s.HeldBy}
}

// stop halts, and orders everybody back where the policy says so.
func (s Snapshot) stop(why Reason) Decision {
	d := s.stay(Halt, why)
	d.State, d.HeldBy = Halted, ""
	if s.Policy.RevertOnHalt {
		d.Action, d.State = Revert, Reverting
		d.Reasons = append(d.Reasons, Reason{"revert-on-halt", fmt.Sprintf("the policy orders the %d exposed endpoints back", s.Counts.Exposed)})
	}
	return d
}

// decideReverting waits until nobody that can be heard runs the release.
func (s Snapshot) decideReverting() Decision {
	left := s.Counts.Exposed - s.Reverted
	if left > 0 {
		return s.stay(Revert, Reason{"reverting", fmt.Sprintf("%d of %d exposed endpoints are not back yet", left, s.Counts.Exposed)})
	}
	d := s.stay(Revert, Reason{"all-back", fmt.Sprintf("all %d exposed endpoints are back", s.Counts.Exposed)})
	d.State = Reverted
	return d
}

// nobody says why there is no endpoint to go to.
func (s Snapshot) nobody() Reason {
	if n := s.Control.Deferred; n > 0 {
		return Reason{"all-deferred", fmt.Sprintf("all %d endpoints that do not have it are kept from it by their tenants' limits", n)}
	}
	return Reason{"no-endpoints", "no endpoint runs this product"}
}

// progress climbs, widens, finishes or waits. The rollout is healthy here.
func (s Snapshot) progress(now time.Time) Decision {
	if s.Control.Fit == 0 {
		d := s.stay(Hold, s.nobody())
		d.State, d.HeldBy = Running, ""
		return d
	}
	d := s.stay(Hold)
	d.State, d.HeldBy = Running, ""
	c := s.Counts
	full := c.Exposed >= s.Pace.Ceiling
	switch {
	case s.Pace.Ceiling == 0:
		return s.climb(d, now, Reason{"start", "the first rung"})
	case s.Control.Heard == 0 && s.Pace.Turn >= 1 && c.Exposed > 0:
		return s.everyone(d)
	case full && s.provenEnough():
		return s.climb(d, now, Reason{"rung-proven", fmt.Sprintf("%d of %d exposed endpoints are proven", c.Proven, c.Exposed)})
	case full:
		d.Reasons = append(d.Reasons, Reason{"probation", fmt.Sprintf("%d of %d exposed endpoints are proven; the rung asks for %.0f %%", c.Proven, c.Exposed, 100*s.Policy.MinProven)})
		return d
	case now.Sub(s.RungSince) >= s.Policy.FillTimeout.Std():
		return s.widen(d)
	}
	d.Reasons = append(d.Reasons, Reason{"filling", fmt.Sprintf("%d of %d endpoints of this rung are exposed", c.Exposed, s.Pace.Ceiling)})
	return d
}

// everyone finishes once all that are there have it and are proven.
func (s Snapshot) everyone(d Decision) Decision {
	c := s.Counts
	switch {
	case c.Open > 0:
		d.Reasons = append(d.Reasons, Reason{"probation", fmt.Sprintf("all that are there are exposed; %d of %d are still in probation", c.Open, c.Exposed)})
	case !s.provenEnough():
		d.Reasons = append(d.Reasons, Reason{"unproven", fmt.Sprintf("all that are there are exposed, but only %d of %d are proven; the policy asks for %.0f %%", c.Proven, c.Exposed, 100*s.Policy.MinProven)})
	default:
		d.Action, d.State = Finish, Finished
		d.Reasons = append(d.Reasons, Reason{"everyone", fmt.Sprintf("all endpoints that are there have it: %d exposed, %d proven", c.Exposed, c.Proven)})
	}
	return d
}

// watch judges a finished rollout for late faults, and serves endpoints that
// come back or enrol later by the same ladder: they were not in what was proven.
func (s Snapshot) watch(now time.Time) Decision {
	d := s.stay(Finish)
	if s.Counts.Exposed >= s.Pace.Ceiling && s.provenEnough() {
		return s.climb(d, now, Reason{"late-joiners", fmt.Sprintf("%d exposed endpoints fill the last rung", s.Counts.Exposed)})
	}
	d.Reasons = append(d.Reasons, Reason{"watching", "everyone that was there has it; late faults are still judged"})
	return d
}

// provenEnough tells whether the exposures so far carry the next rung: nothing
// that was not heard counts.
func (s Snapshot) provenEnough() bool {
	c := s.Counts
	return c.Exposed > 0 && float64(c.Proven) >= s.Policy.MinProven*float64(c.Exposed)
}

// climb goes to the next rung, unless the vendor's floor forbids it.
func (s Snapshot) climb(d Decision, now time.Time, why Reason) Decision {
	rung := s.Pace.Rung
	if s.Pace.Ceiling > 0 {
		rung++
	}
	window := s.Policy.Window(rung)
	ceiling := s.Pace.Ceiling + window
	if ceiling >= s.Control.Fit {
		if wait := s.Floor - now.Sub(s.Started); wait > 0 {
			d.Reasons = append(d.Reasons, Reason{"vendor-floor", fmt.Sprintf("the vendor lets it reach everyone no sooner than %s after the start: %s to go", s.Floor, wait.Round(time.Second))})
			return d
		}
	}
	d.Action, d.NewRung = Advance, true
	// What is exposed and will never be proven takes no place from the new rung.
	d.Pace.Rung, d.Pace.Ceiling, d.Pace.Boost = rung, ceiling, 1
	d.Pace.Window = window + s.Counts.Harmed + s.Counts.Silent + s.Counts.Open
	d.Pace.Turn = s.turn(d.Pace)
	d.Reasons = append(d.Reasons, why, Reason{"window", fmt.Sprintf("rung %d: %d more endpoints, %d in all", rung, window, ceiling)})
	return d
}

// widen calls more endpoints where those called are not there.
func (s Snapshot) widen(d Decision) Decision {
	if s.Pace.Turn >= 1 || s.canariesOnly(s.Pace.Rung) {
		d.Reasons = append(d.Reasons, Reason{"waiting-for-endpoints", s.unasked()})
		return d
	}
	d.Action, d.NewRung = Advance, true
	d.Pace.Boost = min(2*max(d.Pace.Boost, 1), MaxBoost)
	d.Pace.Turn = s.turn(d.Pace)
	d.Reasons = append(d.Reasons, Reason{"widen", fmt.Sprintf("only %d of %d endpoints asked within %s: %.3g %% of the fleet may ask now", s.Counts.Exposed, s.Pace.Ceiling, s.Policy.FillTimeout, 100*d.Pace.Turn)})
	return d
}

// canariesOnly tells whether a rung is the canaries' own.
func (s Snapshot) canariesOnly(rung int64) bool { return rung == 0 && len(s.Policy.Canaries) > 0 }

// turn is the share of ranks that should ask so that ceiling endpoints are
// found with high probability (mean plus three standard deviations of a Poisson
// count), times the boost. The grant, not the turn, keeps the window.
func (s Snapshot) turn(p Pace) float64 {
	if s.canariesOnly(p.Rung) {
		return 0
	}
	c := float64(p.Ceiling)
	want := (c + 3*math.Sqrt(c) + 3) * p.Boost
	there := max(float64(s.Control.Online), 1)
	if p.Ceiling >= s.Control.Fit {
		return 1
	}
	return min(1, max(want/there, s.Pace.Turn))
}
