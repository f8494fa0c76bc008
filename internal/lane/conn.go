package lane

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// maxRequest is the size of a connection's buffer, bytes.
const maxRequest = 4 << 10

// What a connection does at present.
const (
	waiting int32 = iota // for a request
	working              // on one
	ended                // closed by Shutdown
)

// conn is one connection while it is the lane's.
type conn struct {
	s     *Server
	net   net.Conn
	busy  atomic.Int32
	until atomic.Int64 // Unix nanoseconds: when it is closed; 0 for never

	in  [maxRequest]byte
	n   int // bytes in it
	out []byte
}

// wait sets when the present step must be over; d of 0 is never.
func (c *conn) wait(d time.Duration) {
	if d == 0 {
		c.until.Store(0)
		return
	}
	c.until.Store(c.s.clock.Load().now + int64(d))
}

// run answers requests until the connection ends. It returns a connection that
// is net/http's from now on, or nil.
func (c *conn) run(ctx context.Context) net.Conn {
	if !c.handshake(ctx) {
		c.wait(0)
		return c.net
	}
	for {
		h, is := c.next()
		if is == foreign {
			c.wait(0)
			return &rewound{Conn: c.net, read: c.in[:c.n]}
		}
		if is != ours {
			return nil // it ended
		}
		if !c.answer(ctx, h) {
			return nil
		}
		rest := copy(c.in[:], c.in[h.size+h.length:c.n])
		c.n = rest
		if !c.busy.CompareAndSwap(working, waiting) || c.s.stopping.Load() {
			return nil
		}
		c.wait(c.s.limits.IdleTimeout)
	}
}

// next reads one whole request; unfinished if the connection ended before.
func (c *conn) next() (head, reading) {
	for {
		h, is := read(c.in[:c.n], c.s.routes)
		switch {
		case is == foreign, is == ours && h.size+h.length > len(c.in), is == unfinished && c.n == len(c.in):
			return h, foreign
		case is == ours && c.n >= h.size+h.length:
			if c.busy.Load() == waiting && !c.busy.CompareAndSwap(waiting, working) {
				return h, unfinished
			}
			return h, ours
		}
		m, err := c.net.Read(c.in[c.n:])
		if err != nil {
			return h, unfinished
		}
		if c.n += m; c.busy.Load() == waiting {
			if !c.busy.CompareAndSwap(waiting, working) {
				return h, unfinished
			}
			c.wait(c.s.limits.ReadHeaderTimeout)
		}
	}
}

// answer answers one request; false if the connection ends with it.
func (c *conn) answer(ctx context.Context, h head) bool {
	c.wait(0) // the route's function has bounds of its own
	body := c.in[h.size : h.size+h.length]
	a := answers.Get().(*Answer)
	defer answers.Put(a)
	*a = Answer{Header: a.Header[:0], Body: a.Body[:0]}
	c.s.routes[h.route].Serve(ctx, Request{Authorization: h.bearer, Tag: h.tag, Body: body}, a)
	closes := h.closes || c.s.stopping.Load()
	c.out = c.render(c.out[:0], a, closes)
	c.wait(c.s.limits.WriteTimeout)
	_, err := c.net.Write(c.out)
	return err == nil && !closes
}

// answers are used again: a connection needs one only while it is answered.
var answers = sync.Pool{New: func() any { return &Answer{Header: make([]byte, 0, 256), Body: make([]byte, 0, 512)} }}

// render writes an answer as HTTP/1.1 (RFC 9112).
func (c *conn) render(b []byte, a *Answer, closes bool) []byte {
	switch a.Status {
	case 0, http.StatusOK:
		b = append(b, "HTTP/1.1 200 OK\r\n"...)
	default:
		b = append(b, "HTTP/1.1 "...)
		b = strconv.AppendInt(b, int64(a.Status), 10)
		b = append(b, ' ')
		b = append(b, http.StatusText(a.Status)...)
		b = append(b, "\r\n"...)
	}
	b = append(b, a.Header...)
	b = append(b, c.s.clock.Load().date...)
	if closes {
		b = append(b, "Connection: close\r\n"...)
	}
	if a.Status == http.StatusNotModified {
		return append(b, "\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(a.Body)), 10)
	b = append(b, headEnd...)
	return append(b, a.Body...)
}

// clock is the time to half a second, and what is written of it.
type clock struct {
	now  int64  // Unix nanoseconds
	date string // the header's line
}

func newClock(now time.Time) *clock {
	return &clock{now: now.UnixNano(), date: "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
}

// rewound is a connection some of which was read already.
type rewound struct {
	net.Conn
	read []byte
}

// Read implements io.Reader.
func (r *rewound) Read(p []byte) (int, error) {
	if len(r.read) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.read)
	if r.read = r.read[n:]; len(r.read) == 0 {
		r.read = nil // the buffer may go
	}
	return n, nil
}

// CloseWrite ends what is sent, as net/http does before it closes.
func (r *rewound) CloseWrite() error {
	if c, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// rest is the listener of what is not the lane's.
type rest struct {
	addr  net.Addr
	conns chan net.Conn

	once   sync.Once
	closed chan struct{}
	err    error // before closed is closed
}

// give hands a connection to who accepts, or closes it if nobody does any more.
func (r *rest) give(c net.Conn) {
	select {
	case r.conns <- c:
	case <-r.closed:
		c.Close()
	}
}

func (r *rest) end(err error) { r.once.Do(func() { r.err = err; close(r.closed) }) }

// Accept implements net.Listener.
func (r *rest) Accept() (net.Conn, error) {
	select {
	case c := <-r.conns:
		return c, nil
	case <-r.closed:
		return nil, r.err
	}
}

// Close implements net.Listener.
func (r *rest) Close() error { r.end(net.ErrClosed); return nil }

// Addr implements net.Listener.
func (r *rest) Addr() net.Addr { return r.addr }
