// Package lane answers the few requests that a whole fleet sends all the time,
// on HTTP/1.1 connections and in their one usual form, and hands every other
// connection to net/http with all that was read of it. A call costs there about
// half of what net/http takes for it, most of which is a second reader beside
// each handler that waits.
//
// It never guesses: what it does not know byte by byte is net/http's to judge.
// It knows no message and no error: a route's own function does.
package lane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Request is one request for a route. Its bytes are valid until the answer is
// given.
type Request struct {
	Authorization []byte // the header's value
	Tag           []byte // If-None-Match
	Body          []byte
}

// Answer is what a route's function answers; it may append to what it is given.
type Answer struct {
	Status int    // 200 if 0; with 304 there is no body
	Header []byte // lines that end in CRLF, without Date, Connection and Content-Length
	Body   []byte
}

// Route is one request line, and who answers it.
type Route struct {
	Method, Path string
	Kind         string // the request's Content-Type; empty for one without a body
	// Serve must not panic; it may be called on many connections at once.
	Serve func(context.Context, Request, *Answer)

	line string // as it stands in a request
}

// Limits are those of http.Server with the same names, kept to half a second; 0
// is none. A request whose head and body are longer than maxRequest is foreign.
type Limits struct {
	ReadHeaderTimeout time.Duration // for head and body
	WriteTimeout      time.Duration
	IdleTimeout       time.Duration
}

// Server takes the connections of a listener.
type Server struct {
	listener net.Listener
	routes   []Route
	limits   Limits
	log      *slog.Logger
	rest     *rest
	clock    atomic.Pointer[clock]

	stopping atomic.Bool
	running  sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

// New makes a server for a listener's connections. The listener may be of
// crypto/tls.
func New(l net.Listener, routes []Route, limits Limits, log *slog.Logger) *Server {
	s := &Server{
		listener: l, limits: limits, log: log, conns: map[*conn]struct{}{},
		rest: &rest{addr: l.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})},
	}
	for _, r := range routes {
		r.line = r.Method + " " + r.Path + " HTTP/1.1\r\n"
		s.routes = append(s.routes, r)
	}
	s.clock.Store(newClock(time.Now()))
	return s
}

// Rest is the listener of all that is not the lane's: give it to http.Server. It
// ends when that listener is closed.
func (s *Server) Rest() net.Listener { return s.rest }

// Serve accepts connections until the listener is closed.
func (s *Server) Serve() {
	ctx := context.Background() // never ends: nobody notices a client that leaves while it waits
	ended := make(chan struct{})
	defer close(ended)
	go s.tick(ended)
	var wait time.Duration
	for {
		c, err := s.listener.Accept()
		if err == nil {
			wait = 0
			s.start(ctx, c)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			s.rest.end(err)
			s.running.Wait()
			return
		}
		// Too many open files, for one, passes.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.log.LogAttrs(ctx, slog.LevelError, "cannot accept a connection", slog.Any("err", err), slog.Duration("again_in", wait))
		time.Sleep(wait)
	}
}

// tick moves the clock, and closes connections whose time is up: a timer for
// each step of each request would cost more than the request.
func (s *Server) tick(ended <-chan struct{}) {
	t := time.NewTicker(time.Second / 2)
	defer t.Stop()
	for {
		select {
		case <-ended:
			return
		case now := <-t.C:
			s.clock.Store(newClock(now))
			for _, c := range s.all() {
				if until := c.until.Load(); until != 0 && now.UnixNano() > until {
					c.net.Close()
				}
			}
		}
	}
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		out = append(out, c)
	}
	return out
}

func (s *Server) start(ctx context.Context, n net.Conn) {
	c := &conn{s: s, net: n}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		n.Close()
		return
	}
	c.wait(s.limits.ReadHeaderTimeout)
	s.conns[c] = struct{}{}
	s.running.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				s.log.LogAttrs(ctx, slog.LevelError, "connection panicked", slog.Any("err", v), slog.String("stack", string(debug.Stack())))
				n.Close()
			}
		}()
		keep := c.run(ctx)
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		if keep == nil {
			n.Close()
			return
		}
		s.rest.give(keep)
	})
}

// Shutdown takes no more requests, waits until those taken are answered, and
// closes the connections. When ctx ends first it closes them at once and
// returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping.Store(true)
	s.mu.Unlock()
	err := s.listener.Close()
	for _, c := range s.all() {
		if c.busy.CompareAndSwap(waiting, ended) {
			c.net.Close()
		}
	}
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		for _, c := range s.all() {
			c.net.Close()
		}
		<-done
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("shut down connections: %w", err)
	}
	return nil
}

// handshake does TLS's, if it is spoken; false if the connection is net/http's:
// because of HTTP/2, or to be told what was wrong.
func (c *conn) handshake(ctx context.Context) bool {
	t, ok := c.net.(*tls.Conn)
	if !ok {
		return true
	}
	if err := t.HandshakeContext(ctx); err != nil {
		return false
	}
	return t.ConnectionState().NegotiatedProtocol != "h2"
}
