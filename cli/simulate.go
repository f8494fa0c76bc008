package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cli/live"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/sim/pacing"
)

// simulation is what the commands that simulate share.
type simulation struct {
	endpoints int64
	seeds     int
	first     uint64
	workers   int
	faults    string
}

// coverage is how many covering endpoints a simulated fleet can offer.
const coverage = 2500

func (s *simulation) flags(c *cobra.Command, seeds int) {
	f := c.Flags()
	f.Int64Var(&s.endpoints, "endpoints", 8_500_000, "size of the synthetic fleet")
	f.IntVar(&s.seeds, "seeds", seeds, "rollouts for each policy and fault")
	f.Uint64Var(&s.first, "seed", 1, "the first seed; the same seed gives the same history")
	f.IntVar(&s.workers, "workers", runtime.GOMAXPROCS(0), "rollouts at a time")
}

func (s *simulation) check() error {
	if s.endpoints < 1 || s.endpoints > 100_000_000 || s.seeds < 1 || s.seeds > 1_000_000 || s.workers < 1 || s.workers > 1024 {
		return usagef("want --endpoints 1 to 100000000, --seeds 1 to 1000000, --workers 1 to 1024")
	}
	return nil
}

// faultWords say what each fault of the catalogue does; short are other names
// for it.
var faultWords = []struct{ name, short, text string }{
	{"good", "none", "nothing: the release is good"},
	{"good-outage", "outage", "good, but 30 % of a region with 6 % of the fleet drop off the network"},
	{"good-dead-server", "dead-server", "good, but the control plane is dead for ten minutes"},
	{"good-noise", "noise", "good, but the whole fleet's failure rate wanders"},
	{"good-outages", "outages", "good, but three times an hour one to three neighbouring regions lose a part of their endpoints"},
	{"good-diurnal", "diurnal", "good; laptops come and go by the hour, and some leave without a goodbye"},
	{"kill-all", "cf-291", "every endpoint dies at the switch and never reports: 19 July 2024"},
	{"crash-0.1%", "crash", "one endpoint in a thousand crashes"},
	{"kill-segment-0.5%", "segment", "kills a pair of labels with 0.5 % of the fleet"},
	{"kill-segment-0.05%", "small-segment", "kills a pair of labels with 0.05 % of the fleet"},
	{"late-2h", "late", "kills every endpoint about two hours after the switch"},
	{"late-12h", "very-late", "kills every endpoint twelve hours after the switch"},
	{"slow", "performance", "no failure; 6.5 % instead of 5 % of the endpoints are slow"},
	{"hang-2%-10min", "hang", "2 % fall silent about ten minutes after the switch"},
	{"half-of-each-pair", "half", "kills one half of every failure domain"},
	{"false-positives", "counts", "no failure; 1.5 % instead of 0.5 % of the endpoints have what a measure of the policy counts"},
	{"kill-returning", "returning", "kills laptops that were away when the rollout began, and no others"},
}

// rivalWords say what each rival does.
var rivalWords = map[string]string{
	"all-at-once":                 "everyone at once; people stop it 78 minutes after harm passes 1000",
	"rings-1h-5%-reported":        "1, 10, 50, 100 %, an hour each; stops at 5 % reported failures",
	"rings-95%-success":           "1, 10, 50, 100 %, each when 95 % report success",
	"long-bake-4h":                "0.1, 1, 10, 100 %, four hours each; stops when crashes or silence double",
	"exponential-abort-10%":       "1000 a minute, doubled by each 1000 successes; stops at 10 % failed or timed out",
	"exponential-capped-1000/min": "1000 a minute; stops at 10 % failed or timed out",
	"group-budgets-1%":            "in every group at most 1 % unready at a time; never stops",
	"global-gate-1h":              "0.1, 1, 10, 50, 100 %, an hour each; stops at four sigma against the controls",
}

