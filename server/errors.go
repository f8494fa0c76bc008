package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"

	"github.com/headgate/headgate/control"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	psirtintake "github.com/headgate/headgate/psirt/intake"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/attest"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// retryAfter is what an overloaded or stopping server asks for, seconds.
const retryAfter = "2"

// retryFull is what one with a full disk asks for: a person must make room.
const retryFull = "15"

// codes maps the errors that callers cause to API codes. Their text is for the
// caller: it names what was wrong and where, and holds no secret. Order matters:
// the first match rules.
var codes = []struct {
	err  error
	code connect.Code
}{
	{control.ErrOverloaded, connect.CodeUnavailable},
	{control.ErrStopped, connect.CodeUnavailable},
	{context.Canceled, connect.CodeCanceled},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded},
	{store.ErrUnauthenticated, connect.CodeUnauthenticated},
	{store.ErrNotFound, connect.CodeNotFound},
	{store.ErrConflict, connect.CodeAborted},
	{store.ErrExists, connect.CodeAlreadyExists},
	{store.ErrState, connect.CodeFailedPrecondition},
	{store.ErrInvalid, connect.CodeInvalidArgument},
	{tuf.ErrUnderSigned, connect.CodeInvalidArgument},
	{tuf.ErrExpired, connect.CodeInvalidArgument},
	{tuf.ErrRollback, connect.CodeFailedPrecondition},
	{tuf.ErrMixed, connect.CodeInvalidArgument},
	{tuf.ErrForeign, connect.CodeInvalidArgument},
	{tuf.ErrTooLarge, connect.CodeInvalidArgument},
	{tuf.ErrMalformed, connect.CodeInvalidArgument},
	{tuf.ErrDigest, connect.CodeInvalidArgument},
	{tuf.ErrKey, connect.CodeInvalidArgument},
	{tuf.ErrNotFound, connect.CodeFailedPrecondition},
	{attest.ErrInvalid, connect.CodeInvalidArgument},
	{release.ErrInvalid, connect.CodeInvalidArgument},
	{fleet.ErrInvalid, connect.CodeInvalidArgument},
	{rollout.ErrInvalid, connect.CodeInvalidArgument},
	{psirt.ErrForbidden, connect.CodePermissionDenied},
	{psirt.ErrIllegal, connect.CodeFailedPrecondition},
	{psirt.ErrInvalid, connect.CodeInvalidArgument},
	{notify.ErrInvalid, connect.CodeInvalidArgument},
	{psirtintake.ErrInvalid, connect.CodeInvalidArgument},
}

// fail turns an error into what the caller may read. What is not the caller's
// doing is logged with its cause, and answered without it: a database's words
// may name what is not theirs to know.
func (s *Server) fail(ctx context.Context, doing string, err error) error {
	var ready *connect.Error
	if errors.As(err, &ready) {
		return ready
	}
	if errors.Is(err, store.ErrFull) { // the store has logged it, once
		out := connect.NewError(connect.CodeUnavailable, fmt.Errorf("%s: %w", doing, store.ErrFull))
		out.Meta().Set("Retry-After", retryFull)
		return out
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			out := connect.NewError(c.code, err)
			if c.code == connect.CodeUnavailable {
				out.Meta().Set("Retry-After", retryAfter)
			}
			return out
		}
	}
	s.cfg.Log.LogAttrs(ctx, slog.LevelError, "request failed", slog.String("doing", doing), slog.Any("err", err))
	out := connect.NewError(connect.CodeUnavailable, errors.New(doing+": the server's database or disk failed; nothing was changed; the server's log has the cause"))
	out.Meta().Set("Retry-After", retryAfter)
	return out
}

// refuse answers a plain HTTP request with an error in the same JSON form as
// Connect's: {"code": "...", "message": "..."}.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, doing string, err error) {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = invalid(errors.New(doing + ": the body ended early; nothing of it was kept"))
	}
	var out *connect.Error
	if !errors.As(s.fail(r.Context(), doing, err), &out) {
		panic("server: fail gave no API error")
	}
	status, ok := statuses[out.Code()]
	if !ok {
		status = http.StatusInternalServerError
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if after := out.Meta().Get("Retry-After"); after != "" {
		h.Set("Retry-After", after)
	}
	w.WriteHeader(status)
	// The client may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(map[string]string{"code": out.Code().String(), "message": out.Message()})
}

// invalid is an error of the caller's making.
func invalid(err error) error { return connect.NewError(connect.CodeInvalidArgument, err) }
