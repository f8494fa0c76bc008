package keeper

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestLinksLogReachesTheOperatorAtItsLevel(t *testing.T) {
	var b bytes.Buffer
	r := &logRelay{log: slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo})).With("endpoint", "E-1")}
	link := slog.New(slog.NewJSONHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})).With("role", "link", "endpoint", "E-1")
	link.Debug("not asked for")
	link.Warn("could not refresh the plan", "err", fmt.Errorf("server's certificate is not the pinned one"), "retry_in", 3)
	fmt.Fprint(r, "panic: some")
	fmt.Fprintf(r, "thing\n\n%s\nnext\n", strings.Repeat("x", 2*maxLogLine))
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, want := range []string{
		`level=WARN msg="could not refresh the plan" endpoint=E-1 err="server's certificate is not the pinned one" retry_in=3 role=link`,
		`level=WARN msg="link wrote" endpoint=E-1 text="panic: something"`,
		`level=WARN msg="link wrote" endpoint=E-1 text=` + strings.Repeat("x", maxLogLine),
		`level=WARN msg="link wrote" endpoint=E-1 text=next`,
	} {
		if i >= len(lines) || !strings.HasSuffix(lines[i], want) {
			t.Errorf("line %d is %.300q; want it to end in %.300q", i, lines[min(i, len(lines)-1)], want)
		}
	}
	if len(lines) != 4 {
		t.Errorf("%d lines, want 4", len(lines))
	}
}

func FuzzRelay(f *testing.F) {
	f.Add([]byte(`{"level":"WARN","msg":"a","err":"b"}` + "\n"))
	f.Add([]byte("panic: x\n\xff\n{\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &logRelay{log: slog.New(slog.DiscardHandler)}
		for len(b) > 0 {
			n := min(len(b), 7)
			if k, err := r.Write(b[:n]); k != n || err != nil || len(r.line) > maxLogLine {
				t.Fatal(k, err, len(r.line))
			}
			b = b[n:]
		}
	})
}
