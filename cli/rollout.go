package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/cli/live"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/rollout"
)

func (a *app) rolloutCommand() *cobra.Command {
	return group("rollout", "Move one release onto the endpoints it fits",
		a.rolloutStart(), a.rolloutList(), a.rolloutShow(), a.rolloutWatch(), a.rolloutExplain(), a.rolloutEmergency(), a.rolloutResume(),
		orderCommand(a, "hold", "Stop granting; what is exposed goes on and is judged",
			"No further endpoint will be granted %s until it is resumed; endpoints that have it keep it.",
			func(c *client) orderCall[headgatev1.HoldRolloutRequest, headgatev1.HoldRolloutResponse] {
				return c.rollout.HoldRollout
			},
			func(id int64, why string) *headgatev1.HoldRolloutRequest {
				return &headgatev1.HoldRolloutRequest{Id: id, Why: why}
			}),
		orderCommand(a, "halt", "Stop at once, and for good unless two operators resume",
			"No further endpoint will be granted %s; resuming it will take two operators. Endpoints that have it keep it.",
			func(c *client) orderCall[headgatev1.HaltRolloutRequest, headgatev1.HaltRolloutResponse] {
				return c.rollout.HaltRollout
			},
			func(id int64, why string) *headgatev1.HaltRolloutRequest {
				return &headgatev1.HaltRolloutRequest{Id: id, Why: why}
			}),
		orderCommand(a, "revert", "Order every endpoint that has the release back to its last known good",
			"Every endpoint that has %s will go back to its last known good, and no other will get it.",
			func(c *client) orderCall[headgatev1.RevertRolloutRequest, headgatev1.RevertRolloutResponse] {
				return c.rollout.RevertRollout
			},
			func(id int64, why string) *headgatev1.RevertRolloutRequest {
				return &headgatev1.RevertRolloutRequest{Id: id, Why: why}
			}))
}

// parseRollout reads "R-17" or "17".
func parseRollout(s string) (int64, error) {
	id, err := strconv.ParseInt(strings.TrimPrefix(s, "R-"), 10, 64)
	if err != nil || id < 1 {
		return 0, usagef("rollout %q: want an id such as R-17", s)
	}
	return id, nil
}

// ofRollout reads a rollout's id and connects to its server.
func (a *app) ofRollout(arg string) (*client, int64, error) {
	id, err := parseRollout(arg)
	if err != nil {
		return nil, 0, err
	}
	c, err := a.conn.connect()
	return c, id, err
}

func rolloutID(id int64) string { return "R-" + strconv.FormatInt(id, 10) }

// checkRelease refuses what names no release.
func checkRelease(product, version string) error {
	if _, _, err := release.SplitProduct(product); err != nil {
		return err
	}
	return release.CheckVersion(version)
}

func (a *app) rolloutStart() *cobra.Command {
	var policyFile, requestID string
	var f tradeFlags
	var dryRun bool
	c := &cobra.Command{
		Use: "start VENDOR/PRODUCT VERSION", Short: "Start a rollout of a published release", Args: cobra.ExactArgs(2),
		Long: `Start a rollout of a published release. In an emergency say how likely it is to be
exploited and how likely the release is bad: what it costs to wait and to go is shown
for each lane, and recorded with who signed.

  headgate rollout start acme/rules 1.0.1 --policy emergency \
    --exploit-hazard 0.001 --regression-probability 0.01`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkRelease(args[0], args[1]); err != nil {
				return usageError{err}
			}
			req := &headgatev1.StartRolloutRequest{Product: args[0], Version: args[1], RequestId: requestID}
			p, err := a.startPolicy(cmd.Context(), policyFile, req)
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			given, err := f.given(cmd)
			if err != nil {
				return err
			}
			req.Exploited, req.Case = f.exploited, f.kase
			if dryRun {
				planned, err := a.plan(cmd.Context(), c, req)
				if err != nil {
					return err
				}
				return a.result(planned, func(t *table) { showPlan(t, planned) })
			}
			if given {
				err = a.startEmergency(cmd.Context(), c, &f, req, p)
			} else {
				err = a.confirmStart(cmd.Context(), c, req, p)
			}
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.rollout.StartRollout, req)
			if err != nil {
				return err
			}
			a.say("Watch it with: headgate rollout watch %s", rolloutID(res.Rollout.GetId()))
			return a.result(res, func(t *table) { showRollouts(t, res.Rollout) })
		},
	}
	c.Flags().StringVar(&policyFile, "policy", "", "flash, standard, safe, driver, emergency, an applied `policy` as NAME or NAME@REVISION, or a JSON file")
	f.flags(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "start nothing; say which cohorts and which coverage it would come to")
	c.Flags().StringVar(&requestID, "request-id", "", "a repeat with the same id returns the rollout it made")
	return c
}

