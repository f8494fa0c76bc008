package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/release"
)

// MaxCanaries is how many canaries of a plan may go before a vendor's floor.
const MaxCanaries = 100

// Floor is what an endpoint knows by itself of a release's pace.
type Floor struct {
	// Seen is when this endpoint first saw the release in a plan, by its own clock.
	Seen time.Time `json:"seen"`
	// Known means that the vendor's signed word was read; Floor is it.
	Known bool          `json:"known"`
	Floor time.Duration `json:"floor,omitempty"`
}

// Wait is how long an endpoint still has to wait before it may activate a
// release. Its place is its share of the release's own digest, not of the plan's
// seed: who holds the online key can choose seeds until the places suit, and
// has no say in what the vendor signed or the server called us.
func (f Floor) Wait(digest, endpoint string, now time.Time) time.Duration {
	share := fleet.Share(fleet.Rank([]byte(digest), endpoint))
	return f.Seen.Add(time.Duration(share * float64(f.Floor))).Sub(now)
}

// canary tells whether an offer names the endpoint as one of the first, which
// have no floor. A plan that names more than MaxCanaries names none.
func canary(o release.Offer, endpoint string) bool {
	return len(o.First) <= MaxCanaries && slices.Contains(o.First, rankHex(o.Seed, endpoint))
}

func rankHex(seed []byte, endpoint string) string {
	return fmt.Sprintf("%016x", fleet.Rank(seed, endpoint))
}

// floored says why a release may not be asked for yet; an empty code means that
// it may. Without a word of the vendor nothing is asked for.
func floored(o release.Offer, endpoint string, h Have) (code, detail string, wait time.Duration) {
	if h.Floors == nil || canary(o, endpoint) {
		return "", "", 0
	}
	f := h.Floors[o.Digest]
	if !f.Known {
		return "floor-unknown", "the vendor's word on " + o.Version + " is not read yet", 0
	}
	if wait = f.Wait(o.Digest, endpoint, h.Now); wait > 0 {
		return "vendor-floor", fmt.Sprintf("the vendor lets %s reach everyone no sooner than %s after its start; here it is due in %s", o.Version, f.Floor, wait.Round(time.Second)), wait
	}
	return "", "", 0
}

// floors are what link remembers of the releases on offer, by digest, on disk:
// a restart must not begin the wait anew, nor end it.
type floors struct {
	path string
	of   map[string]Floor
}

func openFloors(dir string) (*floors, error) {
	f := &floors{path: filepath.Join(dir, "floors.json"), of: map[string]Floor{}}
	b, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read when releases were first seen: %w", err)
	}
	// What cannot be read is forgotten: to wait again is safe.
	if json.Unmarshal(b, &f.of) != nil || f.of == nil {
		f.of = map[string]Floor{}
	}
	return f, nil
}

// meet notes the offers of a plan and forgets what left it. A first sight that
// lies in the future shows that the clock was set back: it is now.
func (f *floors) meet(p release.Plan, now time.Time) error {
	of, news := map[string]Floor{}, false
	for _, o := range p.Offers {
		m, ok := f.of[o.Digest]
		if !ok || m.Seen.After(now) {
			m.Seen, news = now.UTC(), true
		}
		of[o.Digest] = m
	}
	news = news || len(of) != len(f.of)
	f.of = of
	if !news {
		return nil
	}
	return f.save()
}

// learn notes the vendor's word on a release.
func (f *floors) learn(digest string, floor time.Duration) error {
	m, ok := f.of[digest]
	if !ok { // it has left the plan meanwhile
		return nil
	}
	m.Known, m.Floor = true, floor
	f.of[digest] = m
	return f.save()
}

func (f *floors) save() error {
	b, err := json.Marshal(f.of)
	if err == nil {
		err = atomicfile.Write(f.path, append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("note when releases were first seen: %w", err)
	}
	return nil
}
