package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// half gives the first bytes of a body, and then nothing until nobody wants any.
type half struct {
	io.ReadCloser
	left   int64
	nobody <-chan struct{}
}

func (h *half) Read(p []byte) (int, error) {
	if h.left == 0 {
		<-h.nobody
		return 0, io.ErrUnexpectedEOF
	}
	n, err := h.ReadCloser.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}

// A download goes on where it was, though the agent was killed in the middle of it.
func TestDownloadGoesOnAfterTheAgentIsKilled(t *testing.T) {
	t.Parallel()
	var w *wire
	s := running(t, 1, nil, func(s *site) { w = wired(s) })
	a := s.agents[0]
	const first = 3000
	var mu sync.Mutex
	var asked []string
	w.set(nil, func(r *http.Response) bool {
		if !strings.Contains(r.Request.URL.Path, "/targets/"+s.product+"/") {
			return true
		}
		mu.Lock()
		defer mu.Unlock()
		if asked = append(asked, r.Request.Header.Get("Range")); len(asked) == 1 {
			r.Body = &half{ReadCloser: r.Body, left: first, nobody: r.Request.Context().Done()}
		}
		return true
	})
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", everyone(nil))
	until(t, "half of it is there", func() bool {
		found, err := filepath.Glob(filepath.Join(a.home, "link", "spool", "*.tar"))
		check(t, err)
		if len(found) != 1 {
			return false
		}
		st, err := os.Stat(found[0])
		return err == nil && st.Size() == first
	})
	a.kill()
	a.start()
	if r := s.become("R-2", "finished"); r.Counts != (counts{Exposed: 1, Proven: 1}) {
		t.Errorf("counts %+v", r.Counts)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"", fmt.Sprintf("bytes=%d-", first)}; fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	left, err := os.ReadDir(filepath.Join(a.home, "link", "spool"))
	check(t, err)
	if len(left) != 0 {
		t.Errorf("the spool still holds %v", left)
	}
	s.verify()
}
