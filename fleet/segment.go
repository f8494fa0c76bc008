package fleet

import (
	"fmt"
	"strings"
)

// and joins the labels of a segment, as people write it.
const and = " & "

// String is a segment as people write it: "arch=arm64 & driver=X".
func (l Labels) String() string { return strings.Join(l.Segments(), and) }

// ParseSegment reads what String writes; blanks around "&" do not matter. Errors
// wrap ErrInvalid.
func ParseSegment(s string) (Labels, error) {
	out := Labels{}
	for part := range strings.SplitSeq(s, "&") {
		key, value, found := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := out[key]; !found || twice {
			return nil, fmt.Errorf("segment %q: %q: want key=value & key=value, each key once: %w", s, part, ErrInvalid)
		}
		out[key] = value
	}
	if err := out.Check(); err != nil {
		return nil, fmt.Errorf("segment %q: %w", s, err)
	}
	return out, nil
}

// MatchAny tells whether the labels are in any of the segments.
func (l Labels) MatchAny(segments []Labels) bool {
	for _, s := range segments {
		if l.Match(s) {
			return true
		}
	}
	return false
}
