package pacing

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/headgate/headgate/rollout"
)

// Policy is one contender.
type Policy struct {
	Name    string
	Rollout *rollout.Policy // with a budget; nil for a rival
	Channel Channel
	rival   *rival
}

// Ours is a policy of the product, by the rules that it is recorded with.
func Ours(p rollout.Policy) Policy { return Policy{Name: p.Name, Rollout: &p, Channel: Pull} }

// Presets are the product's own policies.
func Presets() ([]Policy, error) {
	var out []Policy
	for _, name := range rollout.Presets() {
		p, err := rollout.Preset(name)
		if err != nil {
			return nil, err
		}
		out = append(out, Ours(p))
	}
	four, err := rollout.Preset("flash")
	if err != nil {
		return nil, err
	}
	four.Name, four.Budget.Gates = "flash-4-gates", 4
	push, err := rollout.Preset("flash")
	if err != nil {
		return nil, err
	}
	push.Name, push.Budget.Horizons[0].Age, push.Budget.Baseline = "flash-push", 40_000_000_000, 1.2e-4
	return append(out, Ours(four), Policy{Name: push.Name, Rollout: &push, Channel: Push}), nil
}

// Rivals are policies as others publish them.
func Rivals() []Policy {
	of := func(name string, r rival) Policy { return Policy{Name: name, Channel: Pull, rival: &r} }
	return []Policy{
		of("all-at-once", rival{stop: byHand}),
		of("rings-1h-5%-reported", rival{rings: []float64{0.01, 0.1, 0.5, 1}, bake: 3600, stop: reports}),
		of("rings-95%-success", rival{rings: []float64{0.01, 0.1, 0.5, 1}, success: 0.95, stop: reports}),
		of("long-bake-4h", rival{rings: []float64{0.001, 0.01, 0.1, 1}, bake: 4 * 3600, stop: doubled}),
		of("exponential-abort-10%", rival{rate: 1000, grow: true, stop: timeouts}),
		of("exponential-capped-1000/min", rival{rate: 1000, stop: timeouts}),
		of("group-budgets-1%", rival{absent: 0.01, stop: never}),
		of("global-gate-1h", rival{rings: []float64{0.001, 0.01, 0.1, 0.5, 1}, bake: 3600, stop: fourSigma}),
	}
}

