package psirt

import "math"

// FromReporter is who a message on a report is from, when the reporter wrote it
// through her page or by mail.
const FromReporter = "reporter"

// ReporterStep is one line of what a reporter sees of her report's way.
type ReporterStep struct {
	Text string
	Done bool
	Now  bool // the first that is not done
}

// ReporterSteps say where a report stands, in words that tell a reporter nothing
// of who is affected, who works on it, or when. c is its case; nil if it belongs
// to none.
func ReporterSteps(r *Report, c *Case) []ReporterStep {
	has := func(s State) bool { return c != nil && c.State.Has(s) }
	assessed := c != nil && (c.Triage.First.Known() || c.State.Has(FixReady))
	steps := []ReporterStep{
		{Text: "Received", Done: r.Received.Known()},
		{Text: "Acknowledged", Done: r.Acknowledged.Known() || c != nil},
		{Text: "Assessment", Done: assessed},
		{Text: "A fix", Done: has(FixReady)},
		{Text: "The fix brought to everyone whom it concerns", Done: has(FixDeployed)},
		{Text: "Publication", Done: has(Public)},
	}
	if r.Closed != "" {
		return steps[:2] // it goes no further
	}
	for i := range steps {
		if !steps[i].Done {
			steps[i].Now = true
			break
		}
	}
	return steps
}

// The bounds of blind progress. Below the first nothing is told, because a
// fraction of few tells who; below the second only whole tenths are.
const (
	blindNone = 50
	blindFine = 1000
)

// BlindProgress is how far the fix has come, in per cent of what is affected:
// the lower confidence bound of what was measured, rounded down. It reveals no
// tenant and no number of endpoints; ok is false where it might, or where nothing
// was measured.
func BlindProgress(c *Case) (percent int, ok bool) {
	if c == nil || c.Outcome.Fixed == nil || c.Outcome.Fixed.N < blindNone {
		return 0, false
	}
	f := c.Outcome.Fixed
	percent = int(math.Floor(f.Lower * 100))
	if f.N < blindFine {
		percent -= percent % 10
	}
	return percent, true
}
