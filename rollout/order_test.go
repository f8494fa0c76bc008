package rollout

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/health"
)

func TestOrders(t *testing.T) {
	const same = State("")
	for name, c := range map[string]struct {
		state   State
		heldBy  string
		asked   string
		verb    Verb
		to      State // same: nothing acts
		changed bool
		askedBy string // afterwards
		refused bool
	}{
		"a halt is at once":                      {Running, "", "", VerbHalt, Halted, true, "", false},
		"held: a halt is at once":                {Held, "ann", "", VerbHalt, Halted, true, "", false},
		"finished: a halt is at once":            {Finished, "", "", VerbHalt, Halted, true, "", false},
		"halted twice":                           {Halted, "", "", VerbHalt, same, false, "", false},
		"a halt withdraws the wish to resume":    {Halted, "", "ann", VerbHalt, same, true, "", false},
		"reverting is past halting":              {Reverting, "", "", VerbHalt, same, false, "", true},
		"resume: the first asks":                 {Halted, "", "", VerbResume, same, true, "bob", false},
		"resume: the same person asks again":     {Halted, "", "bob", VerbResume, same, false, "bob", false},
		"resume: the second acts":                {Halted, "", "ann", VerbResume, Running, true, "", false},
		"a hold of the engine is resumed by one": {Held, "engine", "", VerbResume, Running, true, "", false},
		"a hold of a person is resumed by one":   {Held, "ann", "", VerbResume, Running, true, "", false},
		"what runs needs no resuming":            {Running, "", "", VerbResume, same, false, "", false},
		"nobody resumes what is superseded":      {Superseded, "", "", VerbResume, same, false, "", true},
		"nobody resumes what is reverted":        {Reverted, "", "", VerbResume, same, false, "", true},
		"nobody resumes what reverts":            {Reverting, "", "", VerbResume, same, false, "", true},
		"nobody resumes what is finished":        {Finished, "", "", VerbResume, same, false, "", true},
		"hold":                                   {Running, "", "", VerbHold, Held, true, "", false},
		"a person takes the engine's hold over":  {Held, "engine", "", VerbHold, Held, true, "", false},
		"a person's hold stays that person's":    {Held, "ann", "", VerbHold, same, false, "", false},
		"halted is past holding":                 {Halted, "", "", VerbHold, same, false, "", true},
		"a revert is at once":                    {Running, "", "", VerbRevert, Reverting, true, "", false},
		"halted, then reverted":                  {Halted, "", "ann", VerbRevert, Reverting, true, "", false},
		"finished, then reverted":                {Finished, "", "", VerbRevert, Reverting, true, "", false},
		"reverted already":                       {Reverted, "", "", VerbRevert, same, false, "", false},
		"reverting already":                      {Reverting, "", "", VerbRevert, same, false, "", false},
		"nobody reverts what is superseded":      {Superseded, "", "", VerbRevert, same, false, "", true},
		"an order that nobody knows":             {Running, "", "", "explode", same, false, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := Standing{State: c.state, HeldBy: c.heldBy, ResumeAskedBy: c.asked, Pace: Pace{Window: 5}, Counts: health.Counts{Exposed: 4, Harmed: 2, Silent: 1, Proven: 1}, PreflightFailed: 7}
			got, err := Obey(s, Order{Verb: c.verb, Operator: "bob", Why: "because"})
			if c.refused {
				if !errors.Is(err, ErrState) && !errors.Is(err, ErrInvalid) {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			if err != nil || got.Changed != c.changed || got.Acts != (c.to != same) || got.ResumeAskedBy != c.askedBy || got.Decision.State != c.to {
				t.Fatalf("%+v, %v", got, err)
			}
			if !got.Acts {
				return
			}
			if why := got.Decision.Reasons[0]; why.Code != "operator-"+string(c.verb) || !strings.Contains(why.Detail, "bob") || !strings.Contains(why.Detail, "because") {
				t.Errorf("reason %+v", why)
			}
			if c.asked != "" && c.verb == VerbResume && !strings.Contains(got.Decision.Reasons[0].Detail, "ann and bob") {
				t.Errorf("reason %+v does not name both", got.Decision.Reasons[0])
			}
			accepted := c.verb == VerbResume && c.state == Halted
			if p := got.Decision.Pace; (p.AcceptedHarm == 3 && p.AcceptedRefusals == 7) != accepted || p.Window != 5 {
				t.Errorf("pace %+v", p)
			}
		})
	}
}

func TestNobodyOrdersNothing(t *testing.T) {
	if _, err := Obey(Standing{State: Running}, Order{Verb: VerbHalt}); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}

// Whatever people order in whatever sequence: each change is one that the states
// allow, a halt is never refused while something is granted, and what was halted
// runs again only by two different people since the last halt.
func TestPeopleCannotBreakTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Standing{State: rapid.SampledFrom(States).Draw(t, "state")}
		if s.State == Held {
			s.HeldBy = "engine"
		}
		wish := "" // who asked to resume since the last halt
		for i := range rapid.IntRange(1, 30).Draw(t, "orders") {
			o := Order{Verb: rapid.SampledFrom(Verbs).Draw(t, "verb"), Operator: rapid.SampledFrom([]string{"ann", "bob", "cyd"}).Draw(t, "operator")}
			got, err := Obey(s, o)
			if err != nil {
				if o.Verb == VerbHalt && (s.State.Grants() || s.State == Held) {
					t.Fatalf("order %d: a halt of what is %s was refused: %v", i, s.State, err)
				}
				continue
			}
			was := s.State
			s.ResumeAskedBy = got.ResumeAskedBy
			if got.Acts {
				s.State, s.Pace, s.HeldBy = got.Decision.State, got.Decision.Pace, got.Decision.HeldBy
			}
			switch {
			case !got.Changed && (got.Acts || s.State != was):
				t.Fatalf("order %d changed something unseen: %+v", i, got)
			case s.State != was && !was.CanBecome(s.State):
				t.Fatalf("order %d: %s became %s", i, was, s.State)
			case slices.Contains([]State{Superseded, Reverted}, was) && s.State != was:
				t.Fatalf("order %d: %s, which is over, became %s", i, was, s.State)
			case o.Verb == VerbHalt && s.State != Halted:
				t.Fatalf("order %d: halted, and yet %s", i, s.State)
			case was == Halted && s.State == Running && (o.Verb != VerbResume || wish == "" || wish == o.Operator):
				t.Fatalf("order %d: %s alone resumed what was halted (asked before: %q)", i, o.Operator, wish)
			}
			switch {
			case s.State != Halted || o.Verb == VerbHalt:
				wish = ""
			case o.Verb == VerbResume && wish == "":
				wish = o.Operator
			}
			if s.ResumeAskedBy != wish {
				t.Fatalf("order %d: %q is said to have asked, %q did", i, s.ResumeAskedBy, wish)
			}
		}
	})
}

