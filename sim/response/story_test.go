package response

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the golden part of the stories anew")

// TestStories plays every story in virtual time. All that is random comes from one
// seed, so that the same things happen each time.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			if file, err = filepath.Abs(file); err != nil {
				t.Fatal(err)
			}
			cryptotest.SetGlobalRandom(t, 1)
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, ar)
			if *update {
				for i, f := range ar.Files {
					if f.Name == "golden" {
						ar.Files[i].Data = got
					}
				}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := part(ar, "golden"); !bytes.Equal(want, got) {
				t.Errorf("the history changed; if that is right: go test ./sim/response -update\ngot:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// play plays the script of an archive in a world of its own.
func play(t *testing.T, ar *txtar.Archive) []byte {
	w, err := newWorld(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range ar.Files {
		if err := os.WriteFile(filepath.Join(w.dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := newTeller(w, &out).tell(part(ar, "script")); err != nil {
		t.Fatalf("%v, after\n%s", err, out.Bytes())
	}
	return out.Bytes()
}

func part(ar *txtar.Archive, name string) []byte {
	for _, f := range ar.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}
