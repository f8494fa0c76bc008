package fleet_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/headgate/headgate/fleet"
)

func TestASegmentIsReadAsItIsWritten(t *testing.T) {
	for text, want := range map[string]fleet.Labels{
		"arch=arm64":              {"arch": "arm64"},
		"driver=X&arch=arm64":     {"arch": "arm64", "driver": "X"},
		" arch=arm64  & driver=X": {"arch": "arm64", "driver": "X"},
		"note=a=b":                {"note": "a=b"},
	} {
		got, err := fleet.ParseSegment(text)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
		if again, err := fleet.ParseSegment(got.String()); err != nil || !maps.Equal(again, want) {
			t.Errorf("%q: %v, %v", got.String(), again, err)
		}
	}
	for _, bad := range []string{"", "arch", "arch=a & arch=b", "ARCH=a", "arch=a &", "=x"} {
		if l, err := fleet.ParseSegment(bad); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%q: %v, %v; want ErrInvalid", bad, l, err)
		}
	}
}

func FuzzParseSegment(f *testing.F) {
	f.Add("arch=arm64 & driver=X")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := fleet.ParseSegment(s)
		if err != nil {
			return
		}
		if err := l.Check(); err != nil || len(l) == 0 {
			t.Fatalf("%q: %v, %v", s, l, err)
		}
	})
}
