package release

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestNewerFollowsSemanticVersioning(t *testing.T) {
	order := []string{"", "0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "1.0.9", "1.0.10", "2.0.0"}
	for i, a := range order {
		for j, b := range order {
			if got := Newer(a, b); got != (i > j) {
				t.Errorf("Newer(%q, %q) = %v", a, b, got)
			}
		}
	}
	if Newer("1.0.0+build2", "1.0.0+build1") {
		t.Error("build metadata has no precedence (SemVer 10)")
	}
}

func TestNames(t *testing.T) {
	for _, v := range []string{"acme", "a", "acme-2"} {
		if err := CheckVendor(v); err != nil {
			t.Error(err)
		}
	}
	for _, v := range []string{"", "Acme", "-a", "a-", "root", "targets", "snapshot", "timestamp", "rollout", "a/b", "a.b", strings.Repeat("a", 41)} {
		if err := CheckVendor(v); !errors.Is(err, ErrInvalid) {
			t.Errorf("vendor %q: %v", v, err)
		}
	}
	for _, v := range []string{"1.0", "v1.0.0", "", "1.0.0 ", "01.0.0"} {
		if err := CheckVersion(v); !errors.Is(err, ErrInvalid) {
			t.Errorf("version %q: %v", v, err)
		}
	}
	for _, p := range []string{"acme", "acme/", "acme/a/b", "root/x", "acme/..", "acme/A"} {
		if _, _, err := SplitProduct(p); !errors.Is(err, ErrInvalid) {
			t.Errorf("product %q: %v", p, err)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add("acme/rules/1.0.0/artifact.tar")
	f.Add("acme/../1.0.0/artifact.tar")
	f.Fuzz(func(t *testing.T, s string) {
		p, v, err := ParseTarget(s)
		if err == nil && Target(p, v) != s {
			t.Errorf("%q read as %q, %q", s, p, v)
		}
	})
}

const goodManifest = `{"schema":"headgate.manifest/1","preflight":{"run":["true"]},"activate":{"run":["{headgate}","engine"],"long_running":true,"notify":true,"watchdog":"2s"},"check":{"run":["true"],"interval":"1s"},"stop":{}}`

func TestManifestErrorsNameThePlace(t *testing.T) {
	if _, err := ParseManifest([]byte(goodManifest)); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		strings.Replace(goodManifest, "manifest/1", "manifest/2", 1):   "schema",
		strings.Replace(goodManifest, `"check"`, `"chek"`, 1):          "chek",
		strings.Replace(goodManifest, `"long_running":true,`, ``, 1):   "stop needs a command",
		strings.Replace(goodManifest, `"run":["true"]`, `"run":[]`, 1): "preflight",
		strings.Replace(goodManifest, `"2s"`, `2`, 1):                  "want a text",
		goodManifest + "x":                 "data after",
		strings.Repeat(" ", MaxManifest+1): "limit",
		`{"schema":"headgate.manifest/1"}`: "preflight, activate and check",
	} {
		if _, err := ParseManifest([]byte(in)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v; want %q in it", in, err, want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(again); err != nil {
			t.Errorf("%s does not read back: %v", again, err)
		}
	})
}

const goodPlan = `{"schema":"headgate.plan/1","version":3,"issued":"2026-01-02T03:04:05Z","poll":"1m0s","poll_jitter":0.2,"beacon":"5m0s","offers":[{"rollout":1,"product":"acme/rules","version":"1.0.0","digest":"` +
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + `","action":"offer","seed":"c2VlZA==","turn":0.5,"probation":"2m0s"}]}`

func TestPlanErrorsNameThePlace(t *testing.T) {
	if _, err := ParsePlan([]byte(goodPlan)); err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePlan([]byte(strings.Replace(goodPlan, `"version":3`, `"version":3,"new_in_2027":true`, 1))); err != nil {
		t.Errorf("an old agent must read a newer server's plan: %v", err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"plan/1", "plan/2", "schema"},
		{`"turn":0.5`, `"turn":1.5`, "turn"},
		{`"action":"offer"`, `"action":"explode"`, "action"},
		{`"poll":"1m0s"`, `"poll":"0s"`, "poll"},
		{`"digest":"a`, `"digest":"A`, "digest"},
		{`"version":"1.0.0"`, `"version":"one"`, "version"},
		{`acme/rules`, `acme`, "product"},
	} {
		if _, err := ParsePlan([]byte(strings.Replace(goodPlan, c.old, c.new, 1))); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", c.new, err, c.want)
		}
	}
}

func FuzzParsePlan(f *testing.F) {
	f.Add([]byte(goodPlan))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePlan(b)
		if err != nil {
			return
		}
		for _, o := range p.Offers {
			if o.check() != nil {
				t.Errorf("accepted %+v", o)
			}
		}
	})
}
