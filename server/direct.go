package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/headgate/headgate/internal/lane"
)

// direct answers the calls that the whole fleet makes in the form in which it
// makes them: Connect's unary protocol, protobuf, uncompressed, of known length.
// It spares a third of a call's processor time. Every other form, right or
// wrong, goes to Connect's own handler, next. Both call the same method behind
// the same gate, and answer the same.
//
// A request reaches it through net/http or, usually, through the lane.
//
// Connect-Timeout-Ms needs no timer here: whoever waits longer than
// control.MaxWait has given up.
type direct[Req, Res any, Q message[Req], A message[Res]] struct {
	s        *Server
	spec     connect.Spec
	call     func(context.Context, caller, *Req) (*Res, error)
	next     http.Handler
	errors   *connect.ErrorWriter
	answered prometheus.Counter  // with a message
	seconds  prometheus.Observer // for any answer
}

func newDirect[Req, Res any, Q message[Req], A message[Res]](s *Server, procedure string, call func(context.Context, caller, *Req) (*Res, error), next http.Handler) *direct[Req, Res, Q, A] {
	return &direct[Req, Res, Q, A]{
		s: s, spec: connect.Spec{StreamType: connect.StreamTypeUnary, Procedure: procedure}, call: call, next: next, errors: connect.NewErrorWriter(),
		answered: s.metrics.requests.WithLabelValues(procedure, "ok"), seconds: s.metrics.seconds.WithLabelValues(procedure),
	}
}

// message is a generated message's pointer.
type message[M any] interface {
	*M
	proto.Message
}

// buffer is what a request is read into and its answer made in. A decoded message
// keeps nothing of it.
type buffer [1 << 10]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

const (
	protoKind = "application/proto"
	protoLine = "Content-Type: " + protoKind + "\r\n"
)

var protoKinds = []string{protoKind}

// usual tells whether a request has the form that direct answers, and fits a
// buffer.
func usual(r *http.Request) bool {
	h := r.Header
	kind, version := h["Content-Type"], h["Connect-Protocol-Version"]
	return r.Method == http.MethodPost && r.ContentLength >= 0 && r.ContentLength <= int64(len(buffer{})) &&
		len(kind) == 1 && kind[0] == protoKind && len(h["Content-Encoding"]) == 0 &&
		(len(version) == 0 || len(version) == 1 && version[0] == "1")
}

// ServeHTTP implements http.Handler.
func (q *direct[Req, Res, Q, A]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !usual(r) {
		q.next.ServeHTTP(w, r)
		return
	}
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	body := buf[:r.ContentLength]
	read := func() error {
		_, err := io.ReadFull(r.Body, body)
		return err
	}
	out, err := q.answer(r.Context(), r.Header.Get("Authorization"), read, body, buf[:0])
	if err != nil {
		// The caller may be gone; there is nobody else to tell.
		_ = q.errors.Write(w, r, err)
		return
	}
	w.Header()["Content-Type"] = protoKinds
	w.Write(out)
}

// route is direct on the lane.
func (q *direct[Req, Res, Q, A]) route() lane.Route {
	return lane.Route{Method: http.MethodPost, Path: q.spec.Procedure, Kind: protoKind, Serve: func(ctx context.Context, r lane.Request, a *lane.Answer) {
		out, err := q.answer(ctx, string(r.Authorization), nil, r.Body, a.Body)
		if err != nil {
			q.refuse(ctx, a, err)
			return
		}
		a.Header, a.Body = append(a.Header, protoLine...), out
	}}
}

// refuse has Connect write the error.
func (q *direct[Req, Res, Q, A]) refuse(ctx context.Context, a *lane.Answer, err error) {
	w := &memory{header: http.Header{}}
	r := (&http.Request{Method: http.MethodPost, Header: http.Header{"Content-Type": protoKinds}}).WithContext(ctx)
	if err := q.errors.Write(w, r, err); err != nil {
		panic("server: an error of ours was not written to memory: " + err.Error())
	}
	w.header.Del("Content-Length")
	for name, values := range w.header {
		for _, v := range values {
			a.Header = fmt.Appendf(a.Header, "%s: %s\r\n", name, v)
		}
	}
	a.Status, a.Body = w.status, append(a.Body[:0], w.body...)
}

// memory keeps what is written to it.
type memory struct {
	header http.Header
	status int
	body   []byte
}

// Header implements http.ResponseWriter.
func (m *memory) Header() http.Header { return m.header }

// WriteHeader implements http.ResponseWriter.
func (m *memory) WriteHeader(status int) { m.status = status }

// Write implements http.ResponseWriter.
func (m *memory) Write(b []byte) (int, error) {
	m.body = append(m.body, b...)
	return len(b), nil
}

// answer returns the encoded answer, appended to out. read, if any, fills body
// once the caller is let in.
func (q *direct[Req, Res, Q, A]) answer(ctx context.Context, authorization string, read func() error, body, out []byte) (_ []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = q.s.recovered(ctx, q.spec, nil, v)
		}
	}()
	c, err := q.s.admit(ctx, access[q.spec.Procedure], authorization)
	if err != nil {
		q.count(err)
		return nil, err
	}
	if read != nil {
		if err := read(); err != nil {
			return nil, invalid(errors.New("the body ended early"))
		}
	}
	req := new(Req)
	if err := proto.Unmarshal(body, Q(req)); err != nil {
		return nil, invalid(fmt.Errorf("unmarshal message: %w", err))
	}
	began := time.Now()
	res, err := q.call(ctx, c, req)
	q.seconds.Observe(time.Since(began).Seconds())
	if err != nil {
		err = q.s.fail(ctx, q.spec.Procedure, err)
		q.count(err)
		return nil, err
	}
	q.answered.Inc()
	return proto.MarshalOptions{}.MarshalAppend(out, A(res))
}

// count counts a call that is answered with an error.
func (q *direct[Req, Res, Q, A]) count(err error) {
	q.s.metrics.requests.WithLabelValues(q.spec.Procedure, connect.CodeOf(err).String()).Inc()
}
