package server

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/rollout"
)

// PostgreSQL crashes and comes back while a rollout is under way: the server says
// that it is not ready, refuses what it cannot keep, and goes on by itself.
func TestServerOutlivesItsPostgreSQL(t *testing.T) {
	pg := pgtest.Start(t)
	cfg := testConfig(t)
	cfg.Database = pg.NewDatabase(t)
	s := startServer(t, cfg)
	t.Cleanup(func() { stopServer(t, s) })
	w := &world{TB: t, Server: s}
	w.clients = newClients(s.URL(), w.adminToken())
	w.found()
	digest := w.release("1.0.0")
	devices := w.enrol(4)
	for _, d := range devices {
		check(t, d.beacon(t.Context(), nil))
	}
	id := w.start("1.0.0", quick())
	until(t, "its first rung is open", func() bool { return w.show(id).Window > 0 })

	pg.Crash(t)
	err := devices[0].beacon(t.Context(), nil)
	wantCode(t, err, connect.CodeUnavailable)
	var refused *connect.Error
	if !errors.As(err, &refused) || refused.Meta().Get("Retry-After") == "" {
		t.Errorf("a beacon is refused with %v and no word on when to come again", err)
	}
	if status, text := w.get(t, "/readyz"); status != http.StatusServiceUnavailable || !strings.HasPrefix(text, "database: ") {
		t.Errorf("readiness is %d %q", status, text)
	}
	if status, _ := w.get(t, timestampPath); status != http.StatusOK {
		t.Errorf("timestamp.json: %d; what is published is served without a database", status)
	}
	pg.Resume(t)
	until(t, "ready again", func() bool { status, _ := w.get(t, "/readyz"); return status == http.StatusOK })
	w.serve(devices, id, digest, headgatev1.AttemptState_ATTEMPT_STATE_PROVEN, rollout.Finished)
	r, err := s.store.Rollout(t.Context(), id)
	check(t, err)
	if want := (health.Counts{Exposed: 4, Proven: 4}); r.Counts != want {
		t.Errorf("counts %+v, want %+v", r.Counts, want)
	}
	onePerRevision(t, s.store, id)
}
