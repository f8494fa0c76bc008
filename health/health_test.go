package health

import (
	"testing"

	"pgregory.net/rapid"
)

var states = []State{Open, Proven, Harmed, Silent}

// TestOrderAndRepetitionOfReportsDoNotMatter: whatever order reports of one
// exposure come in, and however often, it ends in the same state.
func TestOrderAndRepetitionOfReportsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reports := rapid.SliceOfN(rapid.SampledFrom([]State{Proven, Harmed}), 1, 6).Draw(t, "reports")
		other := rapid.Permutation(append(reports, reports...)).Draw(t, "in another order, twice")
		// The sweep finds it silent at one moment of its own in each history.
		end := func(rs []State, sweep int) State {
			s := Open
			for i, r := range rs {
				if i == sweep {
					s = s.Next(Silent)
				}
				s = s.Next(r)
			}
			return s
		}
		a := end(reports, rapid.IntRange(-1, len(reports)).Draw(t, "sweep"))
		b := end(other, rapid.IntRange(-1, len(other)).Draw(t, "other sweep"))
		if a != b {
			t.Fatalf("%v ended as %s, %v as %s", reports, a, other, b)
		}
	})
}

func TestHarmIsFinalAndSilenceComesFromOpenOnly(t *testing.T) {
	for _, to := range states {
		if got := Harmed.Next(to); got != Harmed {
			t.Errorf("harmed became %s", got)
		}
	}
	for _, from := range states {
		if got := from.Next(Silent); (got == Silent) != (from == Open || from == Silent) {
			t.Errorf("%s swept became %s", from, got)
		}
		if got := from.Next(Open); got != from {
			t.Errorf("%s reported open became %s", from, got)
		}
	}
}

func TestCountsAddUpAfterAnyMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Counts
		exposures := map[int]State{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			i := rapid.IntRange(0, 9).Draw(t, "exposure")
			from, granted := exposures[i]
			if !granted {
				c.Grant()
				exposures[i] = Open
				continue
			}
			to := from.Next(rapid.SampledFrom(states).Draw(t, "report"))
			if to != from {
				c.Move(from, to)
			}
			exposures[i] = to
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		want := Counts{Exposed: int64(len(exposures))}
		for _, s := range exposures {
			*want.of(s)++
		}
		if c != want {
			t.Fatalf("counted %+v, recounted %+v", c, want)
		}
	})
}

func TestJudge(t *testing.T) {
	lim := Limits{MaxHarmed: 2, MaxShare: 0.01, MinControls: 0.9}
	heard := Control{Heard: 100}
	for name, c := range map[string]struct {
		counts Counts
		ctl    Control
		want   Verdict
		code   string
	}{
		"one harmed":               {Counts{Exposed: 5, Harmed: 1, Open: 4}, heard, Healthy, "within-limits"},
		"two harmed":               {Counts{Exposed: 5, Harmed: 2, Open: 3}, heard, Unhealthy, "harm-limit"},
		"the share rules later":    {Counts{Exposed: 1000, Harmed: 9, Proven: 991}, heard, Healthy, "within-limits"},
		"a share too many":         {Counts{Exposed: 1000, Harmed: 10, Proven: 990}, heard, Unhealthy, "harm-limit"},
		"silent count as harmed":   {Counts{Exposed: 5, Harmed: 1, Silent: 1, Open: 3}, heard, Unhealthy, "silence"},
		"controls are silent too":  {Counts{Exposed: 5, Silent: 5}, Control{Heard: 50, Gone: 50}, Unknown, "controls-silent"},
		"no controls left: strict": {Counts{Exposed: 5, Silent: 5}, Control{}, Unhealthy, "silence"},
	} {
		if f := Judge(c.counts, c.ctl, lim); f.Verdict != c.want || f.Code != c.code || f.Detail == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
