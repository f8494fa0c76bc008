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
		dsn, err := e.fresh(ctx)
		if err != nil {
			return err
		}
		m, err := measureFleet(ctx, s, e, dsn, n)
		if err != nil {
			return fmt.Errorf("%d endpoints: %w", n, err)
		}
		t.add(fmt.Sprintf("%s, %d enrolled: grant + outcome, durable", e.name, n), fmt.Sprintf("%.0f /CPU-s (%s)", m.pairs, m.each),
			fmt.Sprintf("goal %.0f", e.goal), fmt.Sprintf("%.2f", m.pairs/e.goal))
		t.add(fmt.Sprintf("%s, %d enrolled: ask that must wait", e.name, n), fmt.Sprintf("%.0f /CPU-s (%.0f µs)", m.held, 1e6/m.held), "half a grant + outcome", fmt.Sprintf("%.2f", m.held/m.pairs/2))
		if i == 0 {
			first, firstMemory = m.pairs, float64(m.memory)
			t.add(fmt.Sprintf("%s: a window of 100 asked by %d at once lets through", e.name, n), fmt.Sprint(m.through), "100", fmt.Sprintf("%.2f", float64(m.through)/100))
			continue
		}
		t.add(fmt.Sprintf("%s: %d enrolled against %d", e.name, n, s.endpoints[0]), fmt.Sprintf("%.0f /CPU-s", m.pairs), fmt.Sprintf("%.0f", first), fmt.Sprintf("%.2f", m.pairs/first))
		t.add(fmt.Sprintf("%s: memory of the server for each more enrolled endpoint", e.name), fmt.Sprintf("%.0f B", (float64(m.memory)-firstMemory)/float64(n-s.endpoints[0])), "", "")
	}
	return nil
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
