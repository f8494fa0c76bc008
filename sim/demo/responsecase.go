package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// vector is how the demo's vulnerability scores: anybody on the network makes the
// engine look away.
const vector = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:H/VA:H/SC:N/SI:N/SA:N"

const reportText = "An event with a wildcard in its name makes every rule **look away**.\n\n1. start the engine\n2. send `ipc *`\n\nNothing is detected after that.\n"

// reports: an internal finding first, then a researcher's report through the
// public form, as a browser without script sends it.
func (r *response) reports(ctx context.Context) error {
	r.line("")
	r.step("DETECT: an internal finding lies there, half understood; then a researcher writes through the public form")
	found, err := r.command(ctx, "report", "add", "Rules are skipped after odd events", "--source", "detection", "--product", product, "--version", versions[0], "--yes")
	if err != nil {
		return err
	}
	if err := r.submitForm(ctx); err != nil {
		return err
	}
	r.step("The researcher has number %s and a page of her own: %s", r.tracks, r.page)
	if err := r.each(ctx, []string{"report", "acknowledge", r.tracks, "--how", "on its page"}); err != nil {
		return err
	}
	var similar struct {
		Similar []struct {
			Report string  `json:"report"`
			Score  float64 `json:"score"`
		} `json:"similar"`
	}
	internal := strings.TrimSpace(string(found))
	if err := r.json(ctx, &similar, "report", "similar", r.tracks); err != nil {
		return err
	}
	suggested := false
	for _, s := range similar.Similar {
		suggested = suggested || s.Report == internal
	}
	if !suggested {
		r.failf("the internal finding %s was not suggested as similar to %s", internal, r.tracks)
	}
	out, err := r.command(ctx, "case", "open", "A wildcard makes every rule look away", "--report", r.tracks, "--report", internal, "--yes")
	if err != nil {
		return err
	}
	r.kase = strings.TrimSpace(string(out))
	r.out.Case, r.out.Report = r.kase, r.tracks
	r.step("Case %s: sealed; the internal finding is its duplicate", r.kase)
	return nil
}

func (r *response) fact(kind, body string) []string {
	if body == "" {
		return []string{"case", "fact", r.kase, kind}
	}
	return []string{"case", "fact", r.kase, kind, body}
}

func (r *response) triage(ctx context.Context) error {
	r.step("Triage: how bad, and how soon")
	return r.each(ctx,
		[]string{"case", "score", r.kase, vector, "--scorer", "alice"},
		[]string{"case", "ssvc", r.kase, "supplier", "exploitation=P", "utility=E", "technical-impact=T", "public-safety-impact=S"},
		[]string{"case", "ssvc", r.kase, "deployer", "exploitation=P", "system-exposure=O", "automatable=Y", "human-impact=VH"},
		r.fact("triage.cwe", `{"cwes":["CWE-155"]}`),
		r.fact("vendor.aware", ""))
}

func (r *response) embargo(ctx context.Context) error {
	until := time.Now().Add(14 * 24 * time.Hour).UTC().Format(time.RFC3339)
	// The demo's ladder has no floor and the public rung opens within minutes, so
	// its embargo is proposed and declined: an active one would hold that rung.
	return r.each(ctx,
		[]string{"party", "add", r.kase, "vendor:" + vendor},
		[]string{"embargo", "propose", r.kase, until},
		[]string{"embargo", "decline", r.kase, "vendor:" + vendor, "--why", "the fix is hours away"})
}

// mitigate: variants, root cause, and a control that closes the class.
func (r *response) mitigate(ctx context.Context) error {
	r.line("")
	r.step("MITIGATE: two variants are found, the class is named and closed by a control")
	return r.each(ctx,
		[]string{"case", "variant", "add", r.kase, "match.go:88", "--query", "wildcard before length check", "--corpus", "acme/rules and acme/probe at HEAD", "--total", "41", "--reviewed", "20"},
		[]string{"case", "variant", "update", r.kase, "glob.go:17", "--query", "wildcard before length check", "--corpus", "acme/rules and acme/probe at HEAD", "--reviewed", "41"},
		[]string{"case", "cause", r.kase, "unchecked-wildcard", "A wildcard is expanded before the number of inputs is checked.", "--cwe", "CWE-155"},
		[]string{"case", "control", "add", r.kase, "go vet -vettool=wildcardcheck", "--after", product + " " + versions[2]})
}

