package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/atomicfile"
)

// Trouble is one thing that link cannot do at present, for whoever asks why
// nothing moves.
type Trouble struct {
	// What link tries: "plan", "beacon", or a product's name.
	What string `json:"what"`
	Err  string `json:"err"`
	// Since is when it began to fail, by the endpoint's own clock.
	Since time.Time `json:"since"`
}

// troubles are the present ones by What. A file beside them tells a person on
// this machine, a beacon the server.
type troubles struct {
	path string
	of   map[string]Trouble
}

func troublePath(dir string) string { return filepath.Join(dir, "trouble.json") }

// ReadTroubles reads what a link in dir could not do when it last said so.
func ReadTroubles(dir string) ([]Trouble, error) {
	b, err := os.ReadFile(troublePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []Trouble
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("read link's troubles: %w", err)
	}
	return out, nil
}

// note keeps the newest error of what was tried; nil ends the trouble. The file
// is written when the words change, not at each try.
func (t *troubles) note(what string, err error, now time.Time) error {
	old, was := t.of[what]
	switch {
	case err == nil && !was, err != nil && was && old.Err == err.Error():
		return nil
	case err == nil:
		delete(t.of, what)
	default:
		now = now.UTC().Truncate(time.Second)
		if was {
			now = old.Since
		}
		t.of[what] = Trouble{What: what, Err: err.Error(), Since: now}
	}
	return t.save()
}

func (t *troubles) list() []Trouble {
	out := []Trouble{}
	for _, what := range slices.Sorted(maps.Keys(t.of)) {
		out = append(out, t.of[what])
	}
	return out
}

// text is all of them in a line, for a beacon: what a beacon can tell is
// whatever is not the beacon's own.
func (t *troubles) text() string {
	var parts []string
	for _, x := range t.list() {
		if x.What != "beacon" {
			parts = append(parts, x.What+": "+x.Err)
		}
	}
	return clip(strings.Join(parts, "; "), maxDetail)
}

func (t *troubles) save() error {
	if len(t.of) == 0 {
		if err := os.Remove(t.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget troubles: %w", err)
		}
		return nil
	}
	b, err := json.Marshal(t.list())
	if err == nil {
		err = atomicfile.Write(t.path, append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("note troubles: %w", err)
	}
	return nil
}
