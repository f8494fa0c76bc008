package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// call is one request in its exact bytes, and what to do with its answer.
type call struct {
	request []byte
	answer  func(status int, body []byte) error
}

// drive sends calls over conns kept-alive connections, one after the other on
// each, until next has no more or the time is over. It returns how many were
// answered.
func drive(ctx context.Context, addr string, conns int, next func(worker int) (call, bool)) (int64, error) {
	var answered atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for w := range conns {
		g.Go(func() error {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return fmt.Errorf("connect to the server: %w", err)
			}
			defer c.Close()
			r := bufio.NewReaderSize(c, 8<<10)
			for ctx.Err() == nil {
				call, ok := next(w)
				if !ok {
					return nil
				}
				if err := one(c, r, call); err != nil {
					return err
				}
				answered.Add(1)
			}
			return nil
		})
	}
	err := g.Wait()
	return answered.Load(), err
}

func one(c net.Conn, r *bufio.Reader, call call) error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := c.Write(call.request); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return call.answer(resp.StatusCode, body)
}

// repeat is a source of the same call for a time.
func repeat(c call, d time.Duration) func(int) (call2 call, more bool) {
	end := time.Now().Add(d)
	return func(int) (call, bool) { return c, time.Now().Before(end) }
}

// inTurn is a source that gives each call of a list once.
func inTurn(calls []call) func(int) (call, bool) {
	var mu sync.Mutex // guards at
	at := 0
	return func(int) (call, bool) {
		mu.Lock()
		defer mu.Unlock()
		if at == len(calls) {
			return call{}, false
		}
		at++
		return calls[at-1], true
	}
}

// post makes the bytes of a Connect unary call with a protobuf body.
func post(host, procedure, token string, body []byte) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/proto\r\nConnect-Protocol-Version: 1\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		procedure, host, token, len(body), body)
}
