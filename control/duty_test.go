package control

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// desk is a store of one call, as the duty loop sees it.
type desk struct {
	mu     sync.Mutex // guards what follows
	call   *store.OpenCall
	roster psirt.Roster
	climbs []string // when, since start, and to whom
	start  time.Time
}

func (d *desk) OpenCalls(context.Context) ([]store.OpenCall, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.call == nil {
		return nil, nil
	}
	return []store.OpenCall{*d.call}, nil
}

func (d *desk) Roster(context.Context) (store.DutyRoster, error) {
	return store.DutyRoster{Roster: d.roster}, nil
}

func (d *desk) Climb(_ context.Context, call store.OpenCall, to string, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.call == nil || d.call.Revision != call.Revision {
		return store.ErrConflict
	}
	d.call.Revision++
	d.call.Level, d.call.To, d.call.Called = d.call.Level+1, to, now
	d.climbs = append(d.climbs, now.Sub(d.start).Round(time.Minute).String()+" "+to)
	return nil
}

// Over a night in which nobody answers, the call climbs on time, changes hands
// with the shift, and does not rest; once answered, it does.
func TestAnUnansweredCallClimbsAroundTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		roster, err := psirt.ParseRoster([]byte(`{"id": "acme", "levels": [
			{"wait": "10m", "shifts": [{"from": "00:00", "until": "00:00", "who": "operator:ann"}]},
			{"wait": "1h", "shifts": [{"from": "06:00", "until": "18:00", "who": "operator:day"}, {"from": "18:00", "until": "06:00", "who": "operator:night"}]}],
			"reach": {"operator:ann": ["a@x.example"], "operator:day": ["d@x.example"], "operator:night": ["n@x.example"]}}`))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now().UTC().Truncate(24 * time.Hour).Add(28 * time.Hour) // 04:00
		time.Sleep(time.Until(start))
		d := &desk{roster: roster, start: start, call: &store.OpenCall{Subject: 1, Revision: 2, Page: psirt.Page{To: "operator:ann", Raised: start, Called: start}}}
		ctx, cancel := context.WithCancel(t.Context())
		loop := &Duty{Calls: d, Every: 10 * time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		var wg sync.WaitGroup
		wg.Go(func() { loop.Run(ctx) })
		time.Sleep(3*time.Hour + 30*time.Minute)
		synctest.Wait()
		d.mu.Lock()
		got := d.climbs
		d.call = nil // answered
		d.mu.Unlock()
		want := []string{"10m0s operator:night", "1h10m0s operator:night", "2h10m0s operator:day", "3h10m0s operator:day"}
		if len(got) != len(want) {
			t.Fatalf("%q, want %q", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("climb %d: %q, want %q", i, got[i], want[i])
			}
		}
		time.Sleep(24 * time.Hour)
		cancel()
		wg.Wait()
		if len(d.climbs) != len(want) {
			t.Errorf("it climbed after it was answered: %q", d.climbs)
		}
	})
}

// box is one letter, as a postman sees it.
type box struct {
	due     time.Time // zero: done
	tries   int64
	answers []notify.Answer
}

func (b *box) TakeLetters(_ context.Context, q store.LetterQuery, now time.Time) ([]store.Letter, error) {
	if b.due.IsZero() || now.Before(b.due) {
		return nil, nil
	}
	b.due = q.Lease
	b.tries++
	return []store.Letter{{ID: 1, Kind: q.Kinds[0], Tries: b.tries - 1}}, nil
}

func (b *box) LetterTried(_ context.Context, _ store.Letter, a notify.Answer, next, _ time.Time) error {
	b.due = next
	b.answers = append(b.answers, a)
	return nil
}

// A letter and a call survive a receiver that is down for a day, whatever that asks
// for meanwhile, and are not sent twice; one that is refused is given up.
func TestALetterWaitsForItsReceiver(t *testing.T) {
	for name, round := range map[string]Round{"reporter": ReporterRound, "call": CallRound, "hook": HookRound} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &box{due: time.Now()}
				up := time.Now().Add(24 * time.Hour)
				sent := 0
				p := &Postman{Letters: b, Round: round, Every: time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler), Send: func(ctx context.Context, _ store.Letter) notify.Answer {
					if time.Now().Before(up) {
						<-ctx.Done() // it hangs until it is cut off
						return notify.Answer{Outcome: notify.Deferred, Detail: "connect: timed out", After: 7 * 24 * time.Hour}
					}
					sent++
					return notify.Answer{Outcome: notify.Accepted}
				}}
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { p.Run(ctx) })
				time.Sleep(26 * time.Hour)
				synctest.Wait()
				if sent != 1 || !b.due.IsZero() || b.tries > 60 || len(b.answers) != int(b.tries) {
					t.Errorf("sent %d times in %d tries, due %s, %d answers kept", sent, b.tries, b.due, len(b.answers))
				}
				cancel()
				wg.Wait()
				b.due = time.Now()
				p.Send = func(context.Context, store.Letter) notify.Answer {
					return notify.Answer{Outcome: notify.Refused, Detail: "550 no such user"}
				}
				if err := p.Deliver(t.Context()); err != nil || !b.due.IsZero() || b.answers[len(b.answers)-1].Detail != "550 no such user" {
					t.Errorf("%v, %+v", err, b)
				}
			})
		})
	}
}

// A call that is missed is made again within seconds, not within minutes.
func TestACallIsMadeAgainSoon(t *testing.T) {
	for _, r := range []Round{CallRound, HookRound} {
		if w := r.wait(0) + r.wait(1); w > time.Minute {
			t.Errorf("%v: the third attempt is %s after the first", r.Kinds, w)
		}
		if w := r.wait(79); w != r.Most {
			t.Errorf("%v: %s", r.Kinds, w)
		}
	}
}