// bindFix: the fix is a signed release; what it was tried for is signed too, and
// without that it would not start.
func (r *response) bindFix(ctx context.Context) error {
	r.line("")
	r.step("DEPLOY: the fix is %s %s, signed by the vendor; without signed evidence it does not start", product, versions[2])
	if err := r.release(ctx, product, versions[2]); err != nil {
		return err
	}
	b, err := json.Marshal(r.fastPolicy("compatibility", "data-integrity"))
	if err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	if err := os.WriteFile(r.path("policy.json"), b, 0o644); err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	if _, err := r.command(ctx, "rollout", "start", product, versions[2], "--policy", r.path("policy.json"), "--yes"); err == nil {
		r.failf("the rollout of the fix started without its evidence")
	}
	envelope, bundle := r.path("evidence.json"), r.path("releases", "rules-"+versions[2]+".bundle")
	if err := r.each(ctx,
		r.fact("fix.bound", fmt.Sprintf(`{"product":%q,"version":%q}`, product, versions[2])),
		[]string{"key", "new", r.path("keys", "lab.key")},
		[]string{"evidence", "attestor", "add", "lab", "--key", r.path("keys", "lab.key.pub")},
		[]string{"evidence", "sign", envelope, "--bundle", bundle, "--kind", "compatibility", "--kind", "data-integrity", "--result", "passed", "--test", "debian-12", "--test", "upgrade from " + versions[0], "--key", r.path("keys", "lab.key")},
		[]string{"evidence", "attach", envelope}); err != nil {
		return err
	}
	var list struct {
		Evidence []struct {
			Envelope string `json:"envelopeSha256"`
		} `json:"evidence"`
	}
	if err := r.json(ctx, &list, "evidence", "list", product, versions[2]); err != nil {
		return err
	}
	if len(list.Evidence) != 2 {
		return fmt.Errorf("the fix has %d pieces of evidence; want 2", len(list.Evidence))
	}
	return r.each(ctx, r.fact("evidence.attached", fmt.Sprintf(`{"predicate":"https://in-toto.io/attestation/test-result/v0.1","digest":%q,"key":"lab","subject":%q}`, list.Evidence[0].Envelope, product+" "+versions[2])))
}

// findAffected freezes whom the case concerns, and prepares what they are told.
func (r *response) findAffected(ctx context.Context) error {
	r.step("Whom it concerns is asked of the live inventory, and kept")
	if err := r.each(ctx,
		[]string{"affected", "set", r.kase, product + " vers:semver/>=1.0.0|<3.0.0"},
		[]string{"affected", "freeze", r.kase}); err != nil {
		return err
	}
	var shown struct {
		Tally struct {
			Resources int64 `json:"resources,string"`
			Tenants   int64 `json:"tenants,string"`
		} `json:"tally"`
	}
	if err := r.json(ctx, &shown, "affected", "show", r.kase); err != nil {
		return err
	}
	r.out.Affected = shown.Tally.Resources
	if want := int64(r.Simulated/2*2 + r.Agents); shown.Tally.Resources != want || shown.Tally.Tenants != 3 {
		r.failf("affected are %d endpoints of %d tenants; %d of 3 run it", shown.Tally.Resources, shown.Tally.Tenants, want)
	}
	return r.quickLadder(ctx)
}

// quickLadder is the default ladder in a hurry: the same marks, no floors.
func (r *response) quickLadder(ctx context.Context) error {
	ladder := `{"id": "demo", "confidence": 0.95, "fresh": "15m", "steps": [
  {"rung": "partners", "ceiling": "168h"},
  {"rung": "tenants", "protection": 0.5, "ceiling": "720h"},
  {"rung": "public", "protection": 0.9, "ceiling": "2160h"},
  {"rung": "details", "protection": 0.99, "ceiling": "2880h"}]}`
	file := r.path("ladder.json")
	if err := os.WriteFile(file, []byte(ladder), 0o644); err != nil {
		return fmt.Errorf("write ladder: %w", err)
	}
	return r.each(ctx, []string{"ladder", "set", r.kase, file})
}
