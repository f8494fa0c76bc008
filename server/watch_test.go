package server

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
)

// deadlines is a ResponseWriter that remembers the deadlines it was given.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = append(d.read, t); return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = append(d.write, t); return nil }

// TestAWatchOutlivesTheDeadlinesOfCalls: a rollout takes hours, a call a minute.
func TestAWatchOutlivesTheDeadlinesOfCalls(t *testing.T) {
	h := unhurried(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for path, want := range map[string]int{
		headgatev1connect.RolloutServiceWatchRolloutProcedure: 1,
		headgatev1connect.RolloutServiceGetRolloutProcedure:   0,
	} {
		d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		h.ServeHTTP(d, httptest.NewRequest(http.MethodPost, path, nil))
		if len(d.read) != want || len(d.write) != want {
			t.Errorf("%s: deadlines set %d and %d times, want %d", path, len(d.read), len(d.write), want)
		}
		for _, at := range append(d.read, d.write...) {
			if !at.IsZero() {
				t.Errorf("%s: deadline %s, want none", path, at)
			}
		}
	}
}
