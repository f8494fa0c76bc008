package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/server"
)

// A clock that is far off on one side: the server runs in this process, so that
// its clock can be set. An endpoint whose clock is ahead finds everything
// expired and installs nothing; one whose clock is behind goes on. Either is
// told to the operator at both ends, and what runs, runs.
func TestClockFarOffIsToldAndInstallsNothingExpired(t *testing.T) {
	t.Parallel()
	s := running(t, 1, nil)
	a := s.agents[0]
	old := a.engine()
	s.server.stop()
	serve := func(skew time.Duration) (stop func()) {
		v, err := server.New(server.Config{
			Data: s.config["data"].(string), Listen: s.config["listen"].(string), InsecureHTTP: true,
			Poll: span.Duration(100 * time.Millisecond), Beacon: span.Duration(200 * time.Millisecond), DecideEvery: span.Duration(100 * time.Millisecond),
			TimestampLife: span.Duration(24 * time.Hour), Now: func() time.Time { return time.Now().Add(skew) },
		})
		check(t, err)
		check(t, v.Start(t.Context()))
		return func() { check(t, v.Stop(t.Context())) }
	}

	// The endpoint's clock is behind: nothing is expired.
	stop := serve(50 * time.Hour)
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", everyone(nil))
	until(t, "the operator sees whose clock is behind", func() bool {
		return strings.Contains(a.show().Trouble, "clock: 2 days behind the server's")
	})
	s.become("R-2", "finished")
	stop()
	if now := a.engine(); now == old {
		t.Error("1.1.0 should run")
	}
	old = a.engine()

	// The endpoint's clock is ahead, by more than the timestamp lives.
	stop = serve(-50 * time.Hour)
	s.publish("1.2.0", good)
	s.rollOut("1.2.0", everyone(map[string]any{"fill_timeout": "720h"}))
	until(t, "the operator sees it from the server", func() bool {
		text := a.show().Trouble
		return strings.Contains(text, "clock: 2 days ahead of the server's") && strings.Contains(text, "plan: ") && strings.Contains(text, "clock here says")
	})
	until(t, "and on the endpoint", func() bool {
		return strings.Contains(string(s.do("agent", "status", "--dir", a.home)), "expired") && a.logged("expired") > 0
	})
	if now := a.engine(); now != old {
		t.Errorf("%v runs instead of %v", now, old)
	}
	if n := len(a.show().Exposures); n != 2 {
		t.Errorf("%d exposures; want that of 1.0.0 and 1.1.0 only", n)
	}
	stop()
	s.start()
	s.become("R-3", "finished")
	until(t, "all is well again", func() bool { e := a.show(); return e.Trouble == "" && e.runs() == "1.2.0" })
	s.verify()
}
