package review

import (
	"testing"
	"time"

	"github.com/headgate/headgate/psirt"
)

// A whole case is measured from its facts; what did not come is unknown, with why.
func TestMeasuresComeFromFactsAlone(t *testing.T) {
	bodies := []psirt.Body{
		&psirt.CaseOpened{Title: "x"},
		&psirt.TriageCWE{CWEs: []string{"CWE-125"}},
	}
	scored, err := psirt.Scored("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", "alice")
	if err != nil {
		t.Fatal(err)
	}
	bodies = append(bodies, scored, &psirt.VendorIsAware{}, &psirt.FixBound{Product: "acme/rules", Version: "3.0.0"},
		&psirt.RolloutBound{Rollout: 3},
		&psirt.FixMeasured{Lower: 0, N: 400},
		&psirt.FixMeasured{Lower: 0.4, N: 400, Verified: 180},
		&psirt.FixMeasured{Lower: 0.6, N: 400, Verified: 260},
		&psirt.FixMeasured{Lower: 0.992, N: 400, Verified: 400},
	)
	var facts []psirt.Fact
	for i, b := range bodies {
		facts = append(facts, fact(t, int64(i), b))
	}
	in := Incident{Facts: facts, Exposure: Exposure{Since: start.Add(-24 * time.Hour)}, Notices: Notices{Sent: 3, First: start.Add(8 * time.Hour)}}
	got, err := Measures(in)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		took    time.Duration
		unknown string
	}{
		"detect":         {0, "no report came in"},
		"acknowledge":    {0, "no report came in"},
		"triage":         {0, "no report came in"},
		"mitigate":       {0, "no report came in"},
		"deploy":         {time.Hour, ""},
		"verified-first": {3 * time.Hour, ""},
		"verified-50":    {4 * time.Hour, ""},
		"verified-90":    {5 * time.Hour, ""},
		"verified-99":    {5 * time.Hour, ""},
		"notify":         {0, "no report came in"},
		"customers-done": {0, "a notice is open"},
		"disclose":       {0, "no report came in"},
	}
	if len(got) != len(want) {
		t.Errorf("%d measures; want %d", len(got), len(want))
	}
	for _, m := range got {
		if w := want[m.Code]; m.Took.Std() != w.took || m.Unknown != w.unknown {
			t.Errorf("%s: %s, %q; want %s, %q", m.Code, m.Took, m.Unknown, w.took, w.unknown)
		}
	}
}

// What came before that from which it is measured took no time that can be told.
func TestNoMeasureIsNegative(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	if m := between("detect", "", at, at.Add(-time.Minute), "no", "no"); m.Took != 0 || m.Unknown == "" {
		t.Errorf("%+v", m)
	}
	if m := between("detect", "", at, at, "no", "no"); m.Took != 0 || m.Unknown != "" {
		t.Errorf("%+v", m)
	}
}

// The timeline names who did what, not only that something was done.
func TestTheTimelineSaysWhoAndWhat(t *testing.T) {
	for want, body := range map[string]psirt.Body{
		"vendor:acme is a party, as vendor":                                &psirt.PartyAdded{Party: "vendor:acme", As: "vendor"},
		"vendor:acme says fixed of acme/rules: by 3.0.0":                   &psirt.PartyStatus{Party: "vendor:acme", Status: "fixed", Product: "acme/rules", Why: "by 3.0.0"},
		"vendor:acme declines the embargo: too long":                       &psirt.EmbargoDeclined{Party: "vendor:acme", Why: "too long"},
		"vendor:acme accepts the embargo":                                  &psirt.EmbargoAccepted{Party: "vendor:acme"},
		"affected are acme/rules vers:semver/<3.0.0":                       &psirt.AffectedSet{Ranges: []psirt.AffectedRange{{Name: "acme/rules", Range: "vers:semver/<3.0.0"}}},
		"CVE-1900-0001 is known to be exploited, since 2026-03-01":         &psirt.KEVListed{CVE: "CVE-1900-0001", Added: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)},
		"CVE-1900-0001 is exploited within 30 days with probability 0.910": &psirt.EPSSScored{CVE: "CVE-1900-0001", Score: 0.91},
		"a notice to 1 tenant":                                             &psirt.NoticeWave{Recipients: 1},
	} {
		if got := words(body); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
