package psirt

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestLaddersThatCannotBeClimbedAreRefused(t *testing.T) {
	good, err := json.Marshal(DefaultLadder())
	if err != nil {
		t.Fatal(err)
	}
	if l, err := ParseLadder(good); err != nil || l.ID != "standard-1" {
		t.Fatalf("%+v, %v", l, err)
	}
	for want, with := range map[string][2]string{
		"steps[1]: rung":            {`"tenants"`, `"public"`},
		"steps[2]: public would be": {`"protection":0.9,`, `"protection":0.1,`},
		"steps[3]: floor 168h":      {`"ceiling":"2880h0m0s"`, `"ceiling":"1h"`},
		"confidence: 1":             {`"confidence":0.95`, `"confidence":1`},
		"fresh: 0s":                 {`"fresh":"15m0s"`, `"fresh":"0s"`},
		"flesh: unknown key":        {`"fresh"`, `"flesh"`},
		"id: want":                  {`"standard-1"`, `""`},
		"data after":                {"]", "]} {"},
	} {
		bad := strings.Replace(string(good), with[0], with[1], 1)
		if _, err := ParseLadder([]byte(bad)); bad == string(good) || !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func FuzzParseLadder(f *testing.F) {
	b, _ := json.Marshal(DefaultLadder())
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseLadder(b)
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("unmarked error: %v", err)
		}
		if err == nil && l.Check() != nil {
			t.Fatalf("accepted %+v", l)
		}
	})
}
