package link

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
)

func TestNextBeaconIsTheFirstAgeNotYetTold(t *testing.T) {
	t0 := time.Unix(1000, 0)
	ages := []span.Duration{span.Duration(30 * time.Second), span.Duration(time.Minute)}
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	for _, c := range []struct {
		last  int
		marks []Mark
		want  int
	}{
		{0, nil, 300},
		{0, []Mark{{t0, ages}}, 30},
		{30, []Mark{{t0, ages}}, 60}, // the age that was told is not told again
		{45, []Mark{{t0, ages}}, 60},
		{60, []Mark{{t0, ages}}, 360},
		{0, []Mark{{t0, ages}, {at(-40), ages}}, 20},
		{0, []Mark{{}}, 300},
	} {
		if got := NextBeacon(at(c.last), 5*time.Minute, c.marks...); !got.Equal(at(c.want)) {
			t.Errorf("after %ds with %v: %s, want %ds", c.last, c.marks, got.Sub(t0), c.want)
		}
	}
}

func TestProofFindsItsTwoBeaconsInsideProbation(t *testing.T) {
	o := release.Offer{Probation: span.Duration(2 * time.Minute)} // a plan without ages
	n := 0
	for _, a := range ProbationAges(o) {
		if a > 0 && a <= o.Probation {
			n++
		}
	}
	if n < 2 {
		t.Fatalf("%d beacons in probation", n)
	}
}

func TestPaceIsBearableWhateverThePlanSays(t *testing.T) {
	if Pace(1) < 10*time.Millisecond || Pace(span.Duration(1000*time.Hour)) > 24*time.Hour || Pace(span.Duration(time.Minute)) != time.Minute {
		t.Fatal(Pace(1), Pace(span.Duration(1000*time.Hour)))
	}
}

func TestRetryAfterDatesAreReadByTheServersClock(t *testing.T) {
	for _, c := range []struct {
		after, date string
		want        time.Duration
	}{
		{"7", "", 7 * time.Second},
		{"-7", "", 0},
		{"99999999", "", 24 * time.Hour},
		{"Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 30 * time.Second},
		{"Wed, 21 Oct 2015 07:28:30 GMT", "", 0},
		{"soon", "", 0},
	} {
		h := http.Header{"Retry-After": {c.after}, "Date": {c.date}}
		if got := tuf.RetryAfter(h); got != c.want {
			t.Errorf("%v: %s, want %s", h, got, c.want)
		}
	}
}

func TestBeaconTextIsShortAndValid(t *testing.T) {
	st := ipc.Status{Products: []ipc.Product{{Product: "a/b", Attempt: &ipc.Attempt{State: ipc.AttemptHarmed, Detail: strings.Repeat("é", 400) + "\xff"}}}}
	d := BeaconOf(1, st, false, time.Now()).Products[0].Attempt.Detail
	if len(d) > maxDetail || !utf8.ValidString(d) {
		t.Fatalf("%d bytes", len(d))
	}
	for state := range attemptStates {
		if attemptStates[state] == 0 {
			t.Errorf("state %s has no number", state)
		}
	}
}

func TestPinIsReadInItsUsualForms(t *testing.T) {
	want := strings.Repeat("ab", 32)
	for _, in := range []string{want, "sha256:" + want, strings.ToUpper(want), strings.TrimSuffix(strings.Repeat("AB:", 32), ":")} {
		if b, err := ParsePin(in); err != nil || len(b) != 32 {
			t.Errorf("%s: %v", in, err)
		}
	}
	for _, in := range []string{"", "ab", want + "00", strings.Repeat("zz", 32)} {
		if _, err := ParsePin(in); err == nil {
			t.Errorf("%q was accepted", in)
		}
	}
}

func TestBadIdentityIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.json")
	good := Identity{Server: "https://h:1", Endpoint: "E-1", Tenant: "t", Token: "hge_x", Root: []byte("{}")}
	if err := good.Write(path); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadIdentity(path); err != nil || got.Endpoint != good.Endpoint || string(got.Root) != "{}" {
		t.Fatalf("%+v, %v", got, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for want, bad := range map[string]string{
		"unknown field":  strings.Replace(string(b), `"tenant"`, `"tennant"`, 1),
		"unexpected EOF": string(b[:len(b)/2]),
		"data after":     string(b) + "{}",
		"all needed":     strings.Replace(string(b), "hge_x", "", 1),
		"want https://":  strings.Replace(string(b), "https", "gopher", 1),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadIdentity(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want %q", err, want)
		}
	}
}

func FuzzReadIdentity(f *testing.F) {
	f.Add([]byte(`{"server":"https://h","endpoint":"E-1","tenant":"t","token":"x","root":"e30="}`))
	path := filepath.Join(f.TempDir(), "identity.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		id, err := ReadIdentity(path)
		if err != nil {
			return
		}
		if err := id.Write(path); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadIdentity(path); err != nil {
			t.Fatalf("accepted once only: %v", err)
		}
	})
}
