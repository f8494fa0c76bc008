package detect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/release"
)

func content(t testing.TB, version string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), version)
	if err := DemoContent(version, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// live runs n live events and returns what the engine died of.
func live(t testing.TB, e *Engine, seed uint64, n int) (died any) {
	t.Helper()
	defer func() { died = recover() }()
	s := NewStream(seed)
	for range n {
		e.Evaluate(s.Next())
	}
	return nil
}

func TestEveryDemoVersionPassesPreflight(t *testing.T) {
	for _, v := range DemoVersions {
		dir := content(t, v)
		b, err := os.ReadFile(filepath.Join(dir, release.ManifestName))
		if err != nil {
			t.Fatal(err)
		}
		m, err := release.ParseManifest(b)
		if err != nil || !m.Activate.LongRunning || !m.Activate.Notify {
			t.Fatalf("%s: manifest %+v, %v", v, m, err)
		}
		var out, errs bytes.Buffer
		if code := run(context.Background(), []string{"--content", dir, "--preflight"}, &out, &errs); code != 0 {
			t.Fatalf("%s: exit %d: %s", v, code, errs.String())
		}
	}
}

func TestOnlyTheDefectiveContentCrashesAndSoonForEverySeed(t *testing.T) {
	for _, v := range DemoVersions {
		e, err := Load(content(t, v))
		if err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(200) {
			died := live(t, e, seed, 400)
			if (died != nil) != (v == "2.0.0") {
				t.Fatalf("version %s, seed %d: died of %v", v, seed, died)
			}
			if died != nil && !strings.Contains(fmt.Sprint(died), "index out of range [20] with length 20") {
				t.Fatalf("version %s died of something else: %v", v, died)
			}
		}
	}
}

func TestPreflightFailsWhenMatchesAreNotAsExpected(t *testing.T) {
	dir := content(t, "1.0.0")
	path := filepath.Join(dir, CorpusFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte("odd-port"), []byte("even-port"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"--content", dir, "--preflight"}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "expected [\"even-port\"]") {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
}

func TestBadContentIsRefusedWithItsPlace(t *testing.T) {
	corpus := []byte(`{"kind":"k","inputs":[` + strings.Repeat(`"",`, 19) + `""]}`)
	for _, c := range []struct{ rules, corpus, want string }{
		{`{`, "", "rules.json: unexpected EOF"},
		{`{"inputs":20,"rules":[],"x":1}`, "", `unknown field "x"`},
		{`{"inputs":20,"rules":[]}`, "", "0 rules"},
		{`{"inputs":0,"rules":[]}`, "", "inputs 0"},
		{`{"inputs":2,"rules":[{"id":"a","kind":"k","fields":[{"index":2,"match":"*"}]}]}`, "", "index 2 of 2 inputs"},
		{`{"inputs":2,"rules":[{"id":"a","kind":"k","fields":[{"index":-1,"match":"*"}]}]}`, "", "index -1"},
		{`{"inputs":2,"rules":[{"id":"a","kind":"k","fields":[{"index":1,"match":""}]}]}`, "", "match of 0 bytes"},
		{`{"inputs":2,"rules":[{"id":"a","kind":"k","fields":[]}]}`, "", "0 fields"},
		{`{"inputs":2,"rules":[{"id":"a","kind":"k","fields":[{"index":1,"match":"x"}]},{"id":"a","kind":"k","fields":[{"index":1,"match":"x"}]}]}`, "", "taken"},
		{`{"inputs":2,"rules":[{"id":"a","kind":"k","fields":[{"index":1,"match":"x"}]}]}{}`, "", "data after"},
		{`{"inputs":2,"rules":[{"id":"a","kind":"k","fields":[{"index":1,"match":"x"}]}]}`, `{"kind":"k","inputs":["a"]}`, "with 1 inputs"},
		{`{"inputs":2,"rules":[{"id":"a","kind":"k","fields":[{"index":1,"match":"x"}]}]}`, "\n\n", "no events"},
	} {
		if c.corpus == "" {
			c.corpus = string(corpus)
		}
		_, err := Parse([]byte(c.rules), []byte(c.corpus))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v; want %q", c.rules, err, c.want)
		}
	}
	if err := DemoContent("9.9.9", t.TempDir()); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown demo version: %v", err)
	}
}

func TestStreamIsTheSameForTheSameSeed(t *testing.T) {
	a, b, other := NewStream(7), NewStream(7), NewStream(8)
	differs := false
	for range 1000 {
		x := a.Next().Clone()
		y := b.Next()
		z := other.Next()
		if x.Kind != y.Kind || !slices.Equal(x.Inputs, y.Inputs) || len(x.Inputs) != EventInputs {
			t.Fatalf("%v is not %v", x, y)
		}
		differs = differs || !slices.Equal(x.Inputs, z.Inputs)
	}
	if !differs {
		t.Fatal("seeds 7 and 8 make the same stream")
	}
}

func TestLiveEngineTellsItsSupervisor(t *testing.T) {
	e, err := Load(content(t, "3.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer stop()
		var said []string
		err := e.Live(ctx, NewStream(1), 200, func(s string) error { said = append(said, s); return nil })
		want := []string{"READY=1", "WATCHDOG=1\nX_HEADGATE_EVENTS=200\nX_HEADGATE_LOST=0", "WATCHDOG=1\nX_HEADGATE_EVENTS=400\nX_HEADGATE_LOST=0"}
		if err != nil || !slices.Equal(said, want) {
			t.Fatalf("%v, %q", err, said)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, v := range DemoVersions {
		dir := content(f, v)
		rules, _ := os.ReadFile(filepath.Join(dir, RulesFile))
		corpus, _ := os.ReadFile(filepath.Join(dir, CorpusFile))
		f.Add(rules, corpus)
	}
	f.Fuzz(func(t *testing.T, rules, corpus []byte) {
		e, err := Parse(rules, corpus)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error without ErrInvalid: %v", err)
			}
			return
		}
		// Content that keeps to the inputs there are never panics: the deliberate
		// bug needs an index of EventInputs or more.
		for _, rs := range e.byKind {
			for _, r := range rs {
				for _, c := range r.criteria {
					if c.index >= EventInputs {
						return
					}
				}
			}
		}
		e.Replay()
	})
}

func BenchmarkEvaluateLive(b *testing.B) {
	e, err := Load(content(b, "3.0.0"))
	if err != nil {
		b.Fatal(err)
	}
	s := NewStream(1)
	b.ReportAllocs()
	for b.Loop() {
		e.Evaluate(s.Next())
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
