package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/headgate/headgate/agent/detect"
	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/release/artifact"
	"github.com/headgate/headgate/review"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/sim/wire"
)

// flashQuick is the flash preset with times of a second or two.
func flashQuick(t testing.TB) rollout.Policy {
	d := func(d time.Duration) span.Duration { return span.Duration(d) }
	p, err := rollout.Preset("flash")
	check(t, err)
	p.Name = "flash-quick"
	p.Probation, p.Grace, p.GrantTTL, p.FillTimeout = d(300*time.Millisecond), d(1200*time.Millisecond), d(5*time.Second), d(15*time.Second) // who must wait asks again after 10s
	p.Poll, p.Beacon, p.Ages = d(200*time.Millisecond), d(time.Second), []span.Duration{d(200 * time.Millisecond), d(400 * time.Millisecond)}
	p.MinControls = 0.5
	b := *p.Budget
	b.Horizons = []rollout.Horizon{{Age: d(2500 * time.Millisecond), Share: 0.25}}
	b.SlowShare, b.Cover, b.Segments, b.Baseline = 0, 0, false, 1e-5
	p.Budget = &b
	return p
}

// often has endpoints ask and report often before the rollout too.
func often(c *Config) {
	c.Poll, c.Beacon = span.Duration(200*time.Millisecond), span.Duration(time.Second)
}

// content publishes a version of the demo product, whose content a real engine
// will load.
func (w *world) content(version string) string {
	w.Helper()
	dir := filepath.Join(w.TempDir(), version)
	check(w, detect.DemoContent(version, dir))
	var b bytes.Buffer
	check(w, artifact.Pack(dir, &b))
	digest := w.upload(b.Bytes())
	meta := sign(w, w.draft(version, digest, b.Len()), w.vendorKeys[0], w.vendorKeys[1])
	check(w, w.publishMeta(version, meta))
	w.vendorMeta = meta
	return digest
}

// live lets a simulated fleet live over the wire until the test ends.
func (w *world) live(c wire.Config) *wire.Fleet {
	w.Helper()
	c.Server, c.EnrolmentToken, c.Products, c.Dir, c.Seed, c.Poll = w.base, w.enrolToken, []string{product}, w.TempDir(), 1, 200*time.Millisecond
	f, err := wire.New(c)
	check(w, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	w.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("the fleet ended: %v", err)
		}
	})
	<-f.Enrolled()
	return f
}

// untilStops is untilState with the time that a whole rollout takes.
func (w *world) untilStops(id int64, want ...rollout.State) *headgatev1.Rollout {
	w.Helper()
	var r *headgatev1.Rollout
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		r = w.show(id)
		if slices.Contains(want, rollout.State(r.State)) {
			return r
		}
		if !rollout.State(r.State).Active() && r.State != string(rollout.Reverting) {
			break
		}
	}
	w.replays(id)
	w.Fatalf("R-%d is not %s, within 3 minutes or for good: %v", id, want, r)
	return nil
}

// replays makes every recorded decision again and returns the decisions.
func (w *world) replays(id int64) (out []review.Decision) {
	w.Helper()
	res, err := w.ledger.ListEntries(w.Context(), connect.NewRequest(&headgatev1.ListEntriesRequest{Subject: fmt.Sprintf("R-%d", id), Limit: 1000}))
	check(w, err)
	for _, e := range res.Msg.Entries {
		entry := ledger.Entry{Seq: e.Seq, Time: time.UnixMicro(e.TimeUs).UTC(), Draft: ledger.Draft{Kind: e.Kind, Subject: e.Subject, Actor: e.Actor, Body: []byte(e.Body)}}
		switch err := review.Replay(entry); {
		case errors.Is(err, review.ErrNotDecision):
			continue
		case err != nil:
			w.Error(err)
		}
		d, err := review.Read(entry)
		check(w, err)
		x := rollout.Explain(d.Snapshot, d.Decision)
		if len(x.Known) < 4 || x.Ruled == "" || x.Change == "" || x.Gates == "" && d.Snapshot.State != rollout.Reverting {
			w.Errorf("entry %d is not explained: %+v", e.Seq, x)
		}
		w.Logf("%s: %q", d.Decision.Action, x)

		out = append(out, d)
	}
	return out
}

func (w *world) healthy() {
	w.Helper()
	problems, err := w.store.Doctor(context.Background())
	if err != nil || len(problems) > 0 {
		w.Errorf("doctor: %v, %v", problems, err)
	}
}

const budgetFleet = 240

