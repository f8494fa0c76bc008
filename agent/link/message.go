package link

import (
	"strings"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

// maxDetail is the longest Attempt.detail in bytes.
const maxDetail = 500

var attemptStates = map[ipc.AttemptState]v1.AttemptState{
	ipc.AttemptStaged:          v1.AttemptState_ATTEMPT_STATE_STAGED,
	ipc.AttemptPreflightFailed: v1.AttemptState_ATTEMPT_STATE_PREFLIGHT_FAILED,
	ipc.AttemptProbation:       v1.AttemptState_ATTEMPT_STATE_PROBATION,
	ipc.AttemptProven:          v1.AttemptState_ATTEMPT_STATE_PROVEN,
	ipc.AttemptHarmed:          v1.AttemptState_ATTEMPT_STATE_HARMED,
	ipc.AttemptReverted:        v1.AttemptState_ATTEMPT_STATE_REVERTED,
}

// BeaconOf writes a status as a beacon. The latest attempt's state goes into
// every beacon until the next attempt: the server takes it once.
func BeaconOf(seq int64, st ipc.Status, goodbye bool, clock time.Time) *v1.BeaconRequest {
	b := &v1.BeaconRequest{
		Seq: seq, Goodbye: goodbye, ClockUs: clock.UnixMicro(),
		Products: make([]*v1.ProductState, 0, len(st.Products)),
		Vitals: &v1.Vitals{
			CpuUs: st.Vitals.CPUUS, RssBytes: st.Vitals.RSSBytes, Events: st.Vitals.Events,
			EventsLost: st.Vitals.EventsLost, UptimeUs: st.Vitals.UptimeUS, Sandbox: st.Vitals.Sandbox,
		},
	}
	for _, p := range st.Products {
		ps := &v1.ProductState{Product: p.Product, Version: p.Version, Digest: p.Digest, Healthy: p.Healthy, Crashes: p.Crashes}
		for _, m := range p.Measures {
			ps.Measures = append(ps.Measures, &v1.ProductMeasure{Name: m.Name, Value: m.Value, Lately: m.Lately})
		}
		if a := p.Attempt; a != nil {
			ps.Attempt = &v1.Attempt{
				Rollout: a.Rollout, Digest: a.Digest, State: attemptStates[a.State],
				Reason: a.Reason, Detail: clip(a.Detail, maxDetail), AgeUs: a.AgeUS, DownUs: a.DownUS,
			}
		}
		b.Products = append(b.Products, ps)
	}
	return b
}

// clip cuts s to n bytes of valid UTF-8 (protobuf refuses any other).
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// RunningOf lists what a beacon reports as running.
func RunningOf(b *v1.BeaconRequest) []ipc.Running {
	var out []ipc.Running
	for _, p := range b.Products {
		if p.Digest != "" {
			out = append(out, ipc.Running{Product: p.Product, Digest: p.Digest})
		}
	}
	return out
}

// Mark is an instant from which an endpoint beacons at given ages: its switch
// or, while it waits as a control, when it first saw the offer.
type Mark struct {
	At   time.Time
	Ages []span.Duration
}

// NextBeacon is when to beacon after the last one: at the first age of any mark
// that lies after it, and no later than every.
func NextBeacon(last time.Time, every time.Duration, marks ...Mark) time.Time {
	next := last.Add(every)
	for _, m := range marks {
		for _, age := range m.Ages {
			if at := m.At.Add(age.Std()); at.After(last) && at.Before(next) {
				next = at
			}
		}
	}
	return next
}

// ProbationAges adds to an offer's ages what proof needs: at least two beacons
// from the new version within its probation, and one when it ends.
func ProbationAges(o release.Offer) []span.Duration {
	p := o.Probation
	return append([]span.Duration{p / 3, p * 2 / 3, p}, o.Ages...)
}

// Jitter varies d by up to ±share of it; u is uniform in [0,1).
func Jitter(d time.Duration, share, u float64) time.Duration {
	return time.Duration(float64(d) * (1 + share*(2*u-1)))
}

// Pace keeps an interval from the plan within what is bearable: whoever signs
// plans can neither make an endpoint a flood nor put it to sleep for ever.
func Pace(d span.Duration) time.Duration {
	return min(max(d.Std(), 10*time.Millisecond), 24*time.Hour)
}
