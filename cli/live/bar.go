package live

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Bar shows how far long work has come: a bar that is redrawn in place on a
// terminal, a line every ten seconds elsewhere.
type Bar struct {
	w     io.Writer
	tty   bool
	what  string
	start time.Time
	mu    sync.Mutex // guards wrote and drawn
	wrote time.Time
	drawn bool
}

// NewBar makes a bar on w for work that counts what.
func NewBar(w io.Writer, what string) *Bar {
	f, ok := w.(*os.File)
	now := time.Now()
	return &Bar{w: w, tty: ok && term.IsTerminal(int(f.Fd())), what: what, start: now, wrote: now}
}

// Show says that done of all is done. Many goroutines may call it.
func (b *Bar) Show(done, all int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	wait := 10 * time.Second
	if b.tty {
		wait = 100 * time.Millisecond
	}
	if now.Sub(b.wrote) < wait && (done < all || !b.drawn) {
		return
	}
	b.wrote = now
	text := fmt.Sprintf("%d of %d %s, %s", done, all, b.what, now.Sub(b.start).Round(time.Second))
	if done > 0 && done < all {
		left := time.Duration(float64(now.Sub(b.start)) / float64(done) * float64(all-done))
		text += fmt.Sprintf(", about %s left", left.Round(time.Second))
	}
	if !b.tty {
		fmt.Fprintln(b.w, text)
		return
	}
	const width = 30
	full := width * done / max(1, all)
	fmt.Fprintf(b.w, "\r\x1b[K[%s%s] %s", strings.Repeat("#", full), strings.Repeat(".", width-full), text)
	b.drawn = true
}

// End leaves the last bar to be read.
func (b *Bar) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn {
		fmt.Fprintln(b.w)
	}
	b.drawn = false
}
