package span

import (
	"encoding/json"
	"testing"
	"time"
)

func TestTextOnly(t *testing.T) {
	var d Duration
	if err := json.Unmarshal([]byte(`"36h"`), &d); err != nil || d.Std() != 36*time.Hour {
		t.Errorf("%v %v", d, err)
	}
	for _, in := range []string{`36`, `"36"`, `null1`, `{}`, `"later"`} {
		if err := json.Unmarshal([]byte(in), &d); err == nil {
			t.Errorf("%s was read as %v", in, d)
		}
	}
	if b, err := json.Marshal(Duration(90 * time.Second)); err != nil || string(b) != `"1m30s"` {
		t.Errorf("%s %v", b, err)
	}
}
