package link

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/headgate/headgate/agent/ipc"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
)

// attempts says how each product's latest attempt stands: a change is news, to
// be told at once. That something waits for a grant is none.
func attempts(st ipc.Status) string {
	var s string
	for _, p := range st.Products {
		if p.Attempt != nil && p.Attempt.State != ipc.AttemptStaged {
			s += fmt.Sprintf("%s %d %s %s;", p.Product, p.Attempt.Rollout, p.Attempt.State, p.Attempt.Reason)
		}
	}
	return s
}

// scheduleBeacon sets when the next beacon is due, unless one failed: then the
// back-off stands.
func (l *link) scheduleBeacon() {
	if l.unacked != 0 || l.last.IsZero() {
		return
	}
	_, every := l.pace()
	l.beacon.due = NextBeacon(l.last, Jitter(every, 0.1, l.rnd.Float64()), l.marks()...)
}

// marks are the instants from which to count an offer's ages: the switch, or for
// an endpoint that has not been granted it, when the offer was first seen.
func (l *link) marks() []Mark {
	var out []Mark
	for _, o := range l.plan.Offers {
		p := l.product(o.Product)
		if p == nil {
			continue
		}
		if at, ok := l.switched[o.Rollout]; ok {
			out = append(out, Mark{at, ProbationAges(o)})
		} else if at, ok := l.seen[o.Rollout]; ok && o.Action == release.ActionOffer && p.Digest != o.Digest {
			out = append(out, Mark{at, o.Ages})
		}
	}
	return out
}

// product finds a product that this endpoint has.
func (l *link) product(name string) *ipc.Product {
	for i := range l.status.Products {
		if l.status.Products[i].Product == name {
			return &l.status.Products[i]
		}
	}
	return nil
}

// sendBeacon reports the present status. A beacon that was not acknowledged is
// sent again under its number, so that numbers have no gaps, and with what is true
// by then: the server takes what arrives for the present.
func (l *link) sendBeacon(ctx context.Context, now time.Time) {
	seq, heard, trouble, news := l.unacked, l.heard, l.troubles.text(), l.checkNews()
	_, every := l.pace()
	l.start(&l.beacon, func() func() {
		var b *v1.BeaconRequest
		st, err := l.Keeper.Status(ctx)
		if err == nil {
			b, err = l.number(seq, st, trouble, false)
		}
		var asked []*v1.Check
		if err == nil {
			b.CheckResults = news
			b.Vitals.CpuPpm = l.rate.Next(st.Vitals, every/3)
			asked, err = l.deliver(ctx, b)
		}
		return func() {
			l.beaconSent(b, heard, st, now, err)
			if err == nil {
				l.checksTold(b.CheckResults)
				l.tookChecks(asked)
				if len(l.checkNews()) > 0 {
					l.beacon.due = time.Now()
				}
			}
		}
	})
}

// number builds a beacon under the number of one that was not acknowledged or, if
// seq is 0, under the next, which is on disk before use. Only the beacon lane and,
// after it ended, goodbye call it.
func (l *link) number(seq int64, st ipc.Status, trouble string, goodbye bool) (*v1.BeaconRequest, error) {
	if seq == 0 {
		var err error
		if seq, err = l.seq.next(); err != nil {
			return nil, err
		}
	}
	b := BeaconOf(seq, st, goodbye, time.Now())
	b.Trouble = trouble
	return b, nil
}

// deliver returns what the server asks to be checked.
func (l *link) deliver(ctx context.Context, b *v1.BeaconRequest) ([]*v1.Check, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := l.api.Beacon(ctx, connect.NewRequest(b))
	if err != nil {
		return nil, fmt.Errorf("beacon %d: %w", b.Seq, err)
	}
	if resp.Msg.AckedSeq != b.Seq {
		return nil, fmt.Errorf("beacon %d: the server acknowledged %d", b.Seq, resp.Msg.AckedSeq)
	}
	// Keeper counts these towards proof; if it is gone, the loop will notice.
	_, _ = l.Keeper.Acked(ctx, ipc.Acked{Seq: b.Seq, Running: RunningOf(b)})
	return resp.Msg.Checks, nil
}

func (l *link) beaconSent(b *v1.BeaconRequest, heard int64, st ipc.Status, at time.Time, err error) {
	if b != nil {
		l.unacked = b.Seq
		l.last, l.reported = at, attempts(st)
		if l.heard == heard { // no push came since: this is the newest
			l.status = st
		}
	}
	if err != nil {
		if final(err) {
			l.unacked = 0 // the server wants nothing of it
		}
		l.trouble("beacon", err)
		_, every := l.pace()
		pause := l.failed(l.beacon.back, err, every)
		l.beacon.due = time.Now().Add(pause)
		l.Log.Warn("could not beacon", "err", err, "retry_in", pause)
		return
	}
	l.unacked = 0
	l.beacon.back.Reset()
	l.trouble("beacon", nil)
	for _, p := range b.Products {
		if a := p.Attempt; a != nil {
			l.acked[p.Product] = attemptName(a.Rollout, a.Digest, a.State)
		}
	}
	l.work.due = time.Now() // what waited for this
	l.scheduleBeacon()
	if attempts(l.status) != l.reported {
		l.beacon.due = time.Now()
	}
}

// attemptName names an attempt in one state.
func attemptName(rollout int64, digest string, state v1.AttemptState) string {
	return fmt.Sprintf("%d %s %s", rollout, digest, state)
}

// told tells whether the server has acknowledged how a product's last attempt
// ended, or there is nothing to tell.
func (l *link) told(product string) bool {
	p := l.product(product)
	if p == nil || p.Attempt == nil {
		return true
	}
	switch a := p.Attempt; a.State {
	case ipc.AttemptProven, ipc.AttemptHarmed, ipc.AttemptReverted, ipc.AttemptPreflightFailed:
		return l.acked[product] == attemptName(a.Rollout, a.Digest, attemptStates[a.State])
	}
	return true
}

// goodbye says that silence from now on is no failure. A server that does not
// answer cannot hold up the stop.
func (l *link) goodbye() error {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
	defer cancel()
	st, err := l.Keeper.Status(ctx)
	if err != nil {
		st = l.status
	}
	b, err := l.number(0, st, l.troubles.text(), true)
	if err == nil {
		_, err = l.deliver(ctx, b)
	}
	if err != nil {
		l.Log.Warn("could not say goodbye", "err", err)
	}
	return nil
}
