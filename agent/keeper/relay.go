package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"unicode/utf8"
)

// logRelay passes on what link logs, line by line and at its level: link's process
// has no log of its own that an operator could find.
type logRelay struct {
	log  *slog.Logger
	line []byte
	skip bool // the rest of a line that was too long
}

// maxLogLine is the longest line that is passed on, in bytes.
const maxLogLine = 16 << 10

// Write implements io.Writer; it never fails.
func (r *logRelay) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		part, rest, ended := bytes.Cut(b, []byte("\n"))
		b = rest
		if !r.skip {
			r.line = append(r.line, part[:min(len(part), maxLogLine-len(r.line))]...)
		}
		r.skip = r.skip || len(r.line) == maxLogLine
		if ended {
			r.pass(r.line)
			r.line, r.skip = r.line[:0], false
		}
	}
	return n, nil
}

// pass logs one line: as it was meant if it is slog's JSON, else as text. A
// panic's lines are text.
func (r *logRelay) pass(line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	var m map[string]any
	var level slog.Level
	text := ""
	if json.Unmarshal(line, &m) == nil {
		text, _ = m["msg"].(string)
		name, _ := m["level"].(string)
		if level.UnmarshalText([]byte(name)) != nil {
			text = ""
		}
	}
	if text == "" {
		if !utf8.Valid(line) {
			line = bytes.ToValidUTF8(line, []byte("?"))
		}
		r.log.Warn("link wrote", "text", string(line))
		return
	}
	var attrs []slog.Attr
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k != slog.TimeKey && k != slog.LevelKey && k != slog.MessageKey && k != "endpoint" { // keeper's own log names it
			attrs = append(attrs, slog.Any(k, m[k]))
		}
	}
	r.log.LogAttrs(context.Background(), level, text, attrs...) //nolint:sloglint // link's own constant message, passed on
}
