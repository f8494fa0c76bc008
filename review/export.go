package review

import (
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/psirt"
)

// Markdown writes the post-incident review of a case: what happened, how long it
// took, what was harmed, and what is to be corrected. subject names the case.
func Markdown(subject string, in Incident) (string, error) {
	kase, err := psirt.View(in.Facts)
	if err != nil {
		return "", fmt.Errorf("review of %s: %w", subject, err)
	}
	measures, err := Measures(in)
	if err != nil {
		return "", err
	}
	events, err := Timeline(in.Facts)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	phase, why, _ := kase.Phase()
	fmt.Fprintf(&b, "# Review of %s: %s\n\n", subject, escape(kase.Title))
	fmt.Fprintf(&b, "Phase %s: %s. Disclosed up to %s. Severity: %s.\n\n", phase, escape(why), kase.Rung, orUnknown(string(kase.Triage.Severity())))
	writeMeasures(&b, measures)
	writeHarm(&b, in)
	writeFeedback(&b, kase)
	writeCorrections(&b, kase)
	b.WriteString("## Timeline\n\n| when | who | what |\n| --- | --- | --- |\n")
	for _, e := range events {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", stamp(e.At), escape(e.Actor), escape(e.Text))
	}
	return b.String(), nil
}

func writeMeasures(b *strings.Builder, measures []Measure) {
	b.WriteString("## How long it took\n\n| measure | took | from, to |\n| --- | --- | --- |\n")
	for _, m := range measures {
		if m.Unknown != "" {
			fmt.Fprintf(b, "| %s: %s | unknown | %s |\n", m.Code, m.Name, m.Unknown)
			continue
		}
		fmt.Fprintf(b, "| %s: %s | %s | %s, %s |\n", m.Code, m.Name, m.Took.Std().Round(time.Millisecond), stamp(m.From), stamp(m.To))
	}
	b.WriteString("\n")
}

func writeHarm(b *strings.Builder, in Incident) {
	b.WriteString("## What was exposed and harmed\n\n")
	if x := in.Exposure; x.Resources == 0 {
		b.WriteString("No resource is known to have been vulnerable.\n")
	} else {
		fmt.Fprintf(b, "%d resources were vulnerable for %.1f hours together, since %s; %d are still.\n", x.Resources, x.Time.Hours(), stamp(x.Since), x.Open)
	}
	if in.Notices.Sent > 0 {
		fmt.Fprintf(b, "%d tenants were told; %d notices are closed by proof.\n", in.Notices.Sent, in.Notices.Verified)
	}
	b.WriteString("\n")
	if len(in.Rollouts) > 0 {
		b.WriteString("| rollout | release | state | exposed | proven | harmed | silent | down, summed |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	}
	for _, r := range in.Rollouts {
		fmt.Fprintf(b, "| R-%d | %s %s | %s | %d | %d | %d | %d | %s |\n", r.ID, escape(r.Product), escape(r.Version), r.State, r.Exposed, r.Proven, r.Harmed, r.Silent, r.Down.Std().Round(time.Millisecond))
	}
	if len(in.Rollouts) > 0 {
		b.WriteString("\n")
	}
}

// writeFeedback tells what customers and partners think; who was asked and has not
// answered is unknown, and no praise.
func writeFeedback(b *strings.Builder, kase psirt.Case) {
	all := kase.Outcome.Feedback
	if len(all) == 0 {
		return
	}
	b.WriteString("## What customers and partners say\n\n| who | told in time | knew what to do | solved | in words |\n| --- | --- | --- | --- | --- |\n")
	for _, f := range all {
		if len(f.Answers) == 0 {
			fmt.Fprintf(b, "| %s | unknown | unknown | unknown | was asked, has not answered |\n", escape(f.From))
		}
		for _, a := range f.Answers {
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", escape(f.From), Mark(a.Told), Mark(a.Clear), Mark(a.Solved), escape(a.Text))
		}
	}
	b.WriteString("\n")
}

// Mark is a mark of feedback in words.
func Mark(n int64) string {
	if n == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%d of 5", n)
}

func writeCorrections(b *strings.Builder, kase psirt.Case) {
	b.WriteString("## What is corrected\n\n")
	if len(kase.Outcome.Corrections) == 0 {
		b.WriteString("Nothing yet.\n\n")
		return
	}
	for i, c := range kase.Outcome.Corrections {
		state := "its check was not seen to fail yet, so that it proves nothing"
		switch {
		case c.Green:
			state = "done: its check failed, and passes now"
		case c.Red:
			state = "open: its check fails"
		}
		fmt.Fprintf(b, "%d. %s (check: `%s`): %s\n", i+1, escape(c.Text), strings.ReplaceAll(c.Check, "`", "'"), state)
	}
	b.WriteString("\n")
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// escape keeps what people wrote from being read as Markdown or HTML, and from
// breaking a table's row.
func escape(s string) string {
	return escaper.Replace(strings.Join(strings.Fields(s), " "))
}

var escaper = strings.NewReplacer("\\", "\\\\", "|", "\\|", "*", "\\*", "_", "\\_", "`", "\\`", "[", "\\[", "]", "\\]", "#", "\\#", "<", "&lt;", ">", "&gt;", "&", "&amp;")
