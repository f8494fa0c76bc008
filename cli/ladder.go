package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

func (a *app) ladderCommand() *cobra.Command {
	return group("ladder", "How much of a case is disclosed, and when",
		a.ladderShow(), a.ladderExplain(), a.ladderDefault(), a.ladderCheck(), a.ladderSet(), a.ladderOverride())
}

// getLadder asks how a case stands now.
func (a *app) getLadder(cmd *cobra.Command, id string) (*headgatev1.Ladder, error) {
	c, err := a.conn.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(cmd.Context(), c.ladder.GetLadder, &headgatev1.GetLadderRequest{Case: id})
	if err != nil {
		return nil, err
	}
	return res.Ladder, nil
}

func (a *app) ladderShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CASE", Short: "Show which rungs are open, and what the others wait for", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.getLadder(cmd, args[0])
			if err != nil {
				return err
			}
			return a.showLadder(l)
		},
	}
}

func (a *app) showLadder(l *headgatev1.Ladder) error {
	return a.result(l, func(t *table) {
		t.row("RUNG", "OPEN", "VERIFIED >=", "NOT BEFORE", "AT THE LATEST", "WHY")
		for _, g := range l.Gates {
			t.row(g.Rung, yesNo(g.Open), fmt.Sprintf("%.4g %%", 100*g.Need), when(g.FloorUs), when(g.CeilingUs), g.Code)
		}
	})
}

func (a *app) ladderExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain CASE", Short: "Say why each rung is open or shut, with its numbers", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.getLadder(cmd, args[0])
			if err != nil {
				return err
			}
			return a.result(l, func(t *table) {
				t.field("case", l.Case)
				t.field("ladder", l.Id)
				t.field("disclosed up to", l.Rung)
				measured := "never: unknown is not fixed"
				if l.MeasuredUs != 0 {
					measured = fmt.Sprintf("%d of %d resources verified as fixed, %d stale: at least %.2f %%, measured %s", l.Verified, l.Resources, l.Stale, 100*l.Lower, when(l.MeasuredUs))
				}
				t.field("protection", measured)
				for _, g := range l.Gates {
					t.field(g.Rung, fmt.Sprintf("%s: %s", map[bool]string{true: "open", false: "shut"}[g.Open], g.Detail))
				}
				t.field("asked to override", strings.Join(l.Asked, "; "))
				if l.Emergency {
					t.field("emergency", "exploitation is known: the fix's rollout belongs in the emergency lane")
				}
				if l.NextUs != 0 {
					t.field("may change by time alone at", when(l.NextUs))
				}
			})
		},
	}
}

func (a *app) ladderDefault() *cobra.Command {
	return &cobra.Command{
		Use: "default", Short: "Print the ladder of a case that has none of its own", Args: cobra.NoArgs,
		Long: `Print the ladder of a case that has none of its own, as JSON: a file to start
from. Each rung opens when the lower bound of the verified-fixed fraction reaches
its protection and its floor has passed, and at its ceiling in any case; floor and
ceiling are times since the case was opened.`,
		RunE: func(*cobra.Command, []string) error { return writeJSON(a.out, psirt.DefaultLadder()) },
	}
}

// readLadder reads a ladder's file.
func (a *app) readLadder(file string) (psirt.Ladder, []byte, error) {
	b, err := readFile(file, psirt.MaxLadder)
	if err != nil {
		return psirt.Ladder{}, nil, err
	}
	l, err := psirt.ParseLadder(b)
	if err != nil {
		return l, nil, fmt.Errorf("%s: %w", file, err)
	}
	return l, b, nil
}

func (a *app) ladderCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Check a ladder", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, _, err := a.readLadder(args[0])
			if err != nil {
				return err
			}
			return a.result(l, func(t *table) {
				t.row("RUNG", "VERIFIED >=", "FLOOR", "CEILING")
				for _, s := range l.Steps {
					t.row(s.Rung, fmt.Sprintf("%.4g %%", 100*s.Protection), s.Floor, s.Ceiling)
				}
			})
		},
	}
}

func (a *app) ladderSet() *cobra.Command {
	return &cobra.Command{
		Use: "set CASE FILE", Short: "Give a case another ladder", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, b, err := a.readLadder(args[1])
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			for _, s := range l.Steps {
				a.say("%s opens at %.4g %% verified, not before %s and at the latest %s after the case was opened", s.Rung, 100*s.Protection, s.Floor, s.Ceiling)
			}
			if err := a.confirm("%s will be disclosed by ladder %s.", args[0], l.ID); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.ladder.SetLadder, &headgatev1.SetLadderRequest{Case: args[0], LadderJson: string(b)})
			if err != nil {
				return err
			}
			return a.showLadder(res.Ladder)
		},
	}
}

func (a *app) ladderOverride() *cobra.Command {
	return &cobra.Command{
		Use: "override CASE RUNG WHY", Short: "Ask to open a rung on too little protection; it takes two leads", Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("You ask to open %s of %s on too little protection. It opens once a second lead asks for it too, not before its floor.", args[1], args[0]); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.ladder.OverrideRung, &headgatev1.OverrideRungRequest{Case: args[0], Rung: args[1], Why: args[2]})
			if err != nil {
				return err
			}
			return a.showLadder(res.Ladder)
		},
	}
}
