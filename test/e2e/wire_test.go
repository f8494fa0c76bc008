package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// wire is what lies between agents and server, in the hands of a test.
type wire struct {
	*httptest.Server

	mu     sync.Mutex // guards before, after
	before func(r *http.Request) bool
	after  func(r *http.Response) bool
}

// wired puts a wire between a site's server and its agents.
func wired(s *site) *wire {
	to, err := url.Parse(s.url)
	check(s.t, err)
	w := &wire{}
	p := httputil.NewSingleHostReverseProxy(to)
	p.FlushInterval = -1                                                                             // a wire keeps nothing back
	p.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // as if there were no wire
	p.ModifyResponse = func(r *http.Response) error {
		w.mu.Lock()
		after := w.after
		w.mu.Unlock()
		if after != nil && !after(r) {
			return http.ErrAbortHandler
		}
		return nil
	}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		before := w.before
		w.mu.Unlock()
		if before != nil && !before(r) {
			panic(http.ErrAbortHandler)
		}
		p.ServeHTTP(rw, r)
	}))
	w.Config.ErrorLog = nil
	s.t.Cleanup(w.Close)
	s.proxied = w.URL
	return w
}

// set decides on each request before it reaches the server, and on each answer
// before it reaches the agent: false cuts the connection.
func (w *wire) set(before func(*http.Request) bool, after func(*http.Response) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before, w.after = before, after
}

func isGrant(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/Grant") }

// from tells whether an agent sent a request.
func (a *agent) from(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), "Bearer hge_"+strings.TrimPrefix(a.id, "E-")+"_")
}

// A grant is counted before it is told: whoever was counted and does not hear of
// it, for the server died, is told again and counted once.
func TestGrantLostWithItsServerIsCountedOnceAndUsedOnce(t *testing.T) {
	t.Parallel()
	var w *wire
	s := running(t, 1, nil, func(s *site) { w = wired(s) })
	a := s.agents[0]
	old := a.engine()
	dead := make(chan bool, 1)
	var once sync.Once
	w.set(nil, func(r *http.Response) bool {
		if !isGrant(r.Request) {
			return true
		}
		heard := true
		once.Do(func() { // the answer is under way, and what it says is on disk
			s.server.signal(9)
			heard = false
			dead <- true
		})
		return heard
	})
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", policy(nil))
	<-dead
	<-s.server.done
	if now := a.engine(); now != old {
		t.Errorf("%v runs instead of %v without a grant that was heard", now, old)
	}
	s.start()
	r := s.become("R-2", "finished")
	if want := (counts{Exposed: 1, Proven: 1}); r.Counts != want {
		t.Errorf("counts %+v, want %+v", r.Counts, want)
	}
	if n := a.logged(`"release activated"`); n != 2 { // 1.0.0 and 1.1.0
		t.Errorf("%d activations, want 2", n)
	}
	s.verify()
}

// And whoever heard of it while the server died does what it was told, once, and
// reports when somebody listens again.
func TestGrantHeardFromADyingServerIsUsedOnceAndReportedLater(t *testing.T) {
	t.Parallel()
	var w *wire
	s := running(t, 1, nil, func(s *site) { w = wired(s) })
	a := s.agents[0]
	old := a.engine()
	var once sync.Once
	dead := make(chan bool, 1)
	w.set(nil, func(r *http.Response) bool {
		if isGrant(r.Request) {
			once.Do(func() { s.server.signal(9); dead <- true })
		}
		return true
	})
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", policy(map[string]any{"probation": "3s", "grace": "20s"}))
	<-dead
	<-s.server.done
	until(t, "1.1.0 runs", func() bool {
		e := engines(t, a.home)
		return len(e) == 1 && e[0].pid != old.pid
	})
	s.start()
	if r := s.become("R-2", "finished"); r.Counts != (counts{Exposed: 1, Proven: 1}) {
		t.Errorf("counts %+v", r.Counts)
	}
	if n := a.logged(`"release activated"`); n != 2 {
		t.Errorf("%d activations, want 2", n)
	}
	s.verify()
}