// pickFaults are the faults listed by name or short name; all that the fleet is
// large enough for if the list is empty.
func (a *app) pickFaults(list string, endpoints int64) (out []pacing.Fault, err error) {
	all := pacing.Faults()
	if list == "" {
		for _, x := range all {
			if need := leastFleet(x); endpoints < need {
				a.say("Left out %s: a segment that small is tested in fleets of %d or more.", x.Name, need)
				continue
			}
			out = append(out, x)
		}
		return out, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		for _, w := range faultWords {
			if name == w.short {
				name = w.name
			}
		}
		i := slices.IndexFunc(all, func(x pacing.Fault) bool { return x.Name == name })
		if i < 0 {
			return nil, usagef("fault %q is unknown; headgate simulate --list names them", name)
		}
		if need := leastFleet(all[i]); endpoints < need {
			return nil, usagef("fault %s needs --endpoints %d or more: smaller segments are not tested", name, need)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// leastFleet is the smallest fleet that has segments of the fault's size.
func leastFleet(x pacing.Fault) int64 {
	if x.Share == 0 {
		return 1
	}
	return int64(pacing.LeastSegment / x.Share)
}

// pickPolicies are the policies listed: names of presets or of rivals, or files.
func pickPolicies(list string) (out []pacing.Policy, err error) {
	known, err := pacing.Presets()
	if err != nil {
		return nil, err
	}
	if list == "" {
		return known, nil
	}
	known = append(known, pacing.Rivals()...)
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(known, func(p pacing.Policy) bool { return p.Name == name || p.Name == name+"-1" })
		if i >= 0 {
			out = append(out, known[i])
			continue
		}
		p, err := readPolicy(name)
		if err != nil {
			return nil, err
		}
		if p.Budget == nil {
			return nil, fmt.Errorf("policy %s has no budget: only policies with one, and rivals, are simulated", name)
		}
		p.Signals = nil // a simulation has no outside
		out = append(out, pacing.Ours(p))
	}
	return out, nil
}

// readPolicy is a preset by name, or a policy file.
func readPolicy(name string) (rollout.Policy, error) {
	name = strings.TrimSuffix(name, "@1") // a preset's only revision
	if slices.Contains(rollout.Presets(), strings.TrimSuffix(name, "-1")) {
		return rollout.Preset(strings.TrimSuffix(name, "-1"))
	}
	if ladder := rollout.DefaultPolicy(); name == ladder.Name || name == "ladder" {
		return ladder, nil
	}
	b, err := readFile(name, rollout.MaxPolicy)
	if errors.Is(err, fs.ErrNotExist) {
		return rollout.Policy{}, fmt.Errorf("policy %q is no file, and no preset: %s, ladder", name, strings.Join(rollout.Presets(), ", "))
	}
	if err != nil {
		return rollout.Policy{}, err
	}
	p, err := rollout.ParsePolicy(b)
	if err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// play plays every policy against every fault with a bar on stderr.
func (a *app) play(ctx context.Context, s simulation, policies []pacing.Policy, faults []pacing.Fault) (*pacing.Fleet, []pacing.Row, error) {
	bar := live.NewBar(a.err, "rollouts")
	defer bar.End()
	f := pacing.NewFleet(s.endpoints, coverage)
	rows, err := pacing.Compare(ctx, f, policies, faults, pacing.Options{Seeds: s.seeds, First: s.first, Workers: s.workers, Progress: bar.Show})
	if err != nil {
		return nil, nil, fmt.Errorf("simulate: %w", err)
	}
	return f, rows, nil
}

func (a *app) simulateCommand() *cobra.Command {
	var s simulation
	var list, svg string
	var rivals, names bool
	c := &cobra.Command{
		Use: "simulate", Short: "Play rollouts to millions of endpoints in virtual time", Args: cobra.NoArgs,
		Long: `Play rollouts of good and bad releases to a synthetic fleet, in virtual time, with
the decisions of the server itself; and print for each policy and fault how many
endpoints were harmed and how long everyone waited. No server is needed.

  headgate simulate --policy standard --fault kill-all --seeds 20 -o json
  headgate simulate --policy mine.json --rivals --endpoints 100000 --svg drawings

docs/simulation.md says what is simulated, and what the numbers are worth.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if names {
				return a.listSimulations()
			}
			if err := s.check(); err != nil {
				return err
			}
			policies, err := pickPolicies(list)
			if err != nil {
				return err
			}
			if rivals {
				policies = append(policies, pacing.Rivals()...)
			}
			faults, err := a.pickFaults(s.faults, s.endpoints)
			if err != nil {
				return err
			}
			f, rows, err := a.play(cmd.Context(), s, policies, faults)
			if err != nil {
				return err
			}
			if svg != "" {
				if err := a.draw(svg, f, policies, faults, rows, s); err != nil {
					return err
				}
			}
			if a.format == "json" {
				return writeJSON(a.out, played(rows, s.first))
			}
			return pacing.Table(a.out, rows)
		},
	}
	s.flags(c, 5)
	c.Flags().StringVar(&list, "policy", "", "presets, rivals or policy `files`, comma separated; without it all presets")
	c.Flags().StringVar(&s.faults, "fault", "", "`faults`, comma separated; without it all of them")
	c.Flags().BoolVar(&rivals, "rivals", false, "play other products' policies too")
	c.Flags().StringVar(&svg, "svg", "", "write drawings to this `folder`")
	c.Flags().BoolVar(&names, "list", false, "list policies and faults, and play nothing")
	return c
}

func (a *app) listSimulations() error {
	type entry struct {
		Kind  string `json:"kind"`
		Name  string `json:"name"`
		Short string `json:"short,omitempty"`
		Text  string `json:"text"`
	}
	var all []entry
	presets, err := pacing.Presets()
	if err != nil {
		return err
	}
	for _, p := range presets {
		all = append(all, entry{"policy", p.Name, "", policyText(*p.Rollout)})
	}
	for _, p := range pacing.Rivals() {
		all = append(all, entry{"rival", p.Name, "", rivalWords[p.Name]})
	}
	for _, w := range faultWords {
		all = append(all, entry{"fault", w.name, w.short, w.text})
	}
	return a.result(all, func(t *table) {
		t.row("KIND", "NAME", "SHORT", "WHAT")
		for _, e := range all {
			t.row(e.Kind, e.Name, e.Short, e.Text)
		}
	})
}

// Simulated is one rollout of one policy against one fault. A time that never
// came is null.
type Simulated struct {
	Policy     string   `json:"policy"`
	Fault      string   `json:"fault"`
	Seed       uint64   `json:"seed"`
	Harmed     float64  `json:"harmed"`
	T50        *float64 `json:"minutes_to_50"`
	T95        *float64 `json:"minutes_to_95"`
	T99        *float64 `json:"minutes_to_99"`
	Detected   *float64 `json:"minutes_to_detection"`
	FalseHalt  bool     `json:"false_halt"` // a good release was halted, whole or in a segment
	Halted     bool     `json:"halted"`
	Segment    bool     `json:"segment_halted"`
	Held       bool     `json:"held"` // neither halted nor through
	Excluded   float64  `json:"excluded"`
	Protected  float64  `json:"protected"`
	Gates      int64    `json:"gates"`
	GatesLimit int64    `json:"gates_limit"` // that any policy needs
}

// came is a time in minutes; nil if it never came.
func came(minutes float64) *float64 {
	if minutes == 0 {
		return nil
	}
	return &minutes
}

func played(rows []pacing.Row, first uint64) []Simulated {
	out := []Simulated{}
	for _, r := range rows {
		for i, x := range r.Results {
			out = append(out, Simulated{
				Policy: r.Policy, Fault: r.Fault, Seed: first + uint64(i), Harmed: x.Harmed, T50: came(x.T50), T95: came(x.T95), T99: came(x.T99), Detected: came(x.Detected),
				FalseHalt: r.Good && (x.Halted || x.Segment), Halted: x.Halted, Segment: x.Segment, Held: x.Held,
				Excluded: x.Excluded, Protected: x.Protected, Gates: x.Gates, GatesLimit: x.GatesLimit,
			})
		}
	}
	return out
}
