package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// result writes v as JSON, or lets show fill a table.
func (a *app) result(v any, show func(*table)) error {
	if a.format == "json" {
		return writeJSON(a.out, v)
	}
	t := &table{w: tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)}
	show(t)
	return t.w.Flush()
}

// writeJSON writes v indented and with a newline. API objects are written as
// the API's own JSON, every field included.
func writeJSON(w io.Writer, v any) error {
	b, err := marshal(v)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err = w.Write(out.Bytes())
	return err
}

// writeJSONLine writes v on one line: for streams.
func writeJSONLine(w io.Writer, v any) error {
	b, err := marshal(v)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err = w.Write(out.Bytes())
	return err
}

// marshal's spaces are not its own to choose: protojson varies them on purpose,
// so callers indent or compact.
func marshal(v any) (b []byte, err error) {
	if m, ok := v.(proto.Message); ok {
		b, err = protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	} else {
		b, err = json.Marshal(v)
	}
	if err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return b, nil
}

// table is text in columns for people.
type table struct{ w *tabwriter.Writer }

func (t *table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, clean(fmt.Sprint(c)))
	}
	fmt.Fprintln(t.w)
}

func (t *table) field(name string, value any) {
	if s := fmt.Sprint(value); s != "" {
		t.row(name+":", s)
	}
}

// clean keeps what endpoints say of themselves from moving the cursor or
// breaking the columns.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}

// when is an instant for people; empty for 0.
func when(us int64) string {
	if us == 0 {
		return ""
	}
	return time.UnixMicro(us).UTC().Format("2006-01-02 15:04:05Z")
}

// since is how long ago an instant was.
func since(us int64) string {
	if us == 0 {
		return "never"
	}
	return time.Since(time.UnixMicro(us)).Round(time.Second).String() + " ago"
}

// span is a length of time for people; empty for 0.
func spanText(us int64) string {
	if us == 0 {
		return ""
	}
	d := time.Duration(us) * time.Microsecond
	if d >= time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// confirm shows what will happen and asks. Without a terminal and without --yes
// it refuses: a script must say that it means it.
func (a *app) confirm(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	a.say("%s", text)
	if a.yes {
		return nil
	}
	if !isTerminal(a.in) {
		return fmt.Errorf("not done: nobody to ask here (standard input is no terminal); repeat with --yes to do it")
	}
	fmt.Fprint(a.err, "Go on? [y/N] ")
	line, _ := bufio.NewReader(a.in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return fmt.Errorf("not done, as you wish")
}

// isTerminal tells whether v is a file on a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
