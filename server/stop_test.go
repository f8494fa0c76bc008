package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/control"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/store"
)

func TestOverloadAsksToComeBack(t *testing.T) {
	w := newWorld(t)
	err := w.fail(t.Context(), "grant", control.ErrOverloaded)
	wantCode(t, err, connect.CodeUnavailable)
	var e *connect.Error
	if !errors.As(err, &e) || e.Meta().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// A stopping server answers what it took in, and refuses the rest: what it
// confirmed is there.
func TestStopAnswersOrRefusesEveryRequest(t *testing.T) {
	cfg := testConfig(t)
	s := startServer(t, cfg)
	w := &world{TB: t, Server: s}
	w.clients = newClients(s.URL(), w.adminToken())
	w.found()
	digest := w.release("1.0.0")
	devices := w.enrol(60)
	p := quick()
	p.Ladder = []int64{1000}
	id := w.start("1.0.0", p)
	until(t, "the rollout has a window", func() bool { return w.show(id).Window > 0 })
	var confirmed sync.Map
	var first atomic.Bool
	begun := make(chan struct{})
	var wg sync.WaitGroup
	for _, d := range devices {
		wg.Go(func() {
			g, err := d.grant(context.Background(), id, digest)
			if first.CompareAndSwap(false, true) {
				close(begun)
			}
			if err == nil && g.Verdict == headgatev1.GrantVerdict_GRANT_VERDICT_GRANTED {
				confirmed.Store(d.id, true)
			}
		})
	}
	<-begun
	stopServer(t, s)
	wg.Wait()
	db, err := store.Open(t.Context(), "sqlite:"+cfg.Data+"/headgate.db", startLog(t))
	check(t, err)
	defer db.Close()
	confirmed.Range(func(k, _ any) bool {
		n, err := ids.Parse("E", k.(string))
		check(t, err)
		e, err := db.Endpoint(t.Context(), n)
		check(t, err)
		if len(e.Exposures) != 1 || e.Exposures[0].State != health.Open {
			t.Errorf("%s was granted and has exposures %v", k, e.Exposures)
		}
		return true
	})
}

// A server that was never started is stopped by doing nothing.
func TestServerThatWasNeverStartedStops(t *testing.T) {
	s, err := New(Config{Data: t.TempDir(), InsecureHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