func TestARolloutGoesForwardOnly(t *testing.T) {
	for name, c := range map[string]struct {
		version string
		others  []Other
		says    string // empty: it may start
	}{
		"the first":                       {"1.0.0", nil, ""},
		"newer than what finished":        {"1.1.0", []Other{{1, "1.0.0", Finished}}, ""},
		"the same as what finished":       {"1.0.0", []Other{{1, "1.0.0", Finished}}, "R-1"},
		"older than what finished":        {"1.0.0-rc.1", []Other{{1, "1.0.0", Finished}}, "not newer than 1.0.0"},
		"another is running":              {"2.0.0", []Other{{1, "1.0.0", Finished}, {2, "1.1.0", Running}}, "R-2 is active"},
		"another is held":                 {"2.0.0", []Other{{2, "1.1.0", Held}}, "R-2 is active"},
		"again after a halt":              {"1.1.0", []Other{{1, "1.0.0", Finished}, {2, "1.1.0", Halted}}, ""},
		"older than what is being undone": {"1.1.0", []Other{{1, "1.0.0", Finished}, {2, "2.0.0", Reverting}}, ""},
		"older than what was undone":      {"1.0.0", []Other{{2, "2.0.0", Reverted}}, ""},
		"older than what was superseded":  {"1.0.0", []Other{{2, "2.0.0", Superseded}}, ""},
	} {
		err := MayStart(c.version, c.others)
		if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, ErrState) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
