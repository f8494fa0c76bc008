package store

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/cputime"
	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
)

// BenchmarkBatch measures the hot path: durable grants and outcomes, and asks
// that must wait, per CPU-second of this process and its database. Size it with
// HEADGATE_BENCH_ENDPOINTS="10000 1000000".
func BenchmarkBatch(b *testing.B) {
	sizes := strings.Fields(os.Getenv("HEADGATE_BENCH_ENDPOINTS"))
	if len(sizes) == 0 {
		sizes = []string{"10000"}
	}
	for _, engine := range []string{"sqlite", "postgres"} {
		for _, size := range sizes {
			n, err := strconv.Atoi(size)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(engine+"/"+size, func(b *testing.B) {
				dsn, cpu := filepath.Join(b.TempDir(), "bench.db"), cputime.Used
				if engine == "postgres" {
					pg := pgtest.Start(b)
					dsn = pg.NewDatabase(b)
					cpu = func() time.Duration { return cputime.Used() + treeCPU(pg.PID()) }
				}
				w := newBench(b, dsn, n, cpu)
				b.Run("pair", w.pairs)
				b.Run("held", w.held)
			})
		}
	}
}

const benchDigest = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

type bench struct {
	s    *Store
	n    int
	cpu  func() time.Duration
	next int // endpoint, in a scattered order
	ro   int64
	now  time.Time
}

