package sim

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the golden part of the stories anew")

// TestStories plays every story in virtual time: the same seed gives the same
// history, to the letter and to the ledger's last hash.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := map[string][]byte{}
			for _, f := range ar.Files {
				in[f.Name] = f.Data
			}
			var got bytes.Buffer
			if err := Tell(in["script"], in, &got); err != nil {
				t.Fatalf("%v, after\n%s", err, got.Bytes())
			}
			if *update {
				for i, f := range ar.Files {
					if f.Name == "golden" {
						ar.Files[i].Data = got.Bytes()
					}
				}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if string(in["golden"]) != got.String() {
				t.Errorf("the history changed; if that is right: go test ./sim -update\ngot:\n%s\nwant:\n%s", got.Bytes(), in["golden"])
			}
		})
	}
}

func TestAStoryThatCannotBeToldNamesTheLine(t *testing.T) {
	for script, want := range map[string]string{
		"start 1.0.0 good":                                  "line 1: start before fleet",
		"fleet 10\n\nfly":                                   "line 3: fly: unknown command",
		"fleet 10\nstart 1.0.0":                             "line 2: start: want 2 arguments",
		"fleet 10\nstart 1.0.0 haunted":                     "haunted",
		"fleet 10\nstart 1.0.0 good\nrun 1s until finished": "not finished",
		"fleet ten":                                         "ten",
		"fleet 10\norder 1.0.0 held bob":                    "no rollout of 1.0.0",
	} {
		if err := Tell([]byte(script), nil, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q in it", script, err, want)
		}
	}
}
