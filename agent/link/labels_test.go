package link

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"testing"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/release"
)

func TestTheLabelsOfEnrolmentAreKept(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadLabels(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v; want fs.ErrNotExist", err)
	}
	want := fleet.Labels{"arch": "arm64", "driver": "X"}
	if err := WriteLabels(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadLabels(dir); err != nil || !maps.Equal(got, want) {
		t.Fatalf("%v, %v", got, err)
	}
	for _, bad := range []string{`{"ARCH": "x"}`, `[1]`, ``} {
		if err := os.WriteFile(labelsPath(dir), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := ReadLabels(dir); err == nil {
			t.Errorf("%q is read as %v", bad, l)
		}
	}
}

func FuzzParseLabels(f *testing.F) {
	f.Add([]byte(`{"arch": "arm64"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := parseLabels(b); err == nil && l.Check() != nil {
			t.Fatalf("%q is read as %v", b, l)
		}
	})
}

// TestAHaltedSegmentTakesNothingAndGoesBack, whatever else the offer says; the
// others go on.
func TestAHaltedSegmentTakesNothingAndGoesBack(t *testing.T) {
	bad := fleet.Labels{"arch": "arm64", "driver": "X", "os": "linux"}
	for _, action := range []release.Action{release.ActionOffer, release.ActionHold, release.ActionStop} {
		o := release.Offer{Rollout: 1, Product: "acme/rules", Version: "2.0.0", Digest: digest(2), Action: action, Turn: 1,
			LeaveOut: []map[string]string{{"arch": "arm64", "driver": "X"}}}
		choose := func(runs int, l fleet.Labels) Want {
			h := Have{Product: ipc.Product{Product: "acme/rules", Version: "1.0.0", Digest: digest(runs)}, Labels: l}
			if runs == 2 {
				h.Version = "2.0.0"
				h.Attempt = &ipc.Attempt{Rollout: 1, Digest: digest(2), State: ipc.AttemptProbation}
			}
			return Choose(release.Plan{Offers: []release.Offer{o}}, "E-1", []Have{h})[0]
		}
		if w := choose(2, bad); w.Do != DoRevert || w.Code != "segment-halted" {
			t.Errorf("%s: runs it in the segment: %+v", action, w)
		}
		if w := choose(1, bad); w.Do != DoNothing {
			t.Errorf("%s: does not run it, in the segment: %+v", action, w)
		}
		for _, l := range []fleet.Labels{{"arch": "arm64"}, {"arch": "amd64", "driver": "X"}, nil} {
			if w := choose(1, l); w.Code == "segment-halted" || action == release.ActionOffer && w.Do != DoAsk {
				t.Errorf("%s: %v is in no halted segment: %+v", action, l, w)
			}
			if w := choose(2, l); w.Do == DoRevert {
				t.Errorf("%s: %v is ordered back", action, l)
			}
		}
	}
}