func newBench(b *testing.B, dsn string, n int, cpu func() time.Duration) *bench {
	s, err := Open(b.Context(), dsn, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	w := &bench{s: s, n: n, cpu: cpu, now: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	if err := w.fill(b.Context()); err != nil {
		b.Fatal(err)
	}
	return w
}

// endpointID scatters the endpoints over the key space, as enrolment does.
func (w *bench) endpointID(i int) int64 { return int64(i)*4096*977 + 1 }

func (w *bench) secret(i int) Hash { return Hash{byte(i), byte(i >> 8), byte(i >> 16), 1} }

// fill enrols n endpoints behind Enrol's back: a million one by one takes long.
func (w *bench) fill(ctx context.Context) error {
	if _, err := w.s.AddTenant(ctx, "north", "bench", w.now); err != nil {
		return err
	}
	if _, err := w.s.PutVendor(ctx, Vendor{Name: "acme", Threshold: 1, Keys: 1}, "bench", w.now); err != nil {
		return err
	}
	if _, err := w.s.AddProduct(ctx, Product{Name: "acme/rules"}, "bench", w.now); err != nil {
		return err
	}
	before := Release{Release: release.Release{Product: "acme/rules", Version: "0.9.0", Digest: strings.Repeat("c", 64), Length: 1}, Listed: true}
	next := Release{Release: release.Release{Product: "acme/rules", Version: "1.0.0", Digest: benchDigest, Length: 1}, Listed: true}
	if _, err := w.s.CommitRepository(ctx, RepositoryCommit{Releases: []Release{before, next}}, w.now, nil); err != nil {
		return err
	}
	endpoints := &list{head: `INSERT INTO endpoint (id, tenant, secret, labels, domain, rss, sandbox, name, agent_version, enrolled) VALUES `,
		row: `(?, 1, ?, ?, '', 30000000, 'landlock seccomp', ?, '1.0.0', 1)`}
	installed := &list{head: `INSERT INTO installation (product, endpoint, version, digest, healthy, crashes, last_seen, goodbye) VALUES `,
		row: `('acme/rules', ?, '0.9.0', '=', TRUE, 0, 1, FALSE)`}
	for _, l := range []*list{endpoints, installed} {
		for _, n := range listSizes {
			w.s.texts[l] = append(w.s.texts[l], l.render(w.s.dialect, n))
		}
	}
	for at := 0; at < w.n; at += 25600 {
		err := w.s.inWrite(ctx, "fill", func(c conn) error {
			var rows, inst []any
			for i := at; i < min(w.n, at+25600); i++ {
				secret := w.secret(i)
				labels := fmt.Sprintf(`{"arch":"amd64","kernel":"6.%d","os":"linux","region":"r%d","ring":"%d"}`, i%5, i%7, i%3)
				rows = append(rows, w.endpointID(i), secret[:], labels, fmt.Sprintf("host-%d", i))
				inst = append(inst, w.endpointID(i))
			}
			if _, err := c.execList(ctx, endpoints, nil, rows); err != nil {
				return err
			}
			_, err := c.execList(ctx, installed, nil, inst)
			return err
		})
		if err != nil {
			return err
		}
	}
	return w.roll(ctx)
}

// roll starts the next rollout, in which nobody is exposed yet.
func (w *bench) roll(ctx context.Context) error {
	if w.ro != 0 {
		if _, err := w.s.OrderRollout(ctx, w.ro, rollout.Order{Verb: rollout.VerbHalt, Operator: "bench"}, w.now, nil); err != nil {
			return err
		}
	}
	p := rollout.DefaultPolicy()
	p.Probation = span.Duration(time.Second)
	r, err := w.s.StartRollout(ctx, Start{Product: "acme/rules", Version: "1.0.0", Policy: p, Seed: []byte("0123456789abcdef0123456789abcdef"), Actor: "bench",
		Pace: rollout.Pace{Window: 1 << 40, Ceiling: 1 << 40, Turn: 0.9999999}}, w.now, nil)
	w.ro = r.ID
	return err
}

func (w *bench) ask(i int) GrantAsk {
	return GrantAsk{Endpoint: w.endpointID(i), Secret: w.secret(i), Rollout: w.ro, Digest: benchDigest}
}

func (w *bench) beacon(i int) BeaconReport {
	return BeaconReport{
		Endpoint: w.endpointID(i), Secret: w.secret(i), Seq: 1, RSS: 31000000, Sandbox: []string{"landlock", "seccomp"},
		Installations: []Installation{{Product: "acme/rules", Version: "1.0.0", Digest: benchDigest, Healthy: true}},
		Attempts:      []AttemptReport{{Rollout: w.ro, Digest: benchDigest, State: AttemptProven}},
	}
}

// pick is the next endpoint; when each had its turn, the next rollout starts.
func (w *bench) pick() int {
	w.next++
	return int(int64(w.next) * 7919 % int64(w.n)) // 7919 is prime to the sizes used
}

// pairs commits batches of 128 asks and 128 proofs of the batch before.
func (w *bench) pairs(b *testing.B) {
	const half = 256
	var before []int
	start := w.cpu()
	for done := 0; done < b.N; done += half {
		if len(before) == 0 || w.next%w.n+half > w.n {
			if err := w.roll(b.Context()); err != nil {
				b.Fatal(err)
			}
			before, w.next = nil, 0
		}
		var batch Batch
		for _, i := range before {
			batch.Beacons = append(batch.Beacons, w.beacon(i))
		}
		before = before[:0:0]
		for range half {
			before = append(before, w.pick())
			batch.Asks = append(batch.Asks, w.ask(before[len(before)-1]))
		}
		w.now = w.now.Add(2 * time.Second)
		a, err := w.s.CommitBatch(b.Context(), batch, w.now)
		if err != nil {
			b.Fatal(err)
		}
		if a.Asks[0].Verdict != rollout.Granted || (len(a.Beacons) > 0 && a.Beacons[0].Err != nil) {
			b.Fatalf("%+v", a)
		}
	}
	b.ReportMetric(float64(b.N)/(w.cpu()-start).Seconds(), "pairs/cpu-s")
}

// held commits batches of 256 asks while the rollout is held.
func (w *bench) held(b *testing.B) {
	if _, err := w.s.OrderRollout(b.Context(), w.ro, rollout.Order{Verb: rollout.VerbHold, Operator: "bench"}, w.now, nil); err != nil {
		b.Fatal(err)
	}
	start := w.cpu()
	for done := 0; done < b.N; done += 256 {
		var batch Batch
		for range 256 {
			batch.Asks = append(batch.Asks, w.ask(w.pick()))
		}
		a, err := w.s.CommitBatch(b.Context(), batch, w.now)
		if err != nil || a.Asks[0].Verdict != rollout.Wait {
			b.Fatalf("%+v, %v", a.Asks[0], err)
		}
	}
	b.ReportMetric(float64(b.N)/(w.cpu()-start).Seconds(), "asks/cpu-s")
}

// treeCPU is the CPU time of a process and of its children, dead ones included.
func treeCPU(pid int) time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on Linux
	var total time.Duration
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it ended
		}
		_, rest, _ := strings.Cut(string(text), ") ") // the name before may hold spaces
		f := strings.Fields(rest)
		own := strings.HasPrefix(name, fmt.Sprintf("/proc/%d/", pid))
		if len(f) < 15 || (!own && f[1] != strconv.Itoa(pid)) {
			continue
		}
		fields := f[11:13] // utime, stime
		if own {
			fields = f[11:15] // and those of its dead children
		}
		for _, v := range fields {
			n, _ := strconv.ParseInt(v, 10, 64)
			total += time.Duration(n) * tick
		}
	}
	return total
}
