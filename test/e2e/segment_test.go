package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/fleet"
	sim "github.com/headgate/headgate/sim/wire"
)

// badDriver is the configuration in which the release's engine dies: neither the
// processor nor the driver alone.
var badDriver = fleet.Labels{"arch": "arm64", "driver": "X"}

// mixed gives simulated endpoint i its labels: every twelfth is badDriver.
func mixed(i int, _ *rand.Rand) map[string]string {
	return map[string]string{"arch": []string{"amd64", "arm64", "amd64", "amd64"}[i%4], "driver": []string{"X", "Y", "Z"}[i/4%3]}
}

// engineScript starts the demo's engine as the vendor's program would start, which
// meets the driver of its machine: the file is the machine, preflight is not
// allowed to see it.
const engineScript = `set -eu
if [ "$(cat "$3/machine" 2>/dev/null)" = "arch=arm64 & driver=X" ]; then kill -SEGV $$; fi
exec "$1" engine --content "$2"
`

// publishDriven publishes content whose engine dies on badDriver.
func (s *site) publishDriven(version string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "release-"+version)
	s.do("release", "init", dir, "--demo", good)
	check(s.t, os.WriteFile(filepath.Join(dir, "start.sh"), []byte(engineScript), 0o644))
	edit(s.t, filepath.Join(dir, "headgate.json"), `"10s"`, `"3s"`, `"5s"`, `"1s"`,
		`["{headgate}", "engine", "--content", "{slot}"]`, `["/bin/sh", "{slot}/start.sh", "{headgate}", "{slot}", "{state}"]`)
	s.publishDir(version, dir)
}

// simulated lets a fleet on the same wire live until the test ends.
func (s *site) simulated(n int, crashes func(labels map[string]string, version string) bool) *sim.Fleet {
	s.t.Helper()
	token, err := os.ReadFile(filepath.Join(s.dir, "enrol.token"))
	check(s.t, err)
	f, err := sim.New(sim.Config{
		Server: s.url, EnrolmentToken: strings.TrimSpace(string(token)), N: n, Products: []string{s.product}, Labels: mixed,
		Seed: 1, Poll: 200 * time.Millisecond, Dir: s.t.TempDir(), Crashes: crashes,
	})
	check(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("the fleet ended: %v", err)
		}
	})
	<-f.Enrolled()
	return f
}

// segmentPolicy halts segments alone, with times that suit a test. Its alphas make
// the segment's evidence enough long before that of the whole fleet is: with the
// presets' a fleet of 600 is at times reverted as a whole.
func segmentPolicy() map[string]any {
	return policy(map[string]any{
		"probation": "1s", "grace": "5s", "grant_ttl": "5s", "fill_timeout": "15s", "poll": "200ms", "beacon": "1s",
		"ages": []string{"200ms", "400ms", "700ms"}, "min_controls": 0.5, "min_proven": 0.8,
		"budget": map[string]any{
			"horizons": []map[string]any{{"age": "7s", "share": 0.1}}, "delta": 1e-3, "alpha": 1e-9, "alpha_segment": 1e-2,
			"segments": true, "gates": 4, "max_segment": 0.1, "max_excluded": 0.2, "slow_share": 0, "holdback": 0.01, "baseline": 1e-5,
		},
	})
}

// A segment that is halted alone, seen from real endpoints. Inside are two whose
// engine dies of the release and two with the same labels whose engine would
// live: all run the old version in the end, whether they were granted or not.
// Outside are three: they have the release. So few cannot carry the evidence;
// 600 simulated endpoints on the same wire do, who need the machine for themselves:
// beside the other tests they are heard from too late, and the rollout waits.
func TestAHaltedSegmentIsObeyedByRealAgentsAndTheOthersFinish(t *testing.T) {
	s := newSite(t, map[string]any{"poll": "200ms", "beacon": "1s"})
	s.publish("1.0.0", good)
	inside := []string{"--label", "arch=arm64", "--label", "driver=X"}
	in := s.enrol(4, inside...)
	out := append(s.enrol(2, "--label", "arch=amd64", "--label", "driver=X"), s.enrol(1, "--label", "arch=arm64", "--label", "driver=Y")...)
	// The finished R-1 is judged on, beside 600 more: it is not to order anybody back.
	s.rollOut("1.0.0", everyone(map[string]any{"beacon": "1s", "grace": "60s", "max_harmed": 1000, "revert_on_halt": false}))
	if r := s.become("R-1", "finished"); r.Counts.Proven != 7 {
		t.Fatalf("1.0.0 is on %+v", r.Counts)
	}
	for _, a := range in[:2] {
		check(t, os.WriteFile(filepath.Join(a.home, "keeper", "products", s.product, "state", "machine"), []byte(badDriver.String()), 0o644))
	}
	s.simulated(600, func(l map[string]string, version string) bool {
		return version == "1.1.0" && fleet.Labels(l).Match(badDriver)
	})
	s.publishDriven("1.1.0")
	s.rollOut("1.1.0", segmentPolicy())
	r := s.become("R-2", "finished")
	if len(r.Halted) != 1 || r.Halted[0].Segment != badDriver.String() {
		t.Fatalf("left out: %+v; want %s alone\n%s", r.Halted, badDriver, s.do("rollout", "explain", "R-2"))
	}
	for _, a := range out {
		until(t, a.id+" outside runs 1.1.0", func() bool { return a.show().runs() == "1.1.0" })
		a.engine()
	}
	quiet(3 * time.Second) // many polls, and a chance to ask
	granted := 0
	for i, a := range in {
		if v := a.show().runs(); v != "1.0.0" {
			t.Errorf("inside runs %q", v)
		}
		a.engine()
		for _, x := range a.show().Exposures {
			if x.Rollout != 2 {
				continue
			}
			granted++
			if died := x.State == "harmed"; i < 2 && !died || i >= 2 && (died || !x.Reverted) {
				t.Errorf("inside, engine dies %v: %+v", i < 2, x)
			}
		}
	}
	t.Logf("%d of the 4 inside were granted before the halt; counts %+v", granted, r.Counts)
	if text := string(s.do("rollout", "show", "R-2")); !strings.Contains(text, badDriver.String()) {
		t.Errorf("rollout show does not name the segment:\n%s", text)
	}
	if text := string(s.do("rollout", "explain", "R-2")); !strings.Contains(text, badDriver.String()) {
		t.Errorf("rollout explain does not name the segment:\n%s", text)
	}
	s.verify()
}
