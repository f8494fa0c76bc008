package psirt

import (
	"errors"
	"strings"
	"testing"
)

func TestTheFirstRowThatMatchesRules(t *testing.T) {
	table := DefaultRewards()
	for _, c := range []struct {
		in     RewardFor
		row    string
		amount int64
	}{
		{RewardFor{Score: 9.8, Accepted: true, Proof: true}, "critical-proof", 5000},
		{RewardFor{Score: 9, Accepted: true}, "critical", 3000},
		{RewardFor{Score: 8.9, Accepted: true}, "high", 1200},
		{RewardFor{Score: 0, Accepted: true}, "low", 100},
		{RewardFor{Score: 9.8, Accepted: true, Duplicate: true}, "duplicate", 50},
		{RewardFor{Score: -1, Accepted: true, Duplicate: true}, "duplicate", 50},
		{RewardFor{Score: 9.8, Accepted: true, Exercise: true}, "exercise", 0},
		{RewardFor{Score: 9.8}, "not-accepted", 0},
	} {
		got, err := table.Decide(c.in)
		if err != nil || got.Row != c.row || got.Amount != c.amount || !strings.HasPrefix(got.Table, "headgate-example-1@sha256:") {
			t.Errorf("%+v: %+v, %v", c.in, got, err)
		}
		if err := got.check(); err != nil {
			t.Errorf("%+v is no fact: %v", got, err)
		}
	}
}

// Unknown severity is not a low one.
func TestAnUnscoredReportHasNoReward(t *testing.T) {
	if got, err := DefaultRewards().Decide(RewardFor{Score: -1, Accepted: true}); !errors.Is(err, ErrUnscored) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestATableWithoutAnAnswerIsRefused(t *testing.T) {
	good := string(builtinRewards)
	for name, c := range map[string][2]string{
		"no last row":   {`"id": "low", "when": {}`, `"id": "low", "when": {"score": 0}`},
		"twice":         {`"id": "medium"`, `"id": "low"`},
		"unknown key":   {`"when": {}`, `"when": {"severity": 1}`},
		"score":         {`"score": 4.0`, `"score": 40`},
		"amount":        {`"amount": 400`, `"amount": -400`},
		"no reason":     {`"why": "medium"`, `"why": ""`},
		"trailing data": {good, good + "{}"},
		"no rows":       {good, `{"id": "x", "source": "y", "effective": "2026-01-01", "rows": []}`},
		"no date":       {`"2026-01-01"`, `"soon"`},
		"no currency":   {`"currency": ""`, `"currency": "gold"`},
		"a revision":    {`"id": "headgate-example-1"`, `"id": "headgate-example@1"`},
	} {
		if _, err := ParseRewardTable([]byte(strings.Replace(good, c[0], c[1], 1))); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestATableIsNamedWithOrWithoutItsRevision(t *testing.T) {
	for s, want := range map[string]RewardRef{"": {}, "acme-2026": {ID: "acme-2026"}, "acme-2026@3": {"acme-2026", 3}} {
		if got, err := ParseRewardRef(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"@1", "acme@", "acme@0", "acme@-1", "acme@sha256:aa", "Acme", "a b"} {
		if got, err := ParseRewardRef(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

func FuzzParseRewardTable(f *testing.F) {
	f.Add(builtinRewards, 9.8, uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, score float64, bits uint8) {
		table, err := ParseRewardTable(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		got, err := table.Decide(RewardFor{Score: score, Duplicate: bits&1 > 0, Exercise: bits&2 > 0, Proof: bits&4 > 0, Accepted: bits&8 > 0})
		if err == nil {
			err = got.check()
		}
		if err != nil && !errors.Is(err, ErrUnscored) {
			t.Fatalf("%+v: %v", got, err)
		}
	})
}
