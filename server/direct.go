package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
)

// direct answers the calls that the whole fleet makes in the form in which it
// makes them: Connect's unary protocol, protobuf, uncompressed, of known length.
// It spares a third of a call's processor time. Every other form, right or
// wrong, goes to Connect's own handler, next. Both call the same method behind
// the same gate, and answer the same.
//
// Connect-Timeout-Ms needs no timer here: a caller that gives up closes its
// connection, which ends the request's context.
type direct[Req, Res any, Q message[Req], A message[Res]] struct {
	s         *Server
	procedure string
	call      func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error)
	next      http.Handler
	errors    *connect.ErrorWriter
}

func newDirect[Req, Res any, Q message[Req], A message[Res]](s *Server, procedure string, call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), next http.Handler) direct[Req, Res, Q, A] {
	return direct[Req, Res, Q, A]{s: s, procedure: procedure, call: call, next: next, errors: connect.NewErrorWriter()}
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

var protoKind = []string{"application/proto"}

// usual tells whether a request has the form that direct answers, and fits a
// buffer.
func usual(r *http.Request) bool {
	h := r.Header
	kind, version := h["Content-Type"], h["Connect-Protocol-Version"]
	return r.Method == http.MethodPost && r.ContentLength >= 0 && r.ContentLength <= int64(len(buffer{})) &&
		len(kind) == 1 && kind[0] == protoKind[0] && len(h["Content-Encoding"]) == 0 &&
		(len(version) == 0 || len(version) == 1 && version[0] == "1")
}

// ServeHTTP implements http.Handler.
func (q direct[Req, Res, Q, A]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !usual(r) {
		q.next.ServeHTTP(w, r)
		return
	}
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	out, err := q.answer(r, buf[:])
	if err != nil {
		// The caller may be gone; there is nobody else to tell.
		_ = q.errors.Write(w, r, err)
		return
	}
	w.Header()["Content-Type"] = protoKind
	w.Write(out)
}

// answer returns the encoded answer, in buf if it fits.
func (q direct[Req, Res, Q, A]) answer(r *http.Request, buf []byte) (out []byte, err error) {
	spec := connect.Spec{StreamType: connect.StreamTypeUnary, Procedure: q.procedure}
	defer func() {
		if v := recover(); v != nil {
			err = q.s.recovered(r.Context(), spec, r.Header, v)
		}
	}()
	ctx, err := q.s.gate(r.Context(), spec, connect.Peer{}, r.Header)
	if err != nil {
		return nil, err
	}
	body := buf[:r.ContentLength]
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return nil, invalid(errors.New("the body ended early"))
	}
	req := new(Req)
	if err := proto.Unmarshal(body, Q(req)); err != nil {
		return nil, invalid(fmt.Errorf("unmarshal message: %w", err))
	}
	var res *connect.Response[Res]
	err = q.s.observe(ctx, q.procedure, func(ctx context.Context) (err error) {
		res, err = q.call(ctx, connect.NewRequest(req))
		return err
	})
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{}.MarshalAppend(buf[:0], A(res.Msg))
}
