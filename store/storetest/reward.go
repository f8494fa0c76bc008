package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

const rewards = `{"id": "acme", "source": "the board", "effective": "2026-01-01", "currency": "EUR", "rows": [{"id": "all", "when": {}, "amount": 100, "why": "thanks"}]}`

// rewardsAreRevisions: a table of rewards never changes; the last applied is in force,
// whatever the clock says, and the same twice is once.
func rewardsAreRevisions(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	if _, err := s.Rewards(ctx, psirt.RewardRef{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no table yet: %v", err)
	}
	if err := s.AddTriager(ctx, Ann, "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.ApplyRewards(ctx, Bob, []byte(rewards), Start); !errors.Is(err, psirt.ErrForbidden) {
		t.Errorf("who is no triager applies a table: %v", err)
	}
	apply := func(text string, revision int64, news bool, now time.Time) {
		t.Helper()
		a, changed, err := s.ApplyRewards(ctx, Ann, []byte(text), now)
		if err != nil || changed != news || a.Revision != revision || !a.InForce || a.Text != text {
			t.Errorf("%+v, changed %t, %v", a, changed, err)
		}
	}
	more, other := strings.Replace(rewards, "100", "200", 1), strings.Replace(rewards, "acme", "other", 1)
	apply(rewards, 1, true, Start)
	apply(rewards, 1, false, Start.Add(time.Hour))
	apply(more, 2, true, Start)
	apply(other, 1, true, Start.Add(-time.Hour)) // the clock went back
	apply(rewards, 3, true, Start.Add(-time.Hour))
	if a, err := s.Rewards(ctx, psirt.RewardRef{ID: "acme", Revision: 2}); err != nil || a.Text != more || a.InForce || a.Actor != Ann.Actor {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := s.Rewards(ctx, psirt.RewardRef{ID: "other"}); err != nil || a.Revision != 1 || a.InForce {
		t.Errorf("%+v, %v", a, err)
	}
	if all, err := s.ListRewards(ctx); err != nil || len(all) != 4 || !all[0].InForce || all[0].Revision != 3 || all[3].Revision != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if _, _, err := s.ApplyRewards(ctx, Ann, []byte(strings.Replace(rewards, `"amount": 100`, `"amount": -1`, 1)), Start); !errors.Is(err, psirt.ErrInvalid) || !strings.Contains(err.Error(), "rows[0]: amount") {
		t.Errorf("%v", err)
	}
	Healthy(t, s)
}
