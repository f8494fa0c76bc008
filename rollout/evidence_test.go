package rollout

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestMissingOrFailedEvidenceIsNamed(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	p := DefaultPolicy()
	p.Evidence = []string{"compatibility", "regression"}
	for name, c := range map[string]struct {
		have []Attested
		want string
	}{
		"none":        {nil, "compatibility: nobody attests it; regression: nobody attests it"},
		"one":         {[]Attested{{"regression", "lab", true, at(1)}}, "compatibility: nobody attests it"},
		"all":         {[]Attested{{"regression", "lab", true, at(1)}, {"compatibility", "lab", true, at(1)}}, ""},
		"outvoted":    {[]Attested{{"regression", "lab", true, at(3)}, {"regression", "partner", false, at(1)}, {"compatibility", "lab", true, at(1)}}, "regression: failed by partner"},
		"tried again": {[]Attested{{"regression", "lab", true, at(2)}, {"regression", "lab", false, at(1)}, {"compatibility", "lab", true, at(1)}}, ""},
		"worse":       {[]Attested{{"regression", "lab", true, at(1)}, {"regression", "lab", false, at(2)}, {"compatibility", "lab", true, at(1)}}, "regression: failed by lab"},
		"other kinds": {[]Attested{{"beauty", "lab", true, at(1)}}, "compatibility: nobody attests it; regression: nobody attests it"},
	} {
		if got := strings.Join(p.Lacking(c.have), "; "); got != c.want {
			t.Errorf("%s: %q; want %q", name, got, c.want)
		}
	}
	if got := DefaultPolicy().Lacking(nil); got != nil {
		t.Errorf("a policy that asks for none lacks %v", got)
	}
}

func TestEvidenceKindsAreChecked(t *testing.T) {
	for _, kinds := range []string{`["Compat"]`, `[""]`, `["a","a"]`, `["-"]`, `["` + strings.Repeat("a", 41) + `"]`, `"a"`} {
		if _, err := ParsePolicy(fmt.Appendf(nil, `{"evidence": %s}`, kinds)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "evidence") {
			t.Errorf("%s: %v", kinds, err)
		}
	}
	if p, err := ParsePolicy([]byte(`{"evidence": ["data-integrity"]}`)); err != nil || len(p.Evidence) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}
