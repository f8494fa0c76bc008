package cli

import (
	"testing"

	"github.com/headgate/headgate/sim/pacing"
)

// TestEveryFaultAndRivalIsExplained, and no short name is ambiguous.
func TestEveryFaultAndRivalIsExplained(t *testing.T) {
	words := map[string]bool{}
	for _, w := range faultWords {
		if w.text == "" || words[w.name] || words[w.short] {
			t.Errorf("%s, %s: no text, or a name used twice", w.name, w.short)
		}
		words[w.name], words[w.short] = true, true
	}
	for _, x := range pacing.Faults() {
		if !words[x.Name] {
			t.Errorf("fault %s has no text", x.Name)
		}
	}
	if 2*len(pacing.Faults()) != len(words) {
		t.Errorf("%d faults, %d names", len(pacing.Faults()), len(words))
	}
	for _, p := range pacing.Rivals() {
		if rivalWords[p.Name] == "" {
			t.Errorf("rival %s has no text", p.Name)
		}
	}
}
