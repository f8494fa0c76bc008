package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/headgate/headgate/internal/pgtest"
)

// row is one line of the table.
type row struct{ what, ours, against, ratio string }

// table gathers rows and prints them at the end.
type table []row

func (t *table) add(what, ours, against, ratio string) {
	*t = append(*t, row{what, ours, against, ratio})
	fmt.Fprintf(os.Stderr, "bench: %s: %s (%s %s)\n", what, ours, against, ratio)
}

func (t table) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 1, ' ', tabwriter.TabIndent)
	fmt.Fprintln(w, "| measured\t| Headgate\t| against\t| ratio\t|")
	fmt.Fprintln(w, "| ---\t| ---\t| ---\t| ---\t|")
	for _, r := range t {
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t|\n", r.what, r.ours, r.against, r.ratio)
	}
	w.Flush()
}

// engine is a database to measure on. fresh makes an empty one.
type engine struct {
	name  string
	goal  float64 // pairs for each second of processor time
	pid   int
	fresh func(context.Context) (dsn string, err error)
}

func run(ctx context.Context, s settings) (err error) {
	st, err := os.Stat(s.headgate)
	if err != nil {
		return fmt.Errorf("no binary to measure (make build): %w", err)
	}
	engines := []engine{{name: "sqlite", goal: 10000, fresh: func(context.Context) (string, error) { return "", nil }}}
	pg, err := pgtest.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: without PostgreSQL:", err)
	} else {
		defer func() { err = errors.Join(err, pg.Stop()) }()
		engines = append(engines, engine{name: "postgres", goal: 8000, pid: pg.PID(), fresh: pg.Create})
	}
	var t table
	t.add("size of the binary", fmt.Sprintf("%.1f MB", float64(st.Size())/1e6), "", "")
	if s.only == "" {
		if err := measureCheck(ctx, s, &t); err != nil {
			return fmt.Errorf("update check: %w", err)
		}
		if err := measureAgent(ctx, s, &t); err != nil {
			return fmt.Errorf("agent: %w", err)
		}
	}
	for _, e := range engines {
		if s.only == "" || s.only == e.name {
			if err := measureEngine(ctx, s, e, &t); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
		}
	}
	t.print()
	return nil
}

// measureEngine measures grants with outcomes, and held asks, for each fleet.
func measureEngine(ctx context.Context, s settings, e engine, t *table) error {
	var first, firstMemory float64
	for i, n := range s.endpoints {
		m, err := measureFleets(ctx, s, e, n)
		if err != nil {
			return fmt.Errorf("%d endpoints: %w", n, err)
		}
		pairs, held := m.perSecond(m.proven), m.perSecond(m.held)
		t.add(fmt.Sprintf("%s, %d enrolled: grant + outcome, durable", e.name, n), fmt.Sprintf("%.0f /CPU-s (%s)", pairs, m.proven.over(m.pairs)),
			fmt.Sprintf("goal %.0f", e.goal), fmt.Sprintf("%.2f", pairs/e.goal))
		t.add(fmt.Sprintf("%s, %d enrolled: ask that must wait", e.name, n), fmt.Sprintf("%.0f /CPU-s (%.0f µs)", held, 1e6/held), "half a grant + outcome", fmt.Sprintf("%.2f", held/pairs/2))
		if i == 0 {
			first, firstMemory = pairs, float64(m.memory)
			t.add(fmt.Sprintf("%s: a window of 100 asked by %d at once lets through", e.name, n), fmt.Sprint(m.through), "100", fmt.Sprintf("%.2f", float64(m.through)/100))
			continue
		}
		t.add(fmt.Sprintf("%s: %d enrolled against %d", e.name, n, s.endpoints[0]), fmt.Sprintf("%.0f /CPU-s", pairs), fmt.Sprintf("%.0f", first), fmt.Sprintf("%.2f", pairs/first))
		t.add(fmt.Sprintf("%s: memory of the server for each more enrolled endpoint", e.name), fmt.Sprintf("%.0f B", (float64(m.memory)-firstMemory)/float64(n-s.endpoints[0])), "", "")
	}
	return nil
}

// measureFleets measures a fleet that is smaller than the pairs to measure again,
// with a fresh database each time, and adds up: a short stretch is at the
// mercy of whether one of the server's loops falls into it.
func measureFleets(ctx context.Context, s settings, e engine, n int) (f fleetFigures, err error) {
	times := min(rounds, max(1, s.pairs/n))
	for i := range times {
		dsn, err := e.fresh(ctx)
		if err != nil {
			return f, err
		}
		m, err := measureFleet(ctx, s, e, dsn, n)
		if err != nil {
			return f, err
		}
		if i > 0 && m.through != f.through {
			return f, fmt.Errorf("a window of 100 let through %d once and %d then", f.through, m.through)
		}
		f = f.add(m)
	}
	return f, nil
}

// String says where the time went.
func (c cost) String() string {
	us := func(d time.Duration) float64 { return float64(d) / 1e3 }
	if c.database == 0 {
		return fmt.Sprintf("%.0f µs", us(c.server))
	}
	return fmt.Sprintf("%.0f µs, %.0f of it PostgreSQL", us(c.total()), us(c.database))
}

// median is the middle of an odd number of values.
func median(v []time.Duration) time.Duration {
	slices.Sort(v)
	return v[len(v)/2]
}
