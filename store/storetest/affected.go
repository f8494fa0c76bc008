package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/sbom"
	"github.com/headgate/headgate/store"
)

// digestOf is a made-up digest of a version.
func digestOf(version string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(version))) }

// runs has endpoint i report a version.
func (w *World) runs(tb testing.TB, i int, version string, healthy bool, now time.Time) {
	tb.Helper()
	b := store.BeaconReport{Endpoint: w.Endpoints[i].ID, Secret: w.Endpoints[i].Secret, Seq: 1,
		Installations: []store.Installation{{Product: Product, Version: version, Digest: digestOf(version), Healthy: healthy}}}
	if a := w.Commit(tb, store.Batch{Beacons: []store.BeaconReport{b}}, now); a.Beacons[0].Err != nil {
		tb.Fatal(a.Beacons[0].Err)
	}
}

// affectedCase opens a case about ranges.
func affectedCase(tb testing.TB, s *store.Store, now time.Time, ranges ...psirt.AffectedRange) int64 {
	tb.Helper()
	kase, err := s.OpenCase(tb.Context(), Ann, store.Opening{Title: "overflow in the parser"}, now, nil)
	if err != nil {
		tb.Fatal(err)
	}
	_, err = s.CommitFacts(tb.Context(), Ann, kase.ID, store.AnyRevision, []psirt.Fact{Draft(tb, &psirt.AffectedSet{Ranges: ranges})}, now, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return kase.ID
}

// attach attaches a bill of materials of components, "PURL@VERSION".
func attach(tb testing.TB, s *store.Store, to store.SBOM, now time.Time, parts ...string) {
	tb.Helper()
	list := []string{}
	for _, p := range parts {
		list = append(list, fmt.Sprintf(`{"type":"library","name":"x","purl":%q}`, p))
	}
	body := []byte(fmt.Sprintf(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[%s]}`, strings.Join(list, ",")))
	doc, err := sbom.Read(body)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.AttachSBOM(tb.Context(), to, "", body, doc, "operator:ann", now); err != nil {
		tb.Fatal(err)
	}
}

// affectedStory follows a case from the freeze to the proof, with a late joiner, a
// downgrade, an endpoint that falls silent and one that cannot be placed.
func affectedStory(t *testing.T, newDSN func(testing.TB) string) {
	s := Open(t, newDSN(t))
	w, ctx, now := NewWorld(t, s, 4), t.Context(), Start
	for i := range 3 {
		w.runs(t, i, "1.0.0", true, now)
	}
	w.runs(t, 3, "2.0.0", true, now)
	id := affectedCase(t, s, now, psirt.AffectedRange{Name: Product, Range: "vers:semver/<1.5.0"})
	if _, err := s.CommitFacts(ctx, Ann, id, store.AnyRevision, []psirt.Fact{Draft(t, &psirt.VendorIsAware{}), Draft(t, &psirt.FixIsReady{What: "1.5.0"})}, now, nil); err != nil {
		t.Fatal(err)
	}
	a, err := s.FreezeAffected(ctx, Ann, id, now, nil)
	if err != nil || a.Tally != (fleet.Tally{Resources: 3, Vulnerable: 3, Tenants: 1}) {
		t.Fatalf("frozen: %+v, %v", a.Tally, err)
	}
	kase, err := s.ReadCase(ctx, Ann, id, now)
	if f := kase.Outcome.Affected; err != nil || f == nil || f.Hash != a.Snapshots[0].Hash || f.Tenants != 1 || f.Resources != 3 {
		t.Fatalf("the fact says %+v, %v", f, err)
	}
	printed := func() string {
		t.Helper()
		shot, text, err := s.AffectedSnapshotText(ctx, Ann, id, 0, now)
		sum := sha256.Sum256(text)
		if err != nil || shot != a.Snapshots[0] || hex.EncodeToString(sum[:]) != shot.Hash || bytes.Count(text, []byte("\n")) != 3 {
			t.Fatalf("the snapshot %+v is printed as %q, %v", shot, text, err)
		}
		return string(text)
	}
	before := printed()
	followed(t, w, id)
	if after := printed(); after != before {
		t.Errorf("what was frozen became %q; it was %q", after, before)
	}
	if _, _, err := s.AffectedSnapshotText(ctx, Ann, id, 2, now); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a snapshot that there is not: %v", err)
	}
	noTrace(t, s, store.CaseID(id), "1.5.0", "vers:")
	Healthy(t, s)
}

// followed is what becomes of the frozen three in thirty hours.
func followed(t *testing.T, w *World, id int64) {
	s, ctx := w.Store, t.Context()
	hour := func(h int) time.Time { return Start.Add(time.Duration(h) * time.Hour) }
	step := func(h, changes int, want fleet.Tally) {
		t.Helper()
		n, err := s.UpdateAffected(ctx, id, hour(h))
		if err != nil || n != changes {
			t.Fatalf("hour %d: %d changes, %v; want %d", h, n, err, changes)
		}
		a, err := s.ReadAffected(ctx, Ann, id, 0, hour(h))
		if err != nil || a.Tally != want {
			t.Fatalf("hour %d: %+v, %v; want %+v", h, a.Tally, err, want)
		}
		p, err := s.Protection(ctx, store.Engine("ladder"), id, hour(h))
		if err != nil || p.Resources != want.Resources || p.Verified != want.Verified || p.Stale != want.Stale || p.At != hour(h).UnixMicro() {
			t.Fatalf("hour %d: protection %+v, %v", h, p, err)
		}
	}
	step(1, 0, fleet.Tally{Resources: 3, Vulnerable: 3, Tenants: 1, Exposed: 3 * time.Hour})
	w.runs(t, 0, "1.5.0", false, hour(2)) // fixed, and ill: no proof
	w.runs(t, 1, "1.5.0", true, hour(2))
	step(2, 1, fleet.Tally{Resources: 3, Vulnerable: 2, Verified: 1, Tenants: 1, Exposed: 6 * time.Hour})
	w.runs(t, 0, "1.5.0", true, hour(3))
	w.runs(t, 3, "1.0.0", true, hour(3)) // joins late
	step(3, 2, fleet.Tally{Resources: 4, Vulnerable: 2, Verified: 2, Tenants: 1, Exposed: (3 + 2 + 3 + 3) * time.Hour})
	w.runs(t, 1, "1.4.9", true, hour(4)) // a regression
	step(4, 1, fleet.Tally{Resources: 4, Vulnerable: 3, Verified: 1, Tenants: 1, Exposed: (3 + 2 + 4 + 4) * time.Hour})
	for i := range 4 {
		w.runs(t, i, "1.5.0", true, hour(5))
	}
	step(5, 3, fleet.Tally{Resources: 4, Verified: 4, Tenants: 1, Exposed: (3 + 2 + 1 + 5 + 5) * time.Hour})
	w.runs(t, 0, "1.5.0", true, hour(29)) // the others are silent for a day
	step(30, 0, fleet.Tally{Resources: 4, Verified: 1, Stale: 3, Tenants: 1, Exposed: 16 * time.Hour})
	one, err := s.ReadAffected(ctx, Ann, id, w.Endpoints[3].ID, hour(30))
	if err != nil || len(one.Resources) != 1 || !one.Resources[0].Joined.Equal(hour(3)) {
		t.Fatalf("the late joiner: %+v, %v", one.Resources, err)
	}
	if ids, err := s.FollowedCases(ctx); err != nil || !slices.Equal(ids, []int64{id}) {
		t.Fatalf("followed: %v, %v", ids, err)
	}
}

// affectedTells checks since when and why, from what is known.
func affectedTells(t *testing.T, newDSN func(testing.TB) string) {
	s := Open(t, newDSN(t))
	w, ctx := NewWorld(t, s, 3), t.Context()
	ro := w.Roll(t, 5)
	granted := Start.Add(time.Hour)
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro.ID)}}, granted)
	now := granted.Add(time.Hour)
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, ro.ID, store.AttemptProven), w.Beacon(1, 0, "")}}, now)
	w.runs(t, 2, "1.1.0", true, now)
	attach(t, s, store.SBOM{Product: Product, Version: "1.0.0"}, now, "pkg:npm/lodash@4.17.20", "pkg:npm/lodash@4.17.21")
	attach(t, s, store.SBOM{Endpoint: w.Endpoints[2].ID}, now, "pkg:npm/lodash@4.17.19", "pkg:npm/odd@latest")
	id := affectedCase(t, s, now, psirt.AffectedRange{Name: "pkg:npm/lodash", Range: "vers:npm/<4.17.21"})
	a, err := s.MatchAffected(ctx, Ann, id, now)
	if err != nil || len(a.Resources) != 3 {
		t.Fatalf("%+v, %v", a, err)
	}
	for i, want := range []struct {
		since  time.Time
		basis  fleet.Basis
		reason string
	}{
		{granted, fleet.BasisGranted, "runs acme/rules 1.0.0, whose bill of materials lists pkg:npm/lodash 4.17.20, in pkg:npm/lodash vers:npm/<4.17.21"},
		{Start, fleet.BasisEnrolled, "runs acme/rules 1.0.0, whose bill"},
		{now, fleet.BasisListed, "its bill of materials lists pkg:npm/lodash 4.17.19, in pkg:npm/lodash vers:npm/<4.17.21"},
	} {
		r := a.Resources[slices.IndexFunc(a.Resources, func(r fleet.Resource) bool { return r.Endpoint == w.Endpoints[i].ID })]
		if !r.Since.Equal(want.since) || r.Intervals[0].Basis != want.basis || !strings.HasPrefix(store.Reason(r.Intervals[0]), want.reason) {
			t.Errorf("endpoint %d: since %s by %s: %s", i, r.Since, r.Intervals[0].Basis, store.Reason(r.Intervals[0]))
		}
	}
	if _, err := s.FreezeAffected(ctx, Ann, id, now, nil); err != nil {
		t.Fatal(err)
	}
	audience, err := s.Audience(ctx, Ann, id, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range audience.Recipients[0].Resources {
		if r.Product == Product && r.Version != "1.0.0" {
			t.Errorf("%s %s is said of %s, which runs 1.0.0: %s", r.Product, r.Version, r.ID, r.Reason)
		}
	}
	unknownTellsNobody(t, s, now)
	// A new release of the product with a mended part, and a newer list of the
	// endpoint's own: one is measured, the other is only said.
	if err := AddRelease(ctx, s, "1.2.0", digestOf("1.2.0")); err != nil {
		t.Fatal(err)
	}
	attach(t, s, store.SBOM{Product: Product, Version: "1.2.0"}, now, "pkg:npm/lodash@4.17.21")
	attach(t, s, store.SBOM{Endpoint: w.Endpoints[2].ID}, now, "pkg:npm/lodash@4.17.21")
	w.runs(t, 0, "1.2.0", true, now.Add(time.Hour))
	if n, err := s.UpdateAffected(ctx, id, now.Add(time.Hour)); err != nil || n != 2 {
		t.Fatalf("%d changes, %v", n, err)
	}
	a, err = s.ReadAffected(ctx, Ann, id, 0, now.Add(time.Hour))
	if want := (fleet.Tally{Resources: 3, Vulnerable: 1, Verified: 1, Attested: 1, Tenants: 1, Exposed: (2 + 3 + 1) * time.Hour}); err != nil || a.Tally != want {
		t.Fatalf("%+v, %v; want %+v", a.Tally, err, want)
	}
	Healthy(t, s)
}

// unknownTellsNobody: a version that has no place in the order is unknown, which is
// shown, and makes nobody a recipient.
func unknownTellsNobody(t *testing.T, s *store.Store, now time.Time) {
	ctx := t.Context()
	odd := affectedCase(t, s, now, psirt.AffectedRange{Name: "pkg:npm/odd", Range: "vers:npm/<4.17.21"})
	a, err := s.FreezeAffected(ctx, Ann, odd, now, nil)
	if err != nil || a.Tally.Unknown != 1 || a.Tally.Vulnerable != 0 {
		t.Fatalf("a version that cannot be read: %+v, %v", a.Tally, err)
	}
	if audience, err := s.Audience(ctx, Ann, odd, now); err != nil || len(audience.Recipients) != 0 {
		t.Errorf("what is unknown tells %v, %v", audience.Recipients, err)
	}
}

// affectedNeedToKnow: whoever is not on the list finds nothing, a tenant on it
// finds its own, a vendor on it finds no tenant's.
func affectedNeedToKnow(t *testing.T, newDSN func(testing.TB) string) {
	s := Open(t, newDSN(t))
	w, ctx := NewWorld(t, s, 2), t.Context()
	south := moreTenants(t, w, "south", 1)
	for i := range w.Endpoints {
		w.runs(t, i, "1.0.0", true, Start)
	}
	id := affectedCase(t, s, Start, psirt.AffectedRange{Name: Product, Range: "vers:semver/*"})
	if _, err := s.FreezeAffected(ctx, Ann, id, Start, nil); err != nil {
		t.Fatal(err)
	}
	member := func(p string) psirt.Fact {
		return Draft(t, &psirt.MemberAdded{Principal: p, Role: psirt.Observer, UpTo: psirt.Red})
	}
	if _, err := s.CommitFacts(ctx, Ann, id, store.AnyRevision, []psirt.Fact{member("tenant:south"), member("vendor:acme"), member("operator:eve")}, Start, nil); err != nil {
		t.Fatal(err)
	}
	north := store.Viewer{Actor: "tenant:n", Scope: store.ScopeTenant, Of: "north"}
	for _, v := range []store.Viewer{Bob, Acme, north} {
		_, err1 := s.ReadAffected(ctx, v, id, 0, Start)
		_, err2 := s.MatchAffected(ctx, v, id, Start)
		_, err3 := s.FreezeAffected(ctx, v, id, Start, nil)
		_, err4 := s.Audience(ctx, v, id, Start)
		_, err5 := s.Protection(ctx, v, id, Start)
		_, _, err6 := s.AffectedSnapshotText(ctx, v, id, 0, Start)
		for i, err := range []error{err1, err2, err3, err4, err5, err6} {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s, call %d: %v", v.Actor, i+1, err)
			}
		}
	}
	mine := store.Viewer{Actor: "tenant:s", Scope: store.ScopeTenant, Of: "south"}
	for _, read := range []func() (store.Affected, error){
		func() (store.Affected, error) { return s.ReadAffected(ctx, mine, id, 0, Start) },
		func() (store.Affected, error) { return s.MatchAffected(ctx, mine, id, Start) },
	} {
		a, err := read()
		if err != nil || len(a.Resources) != 1 || a.Resources[0].Endpoint != south[0] || a.Tally.Resources != 1 || len(a.Snapshots) != 0 {
			t.Errorf("south sees %+v, %v", a, err)
		}
	}
	if _, err := s.ReadAffected(ctx, mine, id, w.Endpoints[0].ID, Start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("south asks for an endpoint of north: %v", err)
	}
	if _, err := s.FreezeAffected(ctx, mine, id, Start, nil); !errors.Is(err, psirt.ErrForbidden) {
		t.Errorf("south freezes: %v", err)
	}
	if _, _, err := s.AffectedSnapshotText(ctx, mine, id, 0, Start); !errors.Is(err, psirt.ErrForbidden) {
		t.Errorf("south reads everybody's part: %v", err)
	}
	eve := store.Viewer{Actor: "operator:eve", Scope: store.ScopeOperator}
	if _, err := s.FreezeAffected(ctx, eve, id, Start, nil); !errors.Is(err, psirt.ErrForbidden) {
		t.Errorf("an observer freezes: %v", err)
	}
	if _, err := s.CommitFacts(ctx, Ann, id, store.AnyRevision, []psirt.Fact{Draft(t, &psirt.AffectedSet{Ranges: []psirt.AffectedRange{{Name: Product, Range: "vers:semver/=1.0.0"}}})}, Start, nil); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("a range that is none: %v", err)
	}
	noTrace(t, s, store.CaseID(id), "vers:", "overflow")
	Healthy(t, s)
}

// moreTenants enrols n endpoints of another tenant; they are the world's last.
func moreTenants(tb testing.TB, w *World, tenant string, n int) (out []int64) {
	tb.Helper()
	token := sha256.Sum256([]byte("enrol " + tenant))
	_, err1 := w.Store.AddTenant(tb.Context(), tenant, "operator:ann", Start)
	err2 := w.Store.AddEnrolmentToken(tb.Context(), store.EnrolmentToken{Hash: token, Tenant: tenant, Expires: Start.Add(time.Hour)}, "operator:ann", Start)
	if err := errors.Join(err1, err2); err != nil {
		tb.Fatal(err)
	}
	for range n {
		e := Endpoint{Secret: SecretOf(int64(len(w.Endpoints)))}
		who, err := w.Store.Enrol(tb.Context(), store.Enrolment{Token: token, Secret: e.Secret, Products: []string{Product}}, Start)
		if err != nil {
			tb.Fatal(err)
		}
		e.ID = who.ID
		w.Endpoints = append(w.Endpoints, e)
		out = append(out, e.ID)
	}
	return out
}

// version is the suite's version n.
func version(n int) string { return fmt.Sprintf("1.%d.0", n) }

// drawRanges draws affected ranges, and gives them also as a function: whether
// they hold version n of a component.
func drawRanges(rt *rapid.T) (ranges []psirt.AffectedRange, in func(name string, n int) bool) {
	holds := map[string][][2]int{}
	for range rapid.IntRange(1, 3).Draw(rt, "ranges") {
		name := rapid.SampledFrom([]string{Product, "pkg:npm/left-pad", "pkg:npm/right-pad"}).Draw(rt, "name")
		low := rapid.IntRange(0, 4).Draw(rt, "low")
		high := rapid.IntRange(low+1, 5).Draw(rt, "high")
		scheme := map[bool]string{true: "semver", false: "npm"}[name == Product]
		ranges = append(ranges, psirt.AffectedRange{Name: name, Range: fmt.Sprintf("vers:%s/>=%s|<%s", scheme, version(low), version(high))})
		holds[name] = append(holds[name], [2]int{low, high})
	}
	return ranges, func(name string, n int) bool {
		return slices.ContainsFunc(holds[name], func(r [2]int) bool { return r[0] <= n && n < r[1] })
	}
}

// resourcesOf lists each recipient's endpoints, once and sorted.
func resourcesOf(a notify.Audience) map[string][]string {
	out := map[string][]string{}
	for _, r := range a.Recipients {
		for _, x := range r.Resources {
			out[r.Tenant] = append(out[r.Tenant], x.ID)
		}
		slices.Sort(out[r.Tenant])
		out[r.Tenant] = slices.Compact(out[r.Tenant])
	}
	return out
}

// recipientsAreExact draws fleets and ranges, and compares the audience with a
// matcher of three lines that shares nothing with the real one: nobody is missed,
// nobody is told too much.
func recipientsAreExact(t *testing.T, newDSN func(testing.TB) string) {
	s := Open(t, newDSN(t))
	w := NewWorld(t, s, 3)
	tenants := map[int]string{0: "north", 1: "north", 2: "north"}
	for k, name := range []string{"east", "south", "west"} {
		moreTenants(t, w, name, 2)
		tenants[3+2*k], tenants[4+2*k] = name, name
	}
	draw := rapid.IntRange(0, 4)
	now, told, spared := Start, 0, 0
	for n := range 5 {
		if err := AddRelease(t.Context(), s, version(n), digestOf(version(n))); err != nil && n > 0 {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		now = now.Add(time.Minute)
		runs, own, parts := map[int]int{}, map[int]int{}, map[int]int{}
		for n := range 5 { // what each release is made of
			parts[n] = draw.Draw(rt, "part")
			attach(t, s, store.SBOM{Product: Product, Version: version(n)}, now, "pkg:npm/left-pad@"+version(parts[n]))
		}
		for i := range w.Endpoints {
			runs[i], own[i] = draw.Draw(rt, "runs"), draw.Draw(rt, "own")
			w.runs(t, i, version(runs[i]), rapid.Bool().Draw(rt, "healthy"), now)
			attach(t, s, store.SBOM{Endpoint: w.Endpoints[i].ID}, now, "pkg:npm/right-pad@"+version(own[i]))
		}
		ranges, in := drawRanges(rt)
		want := map[string][]string{}
		for i, e := range w.Endpoints {
			if in(Product, runs[i]) || in("pkg:npm/left-pad", parts[runs[i]]) || in("pkg:npm/right-pad", own[i]) {
				want[tenants[i]] = append(want[tenants[i]], ids.Format("E", e.ID))
				told++
			} else {
				spared++
			}
		}
		id := affectedCase(t, s, now, ranges...)
		if _, err := s.FreezeAffected(t.Context(), Ann, id, now, nil); err != nil {
			rt.Fatal(err)
		}
		audience, err := s.Audience(t.Context(), Ann, id, now)
		if err != nil {
			rt.Fatal(err)
		}
		got := resourcesOf(audience)
		for _, x := range want {
			slices.Sort(x)
		}
		if !maps.EqualFunc(got, want, slices.Equal[[]string]) {
			rt.Fatalf("told %v, should be %v: %v", got, want, ranges)
		}
	})
	if told == 0 || spared == 0 {
		t.Errorf("%d told, %d spared: want some of each", told, spared)
	}
	Healthy(t, s)
}
