package ipc

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrClosed is what a call gets when keeper is gone: link must exit.
var ErrClosed = errors.New("keeper is gone")

// Client is link's side: calls with answers, and keeper's pushes.
type Client struct {
	conn   *Conn
	status chan Status
	stop   chan struct{} // closed at Shutdown or when keeper is gone
	gone   chan struct{} // closed when keeper is gone
	once   sync.Once

	mu      sync.Mutex // guards next and waiting
	next    uint64
	waiting map[uint64]chan Answer
}

// NewClient starts reading from conn; Close ends that.
func NewClient(conn *Conn) *Client {
	c := &Client{conn: conn, status: make(chan Status, 1), stop: make(chan struct{}), gone: make(chan struct{}), waiting: map[uint64]chan Answer{}}
	go c.read()
	return c
}

// Updates gives the latest pushed Status; older ones not taken are dropped.
func (c *Client) Updates() <-chan Status { return c.status }

// Shutdown is closed when keeper wants link to say goodbye and exit, or is gone.
func (c *Client) Shutdown() <-chan struct{} { return c.stop }

// Gone is closed when keeper is gone: no goodbye, it may come back.
func (c *Client) Gone() <-chan struct{} { return c.gone }

// Close ends the connection and waits for the reader.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.gone
	return err
}

// Status asks for the state of everything.
func (c *Client) Status(ctx context.Context) (Status, error) {
	a, err := c.call(ctx, Message{Hello: &Hello{}})
	if err != nil {
		return Status{}, err
	}
	return *a.Status, a.Err()
}

// Stage has an unpacked artifact copied, verified and preflighted. A refusal is
// in the Answer; the error is for a connection that failed.
func (c *Client) Stage(ctx context.Context, s Stage) (Answer, error) {
	return c.call(ctx, Message{Stage: &s})
}

// Activate switches to the staged release.
func (c *Client) Activate(ctx context.Context, a Activate) (Answer, error) {
	return c.call(ctx, Message{Activate: &a})
}

// Acked reports an acknowledged beacon.
func (c *Client) Acked(ctx context.Context, a Acked) (Answer, error) {
	return c.call(ctx, Message{Acked: &a})
}

// Reachable reports that the control plane answered.
func (c *Client) Reachable(ctx context.Context) (Answer, error) {
	return c.call(ctx, Message{Reachable: &Reachable{}})
}

// Revert orders a version to be left.
func (c *Client) Revert(ctx context.Context, r Revert) (Answer, error) {
	return c.call(ctx, Message{Revert: &r})
}

// Drop forgets a staged release.
func (c *Client) Drop(ctx context.Context, d Drop) (Answer, error) {
	return c.call(ctx, Message{Drop: &d})
}

// Check asks whether something holds here.
func (c *Client) Check(ctx context.Context, k Check) (Answer, error) {
	return c.call(ctx, Message{Check: &k})
}

func (c *Client) call(ctx context.Context, m Message) (Answer, error) {
	ch := make(chan Answer, 1)
	c.mu.Lock()
	c.next++
	m.ID = c.next
	c.waiting[m.ID] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, m.ID)
		c.mu.Unlock()
	}()
	if err := c.conn.Send(m); err != nil {
		return Answer{}, err
	}
	select {
	case a := <-ch:
		return a, nil
	case <-ctx.Done():
		return Answer{}, fmt.Errorf("wait for keeper's answer: %w", ctx.Err())
	case <-c.gone:
		return Answer{}, ErrClosed
	}
}

// read takes frames until the connection fails. Any bad frame ends it: there is
// no way to find the next one.
func (c *Client) read() {
	defer func() {
		c.conn.Close()
		close(c.gone)
		c.once.Do(func() { close(c.stop) })
	}()
	for {
		m, err := c.conn.Receive()
		if err != nil {
			return
		}
		switch {
		case m.Shutdown != nil:
			c.once.Do(func() { close(c.stop) })
		case m.Status != nil:
			c.offer(*m.Status)
		case m.Answer != nil && m.Answer.Status != nil:
			c.mu.Lock()
			ch := c.waiting[m.ID]
			c.mu.Unlock()
			if ch != nil {
				ch <- *m.Answer
			}
		default:
			return
		}
	}
}

func (c *Client) offer(s Status) {
	for {
		select {
		case c.status <- s:
			return
		default:
		}
		select {
		case <-c.status:
		default:
		}
	}
}
