package ids

import (
	"testing"
	"time"
)

func TestIdsSortByTimeAndReadBack(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a, b := New(now), New(now.Add(time.Millisecond))
	if a >= b || a <= 0 {
		t.Errorf("%d, then %d", a, b)
	}
	s := Format("E", a)
	if got, err := Parse("E", s); err != nil || got != a {
		t.Errorf("%s read as %d, %v", s, got, err)
	}
	if Format("E", a) >= Format("E", b) {
		t.Error("the texts do not sort like the ids")
	}
	if far := New(time.Date(2094, 1, 1, 0, 0, 0, 0, time.UTC)); far <= 0 {
		t.Errorf("in 2094: %d", far)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("E-0000000000001")
	f.Add("E-ZZZZZZZZZZZZZ")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := Parse("E", s)
		if err == nil && (Format("E", id) != s || id < 0) {
			t.Errorf("%q read as %d, written as %q", s, id, Format("E", id))
		}
	})
}
