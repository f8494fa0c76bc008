// Package live shows a rollout as it moves: one line that is redrawn in place
// on a terminal, a line per change elsewhere. It only writes what it is given.
package live

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
)

// Table is the live table of one rollout at a time.
type Table struct {
	w     io.Writer
	tty   bool
	start time.Time
	last  string
	wrote time.Time // off a terminal: when last wrote a line
	key   string    // of that line: state and decision
	drawn bool      // the cursor stands at the end of a line that may be replaced
	head  bool
}

// New makes a table on w and finds out whether w is a terminal.
func New(w io.Writer) *Table {
	f, ok := w.(*os.File)
	return &Table{w: w, tty: ok && term.IsTerminal(int(f.Fd())), start: time.Now()}
}

const columns = "%7s  %-9s %7s %8s %8s %7s %7s  %s"

// Show puts the rollout's present state. Off a terminal, a state that looks
// like the last one is not repeated.
func (t *Table) Show(r *headgatev1.Rollout) {
	if !t.head {
		fmt.Fprintf(t.w, columns+"\n", "TIME", "STATE", "WINDOW", "EXPOSED", "PROVEN", "HARMED", "SILENT", "WHY")
		t.head = true
	}
	c := r.GetCounts()
	line := fmt.Sprintf(" %-9s %7d %8d %8d %7d %7d  %s", r.State, r.Window, c.GetExposed(), c.GetProven(), c.GetHarmed(), c.GetSilent(), Why(r))
	if line == t.last {
		return
	}
	sameState := t.last != "" && field(line) == field(t.last)
	t.last = line
	line = fmt.Sprintf("%6.1fs ", time.Since(t.start).Seconds()) + line
	if !t.tty {
		// Numbers alone are worth a line a second; a new state or decision always.
		if key := r.State + r.Action + fmt.Sprint(r.Window); key != t.key || Done(r.State) || time.Since(t.wrote) >= time.Second {
			t.key, t.wrote = key, time.Now()
			fmt.Fprintln(t.w, line)
		}
		return
	}
	if t.drawn && !sameState {
		fmt.Fprintln(t.w) // what came before a change of state stays to be read
	}
	if width, _, err := term.GetSize(int(t.w.(*os.File).Fd())); err == nil && width > 10 && len(line) >= width {
		line = line[:width-1]
	}
	fmt.Fprintf(t.w, "\r\x1b[K%s", line)
	t.drawn = true
}

// field is the state column of a line.
func field(line string) string { s, _, _ := strings.Cut(strings.TrimSpace(line), " "); return s }

// End leaves the last line to be read. The table may be used again.
func (t *Table) End() {
	if t.drawn {
		fmt.Fprintln(t.w)
	}
	t.drawn, t.head, t.last, t.key, t.start = false, false, "", "", time.Now()
}

// Why is the last decision in one line: action and reasons.
func Why(r *headgatev1.Rollout) string {
	var why []string
	for _, x := range r.Reasons {
		s := x.Code
		if x.Detail != "" {
			s += ": " + x.Detail
		}
		why = append(why, s)
	}
	s := r.Action
	if len(why) > 0 {
		s += " (" + strings.Join(why, "; ") + ")"
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' {
			return ' '
		}
		return c
	}, s)
}

// Done tells whether a rollout in this state changes no more by itself.
func Done(state string) bool {
	switch state {
	case "finished", "halted", "reverted", "superseded":
		return true
	}
	return false
}
