package review

import (
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/psirt"
)

// The review names what is unknown, never writes it as zero, and lets nobody's
// words become markup.
func TestReviewSaysWhatIsKnownAndWhatIsNot(t *testing.T) {
	facts := []psirt.Fact{
		fact(t, 0, &psirt.CaseOpened{Title: "a | b <script>alert(1)</script> *x*"}),
		fact(t, 1, &psirt.VendorIsAware{}),
		fact(t, 2, &psirt.FixBound{Product: "acme/rules", Version: "3.0.0"}),
		fact(t, 3, &psirt.CorrectionAdded{Text: "count inputs at load", Check: "regression"}),
		fact(t, 4, &psirt.CorrectionChecked{Correction: 0, Result: "green"}),
		fact(t, 5, &psirt.CorrectionAdded{Text: "fuzz the loader", Check: "fuzz"}),
		fact(t, 6, &psirt.CorrectionChecked{Correction: 1, Result: "red"}),
		fact(t, 7, &psirt.CorrectionChecked{Correction: 1, Result: "green"}),
	}
	in := Incident{
		Facts:    facts,
		Exposure: Exposure{Since: start, Resources: 400, Open: 3, Time: 90 * time.Minute},
		Rollouts: []Rollout{{ID: 2, Product: "acme/rules", Version: "3.0.0", State: "finished", Exposed: 400, Proven: 397, Harmed: 3, Down: span.Duration(time.Second)}},
		Notices:  Notices{Sent: 3, Verified: 2, First: start.Add(time.Hour)},
	}
	got, err := Markdown("C-1", in)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`# Review of C-1: a \| b &lt;script&gt;alert(1)&lt;/script&gt; \*x\*`,
		"| triage: from the report to its first assessment | unknown | no report came in |",
		"400 resources were vulnerable for 1.5 hours together",
		"3 tenants were told; 2 notices are closed by proof.",
		"| R-2 | acme/rules 3.0.0 | finished | 400 | 397 | 3 | 0 | 1s |",
		"1. count inputs at load (check: `regression`): its check was not seen to fail yet",
		"2. fuzz the loader (check: `fuzz`): done",
		"| 1999-12-31 14:00:00 UTC | operator:alice | fix: acme/rules 3.0.0 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "<script") {
		t.Error("markup of a title is markup of the review")
	}
}

// Every kind of fact has its line.
func TestTimelineKnowsEveryKind(t *testing.T) {
	for _, kind := range psirt.Kinds() {
		if text := words(psirt.Blank(kind)); text == "" {
			t.Errorf("%s: no words", kind)
		}
	}
}
