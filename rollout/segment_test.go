package rollout

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
)

// drawGroups draws a fleet counted by labels, and failures in it.
func drawGroups(t *rapid.T) (groups []Group, failed []Failures) {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, driver := range []string{"X", "Y", "Z"} {
			l := fleet.Labels{"arch": arch, "driver": driver}
			if rapid.Bool().Draw(t, "third label") {
				l["region"] = rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "region")
			}
			g := Group{Labels: l, Fit: rapid.Int64Range(1, 300).Draw(t, "fit")}
			g.Exposed = rapid.Int64Range(0, g.Fit).Draw(t, "exposed")
			g.Heard = rapid.Int64Range(0, g.Fit-g.Exposed).Draw(t, "heard")
			groups = append(groups, g)
			if f := (Failures{Labels: l, Treated: rapid.Int64Range(0, g.Exposed).Draw(t, "treated"), Control: rapid.Int64Range(0, g.Fit-g.Exposed).Draw(t, "control")}); f.Treated+f.Control > 0 {
				failed = append(failed, f)
			}
		}
	}
	return groups, failed
}

func cutOf(groups []Group, failed []Failures, exposed int64, halted ...HaltedSegment) Snapshot {
	s := Snapshot{Policy: Policy{Budget: &Budget{Segments: true, MaxSegment: 0.5}}, Observed: &Observed{Failures: failed, Halted: halted}}
	s.Counts = health.Counts{Exposed: exposed, Open: exposed}
	s.Segment(groups)
	return s
}

// TestSegmentsAreCutAsTheFleetHasThem: a segment's failures and endpoints are
// those of the groups that it contains, none of a halted segment; a count that is
// older than the exposures makes more treated and fewer controls at risk, never
// the other way.
func TestSegmentsAreCutAsTheFleetHasThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		groups, failed := drawGroups(t)
		exposed, fit := int64(0), int64(0)
		for _, g := range groups {
			exposed, fit = exposed+g.Exposed, fit+g.Fit
		}
		var halted []HaltedSegment
		if rapid.Bool().Draw(t, "halt") {
			halted = append(halted, HaltedSegment{Labels: fleet.Labels{"driver": "X"}})
		}
		now := cutOf(groups, failed, exposed, halted...)
		stale := cutOf(groups, failed, exposed+rapid.Int64Range(0, fit-exposed).Draw(t, "since"), halted...)
		for _, c := range now.Observed.Cells {
			var want health.CellLook
			share := int64(0)
			for _, g := range groups {
				if g.Labels.Match(c.Labels) {
					share += g.Fit
				}
			}
			for _, f := range failed {
				if f.Labels.Match(c.Labels) && (len(halted) == 0 || !f.Labels.Match(halted[0].Labels)) {
					want.Failed, want.ControlFailed = want.Failed+f.Treated, want.ControlFailed+f.Control
				}
			}
			if c.Failed != want.Failed || c.ControlFailed != want.ControlFailed || c.Failed == 0 || c.Share != float64(share)/float64(fit) || c.AtRisk < c.Failed || share < LeastCell(fit) {
				t.Fatalf("%v: %+v; want %+v of %d in %d", c.Labels, c, want, share, fit)
			}
			i := slices.IndexFunc(stale.Observed.Cells, func(x health.CellLook) bool { return x.ID == c.ID })
			if i < 0 {
				t.Fatalf("%v is gone from an older count", c.Labels)
			}
			if x := stale.Observed.Cells[i]; x.Labels.String() != c.Labels.String() || x.AtRisk < c.AtRisk || x.ControlAtRisk > c.ControlAtRisk || x.Exposed < c.Exposed {
				t.Fatalf("%v: %+v, by an older count %+v", c.Labels, c, x)
			}
		}
		if err := now.Observed.check(*now.Policy.Budget); err != nil {
			t.Fatal(err)
		}
	})
}

