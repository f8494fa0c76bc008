package advisory

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/psirt"
)

var opened = time.Date(1999, 12, 31, 12, 0, 0, 0, time.UTC)

func snapshot() Snapshot {
	return Snapshot{Case: "C-1", Ladder: psirt.DefaultLadder(), Opened: opened.UnixMicro(), Rung: psirt.Sealed}
}

func drawSnapshot(t *rapid.T) (Snapshot, time.Time) {
	s := snapshot()
	hours := rapid.Int64Range(0, 24*130)
	floor, ceiling, need := time.Duration(0), time.Duration(0), 0.0
	for i := range s.Ladder.Steps {
		step := &s.Ladder.Steps[i]
		floor += time.Duration(rapid.Int64Range(0, 200).Draw(t, "floor")) * time.Hour
		ceiling = max(ceiling, floor) + time.Duration(rapid.Int64Range(0, 500).Draw(t, "ceiling"))*time.Hour
		need = min(1, need+rapid.Float64Range(0, 0.5).Draw(t, "need"))
		step.Floor, step.Ceiling, step.Protection = span.Duration(floor), span.Duration(ceiling), need
	}
	s.Ladder.Confidence = rapid.SampledFrom([]float64{0, 0.9, 0.95, 0.999}).Draw(t, "confidence")
	now := opened.Add(time.Duration(hours.Draw(t, "now")) * time.Hour)
	if rapid.Bool().Draw(t, "at an edge") { // of a floor or a ceiling, to the microsecond
		step := rapid.SampledFrom(s.Ladder.Steps).Draw(t, "step")
		edge := rapid.SampledFrom([]span.Duration{step.Floor, step.Ceiling}).Draw(t, "edge")
		now = opened.Add(edge.Std() + time.Duration(rapid.Int64Range(-1, 1).Draw(t, "beside"))*time.Microsecond)
	}
	p := &s.Protection
	p.Resources = rapid.Int64Range(0, 10_000).Draw(t, "resources")
	p.Verified = rapid.Int64Range(0, p.Resources).Draw(t, "verified")
	if rapid.Bool().Draw(t, "well protected") {
		p.Verified = p.Resources - min(p.Resources, rapid.Int64Range(0, 3).Draw(t, "open"))
	}
	p.Stale = rapid.Int64Range(0, p.Resources-p.Verified).Draw(t, "stale")
	if rapid.Bool().Draw(t, "measured") {
		p.At = now.Add(-time.Duration(rapid.Int64Range(0, 60).Draw(t, "age")) * time.Minute).UnixMicro()
	}
	if rapid.Bool().Draw(t, "embargo") {
		s.EmbargoEnd = opened.Add(time.Duration(hours.Draw(t, "embargo end")) * time.Hour).UnixMicro()
		if rapid.Bool().Draw(t, "it lasts") {
			s.EmbargoEnd = now.Add(time.Duration(rapid.Int64Range(0, 100).Draw(t, "for")) * time.Hour).UnixMicro()
		}
	}
	s.Rung = rapid.SampledFrom(psirt.Rungs).Draw(t, "rung")
	if rapid.Bool().Draw(t, "sealed") {
		s.Rung = psirt.Sealed
	}
	out := rapid.IntRange(0, 9).Draw(t, "out")
	s.Leaked, s.Attacked, s.KEV = out == 7, out == 8, out == 9
	if rapid.Bool().Draw(t, "overridden") {
		s.Override = []Override{{Rung: rapid.SampledFrom(psirt.Rungs[1:]).Draw(t, "override"), By: [2]string{"operator:alice", "operator:bob"}}}
	}
	return s, now
}

// Issue's rule: no rung opens before its floor, none stays shut after its
// ceiling, none opens on stale data; and what is open stays open.
func TestRungsOpenBetweenFloorAndCeiling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now := drawSnapshot(t)
		d, err := DecideRung(s, now)
		if err != nil {
			t.Fatal(err)
		}
		if above(s.Rung, d.Rung) {
			t.Fatalf("it went from %s down to %s", s.Rung, d.Rung)
		}
		if len(d.Reasons) == 0 {
			t.Fatal("no reason")
		}
		for _, g := range d.Gates {
			if !above(g.Rung, d.Rung) && above(g.Rung, s.Rung) && !g.Open {
				t.Fatalf("%s was passed over on the way to %s: %s", g.Rung, d.Rung, g.Why.Detail)
			}
		}
		_, out := s.collapsed()
		for i, step := range s.Ladder.Steps {
			age, open := now.Sub(opened), !above(step.Rung, d.Rung)
			news := open && above(step.Rung, s.Rung)
			if age >= step.Ceiling.Std() && !open {
				t.Fatalf("%s is shut at %s; its ceiling was %s", step.Rung, age, step.Ceiling)
			}
			if news && age < step.Floor.Std() && (!out || i > 2) {
				t.Fatalf("%s opened at %s; its floor is %s", step.Rung, age, step.Floor)
			}
			old := s.Protection.At == 0 || now.Sub(time.UnixMicro(s.Protection.At)) > s.Ladder.Fresh.Std()
			free := age >= step.Ceiling.Std() || out && i <= 2 || step.Protection == 0 ||
				slices.ContainsFunc(s.Override, func(o Override) bool { return o.Rung == step.Rung })
			if news && old && !free {
				t.Fatalf("%s opened on a measurement of %v", step.Rung, s.Protection)
			}
			if news && !free && float64(s.Protection.Verified) < step.Protection*float64(s.Protection.Resources) {
				t.Fatalf("%s opened with %d of %d verified; it asks for %v", step.Rung, s.Protection.Verified, s.Protection.Resources, step.Protection)
			}
			if news && i >= 2 && s.EmbargoEnd > now.UnixMicro() && !out && age < step.Ceiling.Std() {
				t.Fatalf("%s opened under embargo until %s", step.Rung, instant(s.EmbargoEnd))
			}
		}
		if out && above(psirt.PublicRung, d.Rung) {
			t.Fatalf("it is out, and the rung is %s", d.Rung)
		}
	})
}

