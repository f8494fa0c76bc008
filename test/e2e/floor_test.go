package e2e

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/headgate/headgate/fleet"
)

// The vendor's floor through the whole: nobody is granted a release before its
// own share of the floor, and in the end everyone has it.
func TestVendorsFloorIsKeptByEachAgent(t *testing.T) {
	t.Parallel()
	const floor = 6 * time.Second
	s := running(t, 4, nil)
	s.publish("1.1.0", good, "--floor", floor.String())
	s.rollOut("1.1.0", policy(map[string]any{"ladder": []int{3, 100}, "probation": "500ms"}))
	r := s.become("R-2", "finished")
	if r.Counts != (counts{Exposed: 4, Proven: 4}) {
		t.Errorf("counts %+v", r.Counts)
	}
	var offers struct {
		Releases []struct {
			Version string `json:"version"`
			Digest  string `json:"digest"`
		} `json:"releases"`
	}
	s.read(&offers, "release", "list")
	digest := ""
	for _, x := range offers.Releases {
		if x.Version == "1.1.0" {
			digest = x.Digest
		}
	}
	if digest == "" {
		t.Fatalf("1.1.0 is not listed: %+v", offers)
	}
	for _, a := range s.agents {
		share := float64(fleet.Rank([]byte(digest), a.id)) / math.MaxUint64
		due := time.Duration(share * float64(floor))
		took := time.Duration(a.show().Exposures[0].Granted-r.Started) * time.Microsecond
		t.Logf("share %.2f: due after %s, granted after %s", share, due, took)
		if took < due {
			t.Errorf("%s: granted after %s already; its share of the floor is over after %s", a.id, took, due)
		}
		if b, err := os.ReadFile(filepath.Join(a.home, "link", "floors.json")); err != nil {
			t.Errorf("first sight is not on disk: %v %s", err, b)
		}
	}
	s.verify()
}
