package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// childEnv carries the database's name to the process that will be killed.
const childEnv = "HEADGATE_STORETEST_CHILD"

// killEndpoints is how many endpoints the killed process works for.
const killEndpoints = 200

// Main runs the suite's child process if this is one, and does not return
// then. A test binary that calls Run calls it first in TestMain.
func Main() {
	dsn := os.Getenv(childEnv)
	if dsn == "" {
		return
	}
	if err := load(context.Background(), dsn, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// load grants and settles, batch after batch, and says on out what the store
// has acknowledged: "open 17" or "proven 17", by the endpoint's number.
func load(ctx context.Context, dsn string, out io.Writer) error {
	s, err := store.Open(ctx, dsn, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	w := &World{Store: s}
	page, err := s.ListEndpoints(ctx, store.EndpointQuery{Limit: 1000})
	if err != nil {
		return err
	}
	for _, e := range page {
		i, err := strconv.ParseInt(strings.TrimPrefix(e.Name, "host-"), 10, 64)
		if err != nil {
			return err
		}
		w.Endpoints = append(w.Endpoints, Endpoint{e.ID, SecretOf(i)})
	}
	const size = 5
	for at := 0; at+size <= len(w.Endpoints); at += size {
		var b store.Batch
		for i := at; i < at+size; i++ {
			b.Asks = append(b.Asks, w.Ask(i, 1))
			if i >= size {
				b.Beacons = append(b.Beacons, w.Beacon(i-size, 1, store.AttemptProven))
			}
		}
		a, err := s.CommitBatch(ctx, b, Start.Add(time.Duration(at)*time.Minute))
		if err != nil {
			return err
		}
		for k, x := range a.Asks {
			if x.Verdict != rollout.Granted {
				return fmt.Errorf("ask: %+v", x)
			}
			fmt.Fprintf(out, "open %d\n", w.Endpoints[at+k].ID)
		}
		for _, x := range b.Beacons {
			fmt.Fprintf(out, "proven %d\n", x.Endpoint)
		}
	}
	return nil
}

// killed kills the child in the middle, several times over, and looks for each
// acknowledged fact.
func killed(t *testing.T, newDSN func(testing.TB) string) {
	for _, after := range []int{1, 37, 150, 333} { // lines acknowledged
		dsn := newDSN(t)
		w := NewWorld(t, Open(t, dsn), killEndpoints)
		ro := w.Roll(t, 1<<30).ID
		acked := runAndKill(t, dsn, after)
		for id, want := range acked {
			e, err := w.Store.Endpoint(t.Context(), id)
			if err != nil || len(e.Exposures) != 1 {
				t.Fatalf("acknowledged %s is missing: %+v, %v", want, e, err)
			}
			// It may be further than acknowledged: the answer was on its way.
			if got := e.Exposures[0].State; got != want && got != health.Proven {
				t.Fatalf("acknowledged %s is %s", want, got)
			}
		}
		n := w.counts(t, ro)
		if err := n.Check(); err != nil || n.Exposed < int64(len(acked)) || n.Exposed > int64(len(acked))+10 {
			t.Fatalf("%d endpoints acknowledged, counts %+v, %v", len(acked), n, err)
		}
		Healthy(t, w.Store)
		// And on it goes, repeating what was answered already.
		for i := range killEndpoints {
			w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(i, ro)}}, Start)
			if i == 20 {
				break
			}
		}
		Healthy(t, w.Store)
	}
}

func runAndKill(t *testing.T, dsn string, after int) map[int64]health.State {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+dsn)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked, lines := map[int64]health.State{}, 0
	for sc := bufio.NewScanner(out); sc.Scan(); lines++ {
		state, number, _ := strings.Cut(sc.Text(), " ")
		id, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			continue // cut by the kill
		}
		acked[id] = health.State(state)
		if lines == after {
			if err := cmd.Process.Kill(); err != nil { // SIGKILL; what it wrote is read to the end
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatalf("the child ended by itself after %d lines, before it could be killed", lines)
	}
	return acked
}