func TestBudgetLetsAGoodReleaseReachEveryoneByGates(t *testing.T) {
	w := newWorld(t, often)
	w.content("1.0.0")
	w.live(wire.Config{N: budgetFleet})
	id := w.start("1.0.0", flashQuick(t))
	r := w.untilStops(id, rollout.Finished)
	if c := r.Counts; c.Harmed+c.Silent != 0 || c.Proven < budgetFleet*9/10 {
		t.Errorf("counts %v; want nearly all proven, and the rest held back until now", c)
	}
	gates, limit := int64(0), int64(0)
	for _, d := range w.replays(id) {
		n := d.Decision.Numbers
		if d.Snapshot.Observed == nil || n == nil {
			t.Fatalf("a decision without observations or numbers: %+v", d.Decision)
		}
		if d.Decision.Action == rollout.Advance && float64(d.Decision.Pace.Ceiling) > max(n.Allowed, 1) && d.Snapshot.Pace.Ceiling < d.Decision.Pace.Ceiling && d.Decision.State != rollout.Finished {
			t.Errorf("a ceiling of %d, while the budgets pay for %.1f", d.Decision.Pace.Ceiling, n.Allowed)
		}
		gates, limit = max(gates, n.GatesUsed), max(limit, n.GatesLimit)
	}
	if gates < 1 || limit < 1 {
		t.Errorf("%d gates used, %d needed; want at least one each", gates, limit)
	}
	w.healthy()
}

func TestBudgetHaltsACrashingReleaseInItsFirstCohort(t *testing.T) {
	w := newWorld(t, often)
	w.content("2.0.0")
	w.live(wire.Config{N: budgetFleet})
	id := w.start("2.0.0", flashQuick(t))
	r := w.untilStops(id, rollout.Reverting)
	if c := r.Counts; c.Exposed > budgetFleet/4 || c.Harmed == 0 {
		t.Errorf("counts %v; want harm, and at most the first cohort of %d exposed", c, budgetFleet/4)
	}
	for _, d := range w.replays(id) {
		if d.Snapshot.State == rollout.Running && d.Decision.State == rollout.Reverting && d.Decision.Reasons[0].Code != "evidence" {
			t.Errorf("it halted for %v; want evidence", d.Decision.Reasons)
		}
	}
	w.healthy()
}

func TestBudgetHaltsOnSilenceAlone(t *testing.T) {
	w := newWorld(t, often)
	w.content("1.0.0")
	w.live(wire.Config{N: budgetFleet, Vanish: 1})
	id := w.start("1.0.0", flashQuick(t))
	r := w.untilStops(id, rollout.Reverting)
	if c := r.Counts; c.Exposed > budgetFleet/4 || c.Silent == 0 || c.Harmed != 0 {
		t.Errorf("counts %v; want silence only, within the first cohort", c)
	}
	w.replays(id)
	w.healthy()
}

// TestBudgetHaltsWhatNeedsTwiceAsMuchByVitalsAlone: the same fleet finishes with a
// release that needs what the one before needed.
func TestBudgetHaltsWhatNeedsTwiceAsMuchByVitalsAlone(t *testing.T) {
	for name, needs := range map[string][2]float64{"good": {1, 1}, "cpu": {2, 1}, "memory": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, often)
			w.content("1.0.0")
			w.live(wire.Config{N: budgetFleet, Needs: func(string) (cpu, memory float64) { return needs[0], needs[1] }})
			p := flashQuick(t)
			p.Budget.SlowShare = 0.0015
			id := w.start("1.0.0", p)
			want := rollout.Reverting
			if name == "good" {
				want = rollout.Finished
			}
			r := w.untilStops(id, want)
			if r.Counts.Harmed+r.Counts.Silent != 0 || name != "good" && r.Counts.Exposed > budgetFleet/2 {
				t.Errorf("counts %v; want no failure, and a slow release with at most half of the fleet", r.Counts)
			}
			measured, halted := int64(0), false
			for _, d := range w.replays(id) {
				if o := d.Snapshot.Observed; o != nil {
					n := o.Coverage.Measured
					for _, c := range o.Cohorts {
						n += c.Measured
					}
					measured = max(measured, n)
				}
				halted = halted || d.Snapshot.State != rollout.Reverting && d.Decision.State == rollout.Reverting && d.Decision.Reasons[0].Code == "vitals"
			}
			if measured < 10 || halted != (name != "good") {
				t.Errorf("%d measured, halted by vitals %v", measured, halted)
			}
			w.healthy()
		})
	}
}

func TestPolicyThatAsksForWhatIsNotObservedIsRefused(t *testing.T) {
	w := newWorld(t)
	w.content("1.0.0")
	p := flashQuick(t)
	p.Budget.SlowShare, p.Budget.Holdback = 0.001, 0
	b, err := json.Marshal(p)
	check(t, err)
	_, err = w.rollout.StartRollout(t.Context(), connect.NewRequest(&headgatev1.StartRolloutRequest{Product: product, Version: "1.0.0", PolicyJson: string(b)}))
	wantCode(t, err, connect.CodeInvalidArgument, "holdback", "nothing can be compared")
}
