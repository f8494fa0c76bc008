package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// childEnv makes the test binary a server: its value is the configuration.
const childEnv = "HEADGATE_TEST_SERVER"

// clockEnv puts a server process's clock ahead by a duration.
const clockEnv = "HEADGATE_TEST_CLOCK_AHEAD"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(childEnv); cfg != "" {
		os.Exit(child(cfg))
	}
	os.Exit(m.Run())
}

// child runs a server until it is told to stop, or killed.
func child(text string) int {
	cfg, err := parseConfig([]byte(text))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if ahead, err := time.ParseDuration(os.Getenv(clockEnv)); err == nil {
		cfg.Now = func() time.Time { return time.Now().Add(ahead) }
	}
	s, err := New(cfg)
	if err == nil {
		err = s.Start(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.Addr())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	if err := s.Stop(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// spawn starts a server process, with more in its environment, and waits for its
// address.
func spawn(t *testing.T, cfg Config, env ...string) (*exec.Cmd, string) {
	t.Helper()
	b, err := json.Marshal(cfg)
	check(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childEnv+"="+string(b)), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("server process: %v", err)
	}
	return cmd, strings.TrimSpace(line)
}

// acked is what the server has confirmed to endpoints.
type acked struct {
	mu      sync.Mutex // guards what follows
	granted map[string]bool
	proven  map[string]bool
}

// load has endpoints ask and report until ctx ends.
func (a *acked) load(ctx context.Context, devices []*device, id int64, digest string) {
	var wg sync.WaitGroup
	for _, d := range devices {
		wg.Go(func() {
			for ctx.Err() == nil {
				a.step(ctx, d, id, digest)
			}
		})
	}
	wg.Wait()
}

func (a *acked) step(ctx context.Context, d *device, id int64, digest string) {
	g, err := d.grant(ctx, id, digest)
	if err != nil {
		return
	}
	if g.Verdict == headgatev1.GrantVerdict_GRANT_VERDICT_GRANTED {
		a.note(a.granted, d.id)
	}
	if err := d.report(ctx, id, digest, headgatev1.AttemptState_ATTEMPT_STATE_PROVEN); err == nil && g.Verdict == headgatev1.GrantVerdict_GRANT_VERDICT_GRANTED {
		a.note(a.proven, d.id)
	}
}

func (a *acked) note(m map[string]bool, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m[id] = true
}

func TestKilledServerForgetsNothingAndCountsNothingTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("kills server processes")
	}
	t.Run("sqlite", func(t *testing.T) { killUnderLoad(t, "") })
	t.Run("postgres", func(t *testing.T) { killUnderLoad(t, pgtest.Start(t).NewDatabase(t)) })
}

func killUnderLoad(t *testing.T, database string) {
	cfg := testConfig(t)
	cfg.Database = database
	s := startServer(t, cfg)
	w := &world{TB: t, Server: s}
	w.clients = newClients(s.URL(), w.adminToken())
	w.found()
	digest := w.release("1.0.0")
	devices := w.enrol(120)
	p := quick()
	p.Ladder, p.Probation = []int64{1000}, 1
	id := w.start("1.0.0", p)
	until(t, "the rollout has a window", func() bool { return w.show(id).Window > 0 })
	stopServer(t, s)

	a := &acked{granted: map[string]bool{}, proven: map[string]bool{}}
	for i := range 6 {
		cmd, addr := spawn(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		some := devices[:20*(i+1)] // each round has newcomers to grant
		for _, d := range some {
			d.move("http://" + addr)
		}
		// In the middle of the load, however fast the machine is just now.
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.await(ctx, a.confirmed()+3+5*i)
			cmd.Process.Kill()
			cancel()
		}()
		a.load(ctx, some, id, digest)
		cancel()
		<-done
		if err := cmd.Wait(); err == nil {
			t.Error("the server process ended by itself")
		}
	}
	a.verify(t, cfg, id)
}

// confirmed is how many grants and outcomes the server has confirmed.
func (a *acked) confirmed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.granted) + len(a.proven)
}

// await waits until so many are confirmed, or for half a minute.
func (a *acked) await(ctx context.Context, n int) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for a.confirmed() < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// move has a device speak to another address.
func (d *device) move(base string) { d.clients = newClients(base, d.token) }