// startPolicy finds the policy of a start and puts it into the request: an applied
// one by name and revision, for the server has it; a preset whole.
func (a *app) startPolicy(ctx context.Context, name string, req *headgatev1.StartRolloutRequest) (rollout.Policy, error) {
	if name == "" {
		p, err := rollout.ParsePolicy(nil)
		return p, err
	}
	p, err := a.findPolicy(ctx, name)
	if err != nil {
		return p.Policy, err
	}
	if p.ref != nil { // what was shown is what is started, whatever is applied meanwhile
		req.Policy = rollout.Ref{Name: p.ref.Name, Revision: p.ref.Revision}.String()
		return p.Policy, nil
	}
	doc, err := p.Document()
	req.PolicyJson = string(doc)
	return p.Policy, err
}

// policyText is a policy in a reader's words.
func policyText(p rollout.Policy) string {
	if p.Budget != nil {
		return budgetText(p)
	}
	var steps []string
	if n := len(p.Canaries); n > 0 {
		steps = append(steps, fmt.Sprintf("%d named canaries", n))
	}
	for _, w := range p.Ladder {
		steps = append(steps, fmt.Sprint(w))
	}
	back := "and stay where they are"
	if p.RevertOnHalt {
		back = "and everyone goes back"
	}
	return fmt.Sprintf("%s endpoints at a time, then ×%d each step; %s of health prove an endpoint; %d harmed (or %g %%) halt it %s",
		strings.Join(steps, ", "), p.Growth, p.Probation, p.MaxHarmed, 100*p.MaxHarmedShare, back)
}

// budgetText is a policy with a budget in a reader's words.
func budgetText(p rollout.Policy) string {
	var budgets []string
	for _, h := range p.Budget.Horizons {
		most := fmt.Sprintf("%g %%", 100*h.Share)
		if h.Harm > 0 {
			most = fmt.Sprintf("%d endpoints or %s", h.Harm, most)
		}
		budgets = append(budgets, fmt.Sprintf("%s by faults that show within %s", most, h.Age))
	}
	return fmt.Sprintf("as fast as the evidence allows; harms at most %s, except with probability %g", strings.Join(budgets, ", "), p.Budget.Delta)
}

func (a *app) rolloutList() *cobra.Command {
	var product string
	c := &cobra.Command{
		Use: "list", Short: "List rollouts, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.rollout.ListRollouts, &headgatev1.ListRolloutsRequest{Product: product})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) { showRollouts(t, res.Rollouts...) })
		},
	}
	c.Flags().StringVar(&product, "product", "", "of one product only")
	return c
}

func showRollouts(t *table, rs ...*headgatev1.Rollout) {
	t.row("ROLLOUT", "PRODUCT", "VERSION", "STATE", "WINDOW", "EXPOSED", "PROVEN", "HARMED", "SILENT", "OPEN", "STARTED")
	for _, r := range rs {
		n := r.GetCounts()
		t.row(rolloutID(r.GetId()), r.GetProduct(), r.GetVersion(), r.GetState(), r.GetWindow(),
			n.GetExposed(), n.GetProven(), n.GetHarmed(), n.GetSilent(), n.GetOpen(), when(r.GetStartedUs()))
	}
}

func (a *app) rolloutShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ROLLOUT", Short: "Show a rollout, and why it stands where it stands", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofRollout(args[0])
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.rollout.GetRollout, &headgatev1.GetRolloutRequest{Id: id})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) { showRollout(t, res.Rollout) })
		},
	}
}

