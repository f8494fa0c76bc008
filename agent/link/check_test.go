package link

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/link/linktest"
	v1 "github.com/headgate/headgate/api/headgate/v1"
)

func rotate(id, want string) *v1.Check {
	return &v1.Check{Id: id, Kind: "file_age", Product: linktest.Product, Probe: "key", Want: want}
}

const january = "2026-01-01T00:00:00Z"

func (p *peer) answer(probe string, a ipc.Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.checks == nil {
		p.checks = map[string]ipc.Answer{}
	}
	p.checks[probe] = a
}

func (p *peer) lookedAt() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.looked)
}

// states are the states of a check's reports, in order.
func states(w *linktest.World, endpoint, id string) string {
	var out []string
	for _, r := range w.Results(endpoint, id) {
		out = append(out, strings.TrimPrefix(r.State.String(), "CHECK_STATE_")+":"+r.Reason)
	}
	return strings.Join(out, " ")
}

func TestACheckIsLookedAtOnceAndItsNewsToldOnce(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	w.SetPlan(plan())
	r.answer("key", ipc.Answer{Reason: "differs"})
	w.SetChecks(rotate("c1", january), &v1.Check{Id: "c2", Kind: "from_the_future", Product: linktest.Product}, rotate("", january))
	r.start(t)
	eventually(t, "both are told", func() bool {
		return states(w, r.id.Endpoint, "c1") == "FAILED:differs" && states(w, r.id.Endpoint, "c2") == "UNKNOWN:unsupported"
	})
	n := len(w.Beacons(r.id.Endpoint))
	eventually(t, "more beacons", func() bool { return len(w.Beacons(r.id.Endpoint)) > n+3 })
	if got := states(w, r.id.Endpoint, "c1"); got != "FAILED:differs" || r.lookedAt() != 1 {
		t.Errorf("told %s, looked at %d times", got, r.lookedAt())
	}
}

// Another version may hold what the last did not, or the reverse: that is how a
// fix turns a check green, and how a regression turns it red again.
func TestAChecksAnswerFollowsTheVersionThatRuns(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	w.SetPlan(plan())
	w.SetChecks(rotate("c1", january))
	r.answer("key", ipc.Answer{Reason: "no-probe"})
	r.start(t)
	want := "UNKNOWN:no-probe"
	eventually(t, "it is unknown", func() bool { return states(w, r.id.Endpoint, "c1") == want })
	for i, step := range []struct {
		answer ipc.Answer
		told   string
	}{{ipc.Answer{OK: true}, "PASSED:"}, {ipc.Answer{Reason: "differs"}, "FAILED:differs"}} {
		r.answer("key", step.answer)
		r.set(func(p *ipc.Product) {
			p.Version, p.Digest = fmt.Sprintf("%d.0.0", i+1), strings.Repeat(fmt.Sprint(i), 64)
		})
		want += " " + step.told
		eventually(t, "it is told as "+step.told, func() bool { return states(w, r.id.Endpoint, "c1") == want })
	}
}

func TestAResultIsToldAgainUntilItIsAcknowledged(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	w.SetPlan(plan())
	w.SetChecks(rotate("c1", january))
	r.answer("key", ipc.Answer{OK: true})
	refused := 0
	w.OnBeacon(func(_ string, b *v1.BeaconRequest) error {
		if len(b.CheckResults) > 0 && refused < 3 {
			refused++
			return fmt.Errorf("the database is away")
		}
		return nil
	})
	r.start(t)
	eventually(t, "it is told in the end", func() bool { return states(w, r.id.Endpoint, "c1") == "PASSED:" })
	r.stop()
	if refused != 3 {
		t.Errorf("refused %d times", refused)
	}
	r.start(t) // a new link does not know what the last told
	eventually(t, "it is told anew", func() bool { return states(w, r.id.Endpoint, "c1") == "PASSED: PASSED:" })
}

// A server that asks for nothing, as an old one does, or that asks no more, hears
// of no check; a check that is asked in other words is another one.
func TestOnlyWhatIsAskedIsTold(t *testing.T) {
	w := linktest.New(t, false)
	r := newRig(t, w)
	w.SetPlan(plan())
	r.answer("key", ipc.Answer{OK: true})
	r.start(t)
	eventually(t, "beacons", func() bool { return len(w.Beacons(r.id.Endpoint)) > 3 })
	if n := r.lookedAt(); n != 0 {
		t.Errorf("looked at %d checks that nobody asked for", n)
	}
	w.SetChecks(rotate("c1", january))
	eventually(t, "c1", func() bool { return states(w, r.id.Endpoint, "c1") == "PASSED:" })
	w.SetChecks()
	n := len(w.Beacons(r.id.Endpoint))
	eventually(t, "more beacons", func() bool { return len(w.Beacons(r.id.Endpoint)) > n+2 })
	r.answer("key", ipc.Answer{Reason: "differs"})
	w.SetChecks(rotate("c1", "2026-02-01T00:00:00Z"))
	eventually(t, "c1, asked anew", func() bool { return states(w, r.id.Endpoint, "c1") == "PASSED: FAILED:differs" })
}

func TestWhoeverAsksMakesNoEndpointBusy(t *testing.T) {
	for us, want := range map[int64]time.Duration{0: checkEvery, 1: checkMinimum, -5: checkEvery, 60e6: time.Minute, 1 << 62: checkMaximum} {
		if got := (&checked{check: &v1.Check{EveryUs: us}}).every(); got != want {
			t.Errorf("every %d µs: %s, want %s", us, got, want)
		}
	}
	l := &link{}
	var many []*v1.Check
	for i := range 100 {
		many = append(many, rotate(fmt.Sprint(i), january))
	}
	l.tookChecks(many)
	if len(l.checks) != 32 {
		t.Errorf("%d checks were taken", len(l.checks))
	}
}