// A floor and a ceiling are instants: a microsecond before them it is shut.
func TestFloorsAndCeilingsAreKeptToTheMicrosecond(t *testing.T) {
	for i, step := range psirt.DefaultLadder().Steps {
		for name, c := range map[string]struct {
			edge     time.Duration
			verified int64
		}{"floor": {step.Floor.Std(), 1000}, "ceiling": {step.Ceiling.Std(), 0}} {
			if name == "ceiling" && step.Protection == 0 {
				continue // it opens at its floor
			}
			for _, beside := range []time.Duration{-time.Microsecond, 0} {
				s := snapshot()
				s.Rung = psirt.Rungs[i]
				now := opened.Add(c.edge + beside)
				s.Protection = Protection{Resources: 1000, Verified: c.verified, At: now.UnixMicro()}
				d, err := DecideRung(s, now)
				if err != nil {
					t.Fatal(err)
				}
				if open := !above(step.Rung, d.Rung); open != (beside == 0) {
					t.Errorf("%s, %s from its %s: open is %v", step.Rung, beside, name, open)
				}
			}
		}
	}
}

// Time alone changes the answer at no other instant than the one it names.
func TestNextIsWhenTheAnswerMayChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now := drawSnapshot(t)
		s.Protection.At = 0 // its ageing is an event of its own
		d, err := DecideRung(s, now)
		if err != nil {
			t.Fatal(err)
		}
		s.Rung = d.Rung
		last := opened.Add(100 * 365 * 24 * time.Hour)
		if d, err = DecideRung(s, now); err != nil {
			t.Fatal(err)
		}
		if d.Next != 0 {
			last = time.UnixMicro(d.Next - 1)
		}
		later, err := DecideRung(s, last)
		if err != nil || later.Rung != d.Rung {
			t.Fatalf("next is %s, and at %s it is %s (%v), no longer %s", instant(d.Next), last, later.Rung, err, d.Rung)
		}
	})
}

// More protection never shuts what less would open, and the same snapshot has
// the same answer, through JSON as well: replay depends on it.
func TestMoreProtectionNeverShuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now := drawSnapshot(t)
		less, err := DecideRung(s, now)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var copied Snapshot
		if err := json.Unmarshal(b, &copied); err != nil {
			t.Fatal(err)
		}
		again, err := DecideRung(copied, now)
		if err != nil || !reflect.DeepEqual(again, less) {
			t.Fatalf("made again: %+v, %v; was %+v", again, err, less)
		}
		s.Protection.Verified = rapid.Int64Range(s.Protection.Verified, s.Protection.Resources-s.Protection.Stale).Draw(t, "more")
		more, err := DecideRung(s, now)
		if err != nil || above(less.Rung, more.Rung) {
			t.Fatalf("with more it is %s (%v), was %s", more.Rung, err, less.Rung)
		}
	})
}

func TestStaleResourcesCountAsUnfixed(t *testing.T) {
	now := opened.Add(96 * time.Hour)
	s := snapshot()
	s.Ladder.Confidence = 0
	s.Protection = Protection{Resources: 100, Verified: 89, Stale: 11, At: now.UnixMicro()}
	if d, err := DecideRung(s, now); err != nil || d.Rung != psirt.TenantsRung || d.Reasons[len(d.Reasons)-1].Code != "protected" {
		t.Errorf("89 of 100, 11 stale: %+v, %v", d, err)
	}
	s.Protection.Verified, s.Protection.Stale = 90, 10
	if d, err := DecideRung(s, now); err != nil || d.Rung != psirt.PublicRung {
		t.Errorf("90 of 100: %+v, %v", d, err)
	}
}

