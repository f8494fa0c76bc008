package server

import (
	"fmt"

	"github.com/headgate/headgate/rollout"
)

// checkObserved refuses a policy whose budget asks for evidence that this server
// does not gather: a bound that is never looked at would be none.
func checkObserved(p rollout.Policy) error {
	b := p.Budget
	if b == nil {
		return nil
	}
	refuse := func(field, why string) error {
		return fmt.Errorf("policy %q: budget.%s: %s: %w", p.Name, field, why, rollout.ErrInvalid)
	}
	switch {
	case b.Holdback <= 0:
		return refuse("holdback", "0; without controls nothing can be compared: want a share above 0")
	case p.Grace*2 < p.Beacon:
		return fmt.Errorf("policy %q: grace: %s; with a budget, want at least half of beacon (%s): a report that is a little late would be silence: %w", p.Name, p.Grace, p.Beacon, rollout.ErrInvalid)
	}
	return nil
}
