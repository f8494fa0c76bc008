package demo

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestTheResponseHolds plays the whole response at its smallest size, with real
// processes.
func TestTheResponseHolds(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes two minutes, most of them waiting for the agents' checks")
	}
	t.Parallel()
	var out bytes.Buffer
	summary := filepath.Join(t.TempDir(), "summary.json")
	err := RunResponse(t.Context(), Options{Headgate: build(t), Agents: 6, Simulated: MinSimulatedResponse, Dir: filepath.Join(t.TempDir(), "demo"), Summary: summary, Out: &out})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	b, err := os.ReadFile(summary)
	if err != nil {
		t.Fatal(err)
	}
	var s ResponseSummary
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if !s.OK || s.Affected != 6+MinSimulatedResponse || !s.LedgerOK || !s.DoctorOK || !s.ReplayOK || len(s.URLs) < 6 {
		t.Errorf("summary %s", b)
	}
	for _, tenant := range affectedTenants {
		if s.Notices[tenant] != "verified" {
			t.Errorf("the notice to %s is %q", tenant, s.Notices[tenant])
		}
	}
	want := []string{"partners", "tenants", "public", "details"}
	for i, rung := range s.Rungs {
		if i > 0 && rung.Seconds < s.Rungs[i-1].Seconds {
			t.Errorf("rung %s opened before %s", rung.Rung, s.Rungs[i-1].Rung)
		}
		for len(want) > 0 && want[0] != rung.Rung { // several may open at one look
			want = want[1:]
		}
	}
	if len(want) != 1 || want[0] != "details" {
		t.Errorf("the ladder opened %+v", s.Rungs)
	}
}