// verify compares what was confirmed with what is in the database.
func (a *acked) verify(t *testing.T, cfg Config, id int64) {
	t.Helper()
	dsn := cfg.Database
	if dsn == "" {
		dsn = "sqlite:" + cfg.Data + "/headgate.db"
	}
	db, err := store.Open(t.Context(), dsn, startLog(t))
	check(t, err)
	defer db.Close()
	problems, err := db.Doctor(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("doctor: %v, %v", problems, err)
	}
	if _, err := db.VerifyLedger(t.Context()); err != nil {
		t.Error(err)
	}
	if len(a.granted) == 0 || len(a.proven) == 0 {
		t.Fatalf("the load was none: %d granted, %d proven", len(a.granted), len(a.proven))
	}
	for e := range a.granted {
		n, err := ids.Parse("E", e)
		check(t, err)
		got, err := db.Endpoint(t.Context(), n)
		check(t, err)
		if len(got.Exposures) != 1 {
			t.Errorf("%s was granted and has %d exposures", e, len(got.Exposures))
		} else if a.proven[e] && got.Exposures[0].State != health.Proven {
			t.Errorf("%s's outcome was confirmed and it is %s", e, got.Exposures[0].State)
		}
	}
	r, err := db.Rollout(t.Context(), id)
	check(t, err)
	if r.Counts.Exposed < int64(len(a.granted)) || r.Counts.Check() != nil {
		t.Errorf("counts %+v for %d confirmed grants", r.Counts, len(a.granted))
	}
	t.Logf("%d grants and %d outcomes confirmed over six kills; counts %+v", len(a.granted), len(a.proven), r.Counts)
}

func TestTwoServersDecideOncePerRevision(t *testing.T) {
	cfg := testConfig(t)
	cfg.Database = pgtest.Start(t).NewDatabase(t)
	one := startServer(t, cfg)
	t.Cleanup(func() { stopServer(t, one) })
	w := &world{TB: t, Server: one}
	w.clients = newClients(one.URL(), w.adminToken())
	w.found()
	cfgTwo := cfg
	cfgTwo.Data = t.TempDir()
	check(t, os.CopyFS(cfgTwo.Data+"/keys", os.DirFS(cfg.Data+"/keys")))
	two := startServer(t, cfgTwo)
	t.Cleanup(func() { stopServer(t, two) })

	digest := w.release("1.0.0")
	devices := w.enrol(24)
	for i, d := range devices {
		check(t, d.beacon(t.Context(), nil))
		if i%2 == 1 {
			d.move(two.URL())
		}
	}
	id := w.start("1.0.0", quick())
	var wg sync.WaitGroup
	stop, cancel := context.WithCancel(t.Context())
	for _, s := range []*Server{one, two} {
		for range 4 { // besides the servers' own loops
			wg.Go(func() {
				for stop.Err() == nil {
					if err := s.decider.Decide(stop, id); err != nil && stop.Err() == nil {
						t.Log(err) // conflicts are expected
					}
				}
			})
		}
	}
	w.serve(devices, id, digest, headgatev1.AttemptState_ATTEMPT_STATE_PROVEN, rollout.Finished)
	cancel()
	wg.Wait()
	onePerRevision(t, one.store, id)
	// What one server publishes the other serves.
	want, err := one.store.RepositoryFile(t.Context(), "timestamp.json")
	check(t, err)
	until(t, "both serve the same timestamp", func() bool {
		_, body := newClients(two.URL(), "").get(t, timestampPath)
		if want, err = one.store.RepositoryFile(t.Context(), "timestamp.json"); err != nil {
			t.Fatal(err)
		}
		return body == string(want.Body)
	})
}

// onePerRevision checks that the ledger has exactly one commit for each revision.
func onePerRevision(t *testing.T, db *store.Store, id int64) {
	t.Helper()
	entries, err := db.ListEntries(t.Context(), store.EntryQuery{Subject: fmt.Sprintf("R-%d", id), Limit: 1000})
	check(t, err)
	decided := map[int64]int{}
	for _, e := range entries {
		if e.Kind != "rollout.decided" {
			continue
		}
		var body struct {
			Snapshot rollout.Snapshot `json:"snapshot"`
		}
		check(t, json.Unmarshal(e.Body, &body))
		decided[body.Snapshot.Revision]++
	}
	r, err := db.Rollout(t.Context(), id)
	check(t, err)
	if int64(len(decided)) != r.Revision-1 {
		t.Errorf("%d revisions were decided; the rollout is at revision %d", len(decided), r.Revision)
	}
	for rev, n := range decided {
		if n != 1 {
			t.Errorf("revision %d was committed %d times", rev, n)
		}
	}
	if _, err := db.VerifyLedger(t.Context()); err != nil {
		t.Error(err)
	}
}
