package sim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/rollout"
)

// ErrStory marks a story that cannot be told; the error names the line.
var ErrStory = errors.New("bad story")

// story is a world and the script that moves it.
type story struct {
	w      *World
	out    io.Writer
	files  map[string][]byte
	policy rollout.Policy
	byVer  map[string]*Rollout
}

// Tell plays a script in virtual time and writes what happens. One command a
// line:
//
//	fleet N [seed=S] [domains=D]       a new world
//	policy FILE                        policy for the rollouts that follow
//	start VERSION FAULT                begin a rollout
//	run DURATION [until STATE]         let the world go on
//	cut PERCENT                        take endpoints off the network; 0 ends it
//	server down|up                     kill the control plane; bring it back
//	order VERSION STATE WHO            what a person does
//	show                               what runs where
//	verify                             check the ledger
func Tell(script []byte, files map[string][]byte, out io.Writer) error {
	s := &story{out: out, files: files, policy: rollout.DefaultPolicy(), byVer: map[string]*Rollout{}}
	lines := bufio.NewScanner(bytes.NewReader(script))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if s.w == nil && f[0] != "fleet" && f[0] != "policy" {
			return fmt.Errorf("line %d: %s before fleet: %w", n, f[0], ErrStory)
		}
		if s.w != nil {
			fmt.Fprintf(out, "%s > %s\n", s.clock(), strings.Join(f, " "))
		}
		if err := s.do(f[0], f[1:]); err != nil {
			return fmt.Errorf("line %d: %s: %w: %w", n, f[0], err, ErrStory)
		}
	}
	return lines.Err()
}

func (s *story) clock() string {
	d := s.w.Now.Sub(Epoch).Truncate(time.Second)
	return fmt.Sprintf("%02d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
}

func (s *story) do(verb string, args []string) error {
	verbs := map[string]struct {
		args int
		run  func([]string) error
	}{
		"fleet": {1, s.fleet}, "policy": {1, s.setPolicy}, "start": {2, s.start}, "run": {1, s.run}, "cut": {1, s.cut},
		"server": {1, s.server}, "order": {3, s.order}, "show": {0, s.show}, "verify": {0, s.verify},
	}
	v, ok := verbs[verb]
	if !ok {
		return errors.New("unknown command")
	}
	if len(args) < v.args {
		return fmt.Errorf("want %d arguments, got %d", v.args, len(args))
	}
	return v.run(args)
}

func (s *story) fleet(args []string) error {
	c := Config{Seed: 1}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > 1e6 {
		return fmt.Errorf("%q endpoints: want 1 to 1000000", args[0])
	}
	c.Endpoints = n
	for _, a := range args[1:] {
		k, v, _ := strings.Cut(a, "=")
		x, err := strconv.ParseUint(v, 10, 31)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", a, err)
		case k == "seed":
			c.Seed = x
		case k == "domains" && 2*int(x) <= n:
			c.Domains = int(x)
		default:
			return fmt.Errorf("%s: want seed=S or domains=D with 2 endpoints each", a)
		}
	}
	s.w = New(c)
	s.w.OnDecision = func(r *Rollout, d rollout.Decision) {
		var why []string
		for _, x := range d.Reasons {
			why = append(why, x.Code+": "+x.Detail)
		}
		c := r.Snapshot.Counts
		fmt.Fprintf(s.out, "%s   %s %s (exposed %d, proven %d, harmed %d, silent %d, open %d)\n%s\n", s.clock(), r.Snapshot.Version, d.Action,
			c.Exposed, c.Proven, c.Harmed, c.Silent, c.Open, "             "+strings.Join(why, "\n             "))
	}
	return nil
}

func (s *story) setPolicy(args []string) (err error) {
	b, ok := s.files[args[0]]
	if !ok {
		return fmt.Errorf("no file %q", args[0])
	}
	s.policy, err = rollout.ParsePolicy(b)
	return err
}

func (s *story) start(args []string) error {
	switch f := Fault(args[1]); f {
	case Good, Crash, Hang, Preflight, LateCrash:
		r, err := s.w.Start(args[0], f, s.policy)
		s.byVer[args[0]] = r
		return err
	}
	return fmt.Errorf("fault %q is unknown", args[1])
}

func (s *story) run(args []string) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	if len(args) < 3 {
		s.w.Run(d, nil)
		return nil
	}
	want := rollout.State(args[2])
	newest := s.w.rollouts[len(s.w.rollouts)-1]
	s.w.Run(d, func() bool { return newest.Snapshot.State == want })
	if newest.Snapshot.State != want {
		return fmt.Errorf("after %s %s is %s, not %s", args[0], newest.Snapshot.Version, newest.Snapshot.State, want)
	}
	return nil
}

func (s *story) cut(args []string) error {
	p, err := strconv.ParseFloat(args[0], 64)
	if err != nil || !(p >= 0 && p <= 100) {
		return fmt.Errorf("%q: want 0 to 100 percent", args[0])
	}
	s.w.Cut(p / 100)
	return nil
}

func (s *story) server(args []string) error {
	if args[0] != "down" && args[0] != "up" {
		return fmt.Errorf("%q: want down or up", args[0])
	}
	s.w.Dead = args[0] == "down"
	return nil
}

func (s *story) order(args []string) error {
	r := s.byVer[args[0]]
	if r == nil {
		return fmt.Errorf("no rollout of %s", args[0])
	}
	return s.w.Order(r, rollout.State(args[1]), args[2])
}

func (s *story) show([]string) error {
	count := map[string]int{}
	for _, e := range s.w.Endpoints {
		if e.down {
			count["nothing: hung"]++
			continue
		}
		count[e.Version]++
	}
	for _, r := range s.w.rollouts {
		c := r.Snapshot.Counts
		fmt.Fprintf(s.out, "             %s %s: runs on %d, touched %d of %d, harmed %d, silent %d, at most %d unproven at once\n", r.Snapshot.Version, r.Snapshot.State,
			count[r.Snapshot.Version], s.w.Touched(r), len(s.w.Endpoints), c.Harmed, c.Silent, r.MaxUnproven)
	}
	fmt.Fprintf(s.out, "             no version: %d, hung: %d\n", count[""], count["nothing: hung"])
	return nil
}

func (s *story) verify([]string) error {
	var head ledger.Head
	for _, e := range s.w.Entries {
		var err error
		if head, err = ledger.Follow(head, e); err != nil {
			return err
		}
	}
	if head != s.w.Head {
		return fmt.Errorf("the chain ends at %s, the head is %s", head.Last, s.w.Head.Last)
	}
	fmt.Fprintf(s.out, "             %d entries, head %s\n", head.Size, head.Last)
	return nil
}
