package server

import (
	"archive/tar"
	"bytes"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
)

// tarOf is an artifact of files, by name.
func tarOf(t testing.TB, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		body := "about " + name
		check(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))}))
		_, err := w.Write([]byte(body))
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

// releaseOf publishes a version with an artifact.
func (w *world) releaseOf(version string, body []byte) (string, error) {
	w.Helper()
	digest := w.upload(body)
	meta := sign(w, w.draft(version, digest, len(body)), w.vendorKeys[0], w.vendorKeys[1])
	err := w.publishMeta(version, meta)
	if err == nil {
		w.vendorMeta = meta
	}
	return digest, err
}

// embargo opens a case with an active embargo and binds fixes to it.
func (w *world) embargo(title string, versions ...string) (kase string) {
	w.Helper()
	opened, err := w.cases.OpenCase(w.Context(), connect.NewRequest(&headgatev1.OpenCaseRequest{Title: title}))
	check(w, err)
	kase = opened.Msg.Case.Id
	w.fact(kase, "vendor.aware", `{}`)
	w.fact(kase, "party.added", `{"party":"vendor:acme","as":"vendor"}`)
	w.fact(kase, "embargo.proposed", `{"until":"`+time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339)+`"}`)
	w.fact(kase, "embargo.accepted", `{"party":"vendor:acme"}`)
	for _, v := range versions {
		w.fact(kase, "fix.bound", `{"product":"`+product+`","version":"`+v+`"}`)
	}
	return kase
}

func (w *world) fact(kase, kind, body string) {
	w.Helper()
	_, err := w.cases.AddFacts(w.Context(), connect.NewRequest(&headgatev1.AddFactsRequest{Id: kase, Revision: -1, Facts: []*headgatev1.NewFact{{Kind: kind, Body: body}}}))
	check(w, err)
}

// A fix whose names give an embargoed case away is neither published nor rolled out;
// the refusal quotes the release, and nothing of the case.
func TestATellingFixIsRefusedUnderEmbargo(t *testing.T) {
	w := newWorld(t)
	_, err := w.releaseOf("1.0.0", tarOf(t, "engine.so"))
	check(t, err)
	_, err = w.releaseOf("1.0.1", tarOf(t, "engine.so", "fix-overflow.txt"))
	check(t, err) // before anybody knew
	kase := w.embargo("Heap overflow in the zebra parser", "1.0.1", "1.0.2-cve.1", "1.0.3", "1.0.4")
	w.vendorMeta = sign(t, w.vendorMeta) // as it was

	_, err = w.rollout.StartRollout(t.Context(), connect.NewRequest(&headgatev1.StartRolloutRequest{Product: product, Version: "1.0.1", PolicyJson: policyJSON(t, quick())}))
	wantCode(t, err, connect.CodeFailedPrecondition, "not opaque", `file name "fix-overflow.txt"`)
	for _, secret := range []string{kase, "zebra", "Heap"} {
		if bytes.Contains([]byte(err.Error()), []byte(secret)) {
			t.Errorf("the refusal says %q: %v", secret, err)
		}
	}
	before := w.vendorMeta
	_, err = w.releaseOf("1.0.2-cve.1", tarOf(t, "engine.so"))
	wantCode(t, err, connect.CodeFailedPrecondition, "not opaque", "target path")
	w.vendorMeta = before
	if _, err = w.releaseOf("1.0.3", []byte("no artifact at all")); err == nil {
		t.Error("a fix that cannot be read was published under an embargo")
	}
	w.vendorMeta = before

	got, err := w.cases.CheckOpacity(t.Context(), connect.NewRequest(&headgatev1.CheckOpacityRequest{Id: kase}))
	check(t, err)
	if m := got.Msg; m.UntilUs == 0 || m.Most != "hosted-opaque" || len(m.Fixes) != 4 || len(m.Fixes[0].Revealed) == 0 || m.Fixes[0].Revealed[0].Clue != "overflow" || m.Fixes[1].Published {
		t.Errorf("the case's opacity: %v", m)
	}

	// People looked: it may go out.
	w.fact(kase, "fix.opaque", `{"product":"acme/rules","version":"1.0.1","why":"a text of the year before"}`)
	w.start("1.0.1", quick())
	_, err = w.releaseOf("1.0.4", tarOf(t, "engine.so", "fix-overflow.txt")) // what 1.0.1 said already tells nothing new
	check(t, err)
}

// Under an active embargo a fix goes to hosted, opaque tenants only, and to the
// others once it ends: in windows, as ever.
func TestAnEmbargoedFixReachesOpaqueTenantsFirst(t *testing.T) {
	w := newWorld(t)
	digest, err := w.releaseOf("1.0.0", tarOf(t, "engine.so"))
	check(t, err)
	kase := w.embargo("Overflow", "1.0.0")
	reachable := w.enrol(12)
	_, err = w.account.AddTenant(t.Context(), connect.NewRequest(&headgatev1.AddTenantRequest{Name: "regions"}))
	check(t, err)
	set, err := w.account.SetTenantOpacity(t.Context(), connect.NewRequest(&headgatev1.SetTenantOpacityRequest{Name: "regions", Opacity: "hosted-opaque"}))
	check(t, err)
	if set.Msg.Tenant.Opacity != "hosted-opaque" {
		t.Fatalf("the tenant is %v", set.Msg.Tenant)
	}
	tok, err := w.account.NewEnrolmentToken(t.Context(), connect.NewRequest(&headgatev1.NewEnrolmentTokenRequest{Tenant: "regions"}))
	check(t, err)
	w.enrolToken = tok.Msg.Token
	hosted := w.enrol(3)
	all := append(hosted, reachable...)
	for _, d := range all {
		check(t, d.beacon(t.Context(), nil))
	}
	id := w.start("1.0.0", quick())
	w.untilOffer(id, release.ActionOffer)
	begun := time.Now()
	until(t, "the hosted ones have it", func() bool {
		for i, d := range all {
			g, err := d.grant(t.Context(), id, digest)
			check(t, err)
			granted := g.Verdict == headgatev1.GrantVerdict_GRANT_VERDICT_GRANTED
			if granted && i >= len(hosted) {
				t.Fatal("a customer's endpoint was granted an embargoed fix")
			}
			if !granted && i >= len(hosted) && g.Reason != "not-your-turn" && g.Reason != "window-full" {
				t.Fatalf("a withheld endpoint is told %q", g.Reason)
			}
			if granted {
				check(t, d.report(t.Context(), id, digest, headgatev1.AttemptState_ATTEMPT_STATE_PROVEN))
			}
		}
		return w.show(id).Counts.Proven == 3 && time.Since(begun) > time.Second
	})
	if r := w.show(id); r.State != "running" || r.Counts.Exposed != 3 {
		t.Fatalf("with customers' endpoints still waiting the rollout is %s, %v", r.State, r.Counts)
	}
	w.fact(kase, "embargo.ended", `{"why":"as agreed"}`)
	r := w.serve(all, id, digest, headgatev1.AttemptState_ATTEMPT_STATE_PROVEN, rollout.Finished)
	if r.Counts.Proven != 15 {
		t.Errorf("after the embargo: %v", r.Counts)
	}
}