// Clopper-Pearson's lower limit for all of n successes is delta^(1/n).
func TestLowerBoundIsClopperPearsons(t *testing.T) {
	for _, n := range []int64{1, 10, 299, 10_000} {
		got := Protection{Resources: n, Verified: n}.Lower(0.95)
		if want := math.Pow(0.05, 1/float64(n)); math.Abs(got-want) > 1e-9 {
			t.Errorf("n = %d: %v; want %v", n, got, want)
		}
	}
}

func TestExploitationCollapsesTheLadderAndAsksForTheEmergencyLane(t *testing.T) {
	for _, c := range []struct {
		name      string
		set       func(*Snapshot)
		emergency bool
	}{
		{"attacked", func(s *Snapshot) { s.Attacked = true }, true},
		{"kev", func(s *Snapshot) { s.KEV = true }, true},
		{"leaked", func(s *Snapshot) { s.Leaked = true }, false},
	} {
		s := snapshot()
		s.EmbargoEnd = opened.Add(1000 * time.Hour).UnixMicro()
		c.set(&s)
		d, err := DecideRung(s, opened.Add(time.Minute))
		if err != nil || d.Rung != psirt.PublicRung || d.Emergency != c.emergency || d.Reasons[0].Code != c.name || len(d.Opened) != 3 {
			t.Errorf("%s: %+v, %v", c.name, d, err)
		}
	}
}

func TestOverrideTakesTwoPeopleAndKeepsTheFloor(t *testing.T) {
	s := snapshot()
	s.Rung = psirt.TenantsRung
	s.Override = []Override{{Rung: psirt.PublicRung, By: [2]string{"operator:alice", "operator:bob"}, Why: "the press calls"}}
	if d, err := DecideRung(s, opened.Add(time.Hour)); err != nil || d.Rung != psirt.TenantsRung || d.Reasons[0].Code != "floor" {
		t.Errorf("before the floor: %+v, %v", d, err)
	}
	if d, err := DecideRung(s, opened.Add(73*time.Hour)); err != nil || d.Rung != psirt.PublicRung || d.Reasons[0].Code != "override" {
		t.Errorf("after the floor: %+v, %v", d, err)
	}
	s.Rung = psirt.Partners // tenants must hear first
	if d, err := DecideRung(s, opened.Add(73*time.Hour)); err != nil || d.Rung != psirt.Partners {
		t.Errorf("past a rung that is shut: %+v, %v", d, err)
	}
	s.Rung = psirt.TenantsRung
	s.Override[0].By[1] = "operator:alice"
	if _, err := DecideRung(s, opened.Add(73*time.Hour)); !errors.Is(err, ErrInvalid) {
		t.Errorf("one person: %v", err)
	}
}

func FuzzDecideRung(f *testing.F) {
	b, _ := json.Marshal(snapshot())
	f.Add(b, opened.UnixMicro())
	f.Fuzz(func(t *testing.T, b []byte, now int64) {
		var s Snapshot
		if json.Unmarshal(b, &s) != nil {
			return
		}
		d, err := DecideRung(s, time.UnixMicro(now))
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("unmarked error: %v", err)
		}
		if err == nil && (len(d.Reasons) == 0 || len(d.Gates) != len(psirt.Rungs)-1) {
			t.Fatalf("%+v", d)
		}
	})
}

// One person's wish opens nothing, asked for however often; a second one's does.
func TestSnapshotTakesTwoPeopleForAnOverride(t *testing.T) {
	c := psirt.Case{Opened: opened, Rung: psirt.TenantsRung}
	ask := func(by string) {
		c.Outcome.Overrides = append(c.Outcome.Overrides, psirt.Overridden{Rung: psirt.PublicRung, By: by, Why: "the press calls"})
	}
	for range 2 {
		ask("operator:alice")
		if s := Of("C-1", c, Protection{}, opened); len(s.Override) != 0 {
			t.Errorf("%+v", s.Override)
		}
	}
	ask("operator:bob")
	if s := Of("C-1", c, Protection{}, opened); len(s.Override) != 1 || s.Override[0].By != [2]string{"operator:alice", "operator:bob"} {
		t.Errorf("%+v", s.Override)
	}
}

// An embargo that was only proposed, or has ended, holds nothing back.
func TestOnlyAnActiveEmbargoHolds(t *testing.T) {
	end := opened.Add(48 * time.Hour)
	for name, c := range map[string]struct {
		e    psirt.Embargo
		want int64
	}{
		"proposed": {psirt.Embargo{Until: end}, 0},
		"active":   {psirt.Embargo{Until: end, Active: opened}, end.UnixMicro()},
		"ended":    {psirt.Embargo{Until: end, Active: opened, Ended: opened}, 0},
		"over":     {psirt.Embargo{Until: opened, Active: opened}, 0},
	} {
		s := Of("C-1", psirt.Case{Opened: opened, Rung: psirt.Sealed, Embargoes: []psirt.Embargo{c.e}}, Protection{}, opened)
		if s.EmbargoEnd != c.want {
			t.Errorf("%s: %d; want %d", name, s.EmbargoEnd, c.want)
		}
	}
}
