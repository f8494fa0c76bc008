package cli

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/fleet"
)

type orderCall[Req, Res any] func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error)

// orderCommand is one of the orders that a person gives to a rollout.
func orderCommand[Req, Res any, P interface {
	*Res
	GetRollout() *headgatev1.Rollout
}](a *app, verb, short, will string, method func(*client) orderCall[Req, Res], req func(int64, string) *Req) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: verb + " ROLLOUT", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofRollout(args[0])
			if err != nil {
				return err
			}
			if _, err := a.confirmOrder(cmd.Context(), c, id, will); err != nil {
				return err
			}
			res, err := call(cmd.Context(), method(c), req(id, why))
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) { showRollouts(t, P(res).GetRollout()) })
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason, for the ledger")
	return cmd
}

// confirmOrder shows what the order is about and asks; will has the rollout in
// words for its "%s".
func (a *app) confirmOrder(ctx context.Context, c *client, id int64, will string) (*headgatev1.Rollout, error) {
	now, err := call(ctx, c.rollout.GetRollout, &headgatev1.GetRolloutRequest{Id: id})
	if err != nil {
		return nil, err
	}
	r := now.GetRollout()
	what := fmt.Sprintf("%s %s (%s, %s, %d exposed)", r.GetProduct(), r.GetVersion(), rolloutID(id), r.GetState(), r.GetCounts().GetExposed())
	return r, a.confirm(will, what)
}

func (a *app) rolloutResume() *cobra.Command {
	var why, segment string
	cmd := &cobra.Command{
		Use: "resume ROLLOUT", Short: "Go on after a hold; after a halt it takes two operators", Args: cobra.ExactArgs(1),
		Long: `Go on after a hold; after a halt it takes two operators.

With --segment "arch=arm64 & driver=X" the rollout stays as it is, and takes a
segment that it leaves out in again; that takes two operators too. Both accept the
failures that are known by then.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofRollout(args[0])
			if err != nil {
				return err
			}
			will := "Endpoints will be granted %s again. After a halt this counts as one of the two operators that it takes."
			if segment != "" {
				if _, err := fleet.ParseSegment(segment); err != nil {
					return usageError{err}
				}
				will = "Endpoints with " + strings.ReplaceAll(segment, "%", "%%") + " will be granted %s as soon as two operators have said so. This counts as one of them."
			}
			if _, err := a.confirmOrder(cmd.Context(), c, id, will); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.rollout.ResumeRollout, &headgatev1.ResumeRolloutRequest{Id: id, Why: why, Segment: segment})
			if err != nil {
				return err
			}
			r := res.GetRollout()
			switch {
			case segment != "" && r.GetLiftAskedBy() != "":
				a.say("Recorded: %s asks to take %s in again. It takes a second, other operator: headgate rollout resume %s --segment %q", r.GetLiftAskedBy(), r.GetLiftAskedOf(), rolloutID(id), r.GetLiftAskedOf())
			case segment == "" && r.GetResumeAskedBy() != "":
				a.say("Recorded: %s asks to resume. It takes a second, other operator: headgate rollout resume %s", r.GetResumeAskedBy(), rolloutID(id))
			}
			return a.result(res, func(t *table) { showRollouts(t, r) })
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason, for the ledger")
	cmd.Flags().StringVar(&segment, "segment", "", "take this halted `segment` in again, as rollout show writes it")
	return cmd
}
