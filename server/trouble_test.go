package server

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
)

func TestEndpointShowsWhatItsAgentCannotDoAndThatItsClockIsOff(t *testing.T) {
	w := newWorld(t)
	d := w.enrol(1)[0]
	say := func(trouble string, clock time.Time) error {
		d.seq++
		_, err := d.agent.Beacon(t.Context(), connect.NewRequest(&headgatev1.BeaconRequest{Seq: d.seq, Trouble: trouble, ClockUs: clock.UnixMicro()}))
		return err
	}
	for _, c := range []struct {
		trouble string
		off     time.Duration
		want    string
	}{
		{"", 0, ""},
		{"plan: no", 0, "plan: no"},
		{"plan: no", 100 * time.Hour, "clock: 4 days ahead of the server's; plan: no"},
		{"", -3*time.Hour - 10*time.Minute, "clock: 3 hours behind the server's"},
		{"", 30 * time.Second, ""},
	} {
		check(t, say(c.trouble, time.Now().Add(c.off)))
		r, err := w.fleet.GetEndpoint(t.Context(), connect.NewRequest(&headgatev1.GetEndpointRequest{Id: d.id}))
		check(t, err)
		if r.Msg.Endpoint.Trouble != c.want {
			t.Errorf("trouble %q with a clock off by %s shows as %q; want %q", c.trouble, c.off, r.Msg.Endpoint.Trouble, c.want)
		}
	}
	wantCode(t, say(strings.Repeat("x", 501), time.Now()), connect.CodeInvalidArgument, "trouble", "501", "500")
}
