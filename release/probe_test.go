package release

import (
	"encoding/json"
	"strings"
	"testing"
)

const probed = `{"schema":"headgate.manifest/1","preflight":{"run":["a"]},"activate":{"run":["a"],"long_running":true},"check":{"run":["a"]},"probes":{%s}}`

func TestAManifestMayDeclareProbes(t *testing.T) {
	m, err := ParseManifest([]byte(strings.Replace(probed, "%s", `"api-key":{"kind":"file_age","path":"{state}/key"},"tls":{"kind":"setting","path":"{slot}/etc/a.json","key":"tls.min"},"self-test":{"kind":"command","run":["{slot}/t"],"timeout":"5s"}`, 1)))
	if err != nil || len(m.Probes) != 3 || m.Probes["self-test"].Run[0] != "{slot}/t" {
		t.Fatalf("%+v, %v", m.Probes, err)
	}
	if folder, path, err := m.Probes["tls"].Beneath(); folder != "slot" || path != "etc/a.json" || err != nil {
		t.Errorf("%q, %q, %v", folder, path, err)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseManifest(b); err != nil || len(again.Probes) != 3 {
		t.Errorf("written and read again: %+v, %v", again, err)
	}
}

func TestAProbeCannotLeaveItsProduct(t *testing.T) {
	for probe, want := range map[string]string{
		`"a":{"kind":"file_hash","path":"/etc/shadow"}`:                               "beneath {slot}/ or {state}/",
		`"a":{"kind":"file_hash","path":"{state}/../key"}`:                            "clean path",
		`"a":{"kind":"file_hash","path":"{state}/"}`:                                  "clean path",
		`"a":{"kind":"file_hash"}`:                                                    "beneath",
		`"a":{"kind":"version"}`:                                                      `kind "version"`,
		`"a":{"kind":"read"}`:                                                         `kind "read"`,
		`"a":{"kind":"command"}`:                                                      "run for commands",
		`"a":{"kind":"command","run":["x"],"path":"{slot}/x"}`:                        "path and key are for",
		`"a":{"kind":"setting","path":"{slot}/x"}`:                                    "path and key are for",
		`"a":{"kind":"command","run":["x"],"timeout":"2m"}`:                           "at most 1m",
		`"a":{"kind":"command","run":["x"],"long_running":true}`:                      "nothing else",
		`"A b":{"kind":"command","run":["x"]}`:                                        `probe "A b"`,
		`"a":{"kind":"command","run":["x"],"shell":true}`:                             "unknown field",
		`"a":{"kind":"file_age","path":"{state}/{slot}"}`:                             "clean path",
		`"a":{"kind":"file_age","path":"{state}/` + strings.Repeat("x/", 150) + `x"}`: "clean path",
	} {
		if _, err := ParseManifest([]byte(strings.Replace(probed, "%s", probe, 1))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q in it", probe, err, want)
		}
	}
}

func TestACheckHoldsOnlyIfWhatIsReadIsWanted(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	for _, c := range []struct {
		check Check
		yes   []string
		no    []string
	}{
		{Check{CheckRuns, "acme/fw", "", "1.2.0"}, []string{"1.2.0", "1.2.1", "2.0.0"}, []string{"1.1.9", "1.2.0-rc.1", "latest", ""}},
		{Check{CheckHash, "acme/fw", "f", hash}, []string{hash}, []string{strings.ToUpper(hash), ""}},
		{Check{CheckSetting, "acme/fw", "s", "1.3"}, []string{"1.3"}, []string{"1.30", "1.3 ", ""}},
		{Check{CheckAge, "acme/fw", "k", "2026-01-02T00:00:00Z"}, []string{"1767312000000000", "1767312000000001"}, []string{"1767311999999999", "", "soon"}},
		{Check{CheckCommand, "acme/fw", "c", ""}, nil, []string{""}},
	} {
		if err := c.check.Validate(); err != nil {
			t.Error(err)
		}
		for _, s := range c.yes {
			if ok, err := c.check.Holds(s); !ok || err != nil {
				t.Errorf("%+v does not hold for %q: %v", c.check, s, err)
			}
		}
		for _, s := range c.no {
			if ok, _ := c.check.Holds(s); ok {
				t.Errorf("%+v holds for %q", c.check, s)
			}
		}
	}
	for _, bad := range []Check{
		{}, {CheckRuns, "fw", "", "1.0.0"}, {CheckRuns, "acme/fw", "p", "1.0.0"}, {CheckRuns, "acme/fw", "", "1"}, {CheckHash, "acme/fw", "", hash},
		{CheckHash, "acme/fw", "f", "x"}, {CheckSetting, "acme/fw", "s", ""}, {CheckAge, "acme/fw", "k", "yesterday"}, {CheckCommand, "acme/fw", "c", "0"}, {"other", "acme/fw", "c", "0"},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
