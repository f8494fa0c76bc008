package server

import (
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/headgate/headgate/notify"
)

// downFor is how long the webhooks' receiver is down, by the server's clock.
const downFor = 24 * time.Hour

// A receiver that is down for a day has each notice once when it is back, through a
// server process that is killed again and again meanwhile. The day passes on the
// server's clock. A repeat is signed anew, at the time of its own attempt: hours
// later, a receiver that refuses what is older than five minutes takes it.
func TestAWebhookThatIsDownForADayGetsEachNoticeOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("kills server processes")
	}
	t.Parallel()
	w := newHookWorld(t)
	w.tell()
	var ahead atomic.Int64
	var wrong atomic.Pointer[error]
	verify, err := standardwebhooks.NewWebhookRaw(webhookSecret)
	check(t, err)
	w.hooks.check = func(body []byte, r *http.Request) {
		if err := errors.Join(verify.VerifyIgnoringTimestamp(body, r.Header), within(r, time.Now().Add(time.Duration(ahead.Load())))); err != nil {
			wrong.Store(&err)
		}
	}
	hour := 0
	w.hooks.trouble = func(rw http.ResponseWriter, _ *http.Request) bool {
		switch hour % 3 {
		case 0:
			rw.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			rw.WriteHeader(http.StatusInternalServerError)
		default:
			panic(http.ErrAbortHandler) // read, and no answer
		}
		return true
	}
	for d := time.Duration(0); d < downFor; d += 2 * time.Hour {
		ahead.Store(int64(d))
		w.killOnce(d, 5)
		w.hooks.mu.Lock()
		hour++
		w.hooks.mu.Unlock()
	}
	before := w.hooks.count()
	w.hooks.mu.Lock()
	w.hooks.trouble = func(http.ResponseWriter, *http.Request) bool { return false }
	w.hooks.mu.Unlock()
	ahead.Store(int64(downFor))
	w.sayClock = func(d time.Duration) { ahead.Store(int64(d)) }
	last := w.finish(downFor)
	if e := wrong.Load(); e != nil {
		t.Errorf("a receiver refuses: %v", *e)
	}
	if len(last) != len(w.paths) || before < 3*len(w.paths) {
		t.Errorf("%d messages to %d receivers, after %d attempts in vain", len(last), len(w.paths), before)
	}
	for id, a := range last {
		if a.State != notify.Sent {
			t.Errorf("%s to %s ended %s: %s", id, a.Address, a.State, a.Detail)
		}
	}
	for _, path := range w.paths {
		took := w.hooks.taken[path]
		if len(took) == 0 || last[took[0]].State != notify.Sent {
			t.Errorf("webhook %s took %v", path, took)
		}
		for _, id := range took {
			if id != took[0] {
				t.Errorf("webhook %s took two messages: %v", path, took)
			}
		}
		if len(took) > 1+last[took[0]].Doubtful {
			t.Errorf("webhook %s answered %d times that it took %s, of which the log doubts %d", path, len(took), took[0], last[took[0]].Doubtful)
		}
	}
	t.Logf("%d messages; %d attempts in vain over a day and 12 kills", len(last), before)
}

// within tells whether a request is dated at now, give or take the five minutes of
// Standard Webhooks.
func within(r *http.Request, now time.Time) error {
	sec, err := strconv.ParseInt(r.Header.Get(standardwebhooks.HeaderWebhookTimestamp), 10, 64)
	if err != nil {
		return err
	}
	if d := now.Sub(time.Unix(sec, 0)); d.Abs() > 5*time.Minute {
		return errors.New("it is dated " + d.String() + " before now")
	}
	return nil
}