// ByName finds policies or faults whose names are listed, comma separated; empty
// is all.
func ByName[T any](all []T, name func(T) string, list string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var out []T
	for _, want := range strings.Split(list, ",") {
		i := slices.IndexFunc(all, func(x T) bool { return name(x) == want })
		if i < 0 {
			return nil, fmt.Errorf("%q is unknown", want)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// Row is one policy against one fault, a result for each seed.
type Row struct {
	Policy  string   `json:"policy"`
	Fault   string   `json:"fault"`
	Good    bool     `json:"good"`
	Results []Result `json:"results"`
}

// Options of a comparison.
type Options struct {
	Seeds   int
	First   uint64 // seed
	Workers int
	// Progress, if set, hears of each rollout that was played.
	Progress func(done, all int)
}

// Compare plays every policy against every fault with the same seeds.
func Compare(ctx context.Context, f *Fleet, policies []Policy, faults []Fault, o Options) ([]Row, error) {
	var rows []Row
	for _, p := range policies {
		for _, x := range faults {
			rows = append(rows, Row{Policy: p.Name, Fault: x.Name, Good: x.Good(), Results: make([]Result, o.Seeds)})
		}
	}
	jobs := make(chan int)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex // guards done
		done int
	)
	for range max(1, o.Workers) {
		wg.Go(func() {
			for i := range jobs {
				row, seed := i/o.Seeds, i%o.Seeds
				rows[row].Results[seed] = policies[row/len(faults)].Play(f, faults[row%len(faults)], o.First+uint64(seed))
				mu.Lock()
				done++
				if o.Progress != nil {
					o.Progress(done, len(rows)*o.Seeds)
				}
				mu.Unlock()
			}
		})
	}
	err := feed(ctx, jobs, len(rows)*o.Seeds)
	wg.Wait()
	return rows, err
}

func feed(ctx context.Context, jobs chan<- int, n int) error {
	defer close(jobs)
	for i := range n {
		select {
		case jobs <- i:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Play is one rollout from one seed.
func (p Policy) Play(f *Fleet, x Fault, seed uint64) Result {
	return play(f, p.pacer(f), x, p.Channel, seed, false)
}

// Trace is Play that keeps how many were exposed at each tick.
func (p Policy) Trace(f *Fleet, x Fault, seed uint64) Result {
	return play(f, p.pacer(f), x, p.Channel, seed, true)
}

func (p Policy) pacer(f *Fleet) pacer {
	if p.Rollout != nil {
		return newBudgeted(f, *p.Rollout)
	}
	r := *p.rival
	return &r
}

// Quantile of what get reads from the results: the smallest of them that at
// least a share q does not exceed (the inverse of the empirical distribution
// function, Hyndman and Fan 1996, definition 1). So 0.95 of 20 rollouts is the
// 19th, and what is printed did happen. Never leaves out times that are never.
func (r Row) Quantile(q float64, get func(Result) float64, never bool) float64 {
	var v []float64
	for _, x := range r.Results {
		if y := get(x); y != 0 || !never {
			v = append(v, y)
		}
	}
	if len(v) == 0 {
		return 0
	}
	slices.SortFunc(v, cmp.Compare[float64])
	// 0.95·20 is 19.000000000000004 on no machine, but 0.55·20 is 11.000000000000002.
	rank := int(math.Ceil(q*float64(len(v)) - 1e-9))
	return v[min(len(v), max(1, rank))-1]
}

// Share of the results for which is holds.
func (r Row) Share(is func(Result) bool) float64 {
	n := 0
	for _, x := range r.Results {
		if is(x) {
			n++
		}
	}
	return float64(n) / float64(max(1, len(r.Results)))
}

// Table writes rows for people.
func Table(out io.Writer, rows []Row) error {
	if _, err := fmt.Fprintf(out, "%-28s %-20s %9s %9s %9s %7s %7s %7s %7s %6s %6s %6s %7s %7s %s\n", "policy", "fault", "harm med", "p95", "max",
		"t50 min", "t95", "t99", "detect", "halt%", "hold%", "seg%", "excl%", "prot%", "gates/limit"); err != nil {
		return err
	}
	for _, r := range rows {
		harm := func(x Result) float64 { return x.Harmed }
		when := func(get func(Result) float64) string {
			if v := r.Quantile(0.5, get, true); v > 0 {
				return fmt.Sprintf("%.1f", v)
			}
			return "-"
		}
		_, err := fmt.Fprintf(out, "%-28s %-20s %9.0f %9.0f %9.0f %7s %7s %7s %7s %6.1f %6.1f %6.1f %7.3f %7.2f %.0f/%.0f\n", r.Policy, r.Fault,
			r.Quantile(0.5, harm, false), r.Quantile(0.95, harm, false), r.Quantile(1, harm, false),
			when(func(x Result) float64 { return x.T50 }), when(func(x Result) float64 { return x.T95 }), when(func(x Result) float64 { return x.T99 }),
			when(func(x Result) float64 { return x.Detected }), 100*r.Share(func(x Result) bool { return x.Halted }), 100*r.Share(func(x Result) bool { return x.Held }),
			100*r.Share(func(x Result) bool { return x.Segment }), 100*r.Quantile(0.5, func(x Result) float64 { return x.Excluded }, false), 100*r.Quantile(0.5, func(x Result) float64 { return x.Protected }, false),
			r.Quantile(0.5, func(x Result) float64 { return float64(x.Gates) }, false), r.Quantile(0.5, func(x Result) float64 { return float64(x.GatesLimit) }, false))
		if err != nil {
			return err
		}
	}
	return nil
}