// TestEarlyControlsSpeakForNobody: a segment with a member in the first cohort begins
// with that, another with the cohorts after it; a halted segment's part is left out.
func TestEarlyControlsSpeakForNobody(t *testing.T) {
	amd, arm := fleet.Labels{"arch": "amd64", "os": "a"}, fleet.Labels{"arch": "arm64", "os": "a"}
	groups := []Group{
		{Labels: amd, Fit: 1000, Exposed: 3, First: 1, Heard: 900, Early: [2]int64{2, 6}},
		{Labels: arm, Fit: 1000, Exposed: 2, Heard: 900, Early: [2]int64{1, 4}},
	}
	failed := []Failures{{Labels: amd, Treated: 1, Control: 7}, {Labels: arm, Treated: 1, Control: 3}}
	before := func(halted ...HaltedSegment) map[string]int64 {
		s := Snapshot{Policy: Policy{Budget: &Budget{Segments: true, MaxSegment: 1}}, Observed: &Observed{Failures: failed, Halted: halted}}
		s.Counts = health.Counts{Exposed: 5, Open: 5}
		s.Segment(groups)
		out := map[string]int64{}
		for _, c := range s.Observed.Cells {
			out[c.Labels.String()] = c.ControlBefore
		}
		return out
	}
	// arm64 had four early by the count of its endpoints, and three by its failures.
	if got := before(); got["arch=amd64"] != 2 || got["arch=arm64"] != 3 || got["os=a"] != 3 {
		t.Errorf("%v", got)
	}
	if got := before(HaltedSegment{Labels: fleet.Labels{"arch": "amd64"}}); got["os=a"] != 3 {
		t.Errorf("without amd64: %v", got)
	}
}

// TestASegmentKeepsItsNumber for the rollout's life, whatever fails later.
func TestASegmentKeepsItsNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		groups, failed := drawGroups(t)
		n := rapid.IntRange(0, len(failed)).Draw(t, "so far")
		names := map[uint32]string{}
		for _, c := range cutOf(groups, failed[:n], 0).Observed.Cells {
			names[c.ID] = c.Labels.String()
		}
		for _, c := range cutOf(groups, failed, 0).Observed.Cells {
			if name, ok := names[c.ID]; ok && name != c.Labels.String() {
				t.Fatalf("segment %d was %q and is %q", c.ID, name, c.Labels)
			}
		}
	})
}

func TestTheSimplestNameIsTaken(t *testing.T) {
	suspect := func(l fleet.Labels) health.Suspect { return health.Suspect{Look: health.CellLook{Labels: l}} }
	all := []health.Suspect{
		suspect(fleet.Labels{"arch": "arm64", "driver": "X"}), suspect(fleet.Labels{"driver": "X"}), suspect(fleet.Labels{"region": "eu"}), suspect(fleet.Labels{"arch": "arm64", "os": "a"}),
	}
	got := ""
	for _, x := range simplest(all) {
		got += x.Look.Labels.String() + "; "
	}
	if want := "driver=X; region=eu; arch=arm64 & os=a; "; got != want {
		t.Errorf("%q; want %q", got, want)
	}
}

// TestALargeFleetIsCut: 20,000 different sets of eight labels.
func TestALargeFleetIsCut(t *testing.T) {
	var groups []Group
	for i := range 20_000 {
		l := fleet.Labels{}
		for k := range 8 {
			l[fmt.Sprint("label-", k)] = fmt.Sprint((i >> k) * 7 % (5 + 9*k))
		}
		groups = append(groups, Group{Labels: l, Fit: 50, Exposed: 5, Heard: 40})
	}
	s := cutOf(groups, []Failures{{Labels: groups[17].Labels, Treated: 3}, {Labels: groups[40].Labels, Treated: 1, Control: 2}}, 100_000)
	if n := len(s.Observed.Cells); n < 36 || n > 72 || s.Observed.CellsTested < 1000 {
		t.Errorf("%d segments failed, %d watched", n, s.Observed.CellsTested)
	}
}
