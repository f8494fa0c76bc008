package rollout

import (
	"errors"
	"strings"
	"testing"
)

// An unknown key is named with its place, however deep it stands, and all of
// them at once.
func TestUnknownKeysAreNamedWithTheirPlaces(t *testing.T) {
	_, err := ParsePolicy([]byte(`{"growht": 2, "budget": {"horizons": [{"age": "1m"}, {"aeg": "2m"}], "detla": 1}, "declared": {"harmed": {"any-fault": 3}}}`))
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "budget.detla, budget.horizons[1].aeg, growht: unknown key") {
		t.Fatalf("%v", err)
	}
	if strings.Contains(err.Error(), "any-fault") {
		t.Errorf("a fault's name is no field: %v", err)
	}
}

func TestRefsAndNames(t *testing.T) {
	for in, want := range map[string]Ref{"night": {"night", 0}, "night@3": {"night", 3}} {
		if got, err := ParseRef(in); err != nil || got != want || got.String() != in {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "@3", "night@", "night@0", "night@-1", "night@x", "Night", "a b", "night@1@2", "../x"} {
		if got, err := ParseRef(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for _, in := range append(Presets(), "flash-1", "ladder", "ladder-1", "", "A", strings.Repeat("a", 64)) {
		if CheckName(in) == nil {
			t.Errorf("%q may not be applied under", in)
		}
	}
	if err := CheckName("night-shift"); err != nil {
		t.Error(err)
	}
}

// What a policy says does not depend on how its document was written.
func TestOneDocumentForOnePolicy(t *testing.T) {
	a, errA := ParsePolicy([]byte(`{"name":"x","grace":"60s","growth":4}`))
	b, errB := ParsePolicy([]byte("{\"growth\": 4, \"name\": \"x\", \"grace\": \"1m0s\"}\n"))
	if errA != nil || errB != nil || !a.Same(b) {
		t.Fatalf("%v, %v: %+v and %+v", errA, errB, a, b)
	}
	b.Growth = 5
	if a.Same(b) {
		t.Error("another growth is the same policy")
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add("night@3")
	f.Fuzz(func(t *testing.T, in string) {
		if r, err := ParseRef(in); err == nil {
			if again, err := ParseRef(r.String()); err != nil || again != r {
				t.Fatalf("%q: %+v, again %+v, %v", in, r, again, err)
			}
		}
	})
}
