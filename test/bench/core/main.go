// Command core measures the decision core in processor time: Decide by the number
// of segments, the cut of a fleet into segments by the number of labels, the choice
// of coverage, and a day's rollout to millions in virtual time. It prints each
// figure beside its limit. It judges nothing.
//
// Usage: go run ./test/bench/core
package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/sim/pacing"
)

const endpoints = 8_500_000

func main() {
	runtime.GOMAXPROCS(1) // garbage is collected on the core that is measured
	var t table
	err := measure(&t)
	t.print()
	if err != nil {
		fmt.Fprintln(os.Stderr, "core:", err)
		os.Exit(1)
	}
}

func measure(t *table) error {
	if err := decisions(t); err != nil {
		return err
	}
	if err := cuts(t); err != nil {
		return err
	}
	if err := day(t); err != nil {
		return err
	}
	coverage(t)
	return nil
}

// table gathers rows of what was measured, the figure, its limit and the ratio.
type table [][4]string

func (t *table) add(what, figure, limit, ratio string) {
	*t = append(*t, [4]string{what, figure, limit, ratio})
	fmt.Fprintf(os.Stderr, "bench: %s: %s (%s %s)\n", what, figure, limit, ratio)
}

// took adds a time, with its limit if there is one.
func (t *table) took(what string, d, limit time.Duration) {
	if limit == 0 {
		t.add(what, human(d), "", "")
		return
	}
	t.add(what, human(d), "limit "+human(limit), fmt.Sprintf("%.3f", d.Seconds()/limit.Seconds()))
}

func human(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func (t table) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 1, ' ', tabwriter.TabIndent)
	fmt.Fprintln(w, "| measured\t| figure\t| limit\t| ratio\t|")
	fmt.Fprintln(w, "| ---\t| ---\t| ---\t| ---\t|")
	for _, r := range t {
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t|\n", r[0], r[1], r[2], r[3])
	}
	w.Flush()
}

// spent is the processor time that f takes, the mean of so many runs.
func spent(runs int, f func()) time.Duration {
	runtime.GC()
	from := processor()
	for range runs {
		f()
	}
	return (processor() - from) / time.Duration(runs)
}

// processor is the processor time of this process so far.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("core: getrusage: " + err.Error()) // it knows no other answer for oneself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// snapshot is a rollout of 8.5 million endpoints by a preset with four horizons,
// whose first cohort was granted a minute ago.
func snapshot(start time.Time) (rollout.Snapshot, error) {
	p, err := rollout.Preset("driver")
	if err != nil {
		return rollout.Snapshot{}, err
	}
	const first = 48
	others := int64(endpoints - first)
	return rollout.Snapshot{
		Rollout: 1, Product: "acme/rules", Version: "1.0.0", State: rollout.Running, Policy: p, Started: start, RungSince: start,
		Pace:    rollout.Pace{Window: first, Ceiling: first, Turn: 1e-5, Boost: 1},
		Counts:  health.Counts{Exposed: first, Proven: first},
		Control: health.Control{Fit: endpoints, Online: endpoints, Unexposed: others, Heard: others},
		Observed: &rollout.Observed{
			Cohorts: []rollout.Cohort{{Granted: first, Size: first, Last: start, ByAge: make([]int64, len(p.Budget.Horizons)), Arm: health.Arm{AtRisk: first, AtLeast: first}}},
			Control: health.Arm{Silent: 2500, AtRisk: others, AtLeast: others},
		},
	}, nil
}

// decisions measures one decision while so many segments are listed and all of
// them have news.
func decisions(t *table) error {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, n := range []int{0, 600, 5000, 20000} {
		s, err := snapshot(start)
		if err != nil {
			return err
		}
		s.Observed.CellsTested = int64(n)
		for i := range n {
			s.Observed.Cells = append(s.Observed.Cells, health.CellLook{ID: uint32(i), Failed: 1, ControlFailed: int64(i % 50), AtRisk: 100, ControlAtRisk: 100_000, Exposed: 100, Share: 0.01})
		}
		d, err := rollout.Decide(s, start.Add(time.Minute))
		if err != nil {
			return err
		}
		s.Observed.Knowledge = *d.Knowledge
		for i := range s.Observed.Cells {
			s.Observed.Cells[i].ControlFailed++
		}
		limit := time.Duration(0)
		if n == 5000 {
			limit = 50 * time.Millisecond
		}
		took := spent(100, func() { _, err = rollout.Decide(s, start.Add(2*time.Minute)) })
		if err != nil {
			return err
		}
		t.took(fmt.Sprintf("Decide, %d segments listed, all with news: a gate opens", n), took, limit)
		if n != 600 {
			continue
		}
		took = spent(100, func() { _, err = rollout.Decide(s, start.Add(70*time.Second)) })
		if err != nil {
			return err
		}
		t.took("the same while it waits", took, 0)
	}
	return nil
}

