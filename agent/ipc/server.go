package ipc

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
)

// Handler answers link's requests; calls may overlap, because a Stage takes as
// long as its preflight.
type Handler interface {
	Handle(ctx context.Context, m Message) Answer
}

// maxOverlap bounds the requests in flight: link needs a handful.
const maxOverlap = 16

// Serve answers requests from conn until it fails, ctx ends or the peer leaves;
// then it closes conn, waits for the handlers and returns. A peer that leaves
// is no error.
func Serve(ctx context.Context, conn *Conn, h Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before Wait: handlers must not outlive the peer that asked
	slots := make(chan struct{}, maxOverlap)
	for {
		m, err := conn.Receive()
		// A killed peer that had not read all resets the connection.
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			a := h.Handle(ctx, m)
			// A peer that left takes no answer; Receive notices it.
			_ = conn.Send(Message{ID: m.ID, Answer: &a})
		})
	}
}
