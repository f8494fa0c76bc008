package release

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestWhatACheckSaysIsReadLineByLine(t *testing.T) {
	said, err := ParseSaid([]byte("2 samples ok\nheadgate: count false-positives 12\r\nheadgate: value exec-latency 3.1e-3\nheadgate:count x 1"))
	if want := []Said{{"false-positives", true, 12}, {"exec-latency", false, 0.0031}}; err != nil || !slices.Equal(said, want) {
		t.Errorf("%v, %v; want %v", said, err, want)
	}
	for _, line := range []string{
		"count x", "count x 1 2", "sum x 1", "count x 1.5", "count x -1", "value x NaN", "value x +Inf", "value x 1e16", "value x ", "count crashes 1", "value start 1",
		"count X 1", "count 1x 1", "count x- 1", "count " + strings.Repeat("x", 41) + " 1",
	} {
		said, err := ParseSaid([]byte("headgate: " + line + "\nheadgate: value good 1\n"))
		if err == nil || len(said) != 1 || said[0].Name != "good" {
			t.Errorf("%s: read as %v, %v", line, said, err)
		}
	}
	many := "headgate: count a 1\nheadgate: count a 2\n"
	for i := range MaxMeasures {
		many += fmt.Sprintf("headgate: value v%d 1\n", i)
	}
	if said, err := ParseSaid([]byte(many)); err == nil || len(said) != MaxMeasures || said[0].Value != 1 {
		t.Errorf("twice and too many: %v, %v", said, err)
	}
}

func FuzzParseSaid(f *testing.F) {
	f.Add("headgate: count a 1\nheadgate: value b 2.5\nx")
	f.Fuzz(func(t *testing.T, text string) {
		said, _ := ParseSaid([]byte(text))
		if len(said) > MaxMeasures {
			t.Fatalf("%d measures", len(said))
		}
		for _, s := range said {
			if CheckMeasure(s.Name) != nil || CheckMeasured(s.Value) != nil {
				t.Fatalf("%+v", s)
			}
		}
	})
}