func showRollout(t *table, r *headgatev1.Rollout) {
	n := r.GetCounts()
	t.field("rollout", rolloutID(r.Id))
	t.field("release", r.Product+" "+r.Version)
	t.field("state", r.State)
	var lane rollout.Choice
	if r.LaneJson != "" && json.Unmarshal([]byte(r.LaneJson), &lane) == nil {
		t.field("emergency", laneText(lane))
	}
	if r.LaneAskedBy != "" {
		t.field("emergency", r.LaneAskedBy+" asked to switch; it waits for a second operator")
	}
	if r.ResumeAskedBy != "" {
		t.field("resume", r.ResumeAskedBy+" asked; it waits for a second operator")
	}
	t.field("window", fmt.Sprintf("%d exposed-but-unproven at once (rung %d), %d exposed in all", r.Window, r.Rung, r.Ceiling))
	t.field("exposed", fmt.Sprintf("%d = %d proven + %d harmed + %d silent + %d open", n.GetExposed(), n.GetProven(), n.GetHarmed(), n.GetSilent(), n.GetOpen()))
	if r.Fit > 0 {
		t.field("fleet", fmt.Sprintf("%d endpoints fit, %d heard from now", r.Fit, r.Online))
	}
	if c := r.Coverage; c != nil {
		t.field("coverage", coverageText(c))
	}
	for _, h := range r.Halted {
		t.field("left out", fmt.Sprintf("%s, %.3g %% of the fleet", h.Segment, 100*h.Share))
	}
	if r.LiftAskedBy != "" {
		t.field("lift", r.LiftAskedBy+" asked to take "+r.LiftAskedOf+" in again; it waits for a second operator")
	}
	if r.GatesLimit > 0 {
		t.field("gates", fmt.Sprintf("%d used / %d any policy needs", r.GatesUsed, r.GatesLimit))
	}
	t.field("preflight failed", r.PreflightFailed)
	t.field("went back", r.Reverted)
	t.field("decision", r.Action)
	for _, x := range r.Reasons {
		t.field("because", strings.TrimSuffix(x.Code+": "+x.Detail, ": "))
	}
	t.field("decided", when(r.DecidedUs))
	t.field("started", when(r.StartedUs)+" by "+r.StartedBy)
	t.field("ended", when(r.EndedUs))
	var p rollout.Policy
	if json.Unmarshal([]byte(r.PolicyJson), &p) == nil && p.Growth > 0 {
		name := p.Name
		if r.PolicyRevision > 0 {
			name = rollout.Ref{Name: p.Name, Revision: r.PolicyRevision}.String()
		}
		t.field("policy", name+": "+policyText(p))
	}
}

func (a *app) rolloutWatch() *cobra.Command {
	var until []string
	c := &cobra.Command{
		Use: "watch ROLLOUT", Short: "Watch a rollout until it comes to a stop", Args: cobra.ExactArgs(1),
		Long: `Watch a rollout until it comes to a stop. The exit status is 0 if it stopped in
one of the states that --until names, and 1 if not.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofRollout(args[0])
			if err != nil {
				return err
			}
			last, err := a.watch(cmd.Context(), c, id, until)
			if err != nil {
				return err
			}
			if !slices.Contains(until, last.GetState()) {
				return fmt.Errorf("rollout %s is %s, not %s; see headgate rollout show %s", args[0], last.GetState(), strings.Join(until, " or "), args[0])
			}
			return nil
		},
	}
	c.Flags().StringSliceVar(&until, "until", []string{"finished"}, "the `states` to wait for")
	return c
}

// watch shows each change until a wanted state is reached or the rollout can
// change no more by itself, and returns the last one shown. A stream that breaks
// is taken up again: a server may be replaced meanwhile.
func (a *app) watch(ctx context.Context, c *client, id int64, until []string) (*headgatev1.Rollout, error) {
	view := live.New(a.out)
	if a.format != "json" {
		defer view.End()
	}
	var last *headgatev1.Rollout
	for broken := 0; ; {
		err := a.watchOnce(ctx, c, id, until, func(m *headgatev1.WatchRolloutResponse) error {
			last, broken = m.Rollout, 0
			if a.format == "json" {
				return writeJSONLine(a.out, m)
			}
			view.Show(last)
			return nil
		})
		if last != nil && (slices.Contains(until, last.State) || err == nil && live.Done(last.State)) {
			return last, nil
		}
		if broken++; last == nil || broken > watchRetries || ctx.Err() != nil {
			if err == nil {
				err = fmt.Errorf("the server ended the watch of %s; try headgate rollout show %s", rolloutID(id), rolloutID(id))
			}
			return last, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// watchRetries is how often in a row a watch is taken up again.
const watchRetries = 30

// watchOnce shows each change until the stream ends or a wanted state is reached.
func (a *app) watchOnce(ctx context.Context, c *client, id int64, until []string, show func(*headgatev1.WatchRolloutResponse) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := c.rollout.WatchRollout(ctx, connect.NewRequest(&headgatev1.WatchRolloutRequest{Id: id}))
	if err != nil {
		return explain(err)
	}
	defer stream.Close()
	for stream.Receive() {
		if err := show(stream.Msg()); err != nil {
			return err
		}
		if slices.Contains(until, stream.Msg().Rollout.GetState()) {
			return nil
		}
	}
	if err := stream.Err(); err != nil {
		return explain(err)
	}
	return nil
}
