package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/store"
)

// Outbox is what a courier needs of the store.
type Outbox interface {
	LeaseDelivery(ctx context.Context, holder string, now time.Time) (store.Shipment, error)
	RenewDeliveries(ctx context.Context, holder string, now time.Time) error
	ReleaseDelivery(ctx context.Context, sh store.Shipment, holder string, now time.Time) error
	SettleDelivery(ctx context.Context, sh store.Shipment, holder string, a notify.Answer, now time.Time) (notify.Delivery, error)
	ExpireDelivery(ctx context.Context, now time.Time) (notify.Delivery, error)
}

// Transport sends on one channel. release is called when all is ready and the
// next thing makes the receiver take the message; if it fails, nothing is sent.
type Transport interface {
	Send(ctx context.Context, p notify.Parcel, release func(context.Context) error) notify.Answer
}

// The courier's pace.
const (
	// courierEvery is how often due deliveries are looked for when nothing wakes it.
	courierEvery = time.Second
	// renewEvery is a third of a lease: two may be missed.
	renewEvery = 20 * time.Second
	// courierHands is how many messages are under way at once: most of their time
	// is waiting for somebody else's server.
	courierHands = 16
	// writeTimeout is how long a commit about an attempt may take.
	settleTimeout = 10 * time.Second
)

// Courier carries messages from the outbox to their receivers. Any number of
// servers may run one: a delivery is leased by one of them at a time, and one
// whose server died is taken over when its lease runs out.
type Courier struct {
	Outbox Outbox
	// Transports by channel; a channel without one waits, and its log says why.
	Transports map[notify.Channel]Transport
	// Holder names this server process among all that ever ran.
	Holder string
	// Grace is how long attempts under way may go on after the end: an attempt that
	// is cut off after its release is one in doubt.
	Grace time.Duration
	Now   func() time.Time
	Log   *slog.Logger

	once sync.Once
	wake chan struct{}
}

func (c *Courier) init() { c.once.Do(func() { c.wake = make(chan struct{}, 1) }) }

// Wake has it look at once.
func (c *Courier) Wake() {
	c.init()
	poke(c.wake)
}

// Run carries until ctx ends, and then lets what is under way end within Grace.
func (c *Courier) Run(ctx context.Context) {
	c.init()
	under, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var hands sync.WaitGroup
	hands.Go(func() { c.renew(under) })
	free := make(chan struct{}, courierHands)
	var attempts sync.WaitGroup
	complain := &complaints{log: c.Log}
	every(ctx, courierEvery, 0, c.wake, func(ctx context.Context) {
		complain.about(ctx, 0, "cannot send notices", c.round(ctx, under, free, &attempts))
	})
	stop := time.AfterFunc(c.Grace, cut)
	attempts.Wait()
	stop.Stop()
	cut()
	hands.Wait()
}

// Carry carries what is due now, one message after another, and waits for it.
func (c *Courier) Carry(ctx context.Context) error {
	var attempts sync.WaitGroup
	defer attempts.Wait()
	return c.round(ctx, ctx, make(chan struct{}, 1), &attempts)
}

// round takes over what was abandoned, and starts an attempt for each delivery
// that is due while a hand is free.
func (c *Courier) round(ctx, under context.Context, free chan struct{}, attempts *sync.WaitGroup) error {
	for {
		if _, err := c.Outbox.ExpireDelivery(ctx, c.Now()); errors.Is(err, store.ErrNotFound) {
			break
		} else if err != nil {
			return fmt.Errorf("take over abandoned deliveries: %w", err)
		}
	}
	for ctx.Err() == nil {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		sh, err := c.Outbox.LeaseDelivery(ctx, c.Holder, c.Now())
		if err != nil {
			<-free
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			return err
		}
		attempts.Go(func() {
			defer func() { <-free }()
			c.attempt(under, sh)
		})
	}
	return nil
}

// attempt sends one message once and records what came of it.
func (c *Courier) attempt(ctx context.Context, sh store.Shipment) {
	answer := c.send(ctx, sh)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	d, err := c.Outbox.SettleDelivery(ctx, sh, c.Holder, answer, c.Now())
	if err != nil {
		// The lease will run out, and the delivery be taken over: in doubt, if it was
		// released. No message's content or address goes to the log.
		c.Log.LogAttrs(ctx, slog.LevelError, "outcome of a delivery not recorded", slog.Int64("delivery", sh.ID), slog.String("outcome", string(answer.Outcome)), slog.Any("err", err))
		return
	}
	if d.State == notify.Failed {
		c.Log.LogAttrs(ctx, slog.LevelWarn, "delivery failed for good", slog.Int64("delivery", sh.ID), slog.String("channel", string(sh.Channel)), slog.Int("attempts", d.Attempts), slog.Int("code", d.Code))
	}
}

func (c *Courier) send(ctx context.Context, sh store.Shipment) notify.Answer {
	t := c.Transports[sh.Channel]
	if t == nil {
		return notify.Answer{Outcome: notify.Deferred, Detail: fmt.Sprintf("this server has no way to send %s: its configuration names none", sh.Channel)}
	}
	ctx, cancel := context.WithTimeout(ctx, notify.Limit)
	defer cancel()
	return t.Send(ctx, sh.Parcel, func(ctx context.Context) error {
		return c.Outbox.ReleaseDelivery(ctx, sh, c.Holder, c.Now())
	})
}

// renew keeps the leases of what is under way.
func (c *Courier) renew(ctx context.Context) {
	complain := &complaints{log: c.Log}
	for pause(ctx, renewEvery, nil) {
		complain.about(ctx, 0, "cannot renew leases of deliveries", c.Outbox.RenewDeliveries(ctx, c.Holder, c.Now()))
	}
}
