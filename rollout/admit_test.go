package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/release"
)

func contains(s, sub string) bool { return strings.Contains(s, sub) }

func gate() *Gate {
	return &Gate{Rollout: 7, State: Running, Pace: Pace{Window: 2, Ceiling: 3, Turn: 1}, Digest: "d", Seed: []byte("s"), TTL: time.Minute, Retry: time.Second}
}

func TestAdmit(t *testing.T) {
	for name, c := range map[string]struct {
		gate    func(*Gate)
		ask     Ask
		verdict Verdict
		code    string
	}{
		"room":                   {func(*Gate) {}, Ask{}, Granted, "granted"},
		"another digest":         {func(*Gate) {}, Ask{Digest: "x"}, Refused, "wrong-digest"},
		"halted":                 {func(g *Gate) { g.State = Halted }, Ask{}, Refused, "halted"},
		"halted, once granted":   {func(g *Gate) { g.State = Halted }, Ask{Exposure: health.Open}, Refused, "halted"},
		"held":                   {func(g *Gate) { g.State = Held }, Ask{}, Wait, "held"},
		"held, once granted":     {func(g *Gate) { g.State = Held }, Ask{Exposure: health.Open}, Wait, "held"},
		"reverting":              {func(g *Gate) { g.State = Reverting }, Ask{}, Refused, "reverting"},
		"finished still serves":  {func(g *Gate) { g.State = Finished }, Ask{}, Granted, "granted"},
		"not in turn":            {func(g *Gate) { g.Pace.Turn = 0 }, Ask{}, Wait, "not-your-turn"},
		"a canary":               {func(g *Gate) { g.Pace.Turn = 0; g.First = map[string]bool{"e": true} }, Ask{}, Granted, "granted"},
		"window full":            {func(g *Gate) { g.Counts = health.Counts{Exposed: 2, Open: 1, Harmed: 1} }, Ask{}, Wait, "window-full"},
		"ceiling reached":        {func(g *Gate) { g.Counts = health.Counts{Exposed: 3, Proven: 3} }, Ask{}, Wait, "window-full"},
		"counted already":        {func(g *Gate) { g.Counts = health.Counts{Exposed: 3, Open: 3} }, Ask{Exposure: health.Open}, Granted, "granted"},
		"silent, speaks again":   {func(g *Gate) {}, Ask{Exposure: health.Silent}, Granted, "granted"},
		"harmed by it":           {func(g *Gate) {}, Ask{Exposure: health.Harmed}, Refused, "already-harmed"},
		"tenant paused":          {func(g *Gate) {}, Ask{TenantPaused: true}, Wait, "tenant-paused"},
		"domain busy":            {func(g *Gate) { g.BusyDomains = map[string]bool{DomainKey("t", "d1"): true} }, Ask{Domain: "d1"}, Wait, "domain-busy"},
		"went back, may come":    {func(*Gate) {}, Ask{Exposure: health.Open, Back: true, Domain: "d1"}, Granted, "granted"},
		"went back, domain busy": {func(g *Gate) { g.BusyDomains = map[string]bool{DomainKey("t", "d1"): true} }, Ask{Exposure: health.Open, Back: true, Domain: "d1"}, Wait, "domain-busy"},
		"another tenant's":       {func(g *Gate) { g.BusyDomains = map[string]bool{DomainKey("u", "d1"): true} }, Ask{Domain: "d1"}, Granted, "granted"},
	} {
		t.Run(name, func(t *testing.T) {
			g := gate()
			c.gate(g)
			c.ask.Endpoint, c.ask.Tenant = "e", "t"
			if c.ask.Digest == "" {
				c.ask.Digest = "d"
			}
			a := g.Admit(c.ask)
			if a.Verdict != c.verdict || a.Code != c.code {
				t.Errorf("got %+v, want %s %s", a, c.verdict, c.code)
			}
			if a.New != (c.verdict == Granted && c.ask.Exposure == "") {
				t.Errorf("new exposure: %v", a.New)
			}
			if a.Verdict == Wait && a.Retry <= 0 || a.Verdict == Granted && (a.TTL <= 0 || a.TTL > MaxGrantTTL) {
				t.Errorf("retry %s, ttl %s", a.Retry, a.TTL)
			}
		})
	}
}

func TestABatchNeverPassesTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := gate()
		g.Pace.Window = rapid.Int64Range(0, 50).Draw(t, "window")
		g.Pace.Ceiling = rapid.Int64Range(0, 50).Draw(t, "ceiling")
		domains := map[string]int{}
		for i := range 100 {
			d := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "domain")
			if a := g.Admit(Ask{Endpoint: fmt.Sprint(i), Digest: "d", Domain: d}); a.New && d != "" {
				domains[d]++
			}
		}
		if g.Counts.Check() != nil || g.Counts.Exposed > g.Pace.Ceiling || g.Counts.Unproven() > g.Pace.Window {
			t.Fatalf("%+v under %+v", g.Counts, g.Pace)
		}
		if domains["a"] > 1 || domains["b"] > 1 {
			t.Fatalf("both halves of a failure domain: %v", domains)
		}
	})
}

func TestPlanOffersTheNewestTheBasesAndEveryRevertOrder(t *testing.T) {
	of := func(id int64, version string, s State) Offered {
		return Offered{Rollout: id, Product: "acme/rules", Version: version, Digest: strings.Repeat("a", 64), State: s, Policy: DefaultPolicy(), Pace: Pace{Turn: 0.5}}
	}
	p := Plan(9, t0, DefaultCadence(), []Offered{
		of(1, "0.9.0", Finished), of(2, "1.0.0", Finished), of(3, "2.0.0", Reverted), of(4, "2.1.0", Reverting), of(5, "3.0.0", Running),
		of(6, "1.0.0", Superseded),
	})
	var got []string
	for _, o := range p.Offers {
		got = append(got, fmt.Sprintf("%d %s %s %v", o.Rollout, o.Version, o.Action, o.Turn))
	}
	want := []string{"5 3.0.0 offer 0.5", "4 2.1.0 revert 0.5", "3 2.0.0 revert 0.5", "2 1.0.0 offer 1", "1 0.9.0 offer 1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlanReadsBack(t *testing.T) {
	o := Offered{Rollout: 1, Product: "acme/rules", Version: "1.0.0", Digest: strings.Repeat("a", 64), State: Running, Policy: DefaultPolicy()}
	o.Policy.Canaries = []string{"E-1"}
	p := Plan(1, t0, DefaultCadence(), []Offered{o})
	b := mustJSON(t, p)
	got, err := release.ParsePlan(b)
	if err != nil {
		t.Fatal(err)
	}
	if g := mustJSON(t, got); string(g) != string(b) {
		t.Errorf("got %s, want %s", g, b)
	}
	if got.Offers[0].First[0] != RankHex(nil, "E-1") {
		t.Errorf("canary %v", got.Offers[0].First)
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
