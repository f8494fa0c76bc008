package cli

import (
	"encoding/json"
	"fmt"
	"time"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

// Derived is one thing that follows from a case's facts.
type Derived struct {
	What    string `json:"what"`
	Is      string `json:"is"`
	Because string `json:"because"`
}

// explainCase says of what is derived which facts make it so.
func explainCase(k *headgatev1.Case) ([]Derived, error) {
	var c psirt.Case
	if err := json.Unmarshal([]byte(k.DerivedJson), &c); err != nil {
		return nil, fmt.Errorf("read the case: %w", err)
	}
	out := []Derived{{"phase", k.Phase, fmt.Sprintf("%s (fact %d)", k.PhaseReason, k.PhaseFact)}}
	names := []string{"vendor aware", "fix ready", "fix deployed", "public", "exploit public", "attacks observed"}
	for i, event := range psirt.Events {
		d := Derived{names[i], "no", "no fact says so"}
		if c.State.Has(event) {
			d.Is, d.Because = "yes", fmt.Sprintf("since %s (fact %d)", when(c.Since[i].At.UnixMicro()), c.Since[i].Seq)
		}
		out = append(out, d)
	}
	if m := c.Outcome.Fixed; m != nil {
		out = append(out, Derived{"fixed", fmt.Sprintf("at least %.1f %%", 100*m.Lower),
			fmt.Sprintf("%d of %d verified, %d not heard from; deployed counts from %.0f %%", m.Verified, m.N, m.Stale, 100*psirt.DeployedAt)})
	}
	if e := k.Embargo; e != nil {
		out = append(out, Derived{"embargo", e.State, embargoText(e)})
	}
	if w := c.Withheld(time.Now()); !w.Until.IsZero() {
		for _, f := range c.Work.Fixes {
			out = append(out, Derived{"fix " + f.Product + " " + f.Version, "goes to " + string(w.Most) + " tenants at most",
				fmt.Sprintf("the embargo is active until %s, and on rung %s; see headgate case opacity", when(w.Until.UnixMicro()), c.Rung)})
		}
	}
	for _, l := range c.Work.Lanes {
		d := Derived{"lane of " + rolloutID(l.Rollout), l.Taken, l.Why}
		if l.Taken == "" {
			d.Is = "people are asked to switch"
			d.Because += fmt.Sprintf("; headgate rollout emergency %s --case %s", rolloutID(l.Rollout), k.Id)
		}
		out = append(out, d)
	}
	for _, p := range k.Parties {
		d := Derived{"party " + p.Name, p.Status, "it has said nothing, which is not the same as not affected"}
		if len(p.Statuses) > 0 {
			s := p.Statuses[len(p.Statuses)-1]
			d.Because = fmt.Sprintf("written down by %s, %s %s", s.By, when(s.AtUs), s.Why)
		}
		out = append(out, d)
	}
	for _, x := range k.Clocks {
		if x.ClearedUs == 0 {
			out = append(out, Derived{"clock " + x.Name, "due " + when(x.DueUs), x.Rule + "; cleared by: " + x.Clears})
		}
	}
	if k.Due != "" {
		out = append(out, Derived{"to do", k.State, k.Due})
	}
	return out, nil
}

// showWork shows what was done about a case and its kin.
func showWork(t *table, k *headgatev1.Case) {
	var c psirt.Case
	if json.Unmarshal([]byte(k.DerivedJson), &c) != nil {
		return // a server that is newer than this command
	}
	for _, s := range c.Work.Searches {
		t.field("search", fmt.Sprintf("%q in %s: %d of %d reviewed (%.0f %%), %d found", s.Query, s.Corpus, s.Reviewed, s.Total, 100*s.Share(), len(s.Found)))
	}
	if cause := c.Work.Cause; cause != nil {
		t.field("cause", fmt.Sprintf("%s %s: %s", cause.Class, cause.CWE, short(cause.Text, 100)))
	}
	for _, x := range c.Work.Controls {
		t.field("control", fmt.Sprintf("%s: fails on %d variants, passes on %s", x.Check, len(x.Before), x.After.On))
	}
	for _, f := range c.Work.Fixes {
		t.field("fix", f.Product+" "+f.Version)
	}
	for _, r := range c.Work.Rollouts {
		t.field("rollout", rolloutID(r))
	}
	if m := c.Outcome.Fixed; m != nil {
		t.field("fixed", fmt.Sprintf("at least %.1f %%: %d of %d verified, %d not heard from", 100*m.Lower, m.Verified, m.N, m.Stale))
	}
}
