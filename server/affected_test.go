package server

import (
	"strings"
	"testing"
)

// A snapshot that is read part by part is read whole, and no line is cut.
func TestPartsOfASnapshotAreWholeLines(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":        "",
		"one line":       "a\n",
		"many lines":     strings.Repeat(strings.Repeat("x", 99)+"\n", 30_000),
		"long lines":     strings.Repeat(strings.Repeat("y", snapshotPart+7)+"\n", 3),
		"just one part":  strings.Repeat("z", snapshotPart-1) + "\n",
		"a line too far": strings.Repeat("z", snapshotPart) + "\n",
	} {
		var got strings.Builder
		parts := 0
		for from := 0; ; parts++ {
			part, next := wholeLines([]byte(text), from)
			got.Write(part)
			if len(part) > 0 && part[len(part)-1] != '\n' {
				t.Errorf("%s: part %d ends within a line", name, parts)
			}
			if next == 0 {
				break
			}
			from = next
		}
		if got.String() != text || parts > len(text)/snapshotPart+1 {
			t.Errorf("%s: %d bytes in %d parts became %d", name, len(text), parts, got.Len())
		}
	}
}
