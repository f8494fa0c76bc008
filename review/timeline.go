package review

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/psirt"
)

// Event is one line of a case's timeline.
type Event struct {
	At    time.Time  `json:"at"`
	Seq   int64      `json:"seq"` // of the fact
	Kind  psirt.Kind `json:"kind"`
	Actor string     `json:"actor"`
	Text  string     `json:"text"`
}

// Timeline tells a case's facts in words, by the time they were learned of.
func Timeline(facts []psirt.Fact) ([]Event, error) {
	out := make([]Event, 0, len(facts))
	for _, f := range facts {
		body, err := f.Decode()
		if err != nil {
			return nil, fmt.Errorf("timeline: fact %d: %w", f.Seq, err)
		}
		out = append(out, Event{At: f.At, Seq: f.Seq, Kind: f.Kind, Actor: f.Actor, Text: words(body)})
	}
	slices.SortStableFunc(out, func(a, b Event) int { return a.At.Compare(b.At) })
	return out, nil
}

// words says a fact in one line. A kind without words of its own is named.
func words(body psirt.Body) string {
	for _, of := range []func(psirt.Body) string{workWords, accordWords, dangerWords} {
		if text := of(body); text != "" {
			return text
		}
	}
	switch b := body.(type) {
	case *psirt.CaseOpened:
		return "opened: " + b.Title
	case *psirt.ReportLinked:
		return fmt.Sprintf("%s report linked", b.Role)
	case *psirt.MemberAdded:
		return fmt.Sprintf("%s may read it, as %s up to %s", b.Principal, b.Role, b.UpTo)
	case *psirt.TriageScored:
		return fmt.Sprintf("%s scores it %.1f (%s)", b.Scorer, b.Score, b.Vector)
	case *psirt.TriageSSVC:
		return fmt.Sprintf("%s says %s", b.Table, b.Outcome)
	case *psirt.TriageCWE:
		return "it is of " + strings.Join(b.CWEs, ", ")
	case *psirt.EmbargoProposed:
		return "embargo proposed until " + b.Until
	case *psirt.AttackSeen:
		return "attacks observed: " + b.Where
	case *psirt.RungOpened:
		return fmt.Sprintf("disclosed up to %s", b.Rung)
	case *psirt.LadderOverride:
		return fmt.Sprintf("asks to open %s: %s", b.Rung, b.Why)
	case *psirt.NoticeWave:
		if b.Recipients == 1 {
			return "a notice to 1 tenant"
		}
		return fmt.Sprintf("notices to %d tenants", b.Recipients)
	case *psirt.FeedbackAsked:
		return fmt.Sprintf("%s is asked what they think", b.From)
	case *psirt.FeedbackReceived:
		return fmt.Sprintf("%s says: %s", b.From, firstLine(b.Text))
	case *psirt.CorrectionAdded:
		return fmt.Sprintf("to be corrected: %s (check: %s)", b.Text, b.Check)
	case *psirt.CorrectionChecked:
		return fmt.Sprintf("correction %d is %s", b.Correction+1, b.Result)
	case *psirt.CaseClosed:
		return "closed: " + b.Why
	}
	return strings.ReplaceAll(string(body.Kind()), ".", " ")
}

// workWords are the words of what is done about it.
func workWords(body psirt.Body) string {
	switch b := body.(type) {
	case *psirt.VariantSearched:
		return fmt.Sprintf("variants sought by %q in %s: %d of %d results looked at, %d found", b.Query, b.Corpus, b.Reviewed, b.Total, len(b.Found))
	case *psirt.RootCauseSet:
		return fmt.Sprintf("root cause: %s (%s)", firstLine(b.Text), b.Class)
	case *psirt.ControlAdded:
		return fmt.Sprintf("class %s closed by %s, which fails on %d known variants and passes on %s", b.Class, b.Check, len(b.Before), b.After.On)
	case *psirt.FixBound:
		return fmt.Sprintf("fix: %s %s", b.Product, b.Version)
	case *psirt.EvidenceAttached:
		return "evidence attached: " + b.Predicate
	case *psirt.RolloutBound:
		if b.Lane != "" {
			return fmt.Sprintf("rollout R-%d brings the fix, in the emergency lane %s: %s", b.Rollout, b.Lane, b.Why)
		}
		return fmt.Sprintf("rollout R-%d brings the fix", b.Rollout)
	case *psirt.LaneAsked:
		return fmt.Sprintf("people are asked to switch R-%d to the emergency lane: %s", b.Rollout, b.Why)
	case *psirt.AffectedFrozen:
		return fmt.Sprintf("affected: %d resources of %d tenants", b.Resources, b.Tenants)
	case *psirt.FixMeasured:
		return fmt.Sprintf("%d of %d resources verified as fixed, at least %.1f %%", b.Verified, b.N, 100*b.Lower)
	case *psirt.ActionSet:
		return fmt.Sprintf("customers must act: %s", b.Action)
	}
	return ""
}

// firstLine is a text's first line, at most 200 bytes of it.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