// cuts measures Snapshot.Segment: a fleet of 10,000 distinct sets of labels, of
// which 500 have failed, is cut into values and pairs of values.
func cuts(t *table) error {
	for _, labels := range []int{4, 8, 16, 32} {
		s, err := snapshot(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			return err
		}
		r := rand.New(rand.NewPCG(1, uint64(labels)))
		var groups []rollout.Group
		for i := range 10_000 {
			l := fleet.Labels{}
			for k := range labels {
				l[fmt.Sprint("label", k)] = fmt.Sprint("v", int(r.ExpFloat64()*5))
			}
			groups = append(groups, rollout.Group{Labels: l, Fit: endpoints / 10_000, Heard: endpoints / 10_000})
			if i < 500 {
				s.Observed.Failures = append(s.Observed.Failures, rollout.Failures{Labels: l, Treated: 1, Control: 2})
			}
		}
		took := spent(1, func() { s.Segment(groups) })
		t.took(fmt.Sprintf("cut into segments, %d labels: %d watched", labels, s.Observed.CellsTested), took, 0)
	}
	return nil
}

// day plays 24 hours of a good release by the policy with the longest horizons,
// decided every ten seconds.
func day(t *table) error {
	all, err := pacing.Presets()
	if err != nil {
		return err
	}
	driver, err := pacing.ByName(all, func(p pacing.Policy) string { return p.Name }, "driver-1")
	if err != nil {
		return err
	}
	const hours24 = 8640 // ticks of ten seconds
	took := spent(1, func() {
		driver[0].Play(pacing.NewFleet(endpoints, 2500), pacing.Fault{Name: "good", Until: hours24}, 1)
	})
	t.took("24 h over 8.5 million endpoints, the fleet's making included", took, time.Minute)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	each := float64(m.Sys) / endpoints
	t.add("its memory for each endpoint, the program included", fmt.Sprintf("%.1f B", each), "limit 100 B", fmt.Sprintf("%.3f", each/100))
	return nil
}

// coverage measures the choice of covering endpoints among 8.5 million with eight
// labels: the product's quota, and one in each pair of values that 500 have.
func coverage(t *table) {
	r := rand.New(rand.NewPCG(1, 2))
	ix := fleet.Index{Cardinality: []int{40, 3, 12, 24, 60, 30, 8, 16}}
	for _, k := range ix.Cardinality {
		column := make([]uint16, endpoints)
		z := rand.NewZipf(r, 1.2, 3, uint64(k-1))
		for e := range column {
			column[e] = uint16(z.Uint64())
		}
		ix.Values = append(ix.Values, column)
	}
	var c fleet.Covered
	took := spent(1, func() {
		c = fleet.Cover(ix, fleet.Coverage{Most: 2500, LeastCell: 500, Quota: health.Enough, Beside: 4200, MaxCandidates: 2_000_000})
	})
	t.took(fmt.Sprintf("choosing %d of 8.5 million × 8 labels for coverage", len(c.Members)), took, 10*time.Second)
	t.add("segments that lack members and get one", fmt.Sprintf("%d of %d", c.Reached, c.Cells), "", "")
	took = spent(1, func() { c = fleet.Cover(ix, fleet.Coverage{Most: endpoints, LeastCell: 500, Quota: 1}) })
	t.took("choosing one in each pair of values", took, 10*time.Second)
	t.add("that ring's endpoints, against the pairwise lower bound", fmt.Sprint(len(c.Members)), fmt.Sprint("at least ", c.LowerBound), fmt.Sprintf("%.2f", float64(len(c.Members))/float64(max(1, c.LowerBound))))
}
