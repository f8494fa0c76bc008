package psirt

import "fmt"

// Phase is what the case's people work on. It is derived, never typed in.
type Phase string

// The phases.
const (
	Detect   Phase = "detect"   // is it one, and how bad
	Mitigate Phase = "mitigate" // its fix, its kin and its class
	Deploy   Phase = "deploy"   // bring the fix to everyone
	Review   Phase = "review"   // what is to be learned
)

var deployed = fmt.Sprintf("at least %.0f %% of the affected endpoints were verified as fixed", DeployedAt*100)

// Phase derives the phase, the reason, and the fact that made it so.
func (c *Case) Phase() (p Phase, reason string, seq int64) {
	switch {
	case !c.Closed.IsZero():
		return Review, "it is closed", c.Revision - 1
	case c.State.Has(FixDeployed):
		return Review, deployed, c.When(FixDeployed).Seq
	case c.State.Has(FixReady):
		return Deploy, "a fix is ready", c.When(FixReady).Seq
	case c.State.Has(AttackObserved):
		return Mitigate, "attacks were observed: no time is left for more triage", c.When(AttackObserved).Seq
	case c.Triage.First.Known():
		return Mitigate, "it is assessed", c.Triage.First.Seq
	}
	return Detect, "nobody has assessed it", 0
}
